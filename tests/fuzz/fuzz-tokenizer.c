/*
 * Tokenizer files and texts of any bytes: first line the merges ("a b;c d"), the rest a prompt. The vocabulary has every byte and
 * what the seeds' merges make; an input that begins with '{' brings more entries of vocab.json in a line before these. No token
 * of a prompt may be lost on the way into the chunks.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/prompt/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes in GPT-2's alphabet, each alone and with "</w>", some joins, and the two special tokens. */
static char *make_vocab(const uint8_t *more, size_t more_size, size_t *ret_size)
{
	static const char *const joins[] = {"ab",     "abc</w>",	 "aa",		 "aaaa",
					    "bc</w>", "<|startoftext|>", "<|endoftext|>"};
	char *text = malloc(16384 + more_size), *at = text;
	int next = 256;

	if (!text)
		abort();
	memcpy(at, more, more_size);
	at += more_size;
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
	*ret_size = (size_t)(at - text);
	return text;
}

static void check_prompt(const struct sde_clip_tokenizer *tokenizer, const char *text,
			 size_t length)
{
	struct sde_prompt plain, weighted;
	struct sde_error error = {0};
	struct sde_ids ids = {0};
	size_t tokens = 0;

	if (sde_prompt_weighted(tokenizer, 0, NULL, text, length, &weighted, &error) >= 0) {
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

/* The first line without its newline; *data and *size go on behind it. */
static size_t cut_line(const uint8_t **data, size_t *size, const uint8_t **ret_line)
{
	const uint8_t *newline = *size ? memchr(*data, '\n', *size) : NULL;
	size_t length = newline ? (size_t)(newline - *data) : 0;

	*ret_line = *data;
	*data += length + (newline != NULL);
	*size -= length + (newline != NULL);
	return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *more = (const uint8_t *)"{", *line;
	struct sde_clip_tokenizer *tokenizer;
	size_t more_size = 1, merges_size, vocab_size;
	char *vocab, *merges;

	if (size && data[0] == '{')
		more_size = cut_line(&data, &size, &more);
	merges_size = cut_line(&data, &size, &line);
	merges = malloc(merges_size + 1);
	if (!merges)
		abort();
	for (size_t i = 0; i < merges_size; i++)
		merges[i] = line[i] == ';' ? '\n' : (char)line[i];
	vocab = make_vocab(more, more_size, &vocab_size);
	if (sde_clip_tokenizer_new(vocab, vocab_size, "vocab", merges, merges_size, "merges",
				   &tokenizer, NULL) >= 0) {
		check_prompt(tokenizer, (const char *)data, size);
		sde_clip_tokenizer_free(tokenizer);
	}
	free(vocab);
	free(merges);
	return 0;
}
