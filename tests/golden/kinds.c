/*
 * Which function runs which kind: one line a kind in kinds.inc, KIND(kind, function).
 */
#include <string.h>

#include "tests/golden/golden.h"

#define KIND(kind, function) {#kind, function},
static const struct {
	const char *kind;
	golden_fn *function;
} kinds[] = {
#include "tests/golden/kinds.inc"
	{NULL, NULL},
};
#undef KIND

golden_fn *golden_kind(const char *kind)
{
	for (size_t i = 0; kinds[i].kind; i++)
		if (!strcmp(kinds[i].kind, kind))
			return kinds[i].function;
	return NULL;
}
