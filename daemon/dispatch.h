/*
 * From a request to its handler, by the schema's method ids.
 */
#pragma once

#include "daemon/session.h"

/* Takes the message. Every request is answered exactly once: now, or by whoever the handler handed it to. */
void sdd_dispatch(struct sdd_session *session, struct sdp_message *message);

/*
 * Handlers return 0 when they have answered or arranged for it, else a negative errno with *ret_error filled, which
 * becomes the answer. record is the decoded params and lives with message.
 */
struct sdd_request {
	struct sdd_session *session;
	struct sdp_message *message; /* a handler that keeps it sets this to NULL */
	struct sdp_record *record;
	uint32_t msgid;
};

int sdd_handle_job_submit(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_job_cancel(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_job_request_preview(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_job_list(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_job_get(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_models_list(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_adapters_list(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_models_load(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_models_unload(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_models_check(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_config(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_metrics(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_status(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_prompt_count(struct sdd_request *request, struct sdp_error *ret_error);
int sdd_handle_job_plan(struct sdd_request *request, struct sdp_error *ret_error);
