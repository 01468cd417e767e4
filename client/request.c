/*
 * Building requests: every setter goes through the schema's own checks, so that a typing error is told before anything is
 * sent, in the daemon's words.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "protocol/json.h"

SDC_API sdc_request *sdc_request_new(const char *method, sdc_error *ret_error)
{
	const struct sdp_method *m = sdp_method_find(method, strlen(method));

	if (!m || m->internal) {
		sdc_fail(ret_error, SDC_E_UNKNOWN_METHOD,
			 "%s is no method; sdd-protocol(7) lists them", method);
		return NULL;
	}
	sdc_request *request = calloc(1, sizeof(*request));
	if (request) {
		request->method = m;
		request->pixels = calloc(m->params->n_fields + 1, sizeof(*request->pixels));
	}
	if (!request || !request->pixels || sdp_record_new(m->params, &request->record) < 0) {
		sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
		return sdc_request_free(request);
	}
	return request;
}

SDC_API sdc_request *sdc_job_request_new(const char *kind, sdc_error *ret_error)
{
	sdc_request *request = sdc_request_new("job.submit", ret_error);

	if (request && sdc_request_set_string(request, "kind", kind, ret_error) < 0)
		return sdc_request_free(request);
	return request;
}

SDC_API sdc_request *sdc_request_free(sdc_request *request)
{
	if (!request)
		return NULL;
	for (size_t i = 0; request->pixels && i < request->method->params->n_fields; i++)
		sdc_pixels_free(request->pixels[i]);
	for (size_t i = 0; i < request->n_held; i++)
		sdc_pixels_free(request->held[i]);
	free(request->held);
	if (request->record)
		sdp_message_free(request->record->message);
	free(request->pixels);
	free(request);
	return NULL;
}

static int set(sdc_request *request, const char *field, const msgpack_object *value,
	       sdc_error *error)
{
	int index = sdp_struct_index(request->record->type, field, strlen(field));
	struct sdp_error why;

	if (index < 0) {
		int r = sdc_fail(error, SDC_E_UNKNOWN_FIELD, "%s is no field of %s", field,
				 request->method->name);
		if (error)
			snprintf(error->field, sizeof(error->field), "%s", field);
		return r;
	}
	if (sdp_record_put(request->record, index, value, &why) < 0)
		return sdc_fail_with(error, &why);
	return 0;
}

static msgpack_object integer(int64_t value)
{
	if (value < 0)
		return (msgpack_object){.type = MSGPACK_OBJECT_NEGATIVE_INTEGER, .via.i64 = value};
	return (msgpack_object){.type = MSGPACK_OBJECT_POSITIVE_INTEGER,
				.via.u64 = (uint64_t)value};
}

msgpack_object sdc_string_object(const char *value)
{
	size_t length = strlen(value);

	return (msgpack_object){
		.type = MSGPACK_OBJECT_STR,
		/* beyond the protocol's own limit any length is refused alike */
		.via.str = {length > SDP_CONTROL_MAX ? SDP_CONTROL_MAX : (uint32_t)length, value},
	};
}

SDC_API int sdc_request_set_bool(sdc_request *request, const char *field, int value,
				 sdc_error *ret_error)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_BOOLEAN, .via.boolean = value != 0};

	return set(request, field, &o, ret_error);
}

SDC_API int sdc_request_set_int(sdc_request *request, const char *field, int64_t value,
				sdc_error *ret_error)
{
	msgpack_object o = integer(value);

	return set(request, field, &o, ret_error);
}

SDC_API int sdc_request_set_uint(sdc_request *request, const char *field, uint64_t value,
				 sdc_error *ret_error)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = value};

	return set(request, field, &o, ret_error);
}

SDC_API int sdc_request_set_double(sdc_request *request, const char *field, double value,
				   sdc_error *ret_error)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = value};

	return set(request, field, &o, ret_error);
}

SDC_API int sdc_request_set_string(sdc_request *request, const char *field, const char *value,
				   sdc_error *ret_error)
{
	msgpack_object o = sdc_string_object(value);

	return set(request, field, &o, ret_error);
}

SDC_API int sdc_request_set_rect(sdc_request *request, const char *field, int x, int y, int width,
				 int height, sdc_error *ret_error)
{
	msgpack_object sides[] = {integer(x), integer(y), integer(width), integer(height)};
	msgpack_object o = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {4, sides}};

	return set(request, field, &o, ret_error);
}

