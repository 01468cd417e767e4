/*
 * Leases, the clock of unused models, and who makes room; see residency.h.
 */
#include "daemon/residency.h"
#include "daemon/log.h"
#include "daemon/runner.h"
#include "daemon/util/clock.h"
#include "daemon/util/size.h"

#include <inttypes.h>
#include <string.h>

size_t sdd_residency_holders(const struct sdd_server *server, const struct sdd_model *model,
			     bool *ret_pinned)
{
	const struct sdd_session *session;
	const struct sdd_lease *lease;
	size_t n = 0;

	*ret_pinned = false;
	sdd_list_for_each (session, &server->sessions, link) {
		if (session->state != SDD_SESSION_READY)
			continue;
		sdd_list_for_each (lease, &session->leases, link) {
			if (strcmp(lease->model, model->name) != 0)
				continue;
			n++;
			*ret_pinned |= lease->pins;
		}
	}
	return n;
}

static bool is_at_work(const struct sdd_server *server, const struct sdd_model *model)
{
	/* those that run together have one model */
	const struct sdd_job *job = sdd_runner_job(server);

	return job && strcmp(job->model, model->name) == 0;
}

int64_t sdd_residency_rest_us(const struct sdd_server *server, const struct sdd_model *model)
{
	const uint64_t now = sdd_now_us();
	uint64_t until;
	bool pinned;

	if (model->state != SDP_MODEL_STATE_LOADED || model->keep_alive_us == UINT64_MAX ||
	    is_at_work(server, model) || sdd_residency_holders(server, model, &pinned) > 0)
		return -1;
	until = model->used_us + model->keep_alive_us;
	return until > now ? (int64_t)(until - now) : 0;
}

