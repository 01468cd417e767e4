/*
 * Arithmetic of Prompt-to-Prompt; see edit.h. Steps are counted as in the paper's code: int(fraction * steps) of them.
 */
#include "daemon/engine/attention/edit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/watch.h"

#define SELF_QUERIES_MAX 1024 /* of the paper's code: 32 x 32 latents */

void sde_edit_clear(struct sde_edit *edit)
{
	sde_alignment_clear(&edit->alignment);
	free(edit->scales);
	edit->scales = NULL;
}

static bool within(double fraction, size_t step, size_t steps)
{
	return (double)step < floor(fraction * (double)steps + 1e-9);
}

bool sde_edit_cross_at(const struct sde_edit *edit, size_t step, size_t steps)
{
	return within(edit->cross_replace, step, steps);
}

bool sde_edit_self_at(const struct sde_edit *edit, size_t step, size_t steps)
{
	return within(edit->self_replace, step, steps);
}

/* A map is made of queries and keys alone, so these are what is taken over. */
void sde_edit_self(const struct sdk_attention_site *site)
{
	const size_t row =
		(size_t)site->queries * (size_t)site->channels * sdk_type_size(site->type);
	char *q = site->q, *k = site->k;
	const size_t to = (size_t)site->rows - 1, from = to - 1;

	if (site->rows < 2 || site->queries > SELF_QUERIES_MAX || site->queries != site->keys)
		return;
	memcpy(q + to * row, q + from * row, row);
	memcpy(k + to * row, k + from * row, row);
}

void sde_edit_map(const struct sde_edit *edit, bool aligned, size_t queries, const float *source,
		  const float *own, float *ret_map)
{
	const struct sde_alignment *alignment = &edit->alignment;
	const size_t rows = alignment->rows;

	for (size_t i = 0; i < queries; i++) {
		const float *from = source + i * rows, *mine = own + i * rows;
		float *to = ret_map + i * rows;

		for (size_t j = 0; j < rows; j++) {
			float share = mine[j];

			if (aligned && !alignment->own[j]) {
				share = 0;
				for (size_t e = alignment->first[j]; e < alignment->first[j + 1];
				     e++)
					share +=
						alignment->weights[e] * from[alignment->sources[e]];
			}
			to[j] = share * edit->scales[j];
		}
	}
}
