/*
 * How long a big selection travels: the headless host with a canvas of SIDE x SIDE, everything selected, RGBA of 8 bits, a
 * job that returns its source (strength 0), so that what is left is reading, sending, mapping and inserting. A figure to
 * look at, never a test. Copies: one from the document into the sealed memory file, one from the mapped result into the
 * new layer; none in this library, the daemon or the socket.
 *
 * usage: transport SOCKET SIDE
 */
#include <stdio.h>
#include <stdlib.h>

#include "plugins/common/task.h"
#include "plugins/none/none.h"

int main(int argc, char **argv)
{
	const int side = argc == 3 ? atoi(argv[2]) : 0;
	struct sdh_settings *settings = sdh_settings_new();
	struct sdh_timings t;
	struct sdh_task *task;
	struct sdh_host host;
	struct none none;
	sdc_error error = {0};

	if (side < 1 || side > 16384) {
		fprintf(stderr, "usage: transport SOCKET SIDE\n");
		return 2;
	}
	none_init(&none, side, side, SDC_U8);
	none_select(&none, 0, 0, side, side);
	host = none_host(&none);
	for (int i = 0; i < 4; i++) {
		if (sdh_settings_parse(settings,
				       "action=refine strength=0 steps=1 seed=1 exact=yes",
				       &error) < 0 ||
		    sdh_task_new(&host, settings, argv[1], &task, &error) < 0 ||
		    sdh_task_run(task, &error) < 0) {
			fprintf(stderr, "%s\n", error.message);
			return 1;
		}
		sdh_task_timings(task, &t);
		printf("%d x %d RGBA u8: read %.0f ms, transport %.0f ms, queue %.0f ms, compute "
		       "%.0f ms, insert %.0f ms, total %.0f ms\n",
		       side, side, t.read_ms, t.transport_ms, t.queue_ms, t.compute_ms, t.insert_ms,
		       t.total_ms);
		sdh_task_free(task);
	}
	sdh_settings_free(settings);
	none_clear(&none);
	return 0;
}
