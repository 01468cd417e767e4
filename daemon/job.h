/*
 * A job from its submission to its one answer. The object keeps the client's message (parameters, descriptors), its
 * state and its end; it knows neither sockets nor the worker. States only move along sdd_job_set_state's table, so that
 * a second terminal answer is impossible by construction.
 */
#pragma once

#include "daemon/quota.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/list.h"
#include "protocol/codec.h"

#include <stdbool.h>

struct sdd_session;

enum {
	SDD_JOB_ATTEMPTS_MAX =
		2, /* times a job is handed to workers that die before they get any further with it */
	SDD_JOB_WAITERS_MAX = 16,
};

/* A job.get with wait, to be answered at the end. */
struct sdd_waiter {
	struct sdd_session *session;
	uint32_t msgid;
};

struct sdd_job {
	uint64_t id;
	enum sdp_job_state state;
	struct sdd_list link; /* in the queue, or among the kept results */

	struct sdp_message *message; /* of the client; owns the record and the pictures */
	struct sdp_record *record;   /* job_submit, checked, with model and seed filled in */
	enum sdp_job_kind kind;
	char model[129];

	enum sdp_priority priority;
	enum sdp_priority counts_as; /* that class, or a higher one by waiting long; the queue's */
	uint64_t raised_until_us;    /* while it runs: how long it counts as that */
	char channel[65];	     /* "" = none */
	bool staged; /* this time: the budget asks for one part of the model after the other */
	int64_t keep_alive_ms;	     /* of its model */
	uint64_t client, turn;	     /* whose turn it takes; the queue's */
	size_t position;	     /* the queue's */
	bool placed;		     /* the queue's */
	struct sdd_session *session; /* who is told; NULL once it has gone */
	uint32_t msgid;		     /* of job.submit */
	bool detached;
	struct sdd_user *user;
	struct sdd_charge charge_total, charge_user, charge_waiting, charge_inline;
	struct sdd_waiter waiters[SDD_JOB_WAITERS_MAX];
	size_t n_waiters;

	uint64_t submitted_us, started_us, steps_started_us, ended_us; /* CLOCK_MONOTONIC */
	uint64_t queued_us,
		waited_us; /* since when it waits; what it waited before, all turns together */
	uint64_t load_us;  /* spent on loading its model */
	enum sdp_stage stage;
	int step, total;
	int attempts;	    /* runs since the last one that got further */
	uint32_t run_msgid; /* of worker.run, while it runs */
	bool yielding;	    /* while it runs: was asked to make room */
	bool had_company;   /* in this run: its times say nothing of a job alone */
	bool keeps_apart; /* a worker died of it or of its company: it shows which when it is alone */
	bool cancel_requested;
	bool preview_requested; /* and none has come since */
	/* the newest preview, as long as somebody has yet to be sent it (events.h), and which one of all it is; the message owns the record */
	struct sdp_message *preview_message;
	struct sdp_record *preview;
	uint64_t preview_turn;
	int pictures_told; /* job.picture so far */

	struct sdp_message *
		kept_message; /* worker.checkpoint: owns the state to go on from; NULL = from the start */
	const struct sdp_pixels *kept_state;
	int kept_step, resumed_step; /* of that state; of the state its last run began with */

	struct sdp_message *result_message; /* of the worker; owns the result and its pictures */
	struct sdp_record *result;	    /* job_result */
	uint64_t result_bytes;
	struct sdd_session *fetcher; /* was sent the kept result, and may not have read it yet */
	struct sdp_error
		error; /* why it failed; once a cancel is asked for, the answer it will get */
};

/* Takes the message and a reference to the user. 0 or -ENOMEM, which takes nothing. */
int sdd_job_new(uint64_t id, struct sdp_message *message, struct sdp_record *record,
		struct sdd_user *user, struct sdd_job **ret_job);
/* Refunds its charges and unlinks it. Returns NULL; NULL is allowed. */
struct sdd_job *sdd_job_free(struct sdd_job *job);
SDD_DEFINE_CLEANUP(struct sdd_job *, sdd_job_free)

/*
 * queued -> running, cancelled, failed; running -> done, failed, cancelled, queued (worker lost before it began).
 * Returns 0, or -EINVAL for any other move, which changes nothing.
 */
int sdd_job_set_state(struct sdd_job *job, enum sdp_job_state state);
bool sdd_job_has_ended(const struct sdd_job *job);

/* Give back what a waiting, then what any unfinished job pays for. */
void sdd_job_refund_waiting(struct sdd_job *job);
void sdd_job_refund(struct sdd_job *job);

/* Remember who waits for the end. 0 or SDD_QUOTA_E_EXCEEDED. */
int sdd_job_add_waiter(struct sdd_job *job, struct sdd_session *session, uint32_t msgid);
/* The session goes: forget it as submitter and as waiter. */
void sdd_job_forget_session(struct sdd_job *job, const struct sdd_session *session);

/* Takes a worker.checkpoint's message, whose state and step these are. */
void sdd_job_keep_state(struct sdd_job *job, struct sdp_message *message,
			const struct sdp_pixels *state, int step);

/* Takes a worker.preview's message and its record, NULL for none. */
void sdd_job_keep_preview(struct sdd_job *job, struct sdp_message *message,
			  struct sdp_record *preview);

/* The request and its pictures are not needed any more: give their memory back. */
void sdd_job_drop_request(struct sdd_job *job);
