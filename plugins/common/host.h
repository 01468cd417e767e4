/*
 * What the plug-ins need of the program they live in. GIMP 2.10, GIMP 3, Krita and the headless host of the tests each
 * fill in this table; everything else (requests, waiting, error texts, names, stored parameters) is common.
 *
 * All rectangles are in canvas pixels. Pixels are rows of interleaved samples without padding, RGB in sRGB's space and
 * curve, alpha not premultiplied; the host converts from and to the document's space, depth and colour model. Functions
 * return 0, or a negative code with *error filled.
 */
#pragma once

#include "plugins/common/settings.h"

struct sdh_rect {
	int x, y, width, height;
};

struct sdh_document {
	int width, height;
	int type;      /* enum sdc_type that holds the document's samples without loss */
	int mask_type; /* SDC_U8 or SDC_F32: the same for the selection */
	/* Bounds of what is selected, may reach beyond the canvas; width 0: nothing. */
	struct sdh_rect selection;
	struct sdh_rect layer; /* bounds of the current layer */
};

struct sdh_layer {
	const char *name;	/* UTF-8: prompt and seed */
	const char *parameters; /* one line of JSON, to be kept with the layer */
	int x, y; /* its place on the canvas; negative when the canvas grew to the left or top */
	sdc_image image; /* RGBA in the document's type */
	bool visible;
};

struct sdh_results {
	const char *name; /* of the group when there are several */
	const struct sdh_layer *layers;
	size_t count;
	struct sdh_rect
		canvas; /* the new canvas in coordinates of the old one: larger after outpainting */
	int scaled_width,
		scaled_height; /* not 0: first the picture is scaled to this size, with all its layers */
};

struct sdh_host {
	int (*describe)(void *userdata, struct sdh_document *ret_document, sdc_error *error);
	/* RGBA of what is visible in the area, which lies inside the canvas. */
	int (*read_canvas)(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			   sdc_error *error);
	/* One channel, 0 = not selected; the area may reach beyond the canvas. type is SDC_U8 or SDC_F32. */
	int (*read_selection)(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			      sdc_error *error);
	/* All layers in one undo step, above the current layer, in a group when there are several. */
	int (*add_results)(void *userdata, const struct sdh_results *results, sdc_error *error);
	void *userdata; /* of the functions above */

	/* Optional. fraction < 0: not known. The text is translated. */
	void (*progress)(void *watcher, double fraction, const char *text);
	/* Optional: a sketch of the result, RGB u8. */
	void (*preview)(void *watcher, const sdc_image *image);
	/* Optional: the end of a started task; error NULL after success. The task may be freed inside. */
	void (*done)(void *watcher, const sdc_error *error);
	void *watcher; /* of the three functions above */
};
