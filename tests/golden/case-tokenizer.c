/*
 * kind "tokenizer": texts to token ids, as one run and as sequences of 77.
 */
#include "tests/golden/golden.h"

int golden_tokenizer(struct golden_case *c)
{
	return golden_skip(c, "not implemented");
}
