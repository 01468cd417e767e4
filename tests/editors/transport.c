/*
 * How long a selection travels: the headless host with a canvas of SIDE x SIDE, RGBA of 8 bits, and a job that returns its
 * source (strength 0), so that what is left is reading, asking, sending, mapping and inserting. First everything is selected, then less: what
 * travels follows the selection, not the canvas. A figure to look at, never a test. Copies of a pixel: one from the document into the sealed
 * memory file, one from the mapped result into the new layer; none in this library, the daemon or the socket. A mask is copied once more,
 * from the selection's bounds into the part of the canvas that travels.
 *
 * usage: transport SOCKET SIDE
 */
#include <stdio.h>
#include <stdlib.h>

#include "plugins/common/task.h"
#include "plugins/none/none.h"

static int run(const char *socket, int side, int selected, struct sdh_timings *ret_timings)
{
	struct sdh_settings *settings = sdh_settings_new();
	struct sdh_task *task = NULL;
	sdc_error error = {0};
	struct sdh_host host;
	struct none none;
	int r;

	none_init(&none, side, side, SDC_U8);
	none_select(&none, (side - selected) / 2, (side - selected) / 2, selected, selected);
	host = none_host(&none);
	r = sdh_settings_parse(settings, "action=refine strength=0 steps=1 seed=1 exact=yes",
			       &error);
	if (r >= 0)
		r = sdh_task_new(&host, settings, socket, &task, &error);
	if (r >= 0)
		r = sdh_task_run(task, &error);
	if (r >= 0)
		sdh_task_timings(task, ret_timings);
	else
		fprintf(stderr, "%s\n", error.message);
	sdh_task_free(task);
	sdh_settings_free(settings);
	none_clear(&none);
	return r;
}

int main(int argc, char **argv)
{
	const int side = argc == 3 ? atoi(argv[2]) : 0;
	const int selected[] = {side, side, side / 2, side / 8, side / 64};
	struct sdh_timings t;

	if (side < 64 || side > 16384) {
		fprintf(stderr, "usage: transport SOCKET SIDE (64 to 16384)\n");
		return 2;
	}
	printf("canvas %d x %d, RGBA u8: %.1f MB\n", side, side, side / 1e3 * side / 1e3 * 4);
	printf("%12s %9s %6s %6s %10s %6s %8s %7s %7s\n", "selected", "sent MB", "read", "plan",
	       "transport", "queue", "compute", "insert", "total");
	for (size_t i = 0; i < sizeof(selected) / sizeof(selected[0]); i++) {
		if (run(argv[1], side, selected[i], &t) < 0)
			return 1;
		printf("%5d x %-4d %9.2f %6.0f %6.0f %10.0f %6.0f %8.0f %7.0f %7.0f ms\n",
		       selected[i], selected[i], (double)t.sent_bytes / 1e6, t.read_ms, t.plan_ms,
		       t.transport_ms, t.queue_ms, t.compute_ms, t.insert_ms, t.total_ms);
	}
	return 0;
}
