/*
 * The stack machine of pickles, without its power: see pickle.h. Values are allocated in pages and freed together. A hostile pickle can cost
 * no more than VALUES_MAX values; sharing through the memo makes a graph, which nobody here walks without a bound.
 */
#include "daemon/engine/formats/pickle.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUES_MAX (2u << 20) /* Stable Diffusion's checkpoints have 50,000 */
#define PAGE	   1024

/* Whatever else a pickle wants to name could run a program. */
static const char *const allowed[] = {
	"collections OrderedDict",
	"torch._utils _rebuild_tensor_v2",
	"torch._utils _rebuild_tensor",
	"torch._utils _rebuild_parameter",
	"torch FloatStorage",
	"torch HalfStorage",
	"torch BFloat16Storage",
	"torch DoubleStorage",
	"torch LongStorage",
	"torch IntStorage",
	"torch ShortStorage",
	"torch CharStorage",
	"torch ByteStorage",
	"torch BoolStorage",
	"torch Size",
	/* bookkeeping of trainers beside the weights: kept as calls that nobody makes */
	"pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
	"numpy.core.multiarray scalar",
	"numpy dtype",
	"_codecs encode",
};

struct page {
	struct page *next;
	struct sde_pickle_value values[PAGE];
};

struct sde_pickle {
	struct page *pages;
	size_t used; /* of the first page */
	size_t total;
};

struct machine {
	struct sde_pickle *pickle;
	const char *at, *end;
	struct sde_pickle_value **stack; /* NULL is a mark */
	size_t depth, stack_room;
	struct sde_pickle_value **memo;
	size_t memo_room, memo_next;
	struct sde_error *error;
	int r;
};

static void fail(struct machine *m, int code, const char *what)
{
	if (m->r >= 0)
		m->r = sde_error_set(m->error, code, "%s", what);
}

static struct sde_pickle_value *value_new(struct machine *m, enum sde_pickle_kind kind)
{
	struct sde_pickle *pickle = m->pickle;
	struct page *page;

	if (m->r < 0)
		return NULL;
	if (pickle->total == VALUES_MAX) {
		fail(m, -EBADMSG, "a pickle of more than two million values");
		return NULL;
	}
	if (!pickle->pages || pickle->used == PAGE) {
		page = calloc(1, sizeof(*page));
		if (!page) {
			fail(m, -ENOMEM, "no memory for a pickle");
			return NULL;
		}
		page->next = pickle->pages;
		pickle->pages = page;
		pickle->used = 0;
	}
	pickle->total++;
	pickle->pages->values[pickle->used].kind = kind;
	return &pickle->pages->values[pickle->used++];
}

static void push(struct machine *m, struct sde_pickle_value *value)
{
	if (m->r < 0)
		return;
	if (m->depth == m->stack_room) {
		struct sde_pickle_value **grown =
			reallocarray(m->stack, 2 * m->stack_room + 64, sizeof(*m->stack));

		if (!grown) {
			fail(m, -ENOMEM, "no memory for a pickle");
			return;
		}
		m->stack = grown;
		m->stack_room = 2 * m->stack_room + 64;
	}
	if (m->depth >= VALUES_MAX)
		fail(m, -EBADMSG, "a pickle of more than two million values");
	else
		m->stack[m->depth++] = value;
}

/* The top, which must not be a mark. */
static struct sde_pickle_value *top(struct machine *m)
{
	if (m->r >= 0 && (m->depth == 0 || !m->stack[m->depth - 1]))
		fail(m, -EBADMSG, "a broken pickle: its stack is empty");
	return m->r < 0 ? NULL : m->stack[m->depth - 1];
}

static struct sde_pickle_value *pop(struct machine *m)
{
	struct sde_pickle_value *value = top(m);

	if (m->r >= 0)
		m->depth--;
	return value;
}

static void append(struct machine *m, struct sde_pickle_value *to, struct sde_pickle_value *item)
{
	struct sde_pickle_value **grown;

	if (m->r < 0 || !to)
		return;
	if (to->count == to->room) {
		grown = reallocarray(to->items, 2 * to->room + 4, sizeof(*to->items));
		if (!grown) {
			fail(m, -ENOMEM, "no memory for a pickle");
			return;
		}
		to->items = grown;
		to->room = 2 * to->room + 4;
	}
	to->items[to->count++] = item;
}

