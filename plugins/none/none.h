/*
 * The host without an editor: a canvas, a selection and a list of layers in memory. It fills in the whole host table, so
 * that the plug-ins' logic is tested against a real daemon without any program around it.
 */
#pragma once

#include "plugins/common/host.h"

struct none_layer {
	char *name, *parameters;
	struct sdh_rect place;
	int type;
	void *pixels; /* packed RGBA */
	bool visible;
};

struct none {
	struct sdh_document document;
	void *pixels;	  /* packed RGBA of document.type */
	float *selection; /* canvas size, or NULL: nothing is selected */
	struct none_layer layers[64];
	size_t n_layers, n_groups, n_undo, n_previews, n_progress, n_done;
	int scaled_width, scaled_height; /* of the last results; 0: not scaled */
	char last_progress[128];
	double last_fraction;
	sdc_error failure;  /* of the last task; code 0 = it worked */
	bool refuse_layers; /* play a document that was closed meanwhile */
};

/* A canvas whose pixels follow from their place, all opaque. Aborts without memory. */
void none_init(struct none *none, int width, int height, int type);
void none_clear(struct none *none);
/* A hard-edged rectangle, clipped to the canvas; its bounds stay as given. */
void none_select(struct none *none, int x, int y, int width, int height);
struct sdh_host none_host(struct none *none);
/* The canvas under its visible layers, as packed RGBA of the document's type; owned by the caller. */
void *none_flatten(const struct none *none);
