/*
 * sdctl ps, top and why: what is in memory and why it stays, which jobs run and wait, for what and how long. Jobs stand in the order in
 * which they get their turn; on a terminal top shows what fits.
 */
#include "client/sdctl/ask.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MIB 1048576.0

enum { JOBS_MAX = 128, MODEL_WIDTH_MAX = 24 };

static const char *text_of(const sdc_reply *reply, const char *list, size_t i, const char *name)
{
	char path[64];

	return string_at(reply, path_of(path, sizeof(path), list, i, name));
}

static int64_t number_of(const sdc_reply *reply, const char *list, size_t i, const char *name)
{
	char path[64];

	return int_at(reply, path_of(path, sizeof(path), list, i, name));
}

/* "while 2 clients use it", "pinned", "for 41 s more", "until it must make room" */
static void print_stay(FILE *out, const sdc_reply *reply, size_t i)
{
	const int64_t holders = number_of(reply, "models", i, "holders");
	int64_t rest_ms = -1;
	char path[64];
	int pinned = 0;

	sdc_reply_bool(reply, path_of(path, sizeof(path), "models", i, "pinned"), &pinned);
	sdc_reply_int(reply, path_of(path, sizeof(path), "models", i, "leaves_in_ms"), &rest_ms);
	if (pinned)
		fprintf(out, "pinned by one of %" PRIi64 " client%s\n", holders,
			holders == 1 ? "" : "s");
	else if (holders > 0)
		fprintf(out, "while %" PRIi64 " client%s there\n", holders,
			holders == 1 ? " is" : "s are");
	else if (rest_ms >= 0)
		fprintf(out, "for %" PRIi64 " s more\n", rest_ms / 1000);
	else
		fputs("until it must make room\n", out);
}

/* "0.4 s", "41 s", "3 min", "2 h"; "-" for what is not known. */
static const char *span(char *buffer, size_t size, int64_t ms)
{
	if (ms < 0)
		snprintf(buffer, size, "-");
	else if (ms < 10 * 1000)
		snprintf(buffer, size, "%.1f s", (double)ms / 1000.0);
	else if (ms < 100 * 1000)
		snprintf(buffer, size, "%" PRIi64 " s", ms / 1000);
	else if (ms < 100 * 60 * 1000)
		snprintf(buffer, size, "%" PRIi64 " min", ms / 60000);
	else
		snprintf(buffer, size, "%" PRIi64 " h", ms / 3600000);
	return buffer;
}

static int64_t eta_of(const sdc_reply *jobs, size_t i)
{
	int64_t eta_ms = -1;
	char path[64];

	sdc_reply_int(jobs, path_of(path, sizeof(path), "jobs", i, "eta_ms"), &eta_ms);
	return eta_ms;
}

/* A job's place among all: running ones, then those that wait by their turns, then those that ended. */
struct place {
	size_t index;
	int state;
	int64_t position, job;
};

static int by_turn(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	if (a->state != b->state)
		return a->state < b->state ? -1 : 1;
	if (a->position != b->position)
		return a->position < b->position ? -1 : 1;
	return a->job < b->job ? -1 : a->job > b->job;
}

static size_t order(const sdc_reply *jobs, struct place *places)
{
	const size_t count = sdc_reply_count(jobs, "jobs");
	const size_t n = count < JOBS_MAX ? count : JOBS_MAX;

	for (size_t i = 0; i < n; i++) {
		const char *state = text_of(jobs, "jobs", i, "state");

		places[i] = (struct place){
			.index = i,
			.state = strcmp(state, "running") == 0	? 0
				 : strcmp(state, "queued") == 0 ? 1
								: 2,
			.position = number_of(jobs, "jobs", i, "position"),
			.job = number_of(jobs, "jobs", i, "job"),
		};
	}
	qsort(places, n, sizeof(*places), by_turn);
	return n;
}

