/*
 * Texts and merge tables of any bytes: first line the merges ("a b;c d"), the rest a prompt. The vocabulary has every byte and
 * what the seeds' merges make. No token of a prompt may be lost on the way into the chunks.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/prompt/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes in GPT-2's alphabet, each alone and with "</w>", some joins, and the two special tokens. */
static char *make_vocab(void)
{
	static const char *const joins[] = {"ab",     "abc</w>",	 "aa",		 "aaaa",
					    "bc</w>", "<|startoftext|>", "<|endoftext|>"};
	char *text = malloc(16384), *at = text;
	int next = 256;

	if (!text)
		abort();
	*at++ = '{';
	for (int byte = 0; byte < 256; byte++) {
		bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
				 byte >= 0xae;
		int c = printable ? byte : next++;

		for (int last = 0; last < 2; last++)
			at += sprintf(at, "\"\\u%04x%s\":%d,", (unsigned int)c, last ? "</w>" : "",
				      byte + 256 * last);
	}
	for (int i = 0; i < 7; i++)
		at += sprintf(at, "\"%s\":%d%s", joins[i], 512 + i, i < 6 ? "," : "}");
	return text;
}

static void check_prompt(const struct sde_clip_tokenizer *tokenizer, const char *text,
			 size_t length)
{
	struct sde_prompt plain, weighted;
	struct sde_error error = {0};
	struct sde_ids ids = {0};
	size_t tokens = 0;

	if (sde_prompt_weighted(tokenizer, 0, text, length, &weighted, &error) >= 0) {
		for (size_t i = 0; i < weighted.count; i++)
			tokens += (size_t)weighted.chunks[i].tokens;
		if (tokens != weighted.tokens)
			abort();
		sde_prompt_clear(&weighted);
	} else if (!error.message[0]) {
		abort();
	}
	if (sde_clip_tokenizer_encode(tokenizer, text, length, &ids, &error) >= 0) {
		if (sde_prompt_plain(tokenizer, 0, text, length, &plain, &error) < 0 ||
		    plain.tokens != ids.count)
			abort();
		sde_prompt_clear(&plain);
	}
	sde_ids_clear(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *vocab;
	struct sde_clip_tokenizer *tokenizer;
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t head = newline ? (size_t)(newline - data) : 0;
	char *merges = malloc(head + 1);

	if (!vocab)
		vocab = make_vocab();
	if (!merges)
		abort();
	for (size_t i = 0; i < head; i++)
		merges[i] = data[i] == ';' ? '\n' : (char)data[i];
	if (sde_clip_tokenizer_new(vocab, strlen(vocab), "vocab", merges, head, "merges",
				   &tokenizer, NULL) >= 0) {
		head += newline != NULL;
		check_prompt(tokenizer, (const char *)data + head, size - head);
		sde_clip_tokenizer_free(tokenizer);
	}
	free(merges);
	return 0;
}
