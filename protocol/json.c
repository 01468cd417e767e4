/*
 * The JSON emitter. Strings may hold any bytes the scanner lets through, so they are made UTF-8 on the way.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/utf8.h"

struct text {
	char *data;
	size_t length, capacity;
	bool failed;
};

static void put(struct text *t, const char *bytes, size_t length)
{
	size_t need = t->length + length + 1; /* a message is small against SIZE_MAX */

	if (t->failed)
		return;
	if (need > t->capacity) {
		size_t capacity = t->capacity ? t->capacity : 256;

		while (capacity < need)
			capacity *= 2;
		char *data = realloc(t->data, capacity);
		if (!data) {
			t->failed = true;
			return;
		}
		t->data = data;
		t->capacity = capacity;
	}
	memcpy(t->data + t->length, bytes, length);
	t->length += length;
	t->data[t->length] = '\0';
}

static void put_text(struct text *t, const char *text)
{
	put(t, text, strlen(text));
}

static void put_string(struct text *t, const char *bytes, size_t length)
{
	char escape[8];
	char *clean = malloc(length + 1);

	if (!clean) {
		t->failed = true;
		return;
	}
	sdp_utf8_clean(clean, bytes, length);
	put_text(t, "\"");
	for (const char *p = clean; *p; p++) {
		if (*p == '"' || *p == '\\') {
			escape[0] = '\\';
			escape[1] = *p;
			put(t, escape, 2);
		} else if (*p == '\n') {
			put_text(t, "\\n");
		} else if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)*p);
			put_text(t, escape);
		} else {
			put(t, p, 1);
		}
	}
	put_text(t, "\"");
	free(clean);
}

static void put_double(struct text *t, double value)
{
	char number[40];

	if (!isfinite(value)) {
		put_text(t, "null");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(number, sizeof(number), "%.*g", digits, value);
		if (strtod(number, NULL) == value)
			break;
	}
	for (char *p = number; *p; p++)
		if (*p == ',') /* a locale's decimal point */
			*p = '.';
	if (!strpbrk(number, ".e"))
		strcat(number, ".0");
	put_text(t, number);
}

static void put_object(struct text *t, const msgpack_object *o)
{
	char number[32];

	switch (o->type) {
	case MSGPACK_OBJECT_BOOLEAN:
		put_text(t, o->via.boolean ? "true" : "false");
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		snprintf(number, sizeof(number), "%llu", (unsigned long long)o->via.u64);
		put_text(t, number);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		snprintf(number, sizeof(number), "%lld", (long long)o->via.i64);
		put_text(t, number);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		put_double(t, o->via.f64);
		break;
	case MSGPACK_OBJECT_STR:
		put_string(t, o->via.str.ptr, o->via.str.size);
		break;
	case MSGPACK_OBJECT_BIN:
		snprintf(number, sizeof(number), "{\"bytes\":%u}", o->via.bin.size);
		put_text(t, number);
		break;
	case MSGPACK_OBJECT_EXT:
		put_text(t, "{\"fd\":true}");
		break;
	case MSGPACK_OBJECT_ARRAY:
		put_text(t, "[");
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			put_text(t, i ? "," : "");
			put_object(t, &o->via.array.ptr[i]);
		}
		put_text(t, "]");
		break;
	case MSGPACK_OBJECT_MAP:
		put_text(t, "{");
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			put_text(t, i ? "," : "");
			put_object(t, &o->via.map.ptr[i].key);
			put_text(t, ":");
			put_object(t, &o->via.map.ptr[i].val);
		}
		put_text(t, "}");
		break;
	default:
		put_text(t, "null");
		break;
	}
}

char *sdp_json_object(const msgpack_object *object)
{
	struct text t = {0};

	put_object(&t, object);
	if (t.failed) {
		free(t.data);
		return NULL;
	}
	return t.data;
}

char *sdp_json_record(const struct sdp_record *record)
{
	struct sdp_writer w = SDP_WRITER_INIT;
	msgpack_zone *zone = msgpack_zone_new(2048);
	msgpack_object root;
	char *json = NULL;
	size_t offset = 0;

	sdp_writer_event(&w, record->type->name);
	sdp_writer_record(&w, record, NULL, SDP_WRITE_NO_PIXELS);
	if (zone && sdp_writer_finish(&w) == 0 &&
	    msgpack_unpack((const char *)w.bytes, w.length, &offset, zone, &root) ==
		    MSGPACK_UNPACK_SUCCESS)
		json = sdp_json_object(&root.via.array.ptr[2].via.array.ptr[0]);
	if (zone)
		msgpack_zone_free(zone);
	sdp_writer_clear(&w);
	return json;
}