static void print_job(FILE *out, const sdc_reply *jobs, size_t i, int model_width)
{
	const char *error = text_of(jobs, "jobs", i, "error");
	const int64_t total = number_of(jobs, "jobs", i, "total");
	char steps[32] = "", age[16], left[16];

	if (total > 0)
		snprintf(steps, sizeof(steps), "%" PRIi64 "/%" PRIi64,
			 number_of(jobs, "jobs", i, "step"), total);
	fprintf(out, "%6" PRIi64 " %-9s %-11s %-8s %-*s %9s %7s %7s  %s\n",
		number_of(jobs, "jobs", i, "job"), text_of(jobs, "jobs", i, "state"),
		text_of(jobs, "jobs", i, "priority"), text_of(jobs, "jobs", i, "kind"), model_width,
		text_of(jobs, "jobs", i, "model"), steps,
		span(age, sizeof(age), number_of(jobs, "jobs", i, "age_ms")),
		span(left, sizeof(left), eta_of(jobs, i)),
		*error ? error : text_of(jobs, "jobs", i, "why"));
}

static void print_jobs(FILE *out, const sdc_reply *jobs)
{
	struct place places[JOBS_MAX];
	const size_t n = order(jobs, places);
	int width = 5;

	if (n == 0) {
		fputs("\nno jobs of yours\n", out);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const int length = (int)strlen(text_of(jobs, "jobs", i, "model"));

		width = length > width ? length : width;
	}
	width = width < MODEL_WIDTH_MAX ? width : MODEL_WIDTH_MAX;
	fprintf(out, "\n%6s %-9s %-11s %-8s %-*s %9s %7s %7s  %s\n", "JOB", "STATE", "CLASS",
		"KIND", width, "MODEL", "STEP", "AGE", "LEFT", "WHY");
	for (size_t i = 0; i < n; i++)
		print_job(out, jobs, places[i].index, width);
}

static void print_ps(FILE *out, const sdc_reply *status, const sdc_reply *jobs)
{
	const size_t models = sdc_reply_count(status, "models");
	const char *engine = string_at(status, "worker.state");
	uint64_t weights = 0;

	for (size_t i = 0; i < models; i++)
		weights += (uint64_t)number_of(status, "models", i, "weight_bytes");
	fprintf(out,
		"daemon %.1f MiB, engine %s, %.1f MiB; weights %.1f of %.0f MiB; %" PRIu64
		" connections\n",
		(double)uint_at(status, "rss_bytes") / MIB,
		strcmp(engine, "waiting") == 0 ? "died, is started again" : engine,
		(double)uint_at(status, "worker.rss_bytes") / MIB, (double)weights / MIB,
		(double)uint_at(status, "memory_budget") / MIB, uint_at(status, "connections"));
	fprintf(out,
		"jobs of all users: %" PRIu64 " running, %" PRIu64 " waiting, %" PRIu64
		" done, %" PRIu64 " failed, %" PRIu64 " cancelled\n",
		uint_at(status, "jobs.running"), uint_at(status, "jobs.queued"),
		uint_at(status, "jobs.done"), uint_at(status, "jobs.failed"),
		uint_at(status, "jobs.cancelled"));
	if (models > 0)
		fprintf(out, "\n%-24s %-9s %8s  %s\n", "MODEL", "STATE", "MIB", "STAYS");
	else
		fputs("\nno model in memory\n", out);
	for (size_t i = 0; i < models; i++) {
		fprintf(out, "%-24s %-9s %8.1f  ", text_of(status, "models", i, "name"),
			text_of(status, "models", i, "state"),
			(double)number_of(status, "models", i, "weight_bytes") / MIB);
		print_stay(out, status, i);
	}
	print_jobs(out, jobs);
}

/* Bytes of the line that fit into so many columns, a character of several bytes whole or not at all. */
static size_t fitting(const char *line, size_t columns)
{
	size_t n = strcspn(line, "\n");

	if (n <= columns)
		return n;
	n = columns;
	while (n > 0 && ((unsigned char)line[n] & 0xc0) == 0x80)
		n--;
	return n;
}

/* The screen's upper left part of a text, over what stood there. */
static void redraw(const char *text)
{
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	size_t lines = 0, row = 0;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	if (size.ws_row < 2 || size.ws_col < 20)
		size = (struct winsize){.ws_row = 24, .ws_col = 80};
	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	fputs("\033[H", stdout);
	for (; *text; row++) {
		if (row + 2 == size.ws_row && lines > row + 1) {
			printf("... and %zu lines more\033[K\n", lines - row);
			break;
		}
		printf("%.*s\033[K\n", (int)fitting(text, size.ws_col), text);
		text += strcspn(text, "\n") + 1;
	}
	fputs("\033[J", stdout);
}

