/*
 * Decoding: the schema's tables walk a parsed map. Every refusal names the field, what was given and what would be right.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "protocol/codec.h"
#include "protocol/utf8.h"

struct context {
	struct sdp_message *message;
	enum sdp_strictness strictness;
	struct sdp_error *error;
	char path[96]; /* of the field in work, "images.0.x" */
};

static int decode_struct(struct context *c, const struct sdp_struct *type,
			 const msgpack_object *object, struct sdp_record **ret_record);

static void *allocate(struct context *c, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	void *memory = msgpack_zone_malloc(c->message->zone, bytes ? bytes : 1);
	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

static int no_memory(struct context *c)
{
	return sdp_error_set(c->error, SDP_CODE_NO_MEMORY, "out of memory");
}

/* Go down one step of the path; returns the length to come back to. */
static size_t descend(struct context *c, const char *name)
{
	size_t length = strlen(c->path);

	snprintf(c->path + length, sizeof(c->path) - length, "%s%s", length ? "." : "", name);
	return length;
}

/* A short picture of a value, for error messages. */
static const char *show(const msgpack_object *o, char *buffer, size_t size)
{
	char text[41];

	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return "nil";
	case MSGPACK_OBJECT_BOOLEAN:
		return o->via.boolean ? "true" : "false";
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		snprintf(buffer, size, "%llu", (unsigned long long)o->via.u64);
		return buffer;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		snprintf(buffer, size, "%lld", (long long)o->via.i64);
		return buffer;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		snprintf(buffer, size, "%g", o->via.f64);
		return buffer;
	case MSGPACK_OBJECT_STR:
		sdp_utf8_clean(text, o->via.str.ptr, o->via.str.size < 40 ? o->via.str.size : 40);
		snprintf(buffer, size, "\"%s%s\"", text, o->via.str.size > 40 ? "..." : "");
		return buffer;
	case MSGPACK_OBJECT_ARRAY:
		return "a list";
	case MSGPACK_OBJECT_MAP:
		return "a map";
	default:
		return "bytes";
	}
}

static int bad(struct context *c, const msgpack_object *o, const char *right)
{
	char buffer[80];

	return sdp_error_field(c->error, SDP_CODE_BAD_VALUE, c->path, "%s is %s; it must be %s",
			       c->path, show(o, buffer, sizeof(buffer)), right);
}

static bool as_int64(const msgpack_object *o, int64_t *ret)
{
	if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		*ret = o->via.i64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX)
		*ret = (int64_t)o->via.u64;
	else
		return false;
	return true;
}

static int decode_int(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		      struct sdp_value *v)
{
	char right[96];
	int64_t value;

	if (as_int64(o, &value) && value >= f->min && value <= f->max &&
	    (f->multiple == 0 || value % f->multiple == 0)) {
		v->integer = value;
		return 0;
	}
	snprintf(right, sizeof(right), "a whole number from %lld to %lld", (long long)f->min,
		 (long long)f->max);
	if (f->multiple) {
		size_t n = strlen(right);

		snprintf(right + n, sizeof(right) - n, ", a multiple of %lld",
			 (long long)f->multiple);
	}
	return bad(c, o, right);
}

static int decode_uint(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		       struct sdp_value *v)
{
	char right[96];

	if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 >= f->umin &&
	    o->via.u64 <= f->umax) {
		v->uinteger = o->via.u64;
		return 0;
	}
	snprintf(right, sizeof(right), "a whole number from %llu to %llu",
		 (unsigned long long)f->umin, (unsigned long long)f->umax);
	return bad(c, o, right);
}

static int decode_double(struct context *c, const struct sdp_field *f, const msgpack_object *o,
			 struct sdp_value *v)
{
	char right[96];
	double value = NAN;

	if (o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64)
		value = o->via.f64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
		value = (double)o->via.u64;
	else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		value = (double)o->via.i64;
	if (value >= f->fmin && value <= f->fmax) {
		v->real = value;
		return 0;
	}
	snprintf(right, sizeof(right), "a number from %g to %g", f->fmin, f->fmax);
	return bad(c, o, right);
}

static int decode_string(struct context *c, const struct sdp_field *f, const msgpack_object *o,
			 struct sdp_value *v)
{
	char right[96];

