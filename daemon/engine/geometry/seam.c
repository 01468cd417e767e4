/*
 * The seam of an answer: see seam.h. It is the membrane of the pre-fill (prefill.h), laid through differences instead
 * of colours.
 */
#include "daemon/engine/geometry/seam.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/geometry/prefill.h"

#define KNOWN 0.01f /* a hole of less than this is what scaling leaves beside one */

static float clamp(float value, float low, float high)
{
	return value < low ? low : value > high ? high : value;
}

int sde_seam_match(float *generated, const float *original, const float *hole, uint32_t width,
		   uint32_t height, struct sde_error *ret_error)
{
	const size_t count = (size_t)width * height;
	float *offset = calloc(count, 3 * sizeof(*offset));
	float *known = calloc(count, sizeof(*known));
	int r;

	if (!offset || !known) {
		free(offset);
		free(known);
		return sde_error_set(ret_error, -ENOMEM, "no memory for a seam of %u x %u pixels",
				     width, height);
	}
	for (size_t i = 0; i < count; i++) {
		known[i] = hole[i] < KNOWN;
		for (int c = 0; c < 3; c++)
			offset[i * 3 + c] = clamp(original[i * 3 + c] - generated[i * 3 + c],
						  -SDE_SEAM_MOST, SDE_SEAM_MOST);
	}
	r = sde_membrane_fill(offset, known, width, height, ret_error);
	for (size_t i = 0; r > 0 && i < count * 3; i++)
		generated[i] = clamp(generated[i] + offset[i], 0.0f, 1.0f);
	free(offset);
	free(known);
	return r < 0 ? r : 0;
}
