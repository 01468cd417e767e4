/*
 * Outpainting as a series of inpaint jobs on a canvas that was extended first. A wide border is grown in several steps,
 * each bounded by what a model can continue from: a strip no deeper than a fraction of its native side, cut along its
 * length into windows of about that side, each of which sees finished picture next to its hole. Corners come last in
 * each round because rows are grown over the columns already made.
 */
#pragma once

#include "daemon/engine/geometry/plan.h"

struct sde_outpaint_options {
	uint32_t left, right, top, bottom; /* px to grow each side */
	uint32_t
		step; /* px a strip is deep at most; 0 = a quarter of the model's min_side, at most 128 */
	uint32_t overlap; /* px of finished picture repainted softly at the seam; 0 = step / 4 */
};

/* In coordinates of the extended canvas. */
struct sde_outpaint_step {
	struct sde_rect hole;	 /* new pixels this step makes */
	struct sde_rect mask;	 /* hole grown into the finished picture by the overlap */
	struct sde_rect context; /* finished picture and hole, nothing that is still empty */
};

struct sde_outpaint {
	uint32_t width, height; /* of the extended canvas */
	uint32_t left, top;	/* where the original sits in it */
	uint32_t old_width, old_height;
	uint32_t overlap;
	struct sde_outpaint_step *steps; /* owned, in the order to run */
	uint32_t count;
	struct sde_rect
		box; /* around all contexts: what the steps see and make, in coordinates as theirs */
	struct sde_rect
		source; /* the part of the original that lies in it, in the original's coordinates */
};

/* -EINVAL: nothing to grow, canvas of size 0, or an extended canvas beyond SDE_IMAGE_MAX_SIDE. */
int sde_outpaint_init(struct sde_outpaint *ret_outpaint, uint32_t canvas_width,
		      uint32_t canvas_height, const struct sde_outpaint_options *options,
		      const struct sde_model_range *range, struct sde_error *ret_error);
void sde_outpaint_clear(struct sde_outpaint *outpaint);

/*
 * The extended canvas as far as the steps see it (box): same type and channels plus alpha, the original in place, the border
 * transparent. canvas is the original's part `source`: growing one side of a huge picture needs a strip of it. Owned.
 */
int sde_outpaint_extend(const struct sde_outpaint *outpaint, const struct sde_image *canvas,
			struct sde_image *ret_extended, struct sde_error *ret_error);

/*
 * The inpaint plan of step i on that extended canvas: prepare, run the pipeline and finish as usual, then
 * sde_layer_over_canvas(layer, extended) before the next step.
 */
int sde_outpaint_step_plan(const struct sde_outpaint *outpaint, uint32_t i,
			   const struct sde_inpaint_options *options,
			   const struct sde_model_range *range, struct sde_inpaint_plan *ret_plan,
			   struct sde_error *ret_error);

/*
 * The whole growth as one RGBA layer of the box, in coordinates of the original canvas: the border opaque, the seam's
 * overlap opaque where a pixel changed, everything else transparent.
 */
int sde_outpaint_layer(const struct sde_outpaint *outpaint, const struct sde_image *extended,
		       const struct sde_image *canvas, struct sde_layer *ret_layer,
		       struct sde_error *ret_error);
