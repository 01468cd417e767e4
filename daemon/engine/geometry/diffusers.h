/*
 * The image handling of diffusers' own inpaint pipeline, bit for bit where PIL is exact: needed to reproduce its
 * pictures (same seed, same picture across tools). Our own path (plan.h) does not use it. Facts: diffusers
 * image_processor.py (get_crop_region, _resize_and_fill, _resize_and_crop, apply_overlay), Pillow's Resample.c, Paste.c,
 * AlphaComposite.c and Convert.c. All images u8.
 */
#pragma once

#include "daemon/engine/pixels/image.h"

/* Region of a 1-channel mask (any value > 0), padded, grown to the aspect of width x height. -EINVAL on a blank mask. */
int sde_crop_region(const struct sde_image *mask, uint32_t width, uint32_t height, uint32_t pad,
		    struct sde_rect *ret_region, struct sde_error *ret_error);

enum sde_resize_mode { SDE_RESIZE_DEFAULT, SDE_RESIZE_FILL, SDE_RESIZE_CROP };

/*
 * VaeImageProcessor.resize on 1 or 3 channels, Lanczos: "default" stretches; "fill" keeps the aspect and fills the
 * margins from the edge lines (bicubic, as PIL does on an empty box); "crop" keeps the aspect and cuts.
 */
int sde_diffusers_resize(const struct sde_image *image, uint32_t width, uint32_t height,
			 enum sde_resize_mode mode, struct sde_image *ret_image,
			 struct sde_error *ret_error);

/*
 * apply_overlay: generated (RGB) brought to `region` ("crop" mode) or to the whole picture (region NULL, same size),
 * then the original laid over it through the inverted mask with PIL's premultiplied rounding. mask: 1 channel, the
 * original's size, not binarised. RGB out.
 */
int sde_apply_overlay(const struct sde_image *mask, const struct sde_image *original,
		      const struct sde_image *generated, const struct sde_rect *region,
		      struct sde_image *ret_image, struct sde_error *ret_error);
