/*
 * The scanner: one byte of header at a time, payloads in one stride. Every count is weighed against what a message may
 * still hold before it is believed: an array of n items needs at least n more bytes and n more items.
 */
#include <stdio.h>
#include <string.h>

#include "protocol/scanner.h"

enum token_type { NIL, BOOLEAN, INTEGER, NEGATIVE, FLOAT, STRING, BIN, ARRAY, MAP, EXT };

struct token {
	enum token_type type;
	uint64_t value; /* integer; length or count */
};

static const char *const token_names[] = {
	"nil",	    "a boolean", "a number", "a negative number", "a fraction", "a string", "bytes",
	"an array", "a map",	 "an ext"};

void sdp_scanner_init(struct sdp_scanner *scanner, size_t inline_max, bool inline_results)
{
	*scanner = (struct sdp_scanner){.inline_max = inline_max, .inline_results = inline_results};
}

void sdp_scanner_reset(struct sdp_scanner *scanner)
{
	sdp_scanner_init(scanner, scanner->inline_max, scanner->inline_results);
}

/* Bytes a header takes, its first byte included; 0 = no header starts so. */
static uint8_t header_size(uint8_t first)
{
	/* from 0xc0: nil, (never), false, true, bin 3, ext 3, float 2, uint 4, int 4, fixext 5, str 3, array 2, map 2 */
	static const uint8_t sizes[32] = {1, 0, 1, 1, 2, 3, 5, 3, 4, 6, 5, 9, 2, 3, 5, 9,
					  2, 3, 5, 9, 2, 2, 2, 2, 2, 2, 3, 5, 3, 5, 3, 5};

	return first < 0xc0 || first >= 0xe0 ? 1 : sizes[first - 0xc0];
}

static uint64_t big_endian(const uint8_t *bytes, size_t length)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++)
		value = value << 8 | bytes[i];
	return value;
}

static struct token decode_header(const uint8_t *header, uint8_t need)
{
	uint8_t first = header[0];
	uint64_t value = big_endian(header + 1, need - 1);

	if (first < 0x80)
		return (struct token){INTEGER, first};
	if (first < 0x90)
		return (struct token){MAP, first & 0x0f};
	if (first < 0xa0)
		return (struct token){ARRAY, first & 0x0f};
	if (first < 0xc0)
		return (struct token){STRING, first & 0x1f};
	if (first >= 0xe0)
		return (struct token){NEGATIVE};
	if (first >= 0xc4 && first <= 0xc6)
		return (struct token){BIN, value};
	if (first >= 0xcc && first <= 0xcf)
		return (struct token){INTEGER, value};
	if (first >= 0xd0 && first <= 0xd3) { /* a signed form may hold a positive number */
		bool negative = header[1] & 0x80;

		return (struct token){negative ? NEGATIVE : INTEGER, negative ? 0 : value};
	}
	if (first >= 0xd9 && first <= 0xdb)
		return (struct token){STRING, value};
	switch (first) {
	case 0xc0:
		return (struct token){NIL};
	case 0xc2:
	case 0xc3:
		return (struct token){BOOLEAN};
	case 0xca:
	case 0xcb:
		return (struct token){FLOAT};
	case 0xd4: /* fixext 1: the header's second byte is the type */
		return (struct token){EXT, header[1]};
	case 0xdc:
	case 0xdd:
		return (struct token){ARRAY, value};
	case 0xde:
	case 0xdf:
		return (struct token){MAP, value};
	default: /* other ext sizes */
		return (struct token){EXT, UINT64_MAX};
	}
}

