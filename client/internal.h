/*
 * What the files of libsdclient share. Calls and jobs hang on their client in lists; a client that is freed first leaves
 * its jobs behind as ended ones.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/sdclient.h"
#include "protocol/connection.h"

struct sdc_reply {
	unsigned refs;
	struct sdp_message *message;
	struct sdc_mapped {
		struct sdc_mapped *next;
		const msgpack_object *object;
		struct sdp_mapping mapping;
	} * mapped;
};

struct sdc_pixels {
	unsigned refs; /* the caller's and each request's */
	bool sealed;
	struct sdp_pixels description;
	struct sdp_buffer buffer;
	void *icc;
};

struct sdc_request {
	const struct sdp_method *method;
	struct sdp_record *record;
	sdc_pixels **pixels; /* by field */
	sdc_pixels **held;   /* of items of lists, n_held */
	size_t n_held;
};

struct call {
	struct call *next;
	uint32_t id;
	const struct sdp_method *method;
	sdc_reply_fn fn;
	void *userdata;
	struct sdc_job *job; /* of a job.submit by sdc_job_submit */
};

struct sdc_client {
	struct sdp_connection *connection; /* NULL once lost */
	sdc_error lost;			   /* why, with code 0 while connected */
	unsigned flags;
	uint32_t next_id;
	int depth; /* callbacks on the stack */
	struct call *calls;
	struct sdc_job *jobs;
	sdc_reply *hello;
	sdc_shortage shortage; /* all 0: the newest no_memory brought none */
	sdc_event_fn event_fn;
	void *event_userdata;
};

struct sdc_job {
	struct sdc_job *next;
	sdc_client *client; /* NULL once ended */
	sdc_job_handlers handlers;
	sdc_picture_fn picture_fn;
	void *picture_userdata;
	int64_t id;
	uint32_t request; /* message id of its job.submit */
	bool detach, ended;
	bool cancel; /* once its number is known */
	bool orphan; /* the program has freed it; it waits for its number to be cancelled */
	sdc_progress progress;
	sdc_reply *result;
	sdc_error error;
};

/* error.c: fill *error (may be NULL) and return code. */
int sdc_fail(sdc_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The daemon's error, or one of protocol/'s own, as the ABI's. Returns the code. */
int sdc_fail_with(sdc_error *error, const struct sdp_error *from);

/* request.c: a new item of a list of structs, and its fields with the schema's checks. 0 or an error's code. */
int sdc_request_append(sdc_request *request, const char *field, struct sdp_record **ret_item,
		       sdc_error *error);
/* As a request's value, no copy. */
msgpack_object sdc_string_object(const char *value);
int sdc_record_put_string(struct sdp_record *record, int index, const char *value,
			  sdc_error *error);
int sdc_record_put_uint(struct sdp_record *record, int index, uint64_t value, sdc_error *error);
int sdc_record_put_double(struct sdp_record *record, int index, double value, sdc_error *error);
/* x, y, width, height */
int sdc_record_put_rect(struct sdp_record *record, int index, const int sides[4], sdc_error *error);

/* client.c */
int sdc_client_lose(sdc_client *client, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Queue a request, to be sent by the next dispatch; takes the call on success. */
int sdc_client_send(sdc_client *client, const sdc_request *request, struct call *call,
		    sdc_error *error);
/* Dispatch until *done or the deadline (CLOCK_MONOTONIC ms, negative: none). SDC_E_TIMEOUT, or the loss. */
int sdc_client_wait(sdc_client *client, const bool *done, int64_t deadline_ms, sdc_error *error);
int64_t sdc_deadline(int timeout_ms);

/* reply.c: takes the message, also on failure (NULL). */
sdc_reply *sdc_reply_new(struct sdp_message *message);

/* job.c */
void sdc_job_event(sdc_client *client, const struct sdp_message *message, const sdc_reply *reply);
void sdc_job_end(struct sdc_job *job, const sdc_reply *reply, const sdc_error *error);

/* pixels.c */
sdc_pixels *sdc_pixels_ref(sdc_pixels *pixels);
/* A copy of image in an item of a list, kept as long as the request. */
int sdc_request_hold_image(sdc_request *request, struct sdp_record *item, int index,
			   const char *list, const sdc_image *image, sdc_error *ret_error);

/* connect.c: sdc_connect on a socket that is connected already; takes fd. For tests and fuzzers. */
int sdc_client_adopt(int fd, const char *program, unsigned flags, int timeout_ms,
		     sdc_client **ret_client, sdc_error *error);
