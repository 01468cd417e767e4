/*
 * Prompt-to-Prompt (Hertz et al. 2022): a picture and its edited twin are painted side by side from the same noise, and the twin looks
 * where the first one looks: its cross-attention takes over the maps of the words they have in common for a part of the steps, its
 * self-attention those of the picture for another. Words can count more or less beside that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/attention/align.h"

struct sdk_attention_site;

struct sde_edit {
	struct sde_alignment alignment;
	float *scales; /* owned: of each row of the edited context, what its maps are multiplied by, at all steps */
	double cross_replace, self_replace; /* fractions of the steps, from the first on */
};

void sde_edit_clear(struct sde_edit *edit);

/* Whether this call of so many changes cross- and self-attention. */
bool sde_edit_cross_at(const struct sde_edit *edit, size_t step, size_t steps);
bool sde_edit_self_at(const struct sde_edit *edit, size_t step, size_t steps);

/* Before a self-attention: the last row looks where the one before it looks. Large layers, which hold detail, are left alone. */
void sde_edit_self(const struct sdk_attention_site *site);
/*
 * The maps of one head that the last row gets: source and own (queries, rows of the context) -> ret_map. aligned: within the part of
 * the steps where maps are taken over.
 */
void sde_edit_map(const struct sde_edit *edit, bool aligned, size_t queries, const float *source,
		  const float *own, float *ret_map);
