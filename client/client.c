/*
 * The connection: reading, writing, and giving each message to the call, the job or the handler it belongs to.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/internal.h"

#define NO_REQUEST 0 /* message id of an error that answers no request */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t sdc_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

/* End a call: the one place where a reply function is called. */
static void end_call(sdc_client *client, struct call *call, const sdc_reply *reply,
		     const sdc_error *error)
{
	client->depth++;
	if (call->job)
		sdc_job_end(call->job, reply, error);
	else if (call->fn)
		call->fn(client, reply, error, call->userdata);
	client->depth--;
	free(call);
}

int sdc_client_lose(sdc_client *client, int code, const char *format, ...)
{
	char text[sizeof(client->lost.message)];
	struct call *call;
	va_list args;

	if (client->lost.code)
		return client->lost.code;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sdc_fail(&client->lost, code, "%s", text);
	client->connection = sdp_connection_free(client->connection);
	while ((call = client->calls)) {
		client->calls = call->next;
		end_call(client, call, NULL, &client->lost);
	}
	return code;
}

static int lost(const sdc_client *client, sdc_error *error)
{
	if (error)
		*error = client->lost;
	return client->lost.code;
}

static void flush(sdc_client *client)
{
	int r = client->connection ? sdp_connection_write(client->connection) : 0;

	/* the daemon may have said why before it closed: that is read first, and the loss is found by reading */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		sdc_client_lose(client, SDC_E_DISCONNECTED, "the daemon cannot be written to: %s",
				strerror(-r));
}

int sdc_client_send(sdc_client *client, const sdc_request *request, struct call *call,
		    sdc_error *error)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	if (client->lost.code)
		return lost(client, error);
	w.inline_pixels = client->flags & SDC_INLINE_PIXELS;
	call->id = client->next_id++;
	if (client->next_id == NO_REQUEST)
		client->next_id++;
	call->method = request->method;
	sdp_writer_request(&w, call->id, request->method->name);
	sdp_writer_record(&w, request->record, NULL, 0);
	int r = sdp_connection_queue(client->connection, &w, 0);
	sdp_writer_clear(&w);
	if (r == -E2BIG)
		return sdc_fail(error, SDC_E_TOO_LARGE,
				"the request is larger than a message may be");
	if (r == -ENOMEM)
		return sdc_fail(error, SDC_E_NO_MEMORY, "out of memory");
	if (r < 0)
		return sdc_fail(error, SDC_E_SYSTEM, "cannot prepare the request: %s",
				strerror(-r));
	call->next = client->calls;
	client->calls = call;
	return 0;
}

static struct call *take_call(sdc_client *client, uint32_t id)
{
	for (struct call **c = &client->calls; *c; c = &(*c)->next)
		if ((*c)->id == id) {
			struct call *call = *c;

			*c = call->next;
			return call;
		}
	return NULL;
}

/* Kept before the callback sees the error, so that it can ask. */
static void keep_shortage(sdc_client *client, const struct sdp_error *error)
{
	sdc_shortage *shortage = &client->shortage;

	if (error->code != SDP_CODE_NO_MEMORY)
		return;
	*shortage = (sdc_shortage){.needed_bytes = error->needed_bytes,
				   .free_bytes = error->free_bytes};
	snprintf(shortage->remedy, sizeof(shortage->remedy), "%s", error->remedy);
}

SDC_API int sdc_client_shortage(const sdc_client *client, sdc_shortage *ret_shortage)
{
	if (client->shortage.needed_bytes == 0)
		return SDC_E_NOT_FOUND;
	*ret_shortage = client->shortage;
	return 0;
}

/* The answer to a call, checked against the method's table so that programs never see a misshapen one. */
static int handle_response(sdc_client *client, sdc_reply *reply)
{
	struct sdp_message *m = reply->message;
	struct call *call = take_call(client, m->msgid);
	struct sdp_record *record;
	struct sdp_error why;
	sdc_error error;

	if (!call && m->failed && m->msgid == NO_REQUEST)
		/* an error without a request: the daemon refused the bytes or the connection itself */
		return sdc_client_lose(client, -m->error.code, "%s", m->error.message);
	if (!call)
		return sdc_client_lose(client, SDC_E_PROTOCOL,
				       "the daemon answered a question that was not asked");
	if (m->failed) {
		sdc_fail_with(&error, &m->error);
		keep_shortage(client, &m->error);
		end_call(client, call, NULL, &error);
		return 0;
	}
	if (sdp_record_decode(m, call->method->result, SDP_LENIENT, &record, &why) < 0) {
		sdc_fail(&error, SDC_E_PROTOCOL, "the daemon's answer to %s is malformed: %s",
			 call->method->name, why.message);
		end_call(client, call, NULL, &error);
		return 0;
	}
	end_call(client, call, reply, NULL);
	return 0;
}

