/*
 * The precompiled normaliser. The file may be a stranger's: every index of the trie is checked when it is used.
 */
#include "daemon/engine/tokenizer/charsmap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "daemon/engine/formats/cleanup.h"

#define GRAPHEME_MAX 6 /* bytes; from this length on, the library looks at single characters only */

struct sde_charsmap {
	uint32_t *units;
	size_t n_units;
	char *replacements; /* NUL-terminated strings, one NUL behind them all */
	size_t replacements_size;
};

/* A growing text. */
struct output {
	char *text;
	size_t length, room;
};

static uint32_t read_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int sde_charsmap_new(const uint8_t *data, size_t size, const char *origin,
		     struct sde_charsmap **ret_map, struct sde_error *error)
{
	const size_t trie = size >= 4 ? read_u32(data) : 0;
	struct sde_charsmap *map;

	if (trie < 4 || trie % 4 != 0 || trie > size - 4)
		return sde_error_set(error, -EBADMSG,
				     "%s: the precompiled character map is cut short or damaged",
				     origin);
	map = calloc(1, sizeof(*map));
	if (map) {
		map->n_units = trie / 4;
		map->units = malloc(trie);
		map->replacements_size = size - 4 - trie;
		map->replacements = calloc(map->replacements_size + 1, 1);
	}
	if (!map || !map->units || !map->replacements) {
		sde_charsmap_free(map);
		return sde_error_set(error, -ENOMEM, "%s: no memory", origin);
	}
	for (size_t i = 0; i < map->n_units; i++)
		map->units[i] = read_u32(data + 4 + 4 * i);
	memcpy(map->replacements, data + 4 + trie, map->replacements_size);
	*ret_map = map;
	return 0;
}

struct sde_charsmap *sde_charsmap_free(struct sde_charsmap *map)
{
	if (!map)
		return NULL;
	free(map->units);
	free(map->replacements);
	free(map);
	return NULL;
}

static size_t offset_of(uint32_t unit)
{
	return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* What the shortest key that begins the text is replaced by; NULL when no key does. */
static const char *find(const struct sde_charsmap *map, const char *text, size_t length)
{
	size_t at = offset_of(map->units[0]);

	for (size_t i = 0; i < length && text[i]; i++) {
		const uint8_t byte = (uint8_t)text[i];
		uint32_t unit, value;

		at ^= byte;
		if (at >= map->n_units)
			return NULL;
		unit = map->units[at];
		if ((unit & 0x800000ffu) != byte)
			return NULL;
		at ^= offset_of(unit);
		if (at >= map->n_units)
			return NULL;
		value = map->units[at] & 0x7fffffffu;
		if (unit >> 8 & 1)
			return value <= map->replacements_size ? map->replacements + value : NULL;
	}
	return NULL;
}

static int put(struct output *out, const char *text, size_t length)
{
	if (length > out->room - out->length) {
		const size_t room = 2 * (out->length + length) + 64;
		char *larger = realloc(out->text, room + 1);

		if (!larger)
			return -ENOMEM;
		out->text = larger;
		out->room = room;
	}
	memcpy(out->text + out->length, text, length);
	out->length += length;
	return 0;
}

static int put_character(const struct sde_charsmap *map, struct output *out, const char *text,
			 size_t length)
{
	const char *replacement = find(map, text, length);

	return replacement ? put(out, replacement, strlen(replacement)) : put(out, text, length);
}

static int put_grapheme(const struct sde_charsmap *map, struct output *out, const char *text,
			size_t length)
{
	const char *replacement = length < GRAPHEME_MAX ? find(map, text, length) : NULL;
	int r = 0;

	if (replacement)
		return put(out, replacement, strlen(replacement));
	for (size_t at = 0; r == 0 && at < length;) {
		const size_t n = (size_t)utf8proc_utf8class[(uint8_t)text[at]];

		r = put_character(map, out, text + at, n);
		at += n;
	}
	return r;
}

int sde_charsmap_apply(const struct sde_charsmap *map, const char *text, size_t length,
		       char **ret_text, size_t *ret_length)
{
	struct output out = {.text = malloc(length + 1), .room = length};
	utf8proc_int32_t previous = 0, c, state = 0;
	size_t begin = 0, at = 0;
	int r = out.text ? 0 : -ENOMEM;

	while (r == 0 && at < length) {
		const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
							    (utf8proc_ssize_t)(length - at), &c);

		if (n <= 0)
			break;
		if (at > begin && utf8proc_grapheme_break_stateful(previous, c, &state)) {
			r = put_grapheme(map, &out, text + begin, at - begin);
			begin = at;
		}
		previous = c;
		at += (size_t)n;
	}
	if (r == 0)
		r = put_grapheme(map, &out, text + begin, at - begin);
	if (r < 0) {
		free(out.text);
		return r;
	}
	out.text[out.length] = '\0';
	*ret_text = out.text;
	*ret_length = out.length;
	return 0;
}