void sdd_residency_update(struct sdd_server *server)
{
	struct sdd_model *model;
	int64_t nearest = -1;

	sdd_list_for_each (model, &server->registry.models, link) {
		const int64_t rest = sdd_residency_rest_us(server, model);

		if (rest >= 0 && (nearest < 0 || rest < nearest))
			nearest = rest;
	}
	if (nearest >= 0)
		sd_event_source_set_time_relative(server->residency, (uint64_t)nearest);
	sd_event_source_set_enabled(server->residency,
				    nearest >= 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct sdd_server *server = userdata;
	struct sdd_model *model;

	sdd_list_for_each (model, &server->registry.models, link) {
		const struct sdd_log_about about = {.model = model->name};

		if (sdd_residency_rest_us(server, model) != 0)
			continue;
		sdd_log(LOG_INFO, &about, "model leaves: no client has used it for a while");
		sdd_runner_request_unload(server, model->name);
		/* until it has left; asked for once */
		model->keep_alive_us = UINT64_MAX;
	}
	sdd_residency_update(server);
	sdd_runner_kick(server);
	return 0;
}

int sdd_residency_init(struct sdd_server *server)
{
	int r = sd_event_add_time(server->event, &server->residency, CLOCK_MONOTONIC, UINT64_MAX, 0,
				  on_timer, server);

	return r < 0 ? r : sd_event_source_set_enabled(server->residency, SD_EVENT_OFF);
}

static void hold(struct sdd_session *session, const char *model, bool pins)
{
	struct sdd_lease *lease;
	size_t n = 0;

	sdd_list_for_each (lease, &session->leases, link) {
		n++;
		if (strcmp(lease->model, model) == 0) {
			lease->pins |= pins;
			return;
		}
	}
	if (n >= SDD_LEASES_MAX) {
		lease = sdd_list_first(&session->leases, struct sdd_lease, link);
		sdd_list_remove(&lease->link);
	} else {
		lease = calloc(1, sizeof(*lease));
		if (!lease)
			return; /* it then leaves like one that nobody holds */
	}
	snprintf(lease->model, sizeof(lease->model), "%s", model);
	lease->pins = pins;
	sdd_list_append(&session->leases, &lease->link);
}

void sdd_residency_use(struct sdd_server *server, struct sdd_session *session,
		       struct sdd_model *model, int64_t keep_alive_ms, bool pins)
{
	model->used_us = sdd_now_us();
	if (keep_alive_ms == SDD_KEEP_ALIVE_DEFAULT)
		model->keep_alive_us = server->config->keep_alive_us;
	else
		model->keep_alive_us =
			keep_alive_ms < 0 ? UINT64_MAX : (uint64_t)keep_alive_ms * 1000;
	if (session && session->state == SDD_SESSION_READY)
		hold(session, model->name, pins);
	sdd_residency_update(server);
}

void sdd_residency_forget_session(struct sdd_server *server, struct sdd_session *session)
{
	const uint64_t now = sdd_now_us();
	struct sdd_model *model;
	struct sdd_lease *lease;

	while ((lease = sdd_list_first(&session->leases, struct sdd_lease, link))) {
		/* the time begins now, not with the last job */
		sdd_list_for_each (model, &server->registry.models, link)
			if (strcmp(model->name, lease->model) == 0)
				model->used_us = now;
		sdd_list_remove(&lease->link);
		free(lease);
	}
	if (!server->stopping)
		sdd_residency_update(server);
}

/* Whether a should leave before b. */
static bool leaves_before(const struct sdd_server *server, const struct sdd_model *a,
			  const struct sdd_model *b)
{
	bool pinned;
	const bool a_held = sdd_residency_holders(server, a, &pinned) > 0;
	const bool b_held = sdd_residency_holders(server, b, &pinned) > 0;

	return a_held != b_held ? b_held : a->used_us < b->used_us;
}

int sdd_residency_make_room(struct sdd_server *server, const struct sdd_model *model,
			    uint64_t needed_bytes, struct sdd_model **ret_victim,
			    struct sdp_error *ret_error)
{
	const uint64_t budget = server->memory_budget_bytes;
	struct sdd_model *other, *victim = NULL;
	uint64_t used = 0, pinned_bytes = 0;
	const char *pinned_name = "";
	bool pinned;

	sdd_list_for_each (other, &server->registry.models, link) {
		if (other == model || other->state != SDP_MODEL_STATE_LOADED)
			continue;
		used = sdd_u64_add_saturated(used, other->weight_bytes);
		sdd_residency_holders(server, other, &pinned);
		if (pinned) {
			pinned_bytes = sdd_u64_add_saturated(pinned_bytes, other->weight_bytes);
			pinned_name = other->name;
		} else if (!victim || leaves_before(server, other, victim)) {
			victim = other;
		}
	}
	if (used <= budget && needed_bytes <= budget - used)
		return 0;
	if (pinned_bytes > budget || needed_bytes > budget - pinned_bytes)
		return sdp_error_field(
			ret_error, SDP_CODE_NO_MEMORY, "model",
			"the model '%s' needs %" PRIu64 " MiB, but of memory-budget %" PRIu64
			" MiB connected clients pin %" PRIu64 " MiB (%s); close such a client or "
			"raise memory-budget",
			model->name, needed_bytes >> 20, budget >> 20, pinned_bytes >> 20,
			pinned_name);
	*ret_victim = victim;
	return 1;
}

void sdd_residency_write(struct sdd_server *server, const struct sdd_model *model,
			 struct sdp_writer *writer)
{
	const int64_t rest_us = sdd_residency_rest_us(server, model);
	bool pinned;
	const size_t holders = sdd_residency_holders(server, model, &pinned);

	sdd_model_write(model, sdd_registry_is_default(&server->registry, model), writer);
	if (model->state != SDP_MODEL_STATE_LOADED)
		return;
	sdp_writer_uint(writer, "holders", holders);
	sdp_writer_bool(writer, "pinned", pinned);
	if (rest_us >= 0)
		sdp_writer_int(writer, "leaves_in_ms", rest_us / 1000);
}
