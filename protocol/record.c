/*
 * Reading and setting the fields of a record. An index of another struct reads as absent instead of out of bounds.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "protocol/codec.h"

static const struct sdp_value absent = {0};

static const struct sdp_value *value_at(const struct sdp_record *record, int index)
{
	return index >= 0 && (size_t)index < record->type->n_fields ? &record->values[index]
								    : &absent;
}

bool sdp_record_given(const struct sdp_record *record, int index)
{
	return value_at(record, index)->given;
}

bool sdp_record_bool(const struct sdp_record *record, int index)
{
	return value_at(record, index)->boolean;
}

int sdp_record_int(const struct sdp_record *record, int index)
{
	int64_t value = value_at(record, index)->integer;

	return value > INT_MAX ? INT_MAX : value < INT_MIN ? INT_MIN : (int)value;
}

int64_t sdp_record_int64(const struct sdp_record *record, int index)
{
	return value_at(record, index)->integer;
}

uint64_t sdp_record_uint(const struct sdp_record *record, int index)
{
	return value_at(record, index)->uinteger;
}

double sdp_record_double(const struct sdp_record *record, int index)
{
	return value_at(record, index)->real;
}

const char *sdp_record_string(const struct sdp_record *record, int index)
{
	const char *text = value_at(record, index)->string.text;

	return text ? text : "";
}

const char *sdp_record_enum_name(const struct sdp_record *record, int index)
{
	const struct sdp_value *v = value_at(record, index);
	const struct sdp_field *f = &record->type->fields[index];

	if ((!v->given && !f->has_default) || (size_t)v->integer >= f->values->n_values)
		return "";
	return f->values->values[v->integer];
}

struct sdp_rect sdp_record_rect(const struct sdp_record *record, int index)
{
	return value_at(record, index)->rect;
}

const struct sdp_pixels *sdp_record_pixels(const struct sdp_record *record, int index)
{
	return value_at(record, index)->pixels;
}

const struct sdp_record *sdp_record_struct(const struct sdp_record *record, int index)
{
	return value_at(record, index)->record;
}

size_t sdp_record_count(const struct sdp_record *record, int index)
{
	return value_at(record, index)->list.count;
}

const struct sdp_value *sdp_record_item(const struct sdp_record *record, int index, size_t i)
{
	const struct sdp_value *v = value_at(record, index);

	return i < v->list.count ? &v->list.items[i] : &absent;
}

void sdp_record_set_int(struct sdp_record *record, int index, int64_t value)
{
	record->values[index] = (struct sdp_value){.given = true, .integer = value};
}

void sdp_record_set_uint(struct sdp_record *record, int index, uint64_t value)
{
	record->values[index] = (struct sdp_value){.given = true, .uinteger = value};
}

void sdp_record_set_double(struct sdp_record *record, int index, double value)
{
	record->values[index] = (struct sdp_value){.given = true, .real = value};
}

int sdp_record_set_string(struct sdp_record *record, int index, const char *value)
{
	size_t length = strlen(value);
	char *copy = msgpack_zone_malloc(record->message->zone, length + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, length + 1);
	record->values[index] =
		(struct sdp_value){.given = true, .string = {.text = copy, .length = length}};
	return 0;
}

int sdp_record_set_pixels(struct sdp_record *record, int index, const struct sdp_pixels *pixels)
{
	struct sdp_pixels *copy = NULL;

	if (pixels) {
		copy = msgpack_zone_malloc(record->message->zone, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		*copy = *pixels;
	}
	record->values[index] = (struct sdp_value){.given = copy != NULL, .pixels = copy};
	return 0;
}
