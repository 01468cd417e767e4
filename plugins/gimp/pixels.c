/*
 * Pixels between GEGL and the protocol's buffers; see pixels.h.
 */
#include "plugins/gimp/pixels.h"

static const Babl *rgba_format(int type)
{
	switch (type) {
	case SDC_U8:
		return babl_format("R'G'B'A u8");
	case SDC_U16:
		return babl_format("R'G'B'A u16");
	case SDC_F16:
		return babl_format("R'G'B'A half");
	default:
		return babl_format("R'G'B'A float");
	}
}

static GeglRectangle rectangle(struct sdh_rect area)
{
	return *GEGL_RECTANGLE(area.x, area.y, area.width, area.height);
}

static void read_area(GeglBuffer *buffer, struct sdh_rect area, const Babl *format, void *ret)
{
	const GeglRectangle from = rectangle(area);

	gegl_buffer_get(buffer, &from, 1.0, format, ret, GEGL_AUTO_ROWSTRIDE, GEGL_ABYSS_NONE);
}

void sdg_read_rgba(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels)
{
	read_area(buffer, area, rgba_format(type), ret_pixels);
}

/* A selection is coverage, not light: GIMP keeps it in a linear grey format, and linear grey it is read as. */
void sdg_read_mask(GeglBuffer *buffer, struct sdh_rect area, int type, void *ret_pixels)
{
	read_area(buffer, area, babl_format(type == SDC_U8 ? "Y u8" : "Y float"), ret_pixels);
}

void sdg_write_rgba(GeglBuffer *buffer, const sdc_image *image)
{
	const GeglRectangle all = *GEGL_RECTANGLE(0, 0, image->width, image->height);

	gegl_buffer_set(buffer, &all, 0, rgba_format(image->type), image->data,
			image->stride ? (gint)image->stride : GEGL_AUTO_ROWSTRIDE);
	gegl_buffer_flush(buffer);
}
