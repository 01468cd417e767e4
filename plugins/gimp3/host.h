/*
 * GIMP 3 as a host of the plug-ins: an image and a drawable behind the common table of functions.
 */
#pragma once

#include <libgimp/gimp.h>

#include "plugins/common/host.h"

struct sdg_host {
	GimpImage *image;
	GimpDrawable *drawable;
	GimpLayer *repeated; /* a result to make again: hidden while the canvas is read; or NULL */
	gint width, height;  /* of the canvas when it was described */
	GimpLayer *result;   /* the new layer or group, NULL before */
};

/* The common functions over *host; progress, preview and done are left to the caller. */
struct sdh_host sdg_host_table(struct sdg_host *host);
/* A layer's stored parameters, g_free'd by the caller; NULL when it has none. */
gchar *sdg_host_parameters(GimpItem *layer);