/* Index behind the last mark; everything from there on is above it. The mark goes. */
static size_t above_mark(struct machine *m)
{
	size_t i = m->depth;

	while (i > 0 && m->stack[i - 1])
		i--;
	if (m->r >= 0 && i == 0)
		fail(m, -EBADMSG, "a broken pickle: no mark on its stack");
	return i;
}

/* What lies above the last mark becomes items of `to`. */
static void take_items(struct machine *m, struct sde_pickle_value *to, size_t from)
{
	if (m->r < 0)
		return;
	for (size_t i = from; i < m->depth; i++)
		append(m, to, m->stack[i]);
	m->depth = from - 1;
}

static const char *get(struct machine *m, size_t size)
{
	const char *at = m->at;

	if (m->r >= 0 && (size_t)(m->end - m->at) < size)
		fail(m, -EBADMSG, "a pickle that is cut off");
	if (m->r < 0)
		return NULL;
	m->at += size;
	return at;
}

static uint64_t get_number(struct machine *m, size_t size)
{
	const unsigned char *bytes = (const unsigned char *)get(m, size);
	uint64_t value = 0;

	while (bytes && size-- > 0)
		value = value << 8 | bytes[size];
	return value;
}

static const char *get_line(struct machine *m, size_t *ret_length)
{
	const char *at = m->at, *newline = memchr(at, '\n', (size_t)(m->end - at));

	if (!newline) {
		fail(m, -EBADMSG, "a pickle that is cut off");
		return NULL;
	}
	*ret_length = (size_t)(newline - at);
	m->at = newline + 1;
	return at;
}

static void push_string(struct machine *m, uint64_t length)
{
	const char *text = get(m, length);
	struct sde_pickle_value *value = value_new(m, SDE_PICKLE_STRING);

	if (!value)
		return;
	value->text = text;
	value->length = (size_t)length;
	push(m, value);
}

static void push_number(struct machine *m, enum sde_pickle_kind kind, int64_t number)
{
	struct sde_pickle_value *value = value_new(m, kind);

	if (!value)
		return;
	value->number = number;
	push(m, value);
}

/* Little-endian two's complement; beyond 64 bits only a magic number is that long, and its value is not needed. */
static void push_long(struct machine *m, uint64_t size)
{
	const unsigned char *bytes = (const unsigned char *)get(m, size);
	uint64_t value = bytes && size && bytes[size - 1] & 0x80 ? UINT64_MAX : 0;

	for (uint64_t i = size < 8 ? size : 8; bytes && i-- > 0;)
		value = value << 8 | bytes[i];
	push_number(m, SDE_PICKLE_INT, size > 8 ? -1 : (int64_t)value);
}

static void push_global(struct machine *m, const char *module, size_t module_length,
			const char *name, size_t name_length)
{
	struct sde_pickle_value *value;
	char full[256];

	if (m->r < 0)
		return;
	snprintf(full, sizeof(full), "%.*s %.*s", (int)(module_length > 120 ? 120 : module_length),
		 module, (int)(name_length > 120 ? 120 : name_length), name);
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (!strcmp(full, allowed[i])) {
			value = value_new(m, SDE_PICKLE_GLOBAL);
			if (value)
				value->global = allowed[i];
			push(m, value);
			return;
		}
	*strchr(full, ' ') = '.';
	m->r = sde_error_set(m->error, -EPERM,
			     "its pickle names '%.160s', which has no place in a checkpoint of "
			     "weights and could run a program",
			     full);
}

static void stack_global(struct machine *m)
{
	const struct sde_pickle_value *name = pop(m), *module = pop(m);

	if (m->r >= 0 && (name->kind != SDE_PICKLE_STRING || module->kind != SDE_PICKLE_STRING))
		fail(m, -EBADMSG, "a broken pickle: a class without a name");
	if (m->r >= 0)
		push_global(m, module->text, module->length, name->text, name->length);
}

static void remember(struct machine *m, uint64_t index)
{
	struct sde_pickle_value *value = top(m), **grown;
	size_t room;

	if (m->r < 0)
		return;
	if (index >= VALUES_MAX) {
		fail(m, -EBADMSG, "a pickle of more than two million values");
		return;
	}
	if (index >= m->memo_room) {
		room = 2 * (size_t)index + 64;
		grown = reallocarray(m->memo, room, sizeof(*m->memo));
		if (!grown) {
			fail(m, -ENOMEM, "no memory for a pickle");
			return;
		}
		memset(grown + m->memo_room, 0, (room - m->memo_room) * sizeof(*grown));
		m->memo = grown;
		m->memo_room = room;
	}
	m->memo[index] = value;
	m->memo_next++;
}

