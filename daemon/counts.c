/*
 * Counts on their way; see counts.h.
 */
#include "daemon/counts.h"

#include <stdlib.h>
#include <string.h>

enum {
	COUNTS_MAX = 64,
	COUNTS_SESSION_MAX = 4,
	RETRY_MS = 200,
};

/* Message ids of counts, apart from those of the worker's other work, which count up from 1. */
#define FIRST_MSGID 0x80000000u

struct count {
	struct sdd_list link;
	struct sdd_session *session; /* NULL once it has gone */
	uint32_t msgid, worker_msgid;
	bool sent;
	struct sdp_writer writer;
};

static void drop(struct count *count)
{
	sdd_list_remove(&count->link);
	sdp_writer_clear(&count->writer);
	free(count);
}

static int refuse_more(const struct sdd_request *request, struct sdp_error *ret_error)
{
	const struct count *count;
	size_t all = 0, own = 0;

	sdd_list_for_each (count, &request->session->server->counts.list, link) {
		all++;
		own += count->session == request->session;
	}
	if (all < COUNTS_MAX && own < COUNTS_SESSION_MAX)
		return 0;
	sdp_error_set(ret_error, SDP_CODE_BUSY,
		      "%zu prompts wait to be counted already; ask again when one is answered",
		      own < COUNTS_SESSION_MAX ? all : own);
	ret_error->retry_ms = RETRY_MS;
	return -EBUSY;
}

static void write_request(struct sdd_request *request, const struct sdd_model *model,
			  struct count *count)
{
	const struct sdd_registry *registry = &request->session->server->registry;
	const struct sdp_record *record = request->record;
	struct sdp_writer *writer = &count->writer;

	sdp_writer_request(writer, count->worker_msgid, "worker.count");
	sdp_writer_string(writer, "model", model->name);
	sdp_writer_string(writer, "path", model->path);
	sdp_writer_string(writer, "prompt", sdp_record_string(record, SDP_PROMPT_COUNT_PROMPT));
	sdp_writer_string(writer, "negative_prompt",
			  sdp_record_string(record, SDP_PROMPT_COUNT_NEGATIVE_PROMPT));
	sdp_writer_list_begin(writer, "roots");
	for (size_t i = 0; i < registry->n_roots; i++)
		sdp_writer_string(writer, NULL, registry->roots[i]);
	sdp_writer_end(writer);
}

int sdd_handle_prompt_count(struct sdd_request *request, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	const char *name = sdp_record_string(request->record, SDP_PROMPT_COUNT_MODEL);
	const struct sdd_model *model = sdd_registry_find(&server->registry, name);
	struct count *count;
	int r;

	if (server->stopping)
		return sdp_error_set(ret_error, SDP_CODE_SHUTTING_DOWN, "the daemon is stopping");
	if (!model)
		return sdp_error_field(ret_error, SDP_CODE_NOT_FOUND, "model",
				       "no model '%s'; models.list names what there is", name);
	r = refuse_more(request, ret_error);
	if (r < 0)
		return r;
	count = calloc(1, sizeof(*count));
	if (!count)
		return sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
	count->session = request->session;
	count->msgid = request->msgid;
	count->worker_msgid = FIRST_MSGID | server->counts.next++;
	count->writer = SDP_WRITER_INIT;
	write_request(request, model, count);
	sdd_list_append(&server->counts.list, &count->link);
	return 0;
}

void sdd_counts_init(struct sdd_server *server)
{
	sdd_list_init(&server->counts.list);
}

void sdd_counts_clear(struct sdd_server *server)
{
	struct count *count;

	while ((count = sdd_list_first(&server->counts.list, struct count, link)))
		drop(count);
}

bool sdd_counts_are_waiting(const struct sdd_server *server)
{
	const struct count *count;

	sdd_list_for_each (count, &server->counts.list, link)
		if (!count->sent)
			return true;
	return false;
}

void sdd_counts_send(struct sdd_server *server)
{
	struct sdd_supervisor *supervisor = &server->supervisor;
	struct count *count;

	if (supervisor->dying || (supervisor->state != SDP_WORKER_STATE_IDLE &&
				  supervisor->state != SDP_WORKER_STATE_BUSY))
		return;
	sdd_list_for_each (count, &server->counts.list, link) {
		if (count->sent)
			continue;
		count->sent = true;
		if (sdd_supervisor_send(supervisor, &count->writer) < 0) {
			/* its loss answers everybody */
			sdd_supervisor_kill(supervisor, "it could not be given a prompt to count");
			return;
		}
	}
}

static void answer(const struct count *count, struct sdp_message *message)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_error error = message->error;
	struct sdp_record *record;

	if (!count->session)
		return;
	if (message->failed || sdp_record_decode(message, &sdp_struct_prompt_count_result,
						 SDP_LENIENT, &record, &error) < 0) {
		sdd_session_fail(count->session, count->msgid, &error);
		return;
	}
	sdp_writer_response(&writer, count->msgid);
	sdp_writer_record(&writer, record, &sdp_struct_prompt_count_result, 0);
	sdd_session_reply(count->session, count->msgid, &writer);
	sdp_writer_clear(&writer);
}

bool sdd_counts_take(struct sdd_server *server, struct sdp_message *message)
{
	struct count *count;

	if (message->msgid < FIRST_MSGID)
		return false;
	sdd_list_for_each (count, &server->counts.list, link) {
		if (count->worker_msgid != message->msgid)
			continue;
		answer(count, message);
		drop(count);
		break;
	}
	return true;
}

void sdd_counts_fail(struct sdd_server *server, const struct sdp_error *error)
{
	struct count *count;

	while ((count = sdd_list_first(&server->counts.list, struct count, link))) {
		if (count->session)
			sdd_session_fail(count->session, count->msgid, error);
		drop(count);
	}
}

void sdd_counts_forget_session(struct sdd_server *server, const struct sdd_session *session)
{
	struct count *count;

	sdd_list_for_each (count, &server->counts.list, link)
		if (count->session == session)
			count->session = NULL;
}
