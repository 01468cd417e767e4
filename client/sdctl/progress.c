/*
 * Drawing the progress line; see progress.h. One carriage return a change, never wider than the terminal.
 */
#include "client/sdctl/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_MAX 40

void progress_init(struct progress *progress, bool quiet)
{
	*progress = (struct progress){.visible = !quiet && isatty(STDERR_FILENO)};
}

static int columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
		return 80;
	return size.ws_col;
}

static void draw(struct progress *progress, const char *line)
{
	fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
	fflush(stderr);
	progress->drawn = true;
}

void progress_queued(struct progress *progress, int position)
{
	char line[96];

	if (!progress->visible)
		return;
	if (position > 0)
		snprintf(line, sizeof(line), "queued: %d job%s before yours", position,
			 position == 1 ? "" : "s");
	else
		snprintf(line, sizeof(line), "queued: next");
	draw(progress, line);
}

void progress_step(struct progress *progress, const char *stage, int step, int total,
		   int64_t eta_ms)
{
	char line[160], bar[BAR_MAX + 1], eta[32] = "";
	int filled;

	if (!progress->visible)
		return;
	snprintf(progress->label, sizeof(progress->label), "%s", stage);
	if (total <= 0 || step <= 0) {
		snprintf(line, sizeof(line), "%s ...", progress->label);
		draw(progress, line);
		return;
	}
	filled = step >= total ? BAR_MAX : (int)((int64_t)step * BAR_MAX / total);
	memset(bar, '#', (size_t)filled);
	memset(bar + filled, '-', (size_t)(BAR_MAX - filled));
	bar[BAR_MAX] = '\0';
	if (eta_ms >= 60000)
		snprintf(eta, sizeof(eta), ", %lld min %lld s left", (long long)(eta_ms / 60000),
			 (long long)(eta_ms / 1000 % 60));
	else if (eta_ms >= 0)
		snprintf(eta, sizeof(eta), ", %.1f s left", (double)eta_ms / 1000.0);
	snprintf(line, sizeof(line), "%-8s [%s] %d/%d%s", progress->label, bar, step, total, eta);
	draw(progress, line);
}

void progress_clear(struct progress *progress)
{
	if (!progress->drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->drawn = false;
}

void progress_warnings(const sdc_reply *reply)
{
	char path[32];

	for (size_t i = 0; i < sdc_reply_count(reply, "warnings"); i++) {
		const char *text = "";

		snprintf(path, sizeof(path), "warnings.%zu", i);
		sdc_reply_string(reply, path, &text);
		complain("note: %s", text);
	}
}

static double seconds(const sdc_reply *reply, const char *path)
{
	uint64_t ms = 0;

	sdc_reply_uint(reply, path, &ms);
	return (double)ms / 1000.0;
}

void progress_timings(const sdc_reply *reply)
{
	complain("queue %.2f s, load %.2f s, encode %.2f s, steps %.2f s, decode %.2f s",
		 seconds(reply, "timings.queue_ms"), seconds(reply, "timings.load_ms"),
		 seconds(reply, "timings.encode_ms"), seconds(reply, "timings.steps_ms"),
		 seconds(reply, "timings.decode_ms"));
}
