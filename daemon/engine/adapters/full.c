/*
 * A full difference of a layer's weight ("diff"): what LyCORIS calls full, and what is left when two models are subtracted.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/adapters/delta.h"
#include "daemon/engine/formats/cleanup.h"

enum { DIFF };

static int check(struct sde_delta *delta, const struct sde_delta_shape *shape,
		 struct sde_error *error)
{
	const struct sde_tensor *diff = delta->parts[DIFF];

	if (diff->rank < 2 || diff->shape[0] != shape->out || diff->shape[1] != shape->in ||
	    diff->count != (size_t)shape->out * sde_delta_row(shape))
		return sde_delta_misfit(diff, shape, error);
	return 0;
}

static int add(const struct sde_delta *delta, const struct sde_delta_shape *shape, double strength,
	       float *w)
{
	_cleanup_free_ float *diff = sde_delta_floats(delta->parts[DIFF]);

	if (!diff)
		return -ENOMEM;
	sde_delta_axpy((size_t)shape->out * sde_delta_row(shape), (float)strength, diff, w);
	return 0;
}

const struct sde_delta_kind sde_delta_full = {
	.name = "full difference",
	.parts = {[DIFF] = "diff"},
	.check = check,
	.add = add,
};
