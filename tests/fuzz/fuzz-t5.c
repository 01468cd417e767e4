/*
 * A tokenizer.json or spiece.model of any bytes, then texts through it: every id must be one of the vocabulary, and a row must
 * end as rows do. The last 32 bytes of the input are one of the texts.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/tokenizer/t5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_BYTES 32
#define ROW	   12

static void check(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t length)
{
	const int32_t count = sde_t5_tokenizer_vocab_size(tokenizer);
	int32_t row[ROW];
	size_t tokens;

	if (sde_t5_tokenizer_row(tokenizer, text, length, ROW, row, &tokens, NULL) < 0)
		return;
	for (size_t i = 0; i < ROW; i++)
		if (row[i] < 0 || row[i] >= count)
			abort();
	if (row[tokens < ROW - 1 ? tokens : ROW - 1] != sde_t5_tokenizer_eos(tokenizer))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char text[] =
		"a \xef\xbc\xa1\xcc\x81 the</s>  \xe2\x98\x83<extra_id_3>\xe2\x96\x81x";
	struct sde_t5_tokenizer *tokenizer;
	size_t tail = size < TEXT_BYTES ? size : TEXT_BYTES;

	if (sde_t5_tokenizer_new((const char *)data, size, "fuzz", &tokenizer, NULL) < 0)
		return 0;
	check(tokenizer, text, sizeof(text) - 1);
	check(tokenizer, (const char *)data + size - tail, tail);
	sde_t5_tokenizer_free(tokenizer);
	return 0;
}
