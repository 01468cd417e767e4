/*
 * Writing messages. Counts of maps and lists are filled in when they end (16-bit headers throughout), errors stick, and
 * at the end our own scanner must accept the bytes: what we send can always be read by the other side.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/codec.h"
#include "protocol/utf8.h"

#define HEADER_16 0xffff /* makes msgpack-c write a 16-bit count, to be overwritten */

static void fail(struct sdp_writer *w, int error)
{
	if (w->error == 0)
		w->error = error;
}

static uint8_t *reserve(struct sdp_writer *w, size_t size)
{
	size_t need, capacity = w->capacity ? w->capacity : 512;

	if (w->error)
		return NULL;
	if (__builtin_add_overflow(w->length, size, &need) || need > PTRDIFF_MAX / 2) {
		fail(w, -E2BIG);
		return NULL;
	}
	if (need > w->capacity) {
		while (capacity < need)
			capacity *= 2;
		uint8_t *bytes = realloc(w->bytes, capacity);
		if (!bytes) {
			fail(w, -ENOMEM);
			return NULL;
		}
		w->bytes = bytes;
		w->capacity = capacity;
	}
	w->length = need;
	return w->bytes + need - size;
}

static int append(void *data, const char *bytes, size_t length)
{
	uint8_t *to = reserve(data, length);

	if (!to)
		return -1;
	memcpy(to, bytes, length);
	return 0;
}

static msgpack_packer packer(struct sdp_writer *w)
{
	msgpack_packer p;

	msgpack_packer_init(&p, w, append);
	return p;
}

static void drop_content(struct sdp_writer *w)
{
	for (unsigned i = 0; i < w->n_fds; i++)
		close(w->fds[i]);
	w->n_fds = 0;
	w->length = 0;
	w->depth = 0;
	w->error = 0;
}

static void pack_text(struct sdp_writer *w, const char *text)
{
	msgpack_packer p = packer(w);
	size_t length = strlen(text);

	if (length > SDP_CONTROL_MAX) {
		fail(w, -E2BIG);
		return;
	}
	if (sdp_utf8_valid(text, length)) {
		msgpack_pack_str_with_body(&p, text, length);
		return;
	}
	char *clean = malloc(length + 1);
	if (!clean) {
		fail(w, -ENOMEM);
		return;
	}
	sdp_utf8_clean(clean, text, length);
	msgpack_pack_str_with_body(&p, clean, length);
	free(clean);
}

/* Count an item of the container in work, and write its key. */
static void item(struct sdp_writer *w, const char *key)
{
	if (w->depth == 0 || w->stack[w->depth - 1].map != (key != NULL)) {
		fail(w, -EINVAL);
		return;
	}
	w->stack[w->depth - 1].count++;
	if (key)
		pack_text(w, key);
}

static void open_container(struct sdp_writer *w, bool map)
{
	msgpack_packer p = packer(w);

	if (w->depth >= SDP_DEPTH_MAX) {
		fail(w, -E2BIG);
		return;
	}
	w->stack[w->depth].header = w->length;
	w->stack[w->depth].count = 0;
	w->stack[w->depth++].map = map;
	if (map)
		msgpack_pack_map(&p, HEADER_16);
	else
		msgpack_pack_array(&p, HEADER_16);
}

static void begin(struct sdp_writer *w, enum sdp_kind kind, uint32_t msgid, const char *method)
{
	msgpack_packer p;

	drop_content(w);
	p = packer(w);
	msgpack_pack_array(&p, kind == SDP_EVENT ? 3 : 4);
	msgpack_pack_int(&p, kind);
	if (kind != SDP_EVENT)
		msgpack_pack_uint32(&p, msgid);
	if (kind == SDP_RESPONSE) {
		msgpack_pack_nil(&p);
	} else {
		pack_text(w, method);
		msgpack_pack_array(&p, 1);
	}
	open_container(w, true);
}

void sdp_writer_request(struct sdp_writer *w, uint32_t msgid, const char *method)
{
	begin(w, SDP_REQUEST, msgid, method);
}

void sdp_writer_event(struct sdp_writer *w, const char *event)
{
	begin(w, SDP_EVENT, 0, event);
}

void sdp_writer_response(struct sdp_writer *w, uint32_t msgid)
{
	begin(w, SDP_RESPONSE, msgid, NULL);
}