static void handle_event(sdc_client *client, sdc_reply *reply)
{
	struct sdp_message *m = reply->message;
	struct sdp_record *record;
	struct sdp_error why;

	if (!m->method || sdp_record_decode(m, m->method->params, SDP_LENIENT, &record, &why) < 0)
		return; /* of a newer daemon */
	client->depth++;
	sdc_job_event(client, m, reply);
	if (client->event_fn)
		client->event_fn(client, m->name, reply, client->event_userdata);
	client->depth--;
}

static int handle(sdc_client *client, struct sdp_message *message)
{
	sdc_reply *reply = sdc_reply_new(message);
	int r = 0;

	if (!reply)
		return sdc_client_lose(client, SDC_E_NO_MEMORY, "out of memory");
	if (message->kind == SDP_RESPONSE)
		r = handle_response(client, reply);
	else if (message->kind == SDP_EVENT)
		handle_event(client, reply);
	else
		r = sdc_client_lose(client, SDC_E_PROTOCOL, "the daemon sent a request");
	sdc_reply_free(reply);
	return r;
}

static int handle_all(sdc_client *client)
{
	struct sdp_message *message;
	struct sdp_error why;
	int handled = 0;

	while (client->connection) {
		int r = sdp_connection_pop(client->connection, &message, &why);

		if (r == 0)
			break;
		if (r == -ENOMEM)
			return sdc_client_lose(client, SDC_E_NO_MEMORY, "out of memory");
		if (r < 0)
			return sdc_client_lose(client, SDC_E_PROTOCOL,
					       "the daemon's bytes make no message: %s",
					       why.message);
		r = handle(client, message);
		if (r < 0)
			return r;
		handled++;
	}
	return handled;
}

SDC_API int sdc_client_dispatch(sdc_client *client, sdc_error *ret_error)
{
	struct sdp_error why;
	int handled = 0;

	if (client->depth > 0)
		return sdc_fail(ret_error, SDC_E_BAD_REQUEST,
				"dispatch was called inside a callback");
	flush(client);
	while (client->connection) {
		int r = sdp_connection_read(client->connection, &why);

		if (r == 0)
			break;
		if (r == -EPROTO)
			sdc_client_lose(client, SDC_E_PROTOCOL, "%s", why.message);
		else if (r == -ENOMEM)
			sdc_client_lose(client, SDC_E_NO_MEMORY, "out of memory");
		else if (r < 0)
			sdc_client_lose(client, SDC_E_DISCONNECTED, "the daemon went away%s%s",
					r == -ECONNRESET ? "" : ": ",
					r == -ECONNRESET ? "" : strerror(-r));
		else
			r = handle_all(client);
		if (r > 0)
			handled += r;
	}
	flush(client);
	return client->lost.code ? lost(client, ret_error) : handled;
}

int sdc_client_wait(sdc_client *client, const bool *done, int64_t deadline_ms, sdc_error *error)
{
	if (client->depth > 0)
		return sdc_fail(error, SDC_E_BAD_REQUEST,
				"a blocking function was called inside a callback");
	for (;;) {
		sdc_client_dispatch(client, NULL);
		if (*done)
			return 0;
		if (client->lost.code)
			return lost(client, error);
		int64_t left = deadline_ms < 0 ? -1 : deadline_ms - now_ms();
		if (deadline_ms >= 0 && left <= 0)
			return sdc_fail(error, SDC_E_TIMEOUT, "the daemon did not answer in time");
		struct pollfd p = {sdc_client_fd(client), (short)sdc_client_events(client), 0};
		if (sdp_connection_waits_for_others(client->connection)) {
			p.events = POLLIN;
			if (left < 0 || left > SDP_OTHERS_RETRY_MS)
				left = SDP_OTHERS_RETRY_MS;
		}
		if (poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left) < 0 && errno != EINTR)
			return sdc_fail(error, SDC_E_SYSTEM, "cannot poll: %s", strerror(errno));
	}
}

SDC_API int sdc_client_fd(const sdc_client *client)
{
	return client->connection ? sdp_connection_fd(client->connection) : -1;
}

SDC_API int sdc_client_events(const sdc_client *client)
{
	if (!client->connection)
		return 0;
	/* who polls has no other way to hear that it is time to try again */
	return sdp_connection_events(client->connection) |
	       (sdp_connection_waits_for_others(client->connection) ? POLLOUT : 0);
}

SDC_API void sdc_client_on_event(sdc_client *client, sdc_event_fn fn, void *userdata)
{
	client->event_fn = fn;
	client->event_userdata = userdata;
}

SDC_API const sdc_reply *sdc_client_hello(const sdc_client *client)
{
	return client->hello;
}

SDC_API sdc_client *sdc_client_free(sdc_client *client)
{
	if (!client)
		return NULL;
	sdc_client_lose(client, SDC_E_DISCONNECTED, "the connection was closed");
	sdc_reply_free(client->hello);
	free(client);
	return NULL;
}
