/*
 * The list of what clients wish of models, and their answers; see model-requests.h.
 */
#include "daemon/model-requests.h"

#include <string.h>

enum { MODEL_REQUESTS_MAX = 64, MODEL_REQUESTS_USER_MAX = 32 };

void sdd_model_request_answer(struct sdd_server *server, struct sdd_model_request *request,
			      const struct sdd_model *model, const struct sdp_record *health,
			      const struct sdp_error *error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (request->session && error) {
		sdd_session_fail(request->session, request->msgid, error);
	} else if (request->session) {
		sdp_writer_response(&writer, request->msgid);
		if (health)
			sdp_writer_record(&writer, health, &sdp_struct_model_health, 0);
		else
			sdd_model_write(model, sdd_registry_is_default(&server->registry, model),
					&writer);
		sdd_session_reply(request->session, request->msgid, &writer);
	}
	sdp_writer_clear(&writer);
	sdd_list_remove(&request->link);
	free(request);
}

void sdd_model_requests_answer(struct sdd_server *server, const char *name,
			       enum sdd_model_wish wish, const struct sdd_model *model,
			       const struct sdp_record *health, const struct sdp_error *error)
{
	struct sdd_model_request *request, *following;

	sdd_list_for_each_safe (request, following, &server->runner.requests, link) {
		if (request->wish == wish && strcmp(request->model, name) == 0 &&
		    !(wish == SDD_MODEL_LOAD && !error && request->has_form &&
		      request->form != model->weights))
			sdd_model_request_answer(server, request, model, health, error);
	}
}

void sdd_model_requests_note_loaded(struct sdd_server *server, const char *name)
{
	struct sdd_model_request *request;

	sdd_list_for_each (request, &server->runner.requests, link)
		if (request->wish == SDD_MODEL_CHECK && strcmp(request->model, name) == 0)
			request->was_loaded = true;
}

void sdd_model_requests_fail_load(struct sdd_server *server, const char *name,
				  const struct sdp_error *error)
{
	sdd_model_requests_answer(server, name, SDD_MODEL_LOAD, NULL, NULL, error);
	sdd_model_requests_answer(server, name, SDD_MODEL_CHECK, NULL, NULL, error);
}

bool sdd_model_requests_check_waits(const struct sdd_server *server)
{
	const struct sdd_model_request *request;

	sdd_list_for_each (request, &server->runner.requests, link)
		if (request->wish == SDD_MODEL_CHECK)
			return true;
	return false;
}

static struct sdd_model_request *new_request(struct sdd_server *server, const char *model,
					     enum sdd_model_wish wish)
{
	struct sdd_model_request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->wish = wish;
	snprintf(request->model, sizeof(request->model), "%s", model);
	request->uid = (uid_t)-1;
	sdd_list_append(&server->runner.requests, &request->link);
	return request;
}

void sdd_runner_request_unload(struct sdd_server *server, const char *model)
{
	new_request(server, model, SDD_MODEL_UNLOAD);
}

int sdd_runner_request_model(struct sdd_session *session, uint32_t msgid, const char *model,
			     enum sdd_model_wish wish, const enum sdp_weights_form *form)
{
	struct sdd_server *server = session->server;
	struct sdd_model_request *request;
	size_t waiting = 0, own = 0;

	sdd_list_for_each (request, &server->runner.requests, link) {
		waiting++;
		own += request->uid == session->uid;
	}
	if (waiting >= MODEL_REQUESTS_MAX || own >= MODEL_REQUESTS_USER_MAX ||
	    (wish == SDD_MODEL_CHECK && sdd_model_requests_check_waits(server)))
		return SDD_QUOTA_E_EXCEEDED;
	request = new_request(server, model, wish);
	if (!request)
		return -ENOMEM;
	request->session = session;
	request->uid = session->uid;
	request->msgid = msgid;
	if (form) {
		request->form = *form;
		request->has_form = true;
	}
	return 0;
}

void sdd_model_requests_fail_all(struct sdd_server *server, const struct sdp_error *error)
{
	struct sdd_model_request *request, *following;

	sdd_list_for_each_safe (request, following, &server->runner.requests, link)
		sdd_model_request_answer(server, request, NULL, NULL, error);
}
