/*
 * From NCHW to the backend's order and back, around one run an image.
 */
#include "daemon/engine/autoencoders/run-images.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"

int sde_run_images(struct sde_runner *runner, const struct sde_program_spec *spec,
		   struct sdk_shape out, const float *images, int batch, float *ret_images,
		   struct sde_error *error)
{
	const struct sdk_shape in = spec->inputs[0];
	const size_t in_size = (size_t)in.h * (size_t)in.w * (size_t)in.c;
	const size_t out_size = (size_t)out.h * (size_t)out.w * (size_t)out.c;
	_cleanup_free_ float *from = malloc(in_size * sizeof(float));
	_cleanup_free_ float *to = malloc(out_size * sizeof(float));

	if (!from || !to)
		return sde_error_set(error, -ENOMEM, "no memory for a picture of %d x %d",
				     in.w > out.w ? in.w : out.w, in.h > out.h ? in.h : out.h);
	for (size_t b = 0; b < (size_t)batch; b++) {
		int r;

		sdk_nchw_to_nhwc(images + b * in_size, from, 1, in.c, in.h, in.w);
		r = sde_runner_run(runner, spec, (const void *const[]){from}, (float *const[]){to},
				   error);
		if (r < 0)
			return r;
		sdk_nhwc_to_nchw(to, ret_images + b * out_size, 1, out.h, out.w, out.c);
	}
	return 0;
}
