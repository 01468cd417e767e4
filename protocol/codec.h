/*
 * From a parsed map to values and back, by the schema's tables.
 *
 * Decoding gives a record: one value a field, defaults filled in, every type and range checked, so that handlers read
 * `sdp_record_int(r, SDP_JOB_PARAMETERS_STEPS)` and never see msgpack. Encoding is a writer with a sticky error: handlers
 * put fields in any order and check once, at sdp_writer_finish.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/message.h"
#include "protocol/pixels.h"

struct sdp_rect {
	int x, y, width, height; /* width, height >= 0 */
};

struct sdp_record;

struct sdp_value {
	bool given; /* the peer sent it, or a setter set it; else the default stands here */
	union {
		bool boolean;
		int64_t integer; /* int; enum and context: the place of the name (context: n_values = a rect) */
		uint64_t uinteger;
		double real;
		struct {
			const char *text; /* string: NUL-terminated UTF-8; bin: bytes */
			size_t length;	  /* bin with text NULL: which of message->fds */
		} string;
		struct sdp_pixels *pixels;
		struct sdp_record *record;
		struct {
			struct sdp_value *items;
			size_t count;
		} list;
	};
	struct sdp_rect rect; /* rect, context */
};

struct sdp_record {
	const struct sdp_struct *type;
	struct sdp_value *values;    /* type->n_fields */
	struct sdp_message *message; /* owner of all memory here */
};

/* How strict: a server names unknown keys as errors, a client passes over what newer servers add. */
enum sdp_strictness { SDP_STRICT, SDP_LENIENT };

/*
 * Decode message->params by type; the record lives and dies with the message. Checks types, ranges, UTF-8 (no NUL bytes),
 * required fields, duplicate keys (refused), pixel buffers (sdp_pixels_check). SDP_LENIENT ignores unknown keys, and enum
 * names and ranges it does not know count as absent where the field is not required. Not for failed responses.
 * 0, -ENOMEM, or -EINVAL with *ret_error (unknown_field, missing_field, bad_value, bad_pixels).
 */
int sdp_record_decode(struct sdp_message *message, const struct sdp_struct *type,
		      enum sdp_strictness strictness, struct sdp_record **ret_record,
		      struct sdp_error *ret_error);

/* Getters: index is SDP_<STRUCT>_<FIELD> of the record's type. Absent fields give the default: false, 0, "", NULL. */
bool sdp_record_given(const struct sdp_record *record, int index);
bool sdp_record_bool(const struct sdp_record *record, int index);
int sdp_record_int(const struct sdp_record *record,
		   int index); /* int, enum, context; clamped to int */
int64_t sdp_record_int64(const struct sdp_record *record, int index);
uint64_t sdp_record_uint(const struct sdp_record *record, int index);
double sdp_record_double(const struct sdp_record *record, int index);
const char *sdp_record_string(const struct sdp_record *record, int index);
/* The enum's name, "" when absent without a default. */
const char *sdp_record_enum_name(const struct sdp_record *record, int index);
struct sdp_rect sdp_record_rect(const struct sdp_record *record, int index);
const struct sdp_pixels *sdp_record_pixels(const struct sdp_record *record, int index);
const struct sdp_record *sdp_record_struct(const struct sdp_record *record, int index);
size_t sdp_record_count(const struct sdp_record *record, int index);
const struct sdp_value *sdp_record_item(const struct sdp_record *record, int index, size_t i);

/*
 * A record to be filled in and written, with memory of its own: sdp_message_free(record->message) frees it. 0 or -ENOMEM.
 */
int sdp_record_new(const struct sdp_struct *type, struct sdp_record **ret_record);
/* Set one field from a parsed value, with all the checks of a strict decode. -EINVAL leaves the field as it was. */
int sdp_record_put(struct sdp_record *record, int index, const msgpack_object *value,
		   struct sdp_error *ret_error);
/* A new item at the end of a list of structs. 0, -ENOMEM, or -E2BIG when the list is full. */
int sdp_record_append(struct sdp_record *record, int index, struct sdp_record **ret_item);
/* Describe a pixels map found in message (path names it in errors). 0, -ENOMEM or -EINVAL. */
int sdp_pixels_decode(struct sdp_message *message, const msgpack_object *value, const char *path,
		      struct sdp_pixels *ret_pixels, struct sdp_error *ret_error);

