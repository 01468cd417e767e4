/*
 * Laying a layer over a canvas (see plan.h), for clients that want a whole picture and for growing one in steps. A pixel
 * whose alpha is 0 is skipped before anything is converted, which is what keeps it equal to the byte.
 */
#include "daemon/engine/geometry/plan.h"

#include <errno.h>

#include "daemon/engine/geometry/rect.h"
#include "daemon/engine/pixels/convert.h"

static float luma(const float *rgb)
{
	if (rgb[0] == rgb[1] && rgb[1] == rgb[2])
		return rgb[0];
	return 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2];
}

static void blend_pixel(const struct sde_image *layer, uint32_t layer_x, uint32_t layer_y,
			struct sde_image *canvas, uint32_t x, uint32_t y)
{
	const bool has_alpha = sde_image_has_alpha(canvas);
	const uint32_t colors = canvas->channels - has_alpha;
	float over[4], under[4], grey, below, alpha;

	sde_row_to_float(layer, layer_x, layer_y, 1, over);
	if (!(over[3] > 0.0f))
		return;
	sde_row_to_float(canvas, x, y, 1, under);
	grey = luma(over);
	below = has_alpha ? under[colors] * (1.0f - over[3]) : 1.0f - over[3];
	alpha = has_alpha ? over[3] + below : 1.0f; /* exactly 1 over an opaque pixel */
	for (uint32_t c = 0; c < colors; c++)
		under[c] = ((colors == 1 ? grey : over[c]) * over[3] + under[c] * below) / alpha;
	if (has_alpha)
		under[colors] = alpha;
	sde_row_from_float(canvas, x, y, 1, under);
}

int sde_layer_over_canvas(const struct sde_layer *layer, struct sde_image *canvas,
			  struct sde_error *ret_error)
{
	const struct sde_rect area = {0, 0, (int32_t)canvas->width, (int32_t)canvas->height};
	const struct sde_rect box = {layer->x, layer->y, (int32_t)layer->image.width,
				     (int32_t)layer->image.height};
	struct sde_rect hit;
	int r;

	r = sde_image_check(canvas, "the canvas", ret_error);
	if (r == 0)
		r = sde_image_check(&layer->image, "the layer", ret_error);
	if (r < 0)
		return r;
	if (layer->image.channels != 4 || layer->image.type != canvas->type ||
	    layer->image.linear != canvas->linear)
		return sde_error_set(ret_error, -EINVAL,
				     "the layer must be RGBA of the canvas' own pixel type");
	hit = sde_rect_intersect(area, box);
	for (int32_t y = hit.y; y < hit.y + hit.height; y++)
		for (int32_t x = hit.x; x < hit.x + hit.width; x++)
			blend_pixel(&layer->image, (uint32_t)(x - layer->x),
				    (uint32_t)(y - layer->y), canvas, (uint32_t)x, (uint32_t)y);
	return 0;
}