/* The outermost array and its elements: which message is it? */
static int check_envelope(struct sdp_scanner *s, const struct token *t, struct sdp_error *error)
{
	unsigned place = s->envelope - s->stack[0].left - 1;
	const char *expected = NULL;

	if (place == 0) {
		if (t->type != INTEGER || t->value > 2 ||
		    (t->value == SDP_EVENT) != (s->envelope == 3))
			expected = "[0, msgid, method, [params]], [1, msgid, error, result] or [2, "
				   "event, [params]]";
		else
			s->kind = (enum sdp_kind)t->value;
	} else if (place == 1 && s->kind != SDP_EVENT) {
		if (t->type != INTEGER || t->value > UINT32_MAX)
			expected = "a message id of 32 bits";
		else
			s->msgid = (uint32_t)t->value;
	} else if (s->kind == SDP_RESPONSE) {
		if (place == 2 && t->type != NIL && (t->type != ARRAY || t->value != 4))
			expected = "nil or [code, name, message, details] as the error";
		else if (place == 3 && t->type != NIL && t->type != MAP)
			expected = "nil or a map as the result";
		s->allow_inline = s->inline_results;
	} else if (place == s->envelope - 2U) {
		if (t->type != STRING || t->value == 0 || t->value > SDP_METHOD_MAX)
			expected = "a method's or event's name of at most 32 bytes";
		else
			s->capture = (uint8_t)t->value;
	} else if (t->type != ARRAY || t->value != 1) {
		expected = "an array of one map as the params";
	}
	if (expected)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "%s stands where %s is due",
				     token_names[t->type], expected);
	return 0;
}

/* What may stand here, by the item's place. The item is already taken off its level's count. */
static int check_place(struct sdp_scanner *s, const struct token *t, struct sdp_error *error)
{
	if (s->depth == 0) {
		if (t->type != ARRAY || t->value < 3 || t->value > 4)
			return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
					     "a message is an array of 3 or 4 items, not %s",
					     token_names[t->type]);
		s->envelope = (uint8_t)t->value;
		return 0;
	}
	if (s->depth == 1)
		return check_envelope(s, t, error);
	if (s->depth == 2 && s->kind != SDP_RESPONSE && !s->stack[1].map && t->type != MAP)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "params must be a map, not %s",
				     token_names[t->type]);
	/* after a key has been taken off, an odd number of items is left */
	if (s->stack[s->depth - 1].map && s->stack[s->depth - 1].left % 2 &&
	    (t->type != STRING || t->value == 0 || t->value > SDP_KEY_MAX))
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "a map's key must be a string of 1 to %d bytes", SDP_KEY_MAX);
	return 0;
}

static int open_container(struct sdp_scanner *s, const struct token *t, struct sdp_error *error)
{
	uint64_t count = t->type == MAP ? t->value * 2 : t->value; /* value < 2^32 */

	if (s->depth >= SDP_DEPTH_MAX)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "a message may nest %d levels deep", SDP_DEPTH_MAX);
	if (s->items + count > SDP_ITEMS_MAX)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "%s of %llu makes more than the %d items a message may hold",
				     token_names[t->type], (unsigned long long)t->value,
				     SDP_ITEMS_MAX);
	s->items += (uint32_t)count;
	s->pending += (uint32_t)count;
	if (s->control + s->pending > SDP_CONTROL_MAX)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "%llu items do not fit a message of %d bytes",
				     (unsigned long long)count, SDP_CONTROL_MAX);
	if (count > 0) {
		s->stack[s->depth].left = (uint32_t)count;
		s->stack[s->depth++].map = t->type == MAP;
	}
	return 0;
}

static int open_payload(struct sdp_scanner *s, const struct token *t, struct sdp_error *error)
{
	if (t->type == BIN) {
		if (!s->allow_inline && t->value > 0)
			return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
					     "%s takes no bytes; pictures go to job.submit",
					     s->kind == SDP_RESPONSE ? "this answer" : s->method);
		if (t->value <= s->inline_max && s->inline_bytes <= s->inline_max - t->value) {
			s->inline_bytes += t->value;
			s->skip = t->value;
			return 0;
		}
	}
	if (t->value > SDP_CONTROL_MAX || s->control + s->pending + t->value > SDP_CONTROL_MAX)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "%s of %llu bytes does not fit: a message has at most %d "
				     "bytes and %zu of pictures",
				     token_names[t->type], (unsigned long long)t->value,
				     SDP_CONTROL_MAX, s->inline_max);
	s->control += t->value;
	s->skip = t->value;
	return 0;
}

