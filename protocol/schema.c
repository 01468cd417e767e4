/*
 * Look-ups in the generated tables. Linear: the longest table has a few dozen short names.
 */
#include <string.h>

#include "protocol/schema.h"

static const struct sdp_method *find(const struct sdp_method *table, size_t n, const char *name,
				     size_t length)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(table[i].name) == length && !memcmp(table[i].name, name, length))
			return &table[i];
	return NULL;
}

const struct sdp_method *sdp_method_find(const char *name, size_t length)
{
	return find(sdp_methods, SDP_METHOD_COUNT, name, length);
}

const struct sdp_method *sdp_event_find(const char *name, size_t length)
{
	return find(sdp_events, SDP_EVENT_COUNT, name, length);
}

const struct sdp_method *sdp_method_get(enum sdp_method_id id)
{
	return &sdp_methods[id];
}

const struct sdp_method *sdp_event_get(enum sdp_event_id id)
{
	return &sdp_events[id];
}

const struct sdp_struct *sdp_struct_find(const char *name)
{
	for (size_t i = 0; i < SDP_STRUCT_COUNT; i++)
		if (!strcmp(sdp_structs[i]->name, name))
			return sdp_structs[i];
	return NULL;
}

int sdp_struct_index(const struct sdp_struct *type, const char *name, size_t length)
{
	for (size_t i = 0; i < type->n_fields; i++)
		if (strlen(type->fields[i].name) == length &&
		    !memcmp(type->fields[i].name, name, length))
			return (int)i;
	return -1;
}

const char *sdp_code_name(int code)
{
	if (code <= 0 || (size_t)code >= sizeof(sdp_code_names) / sizeof(sdp_code_names[0]))
		code = SDP_CODE_INTERNAL;
	return sdp_code_names[code];
}
