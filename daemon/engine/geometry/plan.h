/*
 * The entry to the geometry engine: how a selection on a canvas of any size and type becomes a small picture at a
 * model's own resolution, and how the model's answer becomes a layer that changes nothing outside its mask. The same
 * code serves every client, so GIMP, Krita, GEGL and sdctl get the same pixels.
 *
 *     sde_inpaint_plan_init    canvas size + selection + options + model range -> rectangles and sizes (no pixels)
 *     sde_inpaint_prepare      canvas -> float RGB work image, pre-filled, with its denoise mask
 *     (the pipeline runs)
 *     sde_inpaint_upscale      optional second pass: the answer at twice the size or more, to be refined
 *     sde_inpaint_finish       answer + canvas -> RGBA layer in the document's type
 *
 * Formulas follow krita-ai-diffusion (feather, grow, blend, bounds, context); soft selections generalise them level by
 * level: every threshold of a grey mask is treated as the binary mask it is, and the results are averaged.
 */
#pragma once

#include "daemon/engine/engine.h"

/* The resolutions a model works well at. */
struct sde_model_range {
	uint32_t min_side, max_side;	 /* pixels */
	uint64_t min_pixels, max_pixels; /* width * height */
	uint32_t multiple;		 /* sides are multiples of it: 8 */
};

/*
 * min_pixels = native^2, max_pixels = native * max_side, multiple 8: with 512, 512, 768 the published range of SD 1.5;
 * with 128, 128, 192 that of the small model. Values of 0 for min_side and max_side mean native and 1.5 * native.
 */
struct sde_model_range sde_model_range(uint32_t native, uint32_t min_side, uint32_t max_side);

/*
 * What to repaint: a mask of exactly the canvas' size, or, when mask is NULL, a rectangle (clamped to the canvas).
 * Any type and channel count: colours count as luma, alpha multiplies; 0 = keep, maximum = repaint, between = soft.
 * The mask is borrowed for as long as the plan is used.
 */
struct sde_selection {
	const struct sde_image *mask;
	struct sde_rect rect;
};

struct sde_inpaint_options {
	double strength; /* 0..1, default 1 */
	double feather; /* F as a fraction of the selection's diagonal; default 0.10; 0 = exact selection */
	double padding;		 /* of the mask bounds, fraction of the diagonal; default 0.06 */
	uint32_t min_transition; /* F is at least this times strength, px; default 32 */
	uint32_t grow;		 /* px, default 4 */
	uint32_t blend;		 /* most that B may be, px; default 25 */
	bool live;		 /* wider mask bounds, for live painting */
	bool color_match;	 /* default on */
	bool two_pass; /* plan a refining pass when the context is larger than the model's range; default on */
	enum sde_context context; /* default automatic */
	struct sde_rect rect;	  /* for SDE_CONTEXT_RECT, canvas coordinates */
	enum sde_fill fill;	  /* default automatic */
	/* When not empty: the masks stay inside, ending in full where the selection touches its border. */
	struct sde_rect limit;
};

void sde_inpaint_options_init(struct sde_inpaint_options *options);

/* All rectangles in canvas coordinates, x to the right, y down, half open. Copyable; owns nothing. */
struct sde_inpaint_plan {
	uint32_t canvas_width, canvas_height;
	struct sde_selection selection; /* rect = bounds of the selected pixels */
	struct sde_rect context; /* what the model sees; inside the canvas, contains result */
	struct sde_rect result;	 /* the layer: mask bounds inside the context */
	uint32_t work_width,
		work_height; /* multiples of range.multiple; aspect kept but for rounding and slivers */
	uint32_t refine_width, refine_height; /* second pass, 0 = none */
	double refine_strength;		      /* 0.4 */
	uint32_t feather, grow, blend;	      /* F, G and B in px; all 0 = exact selection */
	double strength;
	bool color_match;
	enum sde_fill fill; /* never SDE_FILL_AUTO */
};

/*
 * 0, or -EINVAL: nothing selected, selection wholly outside the canvas, mask and canvas of different size, a size of 0,
 * a strength or fraction out of range, a context rectangle or limit that does not hold the selection. One that
 * leaves no room for the transition shrinks F, G and B instead of cutting them off. Reads the mask once, no pixels.
 */
int sde_inpaint_plan_init(struct sde_inpaint_plan *ret_plan, uint32_t canvas_width,
			  uint32_t canvas_height, const struct sde_selection *selection,
			  const struct sde_inpaint_options *options,
			  const struct sde_model_range *range, struct sde_error *ret_error);

/*
 * The same plan for canvas and mask pictures that hold only `area` of the canvas: all its rectangles, and so the layer of
 * sde_inpaint_finish, count from area's corner then, and the pictures must have area's size. Every pixel that is read lies
 * inside the context, so the layer has the same bytes. -EINVAL when the context reaches beyond area or area beyond the canvas.
 */
int sde_inpaint_plan_crop(struct sde_inpaint_plan *plan, struct sde_rect area,
			  struct sde_error *ret_error);

/* What the pipeline gets. Freed by sde_inpaint_work_clear. */
struct sde_inpaint_work {
	uint32_t width, height;
	float *image; /* height x width x 3, RGB interleaved, sRGB-encoded, -1..1, hole pre-filled */
	float *original; /* same, before the pre-fill */
	float *denoise; /* height x width, 0 = keep, 1 = repaint; between = change in part (differential) */
};

/*
 * Crop, scale and pre-fill. canvas must have the plan's size. Transparent pixels show an edge-extended version of the
 * opaque ones around them (50 % grey when there are none), since a model knows no transparency. Only the context's
 * pixels are read, row by row; no copy at canvas resolution is made of more than the masks.
 */
int sde_inpaint_prepare(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			struct sde_inpaint_work *ret_work, struct sde_error *ret_error);

/*
 * Second pass: the answer of the first (work->height x work->width x 3, -1..1) enlarged to refine_width x refine_height
 * and laid over the canvas' own pixels at that size. Run it at refine_strength. -EINVAL when the plan has no such pass.
 */
int sde_inpaint_upscale(const struct sde_inpaint_plan *plan, const struct sde_image *canvas,
			const struct sde_inpaint_work *work, const float *generated,
			struct sde_inpaint_work *ret_work, struct sde_error *ret_error);

/*
 * generated (work->height x work->width x 3, -1..1) -> a layer of plan->result: RGBA in the canvas' type and linearity,
 * alpha = composite mask. Colours are matched to the surroundings when the plan says so. Where alpha is 0 the colour is
 * the canvas' own, so that even a host that drops alpha changes nothing there. Grey canvases get grey as R = G = B.
 * Strength 0 is the source: a layer that is transparent everywhere. ret_layer->seed is left 0.
 */
int sde_inpaint_finish(const struct sde_inpaint_plan *plan, const struct sde_inpaint_work *work,
		       const float *generated, const struct sde_image *canvas,
		       struct sde_layer *ret_layer, struct sde_error *ret_error);

void sde_inpaint_work_clear(struct sde_inpaint_work *work);

/*
 * Lay a layer over a canvas of the same type, in place ("normal" blending, straight alpha, in the canvas' encoding):
 * bytes where the layer's alpha is 0 stay as they are; an opaque canvas stays opaque. Parts outside are ignored.
 * A canvas of 1 or 2 channels takes the layer's luma; without alpha the canvas counts as opaque.
 */
int sde_layer_over_canvas(const struct sde_layer *layer, struct sde_image *canvas,
			  struct sde_error *ret_error);