static void recall(struct machine *m, uint64_t index)
{
	if (m->r >= 0 && (index >= m->memo_room || !m->memo[index]))
		fail(m, -EBADMSG, "a broken pickle: it recalls what it never had");
	if (m->r >= 0)
		push(m, m->memo[index]);
}

static void push_tuple(struct machine *m, size_t n)
{
	struct sde_pickle_value *tuple = value_new(m, SDE_PICKLE_TUPLE);

	if (m->r >= 0 && m->depth < n)
		fail(m, -EBADMSG, "a broken pickle: its stack is empty");
	for (size_t i = 0; m->r >= 0 && i < n; i++) {
		if (!m->stack[m->depth - n + i])
			fail(m, -EBADMSG, "a broken pickle: a mark in a tuple");
		append(m, tuple, m->stack[m->depth - n + i]);
	}
	if (m->r < 0)
		return;
	m->depth -= n;
	push(m, tuple);
}

static void collect(struct machine *m, enum sde_pickle_kind kind)
{
	struct sde_pickle_value *value = value_new(m, kind);
	const size_t from = above_mark(m);

	take_items(m, value, from);
	push(m, value);
}

/* Items above the mark go into the list or dict below it. */
static void extend(struct machine *m, bool pairs)
{
	const size_t from = above_mark(m);
	struct sde_pickle_value *to;

	if (m->r < 0)
		return;
	if (from < 2 || !m->stack[from - 2] || (pairs && (m->depth - from) % 2 != 0)) {
		fail(m, -EBADMSG, "a broken pickle: items for nothing");
		return;
	}
	to = m->stack[from - 2];
	/* an OrderedDict is made by a call; its items come afterwards */
	if (to->kind == SDE_PICKLE_CALL && pairs &&
	    sde_pickle_is(to->items[0], "collections OrderedDict")) {
		to->kind = SDE_PICKLE_DICT;
		to->count = 0;
	}
	if (to->kind != (pairs ? SDE_PICKLE_DICT : SDE_PICKLE_LIST)) {
		fail(m, -EBADMSG, "a broken pickle: items for what is no container");
		return;
	}
	take_items(m, to, from);
}

static void extend_by(struct machine *m, size_t n)
{
	struct sde_pickle_value *items[2];

	for (size_t i = n; i-- > 0;)
		items[i] = pop(m);
	push(m, NULL);
	for (size_t i = 0; i < n; i++)
		push(m, items[i]);
	extend(m, n == 2);
}

static void call(struct machine *m)
{
	struct sde_pickle_value *arguments = pop(m), *function = pop(m);
	struct sde_pickle_value *value = value_new(m, SDE_PICKLE_CALL);

	append(m, value, function);
	append(m, value, arguments);
	push(m, value);
}

static void persistent(struct machine *m)
{
	struct sde_pickle_value *id = pop(m), *value = value_new(m, SDE_PICKLE_PERSISTENT);

	append(m, value, id);
	push(m, value);
}

static void global(struct machine *m)
{
	size_t module_length = 0, name_length = 0;
	const char *module = get_line(m, &module_length), *name = NULL;

	if (m->r >= 0)
		name = get_line(m, &name_length);
	if (m->r >= 0)
		push_global(m, module, module_length, name, name_length);
}

