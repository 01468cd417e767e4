/*
 * A descriptor of the client library in GLib's main loop.
 */
#pragma once

#include <glib.h>

/* Call fn once when one of the poll() events is there; the source's id. */
guint sdg_watch(int fd, int events, GIOFunc fn, gpointer userdata);
