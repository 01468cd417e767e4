/*
 * GIMP 2.10 as a host of the plug-ins: an image and a drawable behind the common table of functions.
 */
#pragma once

#include <glib.h>

#include "plugins/common/host.h"

struct sdg_host {
	gint32 image, drawable;
	gint32 repeated;    /* a result to make again: hidden while the canvas is read; -1 = none */
	gint width, height; /* of the canvas when it was described */
	gint32 result;	    /* the new layer or group, -1 before */
};

void sdg_host_init(struct sdg_host *host, gint32 image, gint32 drawable);
/* The common functions over *host; progress, preview and done are left to the caller. */
struct sdh_host sdg_host_table(struct sdg_host *host);
/* A layer's stored parameters, g_free'd by the caller; NULL when it has none. */
gchar *sdg_host_parameters(gint32 layer);
