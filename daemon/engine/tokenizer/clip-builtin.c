/*
 * The vocabulary that all published CLIP text encoders share, for checkpoint files, which bring none. It is part of the program
 * (clip-vocabulary/, MIT licence), so that such a file works wherever it lies and nothing has to be found at run time. The ids follow from
 * the merges: bytes, bytes at the end of a word, the merges in order, then the two special tokens.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/tokenizer/internal.h"

#define ORIGIN "the built-in CLIP vocabulary"

/* clang-format off */
__asm__(".section .rodata, \"a\"\n"
	".global sde_clip_merges_begin\n"
	".global sde_clip_merges_end\n"
	"sde_clip_merges_begin:\n"
	".incbin \"" SDE_CLIP_MERGES "\"\n"
	"sde_clip_merges_end:\n"
	".previous\n");
/* clang-format on */

extern const char sde_clip_merges_begin[] __attribute__((visibility("hidden")));
extern const char sde_clip_merges_end[] __attribute__((visibility("hidden")));

static int add(json_t *vocab, const char *symbol)
{
	return json_object_set_new(vocab, symbol,
				   json_integer((json_int_t)json_object_size(vocab)));
}

/* Bytes in GPT-2's order: those that stand for themselves first. */
static int add_bytes(json_t *vocab, const char *end)
{
	int r = 0;

	for (int second = 0; second < 2; second++)
		for (int byte = 0; byte < 256 && r >= 0; byte++) {
			char symbol[16];
			const size_t length = sde_clip_byte_symbol(byte, symbol);
			const bool itself = length == 1 || (unsigned char)symbol[0] < 0xc4;

			if (itself == (second == 1))
				continue;
			strcpy(symbol + length, end);
			r = add(vocab, symbol);
		}
	return r;
}

static int add_merges(json_t *vocab, const char *text, const char *end)
{
	const char *newline;
	int r = 0;

	for (; r >= 0 && text < end && (newline = memchr(text, '\n', (size_t)(end - text)));
	     text = newline + 1) {
		const size_t length = (size_t)(newline - text);
		const char *blank = memchr(text, ' ', length);
		char joined[256];

		if (!blank || length >= sizeof(joined) ||
		    (text == sde_clip_merges_begin && !memcmp(text, "#version", 8)))
			continue;
		snprintf(joined, sizeof(joined), "%.*s%.*s", (int)(blank - text), text,
			 (int)(newline - blank - 1), blank + 1);
		r = add(vocab, joined);
	}
	return r;
}

int sde_clip_tokenizer_builtin(struct sde_clip_tokenizer **ret_tokenizer, struct sde_error *error)
{
	_cleanup_json_ json_t *vocab = json_object();
	const size_t size = (size_t)(sde_clip_merges_end - sde_clip_merges_begin);

	if (!vocab || add_bytes(vocab, "") < 0 || add_bytes(vocab, "</w>") < 0 ||
	    add_merges(vocab, sde_clip_merges_begin, sde_clip_merges_end) < 0 ||
	    add(vocab, "<|startoftext|>") < 0 || add(vocab, "<|endoftext|>") < 0)
		return sde_error_set(error, -ENOMEM, "no memory for " ORIGIN);
	return sde_clip_tokenizer_from_vocab(vocab, ORIGIN, sde_clip_merges_begin, size, ORIGIN,
					     ret_tokenizer, error);
}
