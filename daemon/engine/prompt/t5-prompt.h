/*
 * A prompt for T5: one row of ids, cut to the length that the model was trained with (there are no chunks: T5's positions are
 * distances), each id with a weight. The syntax of weights is that of prompt.h.
 */
#pragma once

#include <stdbool.h>

#include "daemon/engine/tokenizer/t5.h"

#define SDE_T5_LENGTH_MAX 4096 /* tokens of a row */

struct sde_t5_prompt {
	int32_t *ids;	/* length: tokens, </s>, padding; owned */
	float *weights; /* length; 1 for </s> and padding; owned */
	int length;
	size_t tokens; /* of the text, without </s>; those beyond length - 1 fell out */
};

/*
 * length: 1..SDE_T5_LENGTH_MAX. weighted: with weights, BREAK being no more than white space; else without any syntax. -EINVAL
 * for a malformed weight, -EILSEQ if not UTF-8, -E2BIG, -ENOMEM.
 */
int sde_t5_prompt_cut(const struct sde_t5_tokenizer *tokenizer, const char *text, size_t size,
		      bool weighted, int length, struct sde_t5_prompt *ret_prompt,
		      struct sde_error *error);
void sde_t5_prompt_clear(struct sde_t5_prompt *prompt);