	if (o->type != MSGPACK_OBJECT_STR || o->via.str.size > f->max) {
		snprintf(right, sizeof(right), "a string of at most %lld bytes", (long long)f->max);
		return bad(c, o, right);
	}
	if (!sdp_utf8_valid(o->via.str.ptr, o->via.str.size))
		return bad(c, o, "UTF-8 without NUL bytes");
	char *text = allocate(c, (size_t)o->via.str.size + 1, 1);
	if (!text)
		return no_memory(c);
	memcpy(text, o->via.str.ptr, o->via.str.size);
	v->string.text = text;
	v->string.length = o->via.str.size;
	return 0;
}

static int decode_bin(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		      struct sdp_value *v)
{
	char right[96];

	if (o->type == MSGPACK_OBJECT_BIN && o->via.bin.size <= f->max) {
		v->string.text = o->via.bin.ptr ? o->via.bin.ptr : "";
		v->string.length = o->via.bin.size;
		return 0;
	}
	if (f->fd && o->type == MSGPACK_OBJECT_EXT && o->via.ext.type == SDP_EXT_FD &&
	    o->via.ext.size == 1 && (uint8_t)o->via.ext.ptr[0] < c->message->n_fds) {
		v->string.text = NULL;
		v->string.length = (uint8_t)o->via.ext.ptr[0];
		return 0;
	}
	if (f->fd)
		return bad(c, o, "a descriptor or bytes");
	snprintf(right, sizeof(right), "at most %lld bytes", (long long)f->max);
	return bad(c, o, right);
}

static int decode_enum(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		       struct sdp_value *v)
{
	char right[160] = "one of ";

	if (o->type == MSGPACK_OBJECT_STR)
		for (size_t i = 0; i < f->values->n_values; i++)
			if (strlen(f->values->values[i]) == o->via.str.size &&
			    !memcmp(f->values->values[i], o->via.str.ptr, o->via.str.size)) {
				v->integer = (int64_t)i;
				return 0;
			}
	for (size_t i = 0; i < f->values->n_values; i++) {
		size_t n = strlen(right);

		snprintf(right + n, sizeof(right) - n, "%s%s", i ? ", " : "", f->values->values[i]);
	}
	if (f->type == SDP_TYPE_CONTEXT) {
		size_t n = strlen(right);

		snprintf(right + n, sizeof(right) - n, ", or [x, y, width, height]");
	}
	return bad(c, o, right);
}

static int decode_rect(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		       struct sdp_value *v)
{
	char right[120];
	int64_t n[4];
	bool ok = o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 4;

	for (unsigned i = 0; ok && i < 4; i++)
		ok = as_int64(&o->via.array.ptr[i], &n[i]) && n[i] >= (i < 2 ? f->min : 0) &&
		     n[i] <= f->max;
	if (!ok) {
		snprintf(right, sizeof(right),
			 "[x, y, width, height] of whole numbers from %lld (sides: 0) to %lld",
			 (long long)f->min, (long long)f->max);
		return bad(c, o, right);
	}
	v->rect = (struct sdp_rect){(int)n[0], (int)n[1], (int)n[2], (int)n[3]};
	return 0;
}

static int decode_pixels(struct context *c, const msgpack_object *o, struct sdp_pixels *ret)
{
	struct sdp_record *r;

	int k = decode_struct(c, &sdp_struct_pixels, o, &r);
	if (k < 0)
		return k;
	const struct sdp_value *data = &r->values[SDP_PIXELS_DATA];
	const struct sdp_value *icc = &r->values[SDP_PIXELS_ICC];
	struct sdp_pixels p = {
		.width = sdp_record_int(r, SDP_PIXELS_WIDTH),
		.height = sdp_record_int(r, SDP_PIXELS_HEIGHT),
		.channels = sdp_record_int(r, SDP_PIXELS_CHANNELS),
		.type = (enum sdp_sample_type)sdp_record_int(r, SDP_PIXELS_TYPE),
		.stride = sdp_record_uint(r, SDP_PIXELS_STRIDE),
		.offset = sdp_record_uint(r, SDP_PIXELS_OFFSET),
		.fd = data->string.text ? -EBADF : c->message->fds[data->string.length],
		.data = data->string.text,
		.size = data->string.text ? data->string.length : 0,
		.icc = icc->given ? icc->string.text : NULL,
		.icc_size = icc->given ? icc->string.length : 0,
	};
	k = sdp_pixels_check(&p, c->path, c->error);
	if (k < 0)
		return k;
	*ret = p;
	return 0;
}

