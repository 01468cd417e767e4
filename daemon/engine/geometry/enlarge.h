/*
 * A whole picture at another size in the document's own type: what upscaling starts from, and what it keeps (the alpha) and
 * gives back (the extent). The filter is Lanczos, colours weighted by alpha.
 */
#pragma once

#include "daemon/engine/pixels/image.h"

/*
 * source -> RGBA of its type and encoding, width x height pixels; grey as R = G = B, opaque without alpha. Beyond them, up to
 * multiples of `multiple`, the last column and row go on. At the source's own size every sample is copied. ret_image is
 * owned. -EINVAL, -ENOMEM.
 */
int sde_enlarge(const struct sde_image *source, uint32_t width, uint32_t height, uint32_t multiple,
		struct sde_image *ret_image, struct sde_error *ret_error);

/*
 * The colours of `painted` (RGBA, at least as large as `plain` shall be) with the alpha of `plain`, cut to width x height: an
 * owned picture of their common type. Where alpha is 0 the colours are plain's.
 */
int sde_enlarge_finish(const struct sde_image *plain, const struct sde_image *painted,
		       uint32_t width, uint32_t height, struct sde_image *ret_image,
		       struct sde_error *ret_error);