/* The whole text must be the number; otherwise it is put as a string, which gives the schema's own complaint. */
static int set_number(sdc_request *request, const char *field, enum sdp_type type, const char *text,
		      sdc_error *error)
{
	char *end = NULL;

	errno = 0;
	if (text[0] >= '0' && text[0] <= '9') {
		unsigned long long value = strtoull(text, &end, 10);
		if (errno == 0 && *end == '\0')
			return sdc_request_set_uint(request, field, value, error);
	} else if (text[0] == '-' && type == SDP_TYPE_INT) {
		long long value = strtoll(text, &end, 10);
		if (errno == 0 && *end == '\0' && end != text)
			return sdc_request_set_int(request, field, value, error);
	}
	errno = 0;
	double real = strtod(text, &end);
	if (type == SDP_TYPE_DOUBLE && text[0] && errno == 0 && *end == '\0')
		return sdc_request_set_double(request, field, real, error);
	return sdc_request_set_string(request, field, text, error);
}

static bool read_rect(const char *text, int rect[4])
{
	int end = 0;

	return sscanf(text, "%d,%d,%d,%d%n", &rect[0], &rect[1], &rect[2], &rect[3], &end) == 4 &&
	       text[end] == '\0';
}

SDC_API int sdc_request_set_text(sdc_request *request, const char *field, const char *text,
				 sdc_error *ret_error)
{
	int index = sdp_struct_index(request->record->type, field, strlen(field)), r[4];
	enum sdp_type type =
		index < 0 ? SDP_TYPE_STRING : request->record->type->fields[index].type;

	switch (type) {
	case SDP_TYPE_BOOL:
		if (!strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "1"))
			return sdc_request_set_bool(request, field, 1, ret_error);
		if (!strcmp(text, "false") || !strcmp(text, "no") || !strcmp(text, "0"))
			return sdc_request_set_bool(request, field, 0, ret_error);
		break;
	case SDP_TYPE_INT:
	case SDP_TYPE_UINT:
	case SDP_TYPE_DOUBLE:
		return set_number(request, field, type, text, ret_error);
	case SDP_TYPE_RECT:
	case SDP_TYPE_CONTEXT:
		if (read_rect(text, r))
			return sdc_request_set_rect(request, field, r[0], r[1], r[2], r[3],
						    ret_error);
		break;
	default:
		break;
	}
	return sdc_request_set_string(request, field, text, ret_error);
}

int sdc_request_append(sdc_request *request, const char *field, struct sdp_record **ret_item,
		       sdc_error *error)
{
	int index = sdp_struct_index(request->record->type, field, strlen(field));
	int r = index < 0 ? -EINVAL : sdp_record_append(request->record, index, ret_item);

	if (r == -EINVAL)
		return sdc_fail(error, SDC_E_UNKNOWN_FIELD, "%s is no field of %s", field,
				request->method->name);
	if (r == -E2BIG)
		return sdc_fail(error, SDC_E_BAD_VALUE, "%s: at most %zu", field,
				request->record->type->fields[index].max_items);
	return r < 0 ? sdc_fail(error, SDC_E_NO_MEMORY, "out of memory") : 0;
}

static int put(struct sdp_record *record, int index, const msgpack_object *value, sdc_error *error)
{
	struct sdp_error why;

	return sdp_record_put(record, index, value, &why) < 0 ? sdc_fail_with(error, &why) : 0;
}

int sdc_record_put_string(struct sdp_record *record, int index, const char *value, sdc_error *error)
{
	msgpack_object o = sdc_string_object(value);

	return put(record, index, &o, error);
}

int sdc_record_put_uint(struct sdp_record *record, int index, uint64_t value, sdc_error *error)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = value};

	return put(record, index, &o, error);
}

int sdc_record_put_double(struct sdp_record *record, int index, double value, sdc_error *error)
{
	msgpack_object o = {.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = value};

	return put(record, index, &o, error);
}

int sdc_record_put_rect(struct sdp_record *record, int index, const int sides[4], sdc_error *error)
{
	msgpack_object numbers[] = {integer(sides[0]), integer(sides[1]), integer(sides[2]),
				    integer(sides[3])};
	msgpack_object o = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {4, numbers}};

	return put(record, index, &o, error);
}

SDC_API int sdc_request_add_lora(sdc_request *request, const char *name, double weight,
				 sdc_error *ret_error)
{
	struct sdp_record *lora;
	int r = sdc_request_append(request, "loras", &lora, ret_error);

	if (r == 0)
		r = sdc_record_put_string(lora, SDP_LORA_NAME, name, ret_error);
	return r == 0 ? sdc_record_put_double(lora, SDP_LORA_WEIGHT, weight, ret_error) : r;
}

SDC_API char *sdc_request_json(const sdc_request *request)
{
	return sdp_json_record(request->record);
}
