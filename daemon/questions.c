/*
 * Questions on their way; see questions.h.
 */
#include "daemon/questions.h"

#include <stdlib.h>
#include <string.h>

enum {
	QUESTIONS_MAX = 64,
	QUESTIONS_USER_MAX = 32,
	QUESTIONS_SESSION_MAX = 4,
	RETRY_MS = 200,
};

/* Message ids of questions, apart from those of the worker's other work, which count up from 1. */
#define FIRST_MSGID 0x80000000u

struct question {
	struct sdd_list link;
	struct sdd_session *session; /* NULL once it has gone */
	uid_t uid;
	uint32_t msgid, worker_msgid;
	bool sent;
	const struct sdp_struct *result;
	struct sdp_writer writer;
};

static void drop(struct question *question)
{
	sdd_list_remove(&question->link);
	sdp_writer_clear(&question->writer);
	free(question);
}

static int refuse_more(const struct sdd_request *request, struct sdp_error *ret_error)
{
	const struct question *question;
	size_t all = 0, users = 0, own = 0;

	sdd_list_for_each (question, &request->session->server->questions.list, link) {
		all++;
		users += question->uid == request->session->uid;
		own += question->session == request->session;
	}
	if (all < QUESTIONS_MAX && users < QUESTIONS_USER_MAX && own < QUESTIONS_SESSION_MAX)
		return 0;
	sdp_error_set(ret_error, SDP_CODE_BUSY,
		      "%zu questions wait for their answer already; ask again when one has it",
		      own >= QUESTIONS_SESSION_MAX  ? own
		      : users >= QUESTIONS_USER_MAX ? users
						    : all);
	ret_error->retry_ms = RETRY_MS;
	return -EBUSY;
}

int sdd_questions_ask(struct sdd_request *request, struct sdp_writer *writer,
		      const struct sdp_struct *result, struct sdp_error *ret_error)
{
	struct sdd_server *server = request->session->server;
	struct question *question;
	int r;

	r = refuse_more(request, ret_error);
	if (r < 0)
		goto refused;
	question = calloc(1, sizeof(*question));
	if (!question) {
		r = sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory");
		goto refused;
	}
	question->session = request->session;
	question->uid = request->session->uid;
	question->msgid = request->msgid;
	question->worker_msgid = server->questions.next_msgid;
	question->result = result;
	question->writer = *writer;
	*writer = SDP_WRITER_INIT;
	sdd_list_append(&server->questions.list, &question->link);
	return 0;
refused:
	sdp_writer_clear(writer);
	return r;
}

uint32_t sdd_questions_msgid(struct sdd_server *server)
{
	server->questions.next_msgid = FIRST_MSGID | (server->questions.next_msgid + 1);
	return server->questions.next_msgid;
}

void sdd_questions_init(struct sdd_server *server)
{
	sdd_list_init(&server->questions.list);
}

void sdd_questions_clear(struct sdd_server *server)
{
	struct question *question;

	while ((question = sdd_list_first(&server->questions.list, struct question, link)))
		drop(question);
}

bool sdd_questions_are_waiting(const struct sdd_server *server)
{
	const struct question *question;

	sdd_list_for_each (question, &server->questions.list, link)
		if (!question->sent)
			return true;
	return false;
}

void sdd_questions_send(struct sdd_server *server)
{
	struct sdd_supervisor *supervisor = &server->supervisor;
	struct question *question;

	if (supervisor->dying || (supervisor->state != SDP_WORKER_STATE_IDLE &&
				  supervisor->state != SDP_WORKER_STATE_BUSY))
		return;
	sdd_list_for_each (question, &server->questions.list, link) {
		if (question->sent)
			continue;
		question->sent = true;
		if (sdd_supervisor_send(supervisor, &question->writer) < 0) {
			/* its loss answers everybody */
			sdd_supervisor_kill(supervisor, "it could not be given a question");
			return;
		}
	}
}

static void answer(const struct question *question, struct sdp_message *message)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_error error = message->error;
	struct sdp_record *record;

	if (!question->session)
		return;
	if (message->failed ||
	    sdp_record_decode(message, question->result, SDP_LENIENT, &record, &error) < 0) {
		sdd_session_fail(question->session, question->msgid, &error);
		return;
	}
	sdp_writer_response(&writer, question->msgid);
	sdp_writer_record(&writer, record, question->result, 0);
	sdd_session_reply(question->session, question->msgid, &writer);
	sdp_writer_clear(&writer);
}

bool sdd_questions_take(struct sdd_server *server, struct sdp_message *message)
{
	struct question *question;

	if (message->msgid < FIRST_MSGID)
		return false;
	sdd_list_for_each (question, &server->questions.list, link) {
		if (question->worker_msgid != message->msgid)
			continue;
		answer(question, message);
		drop(question);
		break;
	}
	return true;
}

void sdd_questions_fail(struct sdd_server *server, const struct sdp_error *error)
{
	struct question *question;

	while ((question = sdd_list_first(&server->questions.list, struct question, link))) {
		if (question->session)
			sdd_session_fail(question->session, question->msgid, error);
		drop(question);
	}
}

void sdd_questions_forget_session(struct sdd_server *server, const struct sdd_session *session)
{
	struct question *question;

	sdd_list_for_each (question, &server->questions.list, link)
		if (question->session == session)
			question->session = NULL;
}
