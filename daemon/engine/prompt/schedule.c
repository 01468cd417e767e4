/*
 * Scheduled and alternating prompts: see schedule.h. Brackets are paired once; then a step's text is copied from left to right,
 * and inside a pair that is a schedule only the part that holds at this step.
 */
#include "daemon/engine/prompt/schedule.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/prompt/prompt.h"

#define PARTS_MAX 3

/* What stands in a pair of square brackets. */
struct construct {
	enum { NOTHING, SCHEDULED, ALTERNATING } kind;
	size_t from, from_end, to, to_end; /* SCHEDULED */
	double when;
	bool fraction;
	size_t parts; /* ALTERNATING */
};

struct output {
	char *text;
	size_t length;
	int step, steps; /* from 1 */
};

/* The place behind what begins at `at`: a pair of brackets, an escaped character, or one byte. */
static size_t skip(const struct sde_prompt_schedule *s, size_t at)
{
	if (s->text[at] == '\\' && at + 1 < s->length)
		return at + 2;
	return s->ends[at] ? s->ends[at] + 1 : at + 1;
}

/* A number alone, maybe with space around it. */
static bool number_of(const char *text, size_t length, double *ret_number)
{
	while (length > 0 && isspace((unsigned char)*text)) {
		text++;
		length--;
	}
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		length--;
	for (size_t i = 0; i < length; i++)
		if (!isdigit((unsigned char)text[i]) && !strchr("+-.eE", text[i]))
			return false;
	return length > 0 && sde_prompt_number(text, length, ret_number);
}

/* Of the pair that opens at `open`. */
static struct construct construct_of(const struct sde_prompt_schedule *s, size_t open)
{
	const size_t end = s->ends[open];
	size_t colons[PARTS_MAX], n_colons = 0, bars = 0;
	struct construct c = {.kind = NOTHING};

	for (size_t at = open + 1; at < end; at = skip(s, at)) {
		if (s->text[at] == ':' && n_colons++ < PARTS_MAX)
			colons[n_colons - 1] = at;
		bars += s->text[at] == '|';
	}
	if (n_colons >= 1 && n_colons < PARTS_MAX &&
	    number_of(s->text + colons[n_colons - 1] + 1, end - colons[n_colons - 1] - 1,
		      &c.when)) {
		c.kind = SCHEDULED;
		c.fraction = memchr(s->text + colons[n_colons - 1], '.',
				    end - colons[n_colons - 1]) != NULL;
		c.from = open + 1;
		c.from_end = n_colons == 2 ? colons[0] : c.from;
		c.to = n_colons == 2 ? colons[0] + 1 : open + 1;
		c.to_end = colons[n_colons - 1];
	} else if (bars > 0) {
		c.kind = ALTERNATING;
		c.parts = bars + 1;
	}
	return c;
}

static void copy(const struct sde_prompt_schedule *s, size_t from, size_t end, struct output *out);

static void copy_part(const struct sde_prompt_schedule *s, size_t open, size_t wanted,
		      struct output *out)
{
	size_t part = 0, from = open + 1;

	for (size_t at = from; at <= s->ends[open]; at = skip(s, at)) {
		if (at < s->ends[open] && s->text[at] != '|')
			continue;
		if (part++ == wanted) {
			copy(s, from, at, out);
			return;
		}
		from = at + 1;
	}
}

static void copy(const struct sde_prompt_schedule *s, size_t from, size_t end, struct output *out)
{
	for (size_t at = from; at < end;) {
		const size_t next = skip(s, at);
		struct construct c = {.kind = NOTHING};

		if (s->text[at] == '[' && s->ends[at])
			c = construct_of(s, at);
		if (c.kind == SCHEDULED) {
			const double when = c.fraction ? c.when * out->steps : c.when;

			/* only whole steps count */
			if (out->step <= (int)fmax(fmin(when, out->steps), 0))
				copy(s, c.from, c.from_end, out);
			else
				copy(s, c.to, c.to_end, out);
			at = next;
		} else if (c.kind == ALTERNATING) {
			copy_part(s, at, (size_t)(out->step - 1) % c.parts, out);
			at = next;
		} else if (s->text[at] == '\\') {
			memcpy(out->text + out->length, s->text + at, next - at);
			out->length += next - at;
			at = next;
		} else {
			out->text[out->length++] = s->text[at++];
		}
	}
}

/* Pairs of brackets; one that nothing closes is a letter like any other. */
static int pair(struct sde_prompt_schedule *s, struct sde_error *error)
{
	size_t open[SDE_PROMPT_DEPTH], depth = 0;

	for (size_t at = 0; at < s->length; at++) {
		const char c = s->text[at];

		if (c == '\\') {
			at++;
		} else if (c == '[' || c == '(') {
			if (depth == SDE_PROMPT_DEPTH)
				return sde_error_set(error, -E2BIG,
						     "prompt: more than %d brackets in brackets",
						     SDE_PROMPT_DEPTH);
			open[depth++] = at;
		} else if (c == ')' && depth > 0 && s->text[open[depth - 1]] == '(') {
			s->ends[open[--depth]] = at;
		} else if (c == ']') {
			size_t k = depth;

			while (k > 0 && s->text[open[k - 1]] != '[')
				k--;
			if (k > 0) {
				depth = k - 1;
				s->ends[open[depth]] = at;
			}
		}
	}
	return 0;
}

int sde_prompt_schedule_init(struct sde_prompt_schedule *schedule, const char *text,
			     struct sde_error *error)
{
	struct sde_prompt_schedule s = {.text = text, .length = strlen(text)};
	int r = 0;

	*schedule = s;
	if (!memchr(text, '[', s.length))
		return 0;
	s.ends = calloc(s.length + 1, sizeof(*s.ends));
	if (!s.ends)
		return sde_error_set(error, -ENOMEM, "no memory for a prompt");
	r = pair(&s, error);
	for (size_t at = 0; r >= 0 && at < s.length; at++) {
		if (s.text[at] == '\\')
			at++;
		else if (s.text[at] == '[' && s.ends[at])
			s.changes = s.changes || construct_of(&s, at).kind != NOTHING;
	}
	if (r < 0) {
		sde_prompt_schedule_clear(&s);
		return r;
	}
	*schedule = s;
	return 0;
}

void sde_prompt_schedule_clear(struct sde_prompt_schedule *schedule)
{
	free(schedule->ends);
	*schedule = (struct sde_prompt_schedule){0};
}

char *sde_prompt_schedule_at(const struct sde_prompt_schedule *schedule, int i, int n)
{
	struct output out = {.step = i > 1 ? i : 1, .steps = n};

	if (!schedule->changes)
		return strdup(schedule->text);
	out.text = malloc(schedule->length + 1);
	if (!out.text)
		return NULL;
	copy(schedule, 0, schedule->length, &out);
	out.text[out.length] = '\0';
	return out.text;
}