static int show_text(const sdc_reply *status, const sdc_reply *jobs, bool on_screen)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out;

	if (!on_screen) {
		print_ps(stdout, status, jobs);
		return EXIT_OK;
	}
	out = open_memstream(&text, &size);
	if (!out)
		return EXIT_FAILED;
	print_ps(out, status, jobs);
	fclose(out);
	redraw(text);
	free(text);
	return EXIT_OK;
}

/* Both answers; EXIT_OK or an exit code. */
static int ask_both(const struct context *context, sdc_reply **ret_status, sdc_reply **ret_jobs)
{
	int r = ask(context, "status", NULL, NULL, ret_status);

	if (r != EXIT_OK)
		return r;
	r = ask(context, "job.list", NULL, NULL, ret_jobs);
	if (r != EXIT_OK)
		sdc_reply_free(*ret_status);
	return r;
}

static int show_ps(const struct context *context, bool on_screen)
{
	sdc_reply *status = NULL, *jobs = NULL;
	int r = ask_both(context, &status, &jobs);

	if (r != EXIT_OK)
		return r;
	if (context->json) {
		char *left = sdc_reply_json(status, ""), *right = sdc_reply_json(jobs, "jobs");

		if (left && right)
			printf("{\"status\":%s,\"jobs\":%s}\n", left, right);
		else
			r = EXIT_FAILED;
		free(left);
		free(right);
	} else {
		r = show_text(status, jobs, on_screen);
	}
	fflush(stdout);
	sdc_reply_free(status);
	sdc_reply_free(jobs);
	return r;
}

int run_ps(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(operate_verbs, "ps"), argc, argv, 0, 0);

	return r >= 0 ? r : show_ps(context, false);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = 1;
}

int run_top(const struct context *context, int argc, char **argv)
{
	const bool on_screen = !context->json && isatty(STDOUT_FILENO);
	const struct timespec second = {1, 0};
	unsigned long left = 0;
	char *end;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "top"), argc, argv, 0, 1);
	if (r >= 0)
		return r;
	if (argc > 1) {
		left = strtoul(argv[1], &end, 10);
		if (*end || left == 0)
			return usage(find_verb(operate_verbs, "top"));
	}
	signal(SIGINT, on_interrupt);
	if (on_screen)
		fputs("\033[2J", stdout);
	for (;;) {
		r = show_ps(context, on_screen);
		if (r != EXIT_OK || interrupted || --left == 0)
			return r;
		nanosleep(&second, NULL);
		if (interrupted)
			return EXIT_OK;
	}
}

static void print_why(const sdc_reply *jobs, size_t i)
{
	const char *error = text_of(jobs, "jobs", i, "error");
	const int64_t eta_ms = eta_of(jobs, i);
	char age[16], left[16];

	printf("job %" PRIi64 " (%s with %s, class %s) is %s: %s\n",
	       number_of(jobs, "jobs", i, "job"), text_of(jobs, "jobs", i, "kind"),
	       text_of(jobs, "jobs", i, "model"), text_of(jobs, "jobs", i, "priority"),
	       text_of(jobs, "jobs", i, "state"), *error ? error : text_of(jobs, "jobs", i, "why"));
	printf("submitted %s ago", span(age, sizeof(age), number_of(jobs, "jobs", i, "age_ms")));
	if (eta_ms >= 0)
		printf(", some %s left", span(left, sizeof(left), eta_ms));
	putchar('\n');
}

int run_why(const struct context *context, int argc, char **argv)
{
	sdc_reply *jobs = NULL;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "why"), argc, argv, 1, 1);
	if (r >= 0)
		return r;
	r = ask(context, "job.list", NULL, NULL, &jobs);
	if (r != EXIT_OK)
		return r;
	r = EXIT_FAILED;
	for (size_t i = 0; i < sdc_reply_count(jobs, "jobs") && r != EXIT_OK; i++) {
		if (number_of(jobs, "jobs", i, "job") != strtoll(argv[1], NULL, 10))
			continue;
		print_why(jobs, i);
		r = EXIT_OK;
	}
	if (r != EXIT_OK)
		complain(
			"no job %s of yours waits, runs or keeps a result; `sdctl jobs` lists them",
			argv[1]);
	sdc_reply_free(jobs);
	return r;
}
