/*
 * What clients wish of models beside jobs: models.load, .unload and .check wait in a list of the runner's, which serves them
 * between jobs; many who wish the same of a model get one answer.
 */
#pragma once

#include "daemon/runner.h"

/* A models.load, .unload or .check that waits for its answer. */
struct sdd_model_request {
	struct sdd_list link;
	struct sdd_session *session; /* NULL once it has gone: the work is still done */
	uid_t uid;		     /* whose, where it is a client's */
	uint32_t msgid;
	enum sdd_model_wish wish;
	char model[129];
	bool was_loaded; /* for it: what changes now, by a download beside it say, is none of the check's */
	bool has_form; /* of its weights, for a load */
	enum sdp_weights_form form;
};

/*
 * Answer and forget a request: with the error, or with what a check found, or with the model's state. model may be NULL with an
 * error or health.
 */
void sdd_model_request_answer(struct sdd_server *server, struct sdd_model_request *request,
			      const struct sdd_model *model, const struct sdp_record *health,
			      const struct sdp_error *error);
/* The same for everybody who wishes this of this model; who wishes to load it in another form than it has goes on waiting. */
void sdd_model_requests_answer(struct sdd_server *server, const char *name,
			       enum sdd_model_wish wish, const struct sdd_model *model,
			       const struct sdp_record *health, const struct sdp_error *error);
/* The model is in memory: checks of it begin with that. */
void sdd_model_requests_note_loaded(struct sdd_server *server, const char *name);
/* The model cannot be loaded: who wished it and who wished to check it are told. */
void sdd_model_requests_fail_load(struct sdd_server *server, const char *name,
				  const struct sdp_error *error);
void sdd_model_requests_fail_all(struct sdd_server *server, const struct sdp_error *error);
bool sdd_model_requests_check_waits(const struct sdd_server *server);
