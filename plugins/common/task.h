/*
 * One generation, from the document to new layers. Hosts with a main loop poll sdh_task_fd() and call
 * sdh_task_dispatch(); scripts call sdh_task_run(), which does that until the end.
 */
#pragma once

#include "plugins/common/host.h"

struct sdh_task;

/* Milliseconds from the call of sdh_task_new to the layers. */
struct sdh_timings {
	double read_ms;	     /* pixels out of the document */
	double plan_ms;	     /* connecting and asking what of them is needed */
	double transport_ms; /* all between this process and the engine but waiting and computing */
	double queue_ms, compute_ms;
	double insert_ms; /* pixels into the document */
	double total_ms;
	size_t sent_bytes; /* of pixels */
};

/*
 * Read the document, connect and send the job. socket NULL: the client library's default. The host table is copied. On
 * success *ret_task is owned by the caller; on failure nothing was changed anywhere.
 */
SDH_API int sdh_task_new(const struct sdh_host *host, const struct sdh_settings *settings,
			 const char *socket, struct sdh_task **ret_task, sdc_error *ret_error);
/* Ends the job when it has not ended. NULL. */
SDH_API struct sdh_task *sdh_task_free(struct sdh_task *task);
SDH_API int sdh_task_fd(const struct sdh_task *task);
/* POLLIN, or POLLIN | POLLOUT. */
SDH_API int sdh_task_events(const struct sdh_task *task);
/* Handle what has come, without blocking; runs the host's functions. 1 when the task has ended, 0 while it goes on. */
SDH_API int sdh_task_dispatch(struct sdh_task *task);
/*
 * Ask the daemon to stop; the end comes through dispatch, within a step. What sdh_task_events says has changed: the request waits to be
 * written.
 */
SDH_API void sdh_task_cancel(struct sdh_task *task);
/* Until the end. 0, or the code with *ret_error filled. */
SDH_API int sdh_task_run(struct sdh_task *task, sdc_error *ret_error);
SDH_API void sdh_task_timings(const struct sdh_task *task, struct sdh_timings *ret_timings);
/* What the artist should know though it worked, sentences separated by spaces; "" when nothing. */
SDH_API const char *sdh_task_warnings(const struct sdh_task *task);