/* One instruction that is not STOP. */
static void step(struct machine *m, unsigned char opcode)
{
	char text[48];

	switch (opcode) {
	case 0x80: /* PROTO */
		if (get_number(m, 1) > 5)
			fail(m, -ENOTSUP, "a pickle of a protocol above 5");
		break;
	case 0x95: /* FRAME */
		get(m, 8);
		break;
	case '(':
		push(m, NULL);
		break;
	case '0':
		pop(m);
		break;
	case '2':
		push(m, top(m));
		break;
	case 'N':
		push_number(m, SDE_PICKLE_NONE, 0);
		break;
	case 0x88:
	case 0x89:
		push_number(m, SDE_PICKLE_BOOL, opcode == 0x88);
		break;
	case 'J':
		push_number(m, SDE_PICKLE_INT, (int32_t)(uint32_t)get_number(m, 4));
		break;
	case 'K':
		push_number(m, SDE_PICKLE_INT, (int64_t)get_number(m, 1));
		break;
	case 'M':
		push_number(m, SDE_PICKLE_INT, (int64_t)get_number(m, 2));
		break;
	case 0x8a:
		push_long(m, get_number(m, 1));
		break;
	case 0x8b:
		push_long(m, get_number(m, 4));
		break;
	case 'G':
		get(m, 8);
		push_number(m, SDE_PICKLE_FLOAT, 0);
		break;
	case 'X':
	case 'B':
	case 'T':
		push_string(m, get_number(m, 4));
		break;
	case 0x8c:
	case 'C':
	case 'U':
		push_string(m, get_number(m, 1));
		break;
	case '}':
		push_number(m, SDE_PICKLE_DICT, 0);
		break;
	case ']':
		push_number(m, SDE_PICKLE_LIST, 0);
		break;
	case ')':
		push_tuple(m, 0);
		break;
	case 0x85:
	case 0x86:
	case 0x87:
		push_tuple(m, opcode - 0x84);
		break;
	case 't':
		collect(m, SDE_PICKLE_TUPLE);
		break;
	case 'l':
		collect(m, SDE_PICKLE_LIST);
		break;
	case 'd':
		collect(m, SDE_PICKLE_DICT);
		break;
	case 'a':
		extend_by(m, 1);
		break;
	case 's':
		extend_by(m, 2);
		break;
	case 'e':
		extend(m, false);
		break;
	case 'u':
		extend(m, true);
		break;
	case 'q':
		remember(m, get_number(m, 1));
		break;
	case 'r':
		remember(m, get_number(m, 4));
		break;
	case 0x94:
		remember(m, m->memo_next);
		break;
	case 'h':
		recall(m, get_number(m, 1));
		break;
	case 'j':
		recall(m, get_number(m, 4));
		break;
	case 'c':
		global(m);
		break;
	case 0x93:
		stack_global(m);
		break;
	case 'R':
	case 0x81: /* NEWOBJ: the same for who executes neither */
		call(m);
		break;
	case 'b': /* BUILD: the state of an object, which only bookkeeping has */
		pop(m);
		top(m);
		break;
	case 'Q':
		persistent(m);
		break;
	default:
		snprintf(text, sizeof(text), "its pickle has an opcode %#x", opcode);
		fail(m, -ENOTSUP, text);
	}
}

int sde_pickle_read(const char *bytes, size_t size, struct sde_pickle **ret_pickle,
		    const struct sde_pickle_value **ret_value, size_t *ret_used,
		    struct sde_error *error)
{
	struct machine m = {.at = bytes, .end = bytes + size, .error = error};
	const char *opcode;

	m.pickle = calloc(1, sizeof(*m.pickle));
	if (!m.pickle)
		return sde_error_set(error, -ENOMEM, "no memory for a pickle");
	while ((opcode = get(&m, 1)) && *opcode != '.')
		step(&m, (unsigned char)*opcode);
	*ret_value = pop(&m);
	free(m.stack);
	free(m.memo);
	if (m.r < 0) {
		sde_pickle_free(m.pickle);
		return m.r;
	}
	if (ret_used)
		*ret_used = (size_t)(m.at - bytes);
	*ret_pickle = m.pickle;
	return 0;
}

struct sde_pickle *sde_pickle_free(struct sde_pickle *pickle)
{
	struct page *next;

	if (!pickle)
		return NULL;
	for (struct page *page = pickle->pages; page; page = next) {
		next = page->next;
		for (size_t i = 0; i < PAGE; i++)
			free(page->values[i].items);
		free(page);
	}
	free(pickle);
	return NULL;
}

int sde_pickle_is(const struct sde_pickle_value *value, const char *text)
{
	if (!value)
		return false;
	if (value->kind == SDE_PICKLE_GLOBAL)
		return !strcmp(value->global, text);
	return value->kind == SDE_PICKLE_STRING && value->length == strlen(text) &&
	       !memcmp(value->text, text, value->length);
}

const struct sde_pickle_value *sde_pickle_get(const struct sde_pickle_value *dict, const char *key)
{
	for (size_t i = 0; dict && dict->kind == SDE_PICKLE_DICT && i + 1 < dict->count; i += 2)
		if (sde_pickle_is(dict->items[i], key))
			return dict->items[i + 1];
	return NULL;
}
