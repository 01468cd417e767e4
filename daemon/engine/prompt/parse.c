/*
 * The weight syntax of prompts: see prompt.h. A list of segments grows from left to right; a closing bracket multiplies
 * everything since its opening one.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "daemon/engine/prompt/prompt.h"

#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "daemon/engine/formats/cleanup.h"

#define ROUND  1.1
#define SQUARE (1 / 1.1)

/* Group 1: an escaped character; 2: the number of ":1.3)"; 3: anything that is not syntax. */
static const char token_pattern[] =
	"\\\\([\\\\()\\[\\]]?)|:\\s*([+-]?[.0-9]+)\\s*\\)|([^\\\\()\\[\\]:]+|:)|[()\\[\\]]";
static const char break_pattern[] = "\\s*\\bBREAK\\b\\s*";

struct brackets {
	size_t *starts; /* index of the first segment inside */
	size_t count, room;
};

struct parser {
	struct sde_prompt_segments segments;
	struct brackets round, square;
	pcre2_code *token, *break_marker;
	pcre2_match_data *match, *break_match;
};

static int append(struct parser *p, const char *text, size_t length, double weight)
{
	struct sde_prompt_segments *s = &p->segments;
	struct sde_prompt_segment *grown;
	char *copy;

	if (s->count == s->room) {
		grown = reallocarray(s->items, 2 * s->room + 8, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->items = grown;
		s->room = 2 * s->room + 8;
	}
	copy = malloc(length + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, length);
	copy[length] = '\0';
	s->items[s->count++] = (struct sde_prompt_segment){copy, length, weight};
	return 0;
}

static int bracket_open(struct brackets *brackets, size_t start)
{
	size_t *grown;

	if (brackets->count == brackets->room) {
		grown = reallocarray(brackets->starts, 2 * brackets->room + 8, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		brackets->starts = grown;
		brackets->room = 2 * brackets->room + 8;
	}
	brackets->starts[brackets->count++] = start;
	return 0;
}

static void bracket_close(struct parser *p, struct brackets *brackets, double factor)
{
	for (size_t i = brackets->starts[--brackets->count]; i < p->segments.count; i++)
		p->segments.items[i].weight *= factor;
}

bool sde_prompt_number(const char *text, size_t length, double *ret_weight)
{
	static locale_t c_locale;
	char number[64], *end;

	if (!c_locale)
		c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c_locale || length >= sizeof(number))
		return false;
	memcpy(number, text, length);
	number[length] = '\0';
	*ret_weight = strtod_l(number, &end, c_locale);
	return end != number && !*end;
}

/* Text that is no syntax, cut at the word BREAK. */
static int append_text(struct parser *p, const char *text, size_t length)
{
	const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(p->break_match);
	size_t at = 0;
	int r;

	for (;;) {
		r = pcre2_match(p->break_marker, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK,
				p->break_match, NULL);
		if (r < 0 && r != PCRE2_ERROR_NOMATCH)
			return -ENOMEM;
		if (r == PCRE2_ERROR_NOMATCH)
			return append(p, text + at, length - at, 1);
		r = append(p, text + at, bounds[0] - at, 1);
		if (r >= 0)
			r = append(p, "BREAK", 5, SDE_PROMPT_BREAK);
		if (r < 0)
			return r;
		at = bounds[1];
	}
}

static int take_token(struct parser *p, const char *text, const PCRE2_SIZE *bounds,
		      struct sde_error *error)
{
	const char *token = text + bounds[0];
	size_t length = bounds[1] - bounds[0];
	double weight;

	if (*token == '\\')
		return append(p, token + 1, length - 1, 1);
	if (*token == '(')
		return bracket_open(&p->round, p->segments.count);
	if (*token == '[')
		return bracket_open(&p->square, p->segments.count);
	if (length > 1 && token[0] == ':' && p->round.count) {
		const char *number = text + bounds[4];
		size_t digits = bounds[5] - bounds[4];

		if (!sde_prompt_number(number, digits, &weight))
			return sde_error_set(error, -EINVAL,
					     "prompt: '%.*s' is not a weight; write (word:1.2)",
					     (int)(digits < 64 ? digits : 64), number);
		bracket_close(p, &p->round, weight);
		return 0;
	}
	if (*token == ')' && p->round.count) {
		bracket_close(p, &p->round, ROUND);
		return 0;
	}
	if (*token == ']' && p->square.count) {
		bracket_close(p, &p->square, SQUARE);
		return 0;
	}
	return append_text(p, token, length);
}

/* Neighbours of equal weight are one segment. */
static int merge_equal(struct sde_prompt_segments *s)
{
	size_t kept = 0, end;

	for (size_t i = 0; i < s->count; i = end) {
		struct sde_prompt_segment merged = s->items[i];
		size_t length = 0;

		for (end = i; end < s->count && s->items[end].weight == merged.weight; end++)
			length += s->items[end].length;
		if (end - i > 1) {
			merged.text = realloc(merged.text, length + 1);
			if (!merged.text)
				abort();
			for (size_t j = i + 1; j < end; j++) {
				memcpy(merged.text + merged.length, s->items[j].text,
				       s->items[j].length);
				merged.length += s->items[j].length;
				free(s->items[j].text);
			}
			merged.text[merged.length] = '\0';
		}
		s->items[kept++] = merged;
	}
	s->count = kept;
	return 0;
}

static int parse(struct parser *p, const char *text, size_t length, struct sde_error *error)
{
	const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(p->match);
	size_t at = 0;
	int r;

	while (at < length) {
		r = pcre2_match(p->token, (PCRE2_SPTR)text, length, at, at ? PCRE2_NO_UTF_CHECK : 0,
				p->match, NULL);
		if (r <= PCRE2_ERROR_UTF8_ERR1 && r >= PCRE2_ERROR_UTF8_ERR21)
			return sde_error_set(error, -EILSEQ, "prompt is not UTF-8 at byte %zu",
					     pcre2_get_startchar(p->match));
		if (r < 0)
			return -ENOMEM;
		r = take_token(p, text, bounds, error);
		if (r < 0)
			return r;
		at = bounds[1];
	}
	while (p->round.count)
		bracket_close(p, &p->round, ROUND);
	while (p->square.count)
		bracket_close(p, &p->square, SQUARE);
	if (!p->segments.count && (r = append(p, "", 0, 1)) < 0)
		return r;
	return merge_equal(&p->segments);
}

static pcre2_code *compile(const char *pattern)
{
	PCRE2_SIZE where;
	int code;

	return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
			     &code, &where, NULL);
}

int sde_prompt_parse(const char *text, size_t length, struct sde_prompt_segments *ret_segments,
		     struct sde_error *error)
{
	struct parser p = {
		.token = compile(token_pattern),
		.break_marker = compile(break_pattern),
		.match = pcre2_match_data_create(4, NULL),
		.break_match = pcre2_match_data_create(1, NULL),
	};
	int r = -ENOMEM;

	if (p.token && p.break_marker && p.match && p.break_match)
		r = parse(&p, text, length, error);
	pcre2_code_free(p.token);
	pcre2_code_free(p.break_marker);
	pcre2_match_data_free(p.match);
	pcre2_match_data_free(p.break_match);
	free(p.round.starts);
	free(p.square.starts);
	if (r < 0) {
		sde_prompt_segments_clear(&p.segments);
		return r == -ENOMEM ? sde_error_set(error, r, "no memory to parse the prompt") : r;
	}
	*ret_segments = p.segments;
	return 0;
}

void sde_prompt_segments_clear(struct sde_prompt_segments *segments)
{
	for (size_t i = 0; i < segments->count; i++)
		free(segments->items[i].text);
	free(segments->items);
	*segments = (struct sde_prompt_segments){0};
}