static int decode_scalar(struct context *c, const struct sdp_field *f, enum sdp_type type,
			 const msgpack_object *o, struct sdp_value *v)
{
	switch (type) {
	case SDP_TYPE_BOOL:
		if (o->type != MSGPACK_OBJECT_BOOLEAN)
			return bad(c, o, "true or false");
		v->boolean = o->via.boolean;
		return 0;
	case SDP_TYPE_INT:
		return decode_int(c, f, o, v);
	case SDP_TYPE_UINT:
		return decode_uint(c, f, o, v);
	case SDP_TYPE_DOUBLE:
		return decode_double(c, f, o, v);
	case SDP_TYPE_STRING:
		return decode_string(c, f, o, v);
	case SDP_TYPE_BIN:
		return decode_bin(c, f, o, v);
	case SDP_TYPE_ENUM:
		return decode_enum(c, f, o, v);
	case SDP_TYPE_RECT:
		return decode_rect(c, f, o, v);
	case SDP_TYPE_CONTEXT:
		if (o->type != MSGPACK_OBJECT_ARRAY)
			return decode_enum(c, f, o, v);
		v->integer = (int64_t)f->values->n_values;
		return decode_rect(c, f, o, v);
	case SDP_TYPE_PIXELS:
		v->pixels = allocate(c, 1, sizeof(*v->pixels));
		return v->pixels ? decode_pixels(c, o, v->pixels) : no_memory(c);
	case SDP_TYPE_STRUCT:
		return decode_struct(c, f->type_struct, o, &v->record);
	case SDP_TYPE_LIST:
		break;
	}
	return bad(c, o, "of a known type");
}

static int decode_list(struct context *c, const struct sdp_field *f, const msgpack_object *o,
		       struct sdp_value *v)
{
	char text[96];

	if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size < f->min_items ||
	    o->via.array.size > f->max_items) {
		snprintf(text, sizeof(text), "a list of %zu to %zu items", f->min_items,
			 f->max_items);
		return bad(c, o, text);
	}
	struct sdp_value *items = allocate(c, o->via.array.size, sizeof(*items));
	if (!items)
		return no_memory(c);
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		snprintf(text, sizeof(text), "%u", i);
		size_t length = descend(c, text);
		int r = decode_scalar(c, f, f->items, &o->via.array.ptr[i], &items[i]);

		if (r < 0)
			return r;
		items[i].given = true;
		c->path[length] = '\0';
	}
	v->list.items = items;
	v->list.count = o->via.array.size;
	return 0;
}

static int decode_field(struct context *c, const struct sdp_field *f, const msgpack_object *o,
			struct sdp_value *ret)
{
	struct sdp_value v = {.given = true};
	size_t length = descend(c, f->name);

	int r = f->type == SDP_TYPE_LIST ? decode_list(c, f, o, &v)
					 : decode_scalar(c, f, f->type, o, &v);
	c->path[length] = '\0';
	if (r >= 0)
		*ret = v;
	return r;
}

static void set_default(const struct sdp_field *f, struct sdp_value *v)
{
	switch (f->type) {
	case SDP_TYPE_BOOL:
		v->boolean = f->default_int;
		break;
	case SDP_TYPE_INT:
	case SDP_TYPE_ENUM:
	case SDP_TYPE_CONTEXT:
		v->integer = f->default_int;
		break;
	case SDP_TYPE_UINT:
		v->uinteger = f->default_uint;
		break;
	case SDP_TYPE_DOUBLE:
		v->real = f->default_double;
		break;
	case SDP_TYPE_STRING:
		v->string.text = f->default_string ? f->default_string : "";
		v->string.length = strlen(v->string.text);
		break;
	default:
		break;
	}
}

static int new_record(struct context *c, const struct sdp_struct *type,
		      struct sdp_record **ret_record)
{
	struct sdp_record *record = allocate(c, 1, sizeof(*record));

	if (!record)
		return no_memory(c);
	record->type = type;
	record->message = c->message;
	record->values = allocate(c, type->n_fields, sizeof(*record->values));
	if (!record->values)
		return no_memory(c);
	for (size_t i = 0; i < type->n_fields; i++)
		set_default(&type->fields[i], &record->values[i]);
	*ret_record = record;
	return 0;
}