void sdp_writer_failure(struct sdp_writer *w, uint32_t msgid, const struct sdp_error *error)
{
	msgpack_packer p;

	drop_content(w);
	p = packer(w);
	msgpack_pack_array(&p, 4);
	msgpack_pack_int(&p, SDP_RESPONSE);
	msgpack_pack_uint32(&p, msgid);
	msgpack_pack_array(&p, 4);
	msgpack_pack_int(&p, error->code);
	pack_text(w, sdp_code_name(error->code));
	pack_text(w, error->message);
	open_container(w, true);
	if (error->field[0])
		sdp_writer_string(w, "field", error->field);
	if (error->retry_ms > 0)
		sdp_writer_int(w, "retry_ms", error->retry_ms);
	if (error->remedy[0]) {
		sdp_writer_uint(w, "needed_bytes", error->needed_bytes);
		sdp_writer_uint(w, "free_bytes", error->free_bytes);
		sdp_writer_string(w, "remedy", error->remedy);
	}
	sdp_writer_end(w);
	msgpack_pack_nil(&p);
}

void sdp_writer_bool(struct sdp_writer *w, const char *key, bool value)
{
	msgpack_packer p = packer(w);

	item(w, key);
	if (value)
		msgpack_pack_true(&p);
	else
		msgpack_pack_false(&p);
}

void sdp_writer_int(struct sdp_writer *w, const char *key, int64_t value)
{
	msgpack_packer p = packer(w);

	item(w, key);
	msgpack_pack_int64(&p, value);
}

void sdp_writer_uint(struct sdp_writer *w, const char *key, uint64_t value)
{
	msgpack_packer p = packer(w);

	item(w, key);
	msgpack_pack_uint64(&p, value);
}

void sdp_writer_double(struct sdp_writer *w, const char *key, double value)
{
	msgpack_packer p = packer(w);

	item(w, key);
	msgpack_pack_double(&p, value);
}

void sdp_writer_string(struct sdp_writer *w, const char *key, const char *value)
{
	item(w, key);
	pack_text(w, value ? value : "");
}

void sdp_writer_bin(struct sdp_writer *w, const char *key, const void *data, size_t size)
{
	msgpack_packer p = packer(w);

	if (size > UINT32_MAX) {
		fail(w, -E2BIG);
		return;
	}
	item(w, key);
	msgpack_pack_bin(&p, size);
	if (size > 0)
		append(w, data, size);
}

void sdp_writer_rect(struct sdp_writer *w, const char *key, struct sdp_rect rect)
{
	sdp_writer_list_begin(w, key);
	sdp_writer_int(w, NULL, rect.x);
	sdp_writer_int(w, NULL, rect.y);
	sdp_writer_int(w, NULL, rect.width);
	sdp_writer_int(w, NULL, rect.height);
	sdp_writer_end(w);
}

static void pixels_by_fd(struct sdp_writer *w, const struct sdp_pixels *pixels)
{
	msgpack_packer p = packer(w);
	uint8_t number = (uint8_t)w->n_fds;

	if (w->error)
		return;
	if (w->n_fds >= SDP_FDS_MAX) {
		fail(w, -E2BIG);
		return;
	}
	int fd = fcntl(pixels->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0) {
		fail(w, -errno);
		return;
	}
	w->fds[w->n_fds++] = fd;
	sdp_writer_uint(w, "stride", pixels->stride);
	sdp_writer_uint(w, "offset", pixels->offset);
	item(w, "data");
	msgpack_pack_ext(&p, 1, SDP_EXT_FD);
	append(w, (const char *)&number, 1);
}

/* Rows without their padding. */
static void pixels_by_value(struct sdp_writer *w, const struct sdp_pixels *pixels)
{
	struct sdp_mapping mapping = {0};
	msgpack_packer p = packer(w);
	uint64_t size;

	if (sdp_pixels_bytes(pixels->width, pixels->height, pixels->channels, pixels->type, &size) <
		    0 ||
	    size > UINT32_MAX) {
		fail(w, -E2BIG);
		return;
	}
	if (sdp_pixels_map(pixels, &mapping, NULL) < 0) {
		fail(w, -ENOMEM);
		return;
	}
	size_t row = (size_t)size / (size_t)pixels->height;
	item(w, "data");
	msgpack_pack_bin(&p, (size_t)size);
	uint8_t *to = reserve(w, (size_t)size);
	for (int y = 0; to && y < pixels->height; y++, to += row)
		memcpy(to, mapping.data + (size_t)y * pixels->stride, row);
	sdp_mapping_clear(&mapping);
}

void sdp_writer_pixels(struct sdp_writer *w, const char *key, const struct sdp_pixels *pixels)
{
	sdp_writer_map_begin(w, key);
	sdp_writer_int(w, "width", pixels->width);
	sdp_writer_int(w, "height", pixels->height);
	sdp_writer_int(w, "channels", pixels->channels);
	sdp_writer_string(w, "type", sdp_enum_sample_type.values[pixels->type]);
	if (pixels->fd >= 0 && !w->inline_pixels)
		pixels_by_fd(w, pixels);
	else
		pixels_by_value(w, pixels);
	if (pixels->icc)
		sdp_writer_bin(w, "icc", pixels->icc, pixels->icc_size);
	sdp_writer_end(w);
}

