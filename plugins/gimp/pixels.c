/*
 * Pixels between GEGL and the protocol's buffers; see pixels.h.
 */
#include "plugins/gimp/pixels.h"

#include <string.h>

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

static gsize row_of(const sdc_image *image, gsize *ret_bytes)
{
	const Babl *format =
		image->channels == 3 ? babl_format("R'G'B' u8") : rgba_format(image->type);

	*ret_bytes = (gsize)image->width * (gsize)babl_format_get_bytes_per_pixel(format);
	return image->stride ? image->stride : *ret_bytes;
}

sdc_image sdg_copy_rgba(const sdc_image *image)
{
	sdc_image copy = *image;
	gsize bytes, stride = row_of(image, &bytes);

	copy.stride = bytes;
	copy.data = g_malloc(bytes * (gsize)image->height);
	for (gsize y = 0; y < (gsize)image->height; y++)
		memcpy((gchar *)copy.data + y * bytes, (const gchar *)image->data + y * stride,
		       bytes);
	return copy;
}

GdkPixbuf *sdg_picture(const sdc_image *image, int side)
{
	const int longer = MAX(MAX(image->width, image->height), 1);
	const int most = MIN(side, longer * 2); /* a tiny one may be enlarged a little */
	const int width = MAX(1, (int)((gint64)image->width * most / longer));
	const int height = MAX(1, (int)((gint64)image->height * most / longer));
	const Babl *from =
		image->channels == 3 ? babl_format("R'G'B' u8") : rgba_format(image->type);
	const Babl *fish = babl_fish(from, babl_format("R'G'B'A u8"));
	GdkPixbuf *whole = gdk_pixbuf_new(GDK_COLORSPACE_RGB, TRUE, 8, image->width, image->height);
	GdkPixbuf *scaled;
	gsize bytes, stride = row_of(image, &bytes);

	for (int y = 0; y < image->height; y++)
		babl_process(fish, (const gchar *)image->data + (gsize)y * stride,
			     gdk_pixbuf_get_pixels(whole) +
				     (gsize)y * (gsize)gdk_pixbuf_get_rowstride(whole),
			     image->width);
	scaled = gdk_pixbuf_composite_color_simple(whole, width, height, GDK_INTERP_BILINEAR, 255,
						   8, 0x999999, 0x666666);
	g_object_unref(whole);
	return scaled;
}
