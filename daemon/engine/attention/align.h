/*
 * Prompt-to-Prompt's map from the tokens of a source prompt to those of an edited one (Hertz et al. 2022, seq_aligner.py of their
 * code): which rows of the source's cross-attention each row of the edited prompt takes over. Here it goes by words, and by chunks with
 * their begin and end marks, so that longer and weighted prompts align too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/prompt/pieces.h"

struct sde_error;

/* Row j of the edited context is the sum of weights[e] * source row sources[e], first[j] <= e < first[j + 1], or its own. */
struct sde_alignment {
	size_t rows;
	size_t *first; /* rows + 1 */
	int *sources;
	float *weights;
	bool *own;
};

/*
 * source and edited: prompts of equally many chunks, with their pieces. -EINVAL when replace has not equally many words. Release with
 * sde_alignment_clear; nothing to release on failure.
 */
int sde_alignment_init(struct sde_alignment *alignment, enum sde_edit_kind kind,
		       const struct sde_prompt *source,
		       const struct sde_prompt_pieces *source_pieces,
		       const struct sde_prompt *edited,
		       const struct sde_prompt_pieces *edited_pieces, struct sde_error *error);
void sde_alignment_clear(struct sde_alignment *alignment);