void sdp_writer_map_begin(struct sdp_writer *w, const char *key)
{
	item(w, key);
	open_container(w, true);
}

void sdp_writer_list_begin(struct sdp_writer *w, const char *key)
{
	item(w, key);
	open_container(w, false);
}

void sdp_writer_end(struct sdp_writer *w)
{
	if (w->depth == 0) {
		fail(w, -EINVAL);
		return;
	}
	w->depth--;
	if (w->error)
		return;
	if (w->stack[w->depth].count > SDP_ITEMS_MAX) {
		fail(w, -E2BIG);
		return;
	}
	uint8_t *header = w->bytes + w->stack[w->depth].header;
	header[1] = (uint8_t)(w->stack[w->depth].count >> 8);
	header[2] = (uint8_t)w->stack[w->depth].count;
}

static void write_value(struct sdp_writer *w, const char *key, const struct sdp_field *f,
			enum sdp_type type, const struct sdp_value *v, unsigned flags)
{
	switch (type) {
	case SDP_TYPE_BOOL:
		sdp_writer_bool(w, key, v->boolean);
		break;
	case SDP_TYPE_INT:
		sdp_writer_int(w, key, v->integer);
		break;
	case SDP_TYPE_UINT:
		sdp_writer_uint(w, key, v->uinteger);
		break;
	case SDP_TYPE_DOUBLE:
		sdp_writer_double(w, key, v->real);
		break;
	case SDP_TYPE_STRING:
		sdp_writer_string(w, key, v->string.text);
		break;
	case SDP_TYPE_BIN:
		sdp_writer_bin(w, key, v->string.text, v->string.length);
		break;
	case SDP_TYPE_ENUM:
	case SDP_TYPE_CONTEXT:
		if ((size_t)v->integer < f->values->n_values)
			sdp_writer_string(w, key, f->values->values[v->integer]);
		else
			sdp_writer_rect(w, key, v->rect);
		break;
	case SDP_TYPE_RECT:
		sdp_writer_rect(w, key, v->rect);
		break;
	case SDP_TYPE_PIXELS:
		sdp_writer_pixels(w, key, v->pixels);
		break;
	case SDP_TYPE_STRUCT:
		sdp_writer_map_begin(w, key);
		sdp_writer_record(w, v->record, NULL, flags);
		sdp_writer_end(w);
		break;
	case SDP_TYPE_LIST:
		sdp_writer_list_begin(w, key);
		for (size_t i = 0; i < v->list.count; i++)
			write_value(w, NULL, f, f->items, &v->list.items[i], flags);
		sdp_writer_end(w);
		break;
	}
}

/* Whether a default may be sent: some lie outside the range and mean "not given", some belong to other kinds of job. */
static bool can_send_default(const struct sdp_record *record, const struct sdp_field *f)
{
	if (!f->has_default)
		return false;
	if (f->type == SDP_TYPE_INT && (f->default_int < f->min || f->default_int > f->max))
		return false;
	if (f->type == SDP_TYPE_DOUBLE &&
	    (f->default_double < f->fmin || f->default_double > f->fmax))
		return false;
	return !f->only ||
	       f->only & 1U << sdp_record_int(record, sdp_struct_index(record->type, "kind", 4));
}

void sdp_writer_record(struct sdp_writer *w, const struct sdp_record *record,
		       const struct sdp_struct *type, unsigned flags)
{
	if (!type)
		type = record->type;
	for (size_t i = 0; i < type->n_fields; i++) {
		const char *name = type->fields[i].name;
		int index = sdp_struct_index(record->type, name, strlen(name));

		if (index < 0)
			continue;
		const struct sdp_field *f = &record->type->fields[index];
		const struct sdp_value *v = &record->values[index];

		if (!v->given && !((flags & SDP_WRITE_DEFAULTS) && can_send_default(record, f)))
			continue;
		if (f->type == SDP_TYPE_PIXELS && flags & SDP_WRITE_NO_PIXELS)
			continue;
		write_value(w, name, f, f->type, v, flags);
	}
}

int sdp_writer_finish(struct sdp_writer *w)
{
	struct sdp_scanner scanner;
	size_t used;

	while (w->depth > 0)
		sdp_writer_end(w);
	if (w->error == 0) {
		sdp_scanner_init(&scanner, SIZE_MAX, true);
		if (sdp_scanner_feed(&scanner, w->bytes, w->length, &used, NULL) !=
			    SDP_SCAN_COMPLETE ||
		    used != w->length)
			fail(w, -E2BIG);
	}
	return w->error;
}

void sdp_writer_clear(struct sdp_writer *w)
{
	bool inline_pixels = w->inline_pixels;

	drop_content(w);
	free(w->bytes);
	*w = (struct sdp_writer){.inline_pixels = inline_pixels};
}
