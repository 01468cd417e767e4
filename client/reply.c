/*
 * Reading replies by path. The getters walk the parsed tree itself, so that a field this library has never heard of can
 * be read from a newer daemon.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "protocol/json.h"
#include "protocol/utf8.h"

sdc_reply *sdc_reply_new(struct sdp_message *message)
{
	sdc_reply *reply = calloc(1, sizeof(*reply));

	if (!reply) {
		sdp_message_free(message);
		return NULL;
	}
	reply->refs = 1;
	reply->message = message;
	return reply;
}

SDC_API sdc_reply *sdc_reply_ref(const sdc_reply *reply)
{
	sdc_reply *r = (sdc_reply *)reply; /* counting does not change what a reply says */

	r->refs++;
	return r;
}

SDC_API sdc_reply *sdc_reply_free(sdc_reply *reply)
{
	if (!reply || --reply->refs > 0)
		return NULL;
	for (struct sdc_mapped *m = reply->mapped, *next; m; m = next) {
		next = m->next;
		sdp_mapping_clear(&m->mapping);
		free(m);
	}
	sdp_message_free(reply->message);
	free(reply);
	return NULL;
}

static const msgpack_object *in_map(const msgpack_object_map *map, const char *key, size_t length)
{
	for (uint32_t i = 0; i < map->size; i++) {
		const msgpack_object_str *k =
			&map->ptr[i].key.via.str; /* the scanner: only strings */

		if (k->size == length && !memcmp(k->ptr, key, length))
			return &map->ptr[i].val;
	}
	return NULL;
}

static const msgpack_object *in_list(const msgpack_object_array *list, const char *key,
				     size_t length)
{
	size_t index = 0;

	if (length == 0 || length > 5)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (key[i] < '0' || key[i] > '9')
			return NULL;
		index = index * 10 + (size_t)(key[i] - '0');
	}
	return index < list->size ? &list->ptr[index] : NULL;
}

static const msgpack_object *find(const sdc_reply *reply, const char *path)
{
	const msgpack_object *o = &reply->message->params;

	while (o && *path) {
		size_t length = strcspn(path, ".");

		if (o->type == MSGPACK_OBJECT_MAP)
			o = in_map(&o->via.map, path, length);
		else if (o->type == MSGPACK_OBJECT_ARRAY)
			o = in_list(&o->via.array, path, length);
		else
			o = NULL;
		path += length;
		path += *path == '.';
	}
	return o;
}

SDC_API int sdc_reply_bool(const sdc_reply *reply, const char *path, int *ret_value)
{
	const msgpack_object *o = find(reply, path);

	if (!o)
		return SDC_E_NOT_FOUND;
	if (o->type != MSGPACK_OBJECT_BOOLEAN)
		return SDC_E_BAD_VALUE;
	*ret_value = o->via.boolean;
	return 0;
}

SDC_API int sdc_reply_int(const sdc_reply *reply, const char *path, int64_t *ret_value)
{
	const msgpack_object *o = find(reply, path);

	if (!o)
		return SDC_E_NOT_FOUND;
	if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		*ret_value = o->via.i64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= INT64_MAX)
		*ret_value = (int64_t)o->via.u64;
	else
		return SDC_E_BAD_VALUE;
	return 0;
}

SDC_API int sdc_reply_uint(const sdc_reply *reply, const char *path, uint64_t *ret_value)
{
	const msgpack_object *o = find(reply, path);

	if (!o)
		return SDC_E_NOT_FOUND;
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return SDC_E_BAD_VALUE;
	*ret_value = o->via.u64;
	return 0;
}

SDC_API int sdc_reply_double(const sdc_reply *reply, const char *path, double *ret_value)
{
	const msgpack_object *o = find(reply, path);

	if (!o)
		return SDC_E_NOT_FOUND;
	if (o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64)
		*ret_value = o->via.f64;
	else if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
		*ret_value = (double)o->via.u64;
	else if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
		*ret_value = (double)o->via.i64;
	else
		return SDC_E_BAD_VALUE;
	return 0;
}

SDC_API int sdc_reply_string(const sdc_reply *reply, const char *path, const char **ret_value)
{
	const msgpack_object *o = find(reply, path);

	if (!o)
		return SDC_E_NOT_FOUND;
	if (o->type != MSGPACK_OBJECT_STR)
		return SDC_E_BAD_VALUE;
	char *text = msgpack_zone_malloc(reply->message->zone, (size_t)o->via.str.size + 1);
	if (!text)
		return SDC_E_NO_MEMORY;
	sdp_utf8_clean(text, o->via.str.ptr, o->via.str.size);
	*ret_value = text;
	return 0;
}

SDC_API size_t sdc_reply_count(const sdc_reply *reply, const char *path)
{
	const msgpack_object *o = find(reply, path);

	return o && o->type == MSGPACK_OBJECT_ARRAY ? o->via.array.size : 0;
}

static struct sdc_mapped *map_picture(sdc_reply *reply, const msgpack_object *o,
				      const struct sdp_pixels *p, struct sdp_error *why)
{
	for (struct sdc_mapped *m = reply->mapped; m; m = m->next)
		if (m->object == o)
			return m;
	struct sdc_mapped *m = calloc(1, sizeof(*m));
	if (!m) {
		sdp_error_set(why, SDP_CODE_NO_MEMORY, "out of memory");
		return NULL;
	}
	if (sdp_pixels_map(p, &m->mapping, why) < 0) {
		free(m);
		return NULL;
	}
	m->object = o;
	m->next = reply->mapped;
	reply->mapped = m;
	return m;
}

SDC_API int sdc_reply_image(const sdc_reply *reply, const char *path, sdc_image *ret_image,
			    sdc_error *ret_error)
{
	const msgpack_object *o = find(reply, path);
	struct sdp_pixels p;
	struct sdp_error why;

	if (!o)
		return sdc_fail(ret_error, SDC_E_NOT_FOUND, "the answer holds no %s", path);
	if (sdp_pixels_decode(reply->message, o, path, &p, &why) < 0)
		return sdc_fail_with(ret_error, &why);
	struct sdc_mapped *m = map_picture((sdc_reply *)reply, o, &p, &why);
	if (!m)
		return sdc_fail_with(ret_error, &why);
	*ret_image = (sdc_image){
		.width = p.width,
		.height = p.height,
		.channels = p.channels,
		.type = (int)p.type,
		.stride = (size_t)p.stride,
		.data = m->mapping.data,
		.icc = p.icc,
		.icc_size = p.icc_size,
	};
	return 0;
}

SDC_API char *sdc_reply_json(const sdc_reply *reply, const char *path)
{
	const msgpack_object *o = find(reply, path);

	return o ? sdp_json_object(o) : NULL;
}