static int decode_pair(struct context *c, struct sdp_record *record, const msgpack_object_kv *kv)
{
	const struct sdp_struct *type = record->type;
	char name[SDP_KEY_MAX + 1];

	/* the scanner lets only short string keys through, but a record may also be filled from elsewhere */
	if (kv->key.type != MSGPACK_OBJECT_STR || kv->key.via.str.size > SDP_KEY_MAX)
		return sdp_error_set(c->error, SDP_CODE_BAD_REQUEST, "a key is no short string");
	int index = sdp_struct_index(type, kv->key.via.str.ptr, kv->key.via.str.size);
	if (index < 0 && c->strictness == SDP_LENIENT)
		return 0;
	sdp_utf8_clean(name, kv->key.via.str.ptr, kv->key.via.str.size);
	if (index < 0) {
		descend(c, name);
		return sdp_error_field(c->error, SDP_CODE_UNKNOWN_FIELD, c->path,
				       "%s is no field of %s", c->path, type->name);
	}
	if (record->values[index].given) {
		descend(c, name);
		return sdp_error_field(c->error, SDP_CODE_BAD_REQUEST, c->path, "%s is given twice",
				       c->path);
	}
	int r = decode_field(c, &type->fields[index], &kv->val, &record->values[index]);
	if (r == -EINVAL && c->strictness == SDP_LENIENT && !type->fields[index].required &&
	    c->error->code == SDP_CODE_BAD_VALUE)
		return 0;
	return r;
}

static int decode_struct(struct context *c, const struct sdp_struct *type, const msgpack_object *o,
			 struct sdp_record **ret_record)
{
	struct sdp_record *record;
	int r;

	if (o->type != MSGPACK_OBJECT_MAP)
		return bad(c, o, "a map");
	r = new_record(c, type, &record);
	for (uint32_t i = 0; r >= 0 && i < o->via.map.size; i++)
		r = decode_pair(c, record, &o->via.map.ptr[i]);
	for (size_t i = 0; r >= 0 && i < type->n_fields; i++)
		if (type->fields[i].required && !record->values[i].given) {
			descend(c, type->fields[i].name);
			return sdp_error_field(c->error, SDP_CODE_MISSING_FIELD, c->path,
					       "%s is missing from %s", c->path, type->name);
		}
	if (r >= 0)
		*ret_record = record;
	return r;
}

int sdp_record_decode(struct sdp_message *message, const struct sdp_struct *type,
		      enum sdp_strictness strictness, struct sdp_record **ret_record,
		      struct sdp_error *error)
{
	static const msgpack_object empty = {.type = MSGPACK_OBJECT_MAP};
	struct sdp_error local;
	struct context c = {message, strictness, error ? error : &local, ""};
	bool nil = message->params.type == MSGPACK_OBJECT_NIL; /* an empty result */

	c.error->code = 0;
	return decode_struct(&c, type, nil ? &empty : &message->params, ret_record);
}

int sdp_record_new(const struct sdp_struct *type, struct sdp_record **ret_record)
{
	struct sdp_message *message;
	struct context c;

	int r = sdp_message_empty(&message);
	if (r < 0)
		return r;
	c = (struct context){.message = message};
	r = new_record(&c, type, ret_record);
	if (r < 0)
		sdp_message_free(message);
	return r;
}

int sdp_record_append(struct sdp_record *record, int index, struct sdp_record **ret_item)
{
	const struct sdp_field *f = &record->type->fields[index];
	struct sdp_value *list = &record->values[index], *items;
	struct context c = {.message = record->message};
	size_t n = list->list.count;
	int r;

	if (n >= f->max_items)
		return -E2BIG;
	items = allocate(&c, n + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	if (n > 0)
		memcpy(items, list->list.items, n * sizeof(*items));
	r = new_record(&c, f->type_struct, &items[n].record);
	if (r < 0)
		return -ENOMEM;
	items[n].given = true;
	*list = (struct sdp_value){.given = true, .list = {items, n + 1}};
	*ret_item = items[n].record;
	return 0;
}

int sdp_record_put(struct sdp_record *record, int index, const msgpack_object *value,
		   struct sdp_error *error)
{
	struct sdp_error local;
	struct context c = {record->message, SDP_STRICT, error ? error : &local, ""};

	return decode_field(&c, &record->type->fields[index], value, &record->values[index]);
}

int sdp_pixels_decode(struct sdp_message *message, const msgpack_object *value, const char *path,
		      struct sdp_pixels *ret_pixels, struct sdp_error *error)
{
	struct sdp_error local;
	struct context c = {message, SDP_LENIENT, error ? error : &local, ""};

	snprintf(c.path, sizeof(c.path), "%s", path);
	return decode_pixels(&c, value, ret_pixels);
}
