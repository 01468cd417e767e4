/*
 * From a scanned frame to a parsed message: the only place where a peer's bytes meet msgpack-c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/message.h"
#include "protocol/utf8.h"

#define ZONE_CHUNK 2048

static void copy_text(char *to, size_t size, const msgpack_object *from)
{
	size_t n = from->via.str.size < size - 1 ? from->via.str.size : size - 1;

	sdp_utf8_clean(to, from->via.str.ptr, n);
}

/* [code, name, message, details]; the name is for people who read the wire. */
static int read_error(const msgpack_object *object, struct sdp_error *ret, struct sdp_error *error)
{
	const msgpack_object *item = object->via.array.ptr;

	if (item[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || item[0].via.u64 == 0 ||
	    item[0].via.u64 > UINT16_MAX || item[1].type != MSGPACK_OBJECT_STR ||
	    item[2].type != MSGPACK_OBJECT_STR)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "an error must be [code, name, message, details]");
	ret->code = (int)item[0].via.u64;
	copy_text(ret->message, sizeof(ret->message), &item[2]);
	if (item[3].type != MSGPACK_OBJECT_MAP)
		return 0;
	for (uint32_t i = 0; i < item[3].via.map.size; i++) {
		const msgpack_object_kv *kv = &item[3].via.map.ptr[i];
		const msgpack_object_str *key = &kv->key.via.str;

		if (key->size == 5 && !memcmp(key->ptr, "field", 5) &&
		    kv->val.type == MSGPACK_OBJECT_STR)
			copy_text(ret->field, sizeof(ret->field), &kv->val);
		else if (key->size == 8 && !memcmp(key->ptr, "retry_ms", 8) &&
			 kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
			 kv->val.via.u64 <= INT32_MAX)
			ret->retry_ms = (int64_t)kv->val.via.u64;
		else if (key->size == 12 && !memcmp(key->ptr, "needed_bytes", 12) &&
			 kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
			ret->needed_bytes = kv->val.via.u64;
		else if (key->size == 10 && !memcmp(key->ptr, "free_bytes", 10) &&
			 kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
			ret->free_bytes = kv->val.via.u64;
		else if (key->size == 6 && !memcmp(key->ptr, "remedy", 6) &&
			 kv->val.type == MSGPACK_OBJECT_STR)
			copy_text(ret->remedy, sizeof(ret->remedy), &kv->val);
	}
	return 0;
}

static int parse(struct sdp_message *m, const struct sdp_scanner *scanner, size_t length,
		 struct sdp_error *error)
{
	msgpack_object root;
	size_t offset = 0;

	msgpack_unpack_return u =
		msgpack_unpack((const char *)m->bytes, length, &offset, m->zone, &root);
	if (u == MSGPACK_UNPACK_NOMEM_ERROR)
		return sdp_error_set(error, SDP_CODE_NO_MEMORY, "out of memory");
	if ((u != MSGPACK_UNPACK_SUCCESS && u != MSGPACK_UNPACK_EXTRA_BYTES) || offset != length ||
	    root.type != MSGPACK_OBJECT_ARRAY)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "not a msgpack message");

	const msgpack_object *item = root.via.array.ptr;
	if (scanner->kind == SDP_RESPONSE) {
		m->failed = item[2].type == MSGPACK_OBJECT_ARRAY;
		m->params = item[3];
		return m->failed ? read_error(&item[2], &m->error, error) : 0;
	}
	m->params = item[scanner->kind == SDP_REQUEST ? 3 : 2].via.array.ptr[0];
	memcpy(m->name, scanner->method, sizeof(m->name));
	m->method = scanner->kind == SDP_REQUEST ? sdp_method_find(m->name, strlen(m->name))
						 : sdp_event_find(m->name, strlen(m->name));
	return 0;
}

int sdp_message_new(const struct sdp_scanner *scanner, uint8_t *bytes, size_t length,
		    const int *fds, unsigned n_fds, struct sdp_message **ret_message,
		    struct sdp_error *error)
{
	struct sdp_message *m = calloc(1, sizeof(*m));

	if (!m) {
		for (unsigned i = 0; i < n_fds; i++)
			close(fds[i]);
		free(bytes);
		return sdp_error_set(error, SDP_CODE_NO_MEMORY, "out of memory");
	}
	m->kind = scanner->kind;
	m->msgid = scanner->msgid;
	m->size = length;
	m->bytes = bytes;
	m->n_fds = n_fds;
	for (unsigned i = 0; i < n_fds; i++)
		m->fds[i] = fds[i];
	m->zone = msgpack_zone_new(ZONE_CHUNK);
	int r = m->zone ? parse(m, scanner, length, error)
			: sdp_error_set(error, SDP_CODE_NO_MEMORY, "out of memory");
	if (r < 0) {
		sdp_message_free(m);
		return r;
	}
	*ret_message = m;
	return 0;
}

int sdp_message_empty(struct sdp_message **ret_message)
{
	struct sdp_message *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->zone = msgpack_zone_new(ZONE_CHUNK);
	if (!m->zone) {
		free(m);
		return -ENOMEM;
	}
	*ret_message = m;
	return 0;
}

struct sdp_message *sdp_message_free(struct sdp_message *m)
{
	if (!m)
		return NULL;
	for (unsigned i = 0; i < m->n_fds; i++)
		close(m->fds[i]);
	if (m->zone)
		msgpack_zone_free(m->zone);
	free(m->bytes);
	free(m);
	return NULL;
}