static int take_item(struct sdp_scanner *s, struct sdp_error *error)
{
	struct token t = decode_header(s->header, s->header_need);

	if (s->depth > 0)
		s->stack[s->depth - 1].left--;
	int r = check_place(s, &t, error);
	if (r < 0)
		return r;
	switch (t.type) {
	case ARRAY:
	case MAP:
		return open_container(s, &t, error);
	case STRING:
	case BIN:
		return open_payload(s, &t, error);
	case EXT:
		if (t.value != SDP_EXT_FD)
			return sdp_error_set(
				error, SDP_CODE_BAD_MESSAGE,
				"the only ext is type %d, one byte: a descriptor's number",
				SDP_EXT_FD);
		s->control++;
		s->skip = 1;
		s->ext_payload = true;
		return 0;
	default:
		return 0;
	}
}

static int take_header_byte(struct sdp_scanner *s, uint8_t byte, struct sdp_error *error)
{
	if (s->header_have == 0) {
		s->header_need = header_size(byte);
		if (s->header_need == 0)
			return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
					     "byte 0xc1 begins nothing in msgpack");
		if (s->depth > 0)
			s->pending--;
	}
	s->header[s->header_have++] = byte;
	if (++s->control + s->pending > SDP_CONTROL_MAX)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
				     "a message has at most %d bytes besides its pictures",
				     SDP_CONTROL_MAX);
	if (s->header_have < s->header_need)
		return 0;
	int r = take_item(s, error);
	s->header_have = 0;
	return r;
}

/* Payload bytes that matter here: the method's name and the numbers of descriptors. */
static int look_at_payload(struct sdp_scanner *s, const uint8_t *bytes, size_t length,
			   struct sdp_error *error)
{
	if (s->capture > 0) {
		size_t have = strlen(s->method);

		for (size_t i = 0; i < length; i++, s->capture--) {
			if (bytes[i] < 0x21 || bytes[i] > 0x7e)
				return sdp_error_set(error, SDP_CODE_BAD_MESSAGE,
						     "a method's name is made of ASCII characters");
			s->method[have + i] = (char)bytes[i];
		}
		if (s->capture == 0) {
			const struct sdp_method *m =
				s->kind == SDP_EVENT
					? sdp_event_find(s->method, strlen(s->method))
					: sdp_method_find(s->method, strlen(s->method));
			s->allow_inline = m && m->inline_pixels;
		}
	} else if (s->ext_payload) {
		s->ext_payload = false;
		if (bytes[0] != s->n_fds || s->n_fds >= SDP_FDS_MAX)
			return sdp_error_set(
				error, SDP_CODE_BAD_MESSAGE,
				"descriptor number %u stands where %u is due, and %d are the most",
				bytes[0], s->n_fds, SDP_FDS_MAX);
		s->n_fds++;
	}
	return 0;
}

static bool complete(struct sdp_scanner *s)
{
	while (s->depth > 0 && s->stack[s->depth - 1].left == 0)
		s->depth--;
	return s->depth == 0;
}

int sdp_scanner_feed(struct sdp_scanner *s, const uint8_t *bytes, size_t length, size_t *ret_used,
		     struct sdp_error *error)
{
	size_t used = 0;
	int r = 0;

	if (s->failed)
		return sdp_error_set(error, SDP_CODE_BAD_MESSAGE, "this stream was refused before");
	while (used < length) {
		if (s->skip > 0) {
			size_t take = s->skip < length - used ? (size_t)s->skip : length - used;

			r = look_at_payload(s, bytes + used, take, error);
			used += take;
			s->skip -= take;
		} else {
			r = take_header_byte(s, bytes[used++], error);
		}
		if (r < 0) {
			s->failed = true;
			return r;
		}
		if (s->skip == 0 && s->header_have == 0 && complete(s)) {
			s->total += used;
			*ret_used = used;
			return SDP_SCAN_COMPLETE;
		}
	}
	s->total += used;
	*ret_used = used;
	return SDP_SCAN_MORE;
}
