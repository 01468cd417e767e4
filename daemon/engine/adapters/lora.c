/*
 * LoRA (Hu et al. 2021) and LoCon: a change of low rank, up times down; for convolutions down keeps the kernel, or a middle part
 * has it (Tucker decomposition) between two 1x1 ones. Names of kohya, peft and diffusers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/adapters/delta.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

enum { DOWN = SDE_LOW_RANK_DOWN, UP = SDE_LOW_RANK_UP, MID = SDE_LOW_RANK_MID };

static int check(struct sde_delta *delta, const struct sde_delta_shape *shape,
		 struct sde_error *error)
{
	const struct sde_tensor *down = delta->parts[DOWN], *up = delta->parts[UP],
				*mid = delta->parts[MID];
	const size_t spots = (size_t)shape->kernel * (size_t)shape->kernel;
	size_t rank;

	if (!down || !up)
		return sde_error_set(error, -EBADMSG,
				     "tensor '%.160s' stands alone: its %s part "
				     "is missing",
				     (down ? down
				      : up ? up
					   : mid)
					     ->name,
				     down ? "up" : "down");
	rank = down->rank >= 2 && down->shape[0] > 0 ? (size_t)down->shape[0] : 0;
	if (rank == 0 || rank > (1u << 16) ||
	    down->count != rank * (size_t)shape->in * (mid ? 1 : spots))
		return sde_delta_misfit(down, shape, error);
	if (up->rank < 2 || up->shape[0] != shape->out || up->count != rank * (size_t)shape->out)
		return sde_delta_misfit(up, shape, error);
	if (mid && (mid->rank != 4 || mid->shape[0] != (int64_t)rank ||
		    mid->shape[1] != (int64_t)rank || mid->count != rank * rank * spots))
		return sde_delta_misfit(mid, shape, error);
	delta->rank = (int)rank;
	return 0;
}

int sde_low_rank_down(const struct sde_delta *delta, const struct sde_delta_shape *shape,
		      float *out)
{
	const int rank = delta->rank, spots = shape->kernel * shape->kernel;
	_cleanup_free_ float *down = NULL, *mid = NULL, *scratch = NULL, *one = NULL;

	if (!delta->parts[MID])
		return sde_tensor_to_f32(delta->parts[DOWN], out, NULL);
	down = sde_delta_floats(delta->parts[DOWN]);
	mid = sde_delta_floats(delta->parts[MID]);
	scratch = malloc((size_t)rank * (size_t)spots * sizeof(*scratch));
	one = calloc((size_t)rank, sizeof(*one));
	if (!down || !mid || !scratch || !one)
		return -ENOMEM;
	memset(out, 0, (size_t)rank * sde_delta_row(shape) * sizeof(*out));
	for (int i = 0; i < rank; i++) {
		one[i] = 1;
		sde_delta_tucker_row(mid, one, 1, down, rank, rank, shape->in, spots, scratch,
				     out + (size_t)i * sde_delta_row(shape));
		one[i] = 0;
	}
	return 0;
}

static int add(const struct sde_delta *delta, const struct sde_delta_shape *shape, double strength,
	       float *w)
{
	const size_t row = sde_delta_row(shape), rank = (size_t)delta->rank;
	_cleanup_free_ float *up = sde_delta_floats(delta->parts[UP]);
	_cleanup_free_ float *down = malloc(rank * row * sizeof(*down));
	int r;

	if (!up || !down)
		return -ENOMEM;
	r = sde_low_rank_down(delta, shape, down);
	for (size_t o = 0; r >= 0 && o < (size_t)shape->out; o++)
		for (size_t k = 0; k < rank; k++)
			sde_delta_axpy(row, (float)(strength * up[o * rank + k]), down + k * row,
				       w + o * row);
	return r;
}

const struct sde_delta_kind sde_delta_low_rank = {
	.name = "LoRA",
	.parts = {[DOWN] = "lora_down.weight|lora_A.weight|lora.down.weight|down.weight|"
			   "lora_linear_layer.down.weight",
		  [UP] = "lora_up.weight|lora_B.weight|lora.up.weight|up.weight|"
			 "lora_linear_layer.up.weight",
		  [MID] = "lora_mid.weight"},
	.check = check,
	.add = add,
};
