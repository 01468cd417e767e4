/*
 * JSON text out of records and parsed maps, for sdctl --json, for the metadata in result pictures and for logs. Only an
 * emitter: nothing here reads JSON.
 */
#pragma once

#include "protocol/codec.h"

/*
 * RFC 8259, one line, keys in the message's order. Numbers keep their value (doubles in the shortest form that reads back
 * equal; not-a-number and infinities become null); bin becomes {"bytes": N}, a descriptor {"fd": true}.
 * malloc'd text, or NULL when memory runs out.
 */
char *sdp_json_object(const msgpack_object *object);
/* The given fields of a record, without its pictures. */
char *sdp_json_record(const struct sdp_record *record);
