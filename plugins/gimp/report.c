/*
 * What a script gets beside the layer; see report.h.
 */
#include "plugins/gimp/report.h"

#include <glib.h>

char *sdg_report(const struct sdh_task *task)
{
	struct sdh_timings t;
	char *warnings = g_strescape(sdh_task_warnings(task), NULL), *text;

	sdh_task_timings(task, &t);
	text = g_strdup_printf("{\"read_ms\":%d,\"plan_ms\":%d,\"transport_ms\":%d,\"queue_ms\":%d,"
			       "\"compute_ms\":%d,\"insert_ms\":%d,\"total_ms\":%d,"
			       "\"sent_bytes\":%zu,\"warnings\":\"%s\"}",
			       (int)t.read_ms, (int)t.plan_ms, (int)t.transport_ms, (int)t.queue_ms,
			       (int)t.compute_ms, (int)t.insert_ms, (int)t.total_ms, t.sent_bytes,
			       warnings);
	g_free(warnings);
	return text;
}
