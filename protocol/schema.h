/*
 * The tables that protocol/generate.py makes of protocol/schema.toml: every method, event, struct, field and error.
 * The codec, the client's request builder and the daemon's dispatch all read these, so that a range stands in one place.
 * Fields are found by index: schema-tables.h gives SDP_<STRUCT>_<FIELD>; an included struct's fields come first, so
 * SDP_JOB_PARAMETERS_STEPS is also the index of steps in job_submit and worker_run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sdp_type {
	SDP_TYPE_BOOL,
	SDP_TYPE_INT,
	SDP_TYPE_UINT,
	SDP_TYPE_DOUBLE,
	SDP_TYPE_STRING,
	SDP_TYPE_BIN,
	SDP_TYPE_ENUM,
	SDP_TYPE_RECT,
	SDP_TYPE_CONTEXT, /* an enum's name or a rect */
	SDP_TYPE_PIXELS,
	SDP_TYPE_STRUCT,
	SDP_TYPE_LIST,
};

struct sdp_enum {
	const char *name;
	const char *const *values;
	size_t n_values;
};

struct sdp_struct;

/* A field. Which of the ranges counts follows from type (for a list: from items, the element's type). */
struct sdp_field {
	const char *name;
	enum sdp_type type;
	enum sdp_type items; /* of a list */
	bool required;
	bool has_default;
	bool fd;       /* bin: a descriptor may stand in its place */
	uint8_t only;  /* bit 1 << enum sdp_job_kind: kinds that may carry it; 0 = all */
	uint8_t needs; /* kinds that must */
	int64_t min,
		max; /* int, rect: values (a rect's sides are >= 0); string and bin: max bytes */
	uint64_t umin, umax; /* uint */
	double fmin, fmax;   /* double */
	int64_t multiple;    /* int: of this; 0 = any */
	size_t min_items, max_items;
	const struct sdp_enum *values;
	const struct sdp_struct *type_struct; /* pixels, struct, list of structs */
	int64_t default_int;		      /* bool, int, enum, context */
	uint64_t default_uint;
	double default_double;
	const char *default_string;
};

struct sdp_struct {
	const char *name;
	const struct sdp_field *fields;
	size_t n_fields;
};

/* A method (result set) or an event (result NULL). */
struct sdp_method {
	const char *name;
	int id; /* enum sdp_method_id or enum sdp_event_id */
	const struct sdp_struct *params;
	const struct sdp_struct *result;
	bool internal;	    /* between sdd and sdd-worker only */
	bool inline_pixels; /* params and result may carry large bin values */
};

#include "protocol/schema-tables.h" /* generated */

/* NULL when there is no such method or event; name need not end with a NUL byte. */
const struct sdp_method *sdp_method_find(const char *name, size_t length);
const struct sdp_method *sdp_event_find(const char *name, size_t length);
const struct sdp_method *sdp_method_get(enum sdp_method_id id);
const struct sdp_method *sdp_event_get(enum sdp_event_id id);
const struct sdp_struct *sdp_struct_find(const char *name);
/* The index of a field, or -1. */
int sdp_struct_index(const struct sdp_struct *type, const char *name, size_t length);
/* "bad_value", or "internal" for a number that is none of enum sdp_code. */
const char *sdp_code_name(int code);
/* The JSON text that api.info returns (static, SDP_API_LEVEL and every public method, event, struct and error). */
const char *sdp_api_json(void);
