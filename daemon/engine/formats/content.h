/*
 * What weights hold, as a number: caches are keyed by it, so that a file replaced under the same name is seen, and the same bytes under
 * two names, in two files or two layouts are one.
 */
#pragma once

#include <stdint.h>

#include <jansson.h>

#include "daemon/engine/formats/weights.h"

/*
 * 64-bit hash of all tensors' names, types, shapes and data, of weights that no longer change (seal). Every byte is read the first time and whenever a
 * file has another state (touched, say) than when it was read; for a state that was read before, in this process, nothing is. A
 * number that never comes again where a file was overwritten under its mapping: what was made from it is nobody else's. Any thread, but one
 * at a time for the same weights.
 */
uint64_t sde_weights_content(const struct sde_weights *weights);
/* Hash of a configuration, whatever the order of its keys; NULL is one of its own. */
uint64_t sde_json_content(const json_t *value);

/* What sde_weights_content remembers in the weights. */
struct sde_content_memo {
	bool known;
	uint64_t content, state; /* state of the files whose bytes gave it */
};
