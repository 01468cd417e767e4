/*
 * Calls: asynchronous ones, and the blocking wrapper around them.
 */
#include <stdlib.h>

#include "client/internal.h"

SDC_API int64_t sdc_call_async(sdc_client *client, const sdc_request *request, sdc_reply_fn fn,
			       void *userdata, sdc_error *ret_error)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
	call->fn = fn;
	call->userdata = userdata;
	int r = sdc_client_send(client, request, call, ret_error);
	if (r < 0) {
		free(call);
		return r;
	}
	return call->id;
}

SDC_API int sdc_call_forget(sdc_client *client, int64_t call)
{
	for (struct call *c = client->calls; c; c = c->next)
		if (c->id == call && !c->job) {
			c->fn = NULL;
			return 0;
		}
	return SDC_E_NOT_FOUND;
}

struct waiter {
	bool done;
	sdc_reply *reply;
	sdc_error error;
};

static void answered(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		     void *userdata)
{
	struct waiter *w = userdata;

	w->done = true;
	if (reply)
		w->reply = sdc_reply_ref(reply);
	else
		w->error = *error;
}

SDC_API int sdc_call(sdc_client *client, const sdc_request *request, int timeout_ms,
		     sdc_reply **ret_reply, sdc_error *ret_error)
{
	int64_t deadline_ms = sdc_deadline(timeout_ms);
	struct waiter w = {0};

	if (client->depth > 0)
		return sdc_fail(ret_error, SDC_E_BAD_REQUEST,
				"a blocking function was called inside a callback");
	int64_t call = sdc_call_async(client, request, answered, &w, ret_error);
	if (call < 0)
		return (int)call;
	int r = sdc_client_wait(client, &w.done, deadline_ms, ret_error);
	if (r < 0) {
		sdc_call_forget(client, call);
		return r;
	}
	if (!w.reply) {
		if (ret_error)
			*ret_error = w.error;
		return w.error.code;
	}
	if (ret_reply)
		*ret_reply = w.reply;
	else
		sdc_reply_free(w.reply);
	return 0;
}