/* Setters: mark the field given (the daemon fills in what it chose). Ranges are the caller's business. 0 or -ENOMEM. */
void sdp_record_set_int(struct sdp_record *record, int index, int64_t value);
void sdp_record_set_uint(struct sdp_record *record, int index, uint64_t value);
void sdp_record_set_double(struct sdp_record *record, int index, double value);
int sdp_record_set_string(struct sdp_record *record, int index, const char *value); /* copied */
/* The description is copied, what it points to stays the caller's. NULL takes the field away. */
int sdp_record_set_pixels(struct sdp_record *record, int index, const struct sdp_pixels *pixels);

/*
 * The rules across fields of a job (job_submit or any record that starts with job_parameters): fields of another kind,
 * pictures that are missing, mask and select at once or neither, outpaint without a side. Fills in strength by kind
 * (0.8 img2img, 0.3 upscale, else 1), the one default that hangs on another field. 0 or -EINVAL with *ret_error.
 */
int sdp_job_check(struct sdp_record *record, struct sdp_error *ret_error);

/* ---- writing */

/* A message in the making: bytes and duplicated descriptors, owned by the writer until a connection takes them. */
struct sdp_writer {
	uint8_t *bytes;
	size_t length, capacity;
	int fds[SDP_FDS_MAX];
	unsigned n_fds;
	bool inline_pixels; /* put pictures into the message (the peer cannot receive descriptors) */
	int error; /* sticky: 0, -ENOMEM, -E2BIG (beyond a limit of the scanner), -EMFILE, ... */

	/* private */
	uint8_t depth;
	struct {
		size_t header;
		uint32_t count;
		bool map;
	} stack[SDP_DEPTH_MAX];
};

#define SDP_WRITER_INIT ((struct sdp_writer){0})

/* Begin a message; what follows goes into its one map, until sdp_writer_finish. Any earlier content is dropped. */
void sdp_writer_request(struct sdp_writer *writer, uint32_t msgid, const char *method);
void sdp_writer_event(struct sdp_writer *writer, const char *event);
void sdp_writer_response(struct sdp_writer *writer, uint32_t msgid);
/* A whole error response; nothing may follow but sdp_writer_finish. */
void sdp_writer_failure(struct sdp_writer *writer, uint32_t msgid, const struct sdp_error *error);

/* key is NULL inside a list. */
void sdp_writer_bool(struct sdp_writer *writer, const char *key, bool value);
void sdp_writer_int(struct sdp_writer *writer, const char *key, int64_t value);
void sdp_writer_uint(struct sdp_writer *writer, const char *key, uint64_t value);
void sdp_writer_double(struct sdp_writer *writer, const char *key, double value);
/* NULL writes ""; bytes that are no UTF-8 become '?', so that an error message can never break the peer. */
void sdp_writer_string(struct sdp_writer *writer, const char *key, const char *value);
void sdp_writer_bin(struct sdp_writer *writer, const char *key, const void *data, size_t size);
void sdp_writer_rect(struct sdp_writer *writer, const char *key, struct sdp_rect rect);
/* The fd is duplicated, inline bytes are copied; with inline_pixels an fd's rows are copied into the message, packed. */
void sdp_writer_pixels(struct sdp_writer *writer, const char *key, const struct sdp_pixels *pixels);
void sdp_writer_map_begin(struct sdp_writer *writer, const char *key);
void sdp_writer_list_begin(struct sdp_writer *writer, const char *key);
void sdp_writer_end(struct sdp_writer *writer);
/*
 * The given fields of a record that `type` has too, into the map in work: how sdd hands a job_submit on as worker_run, a
 * worker's job_result on to the client, or the effective request into `parameters`. type NULL = the record's own type.
 * SDP_WRITE_DEFAULTS: also the fields that have a default one could send, as far as the job's kind may carry them.
 */
enum sdp_write_flags { SDP_WRITE_DEFAULTS = 1 << 0, SDP_WRITE_NO_PIXELS = 1 << 1 };
void sdp_writer_record(struct sdp_writer *writer, const struct sdp_record *record,
		       const struct sdp_struct *type, unsigned flags);

/* Close all open maps and lists. Returns 0 when the bytes are a complete message, else the sticky error. */
int sdp_writer_finish(struct sdp_writer *writer);
/* Free the bytes, close the descriptors. */
void sdp_writer_clear(struct sdp_writer *writer);
