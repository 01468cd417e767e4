/*
 * Several results to choose from, as thumbnails in the dialog: arrow keys or the mouse go through them, one is kept as a layer, or all of them
 * as a group.
 */
#pragma once

#include <gtk/gtk.h>

#include "plugins/common/host.h"

struct sdg_choice;

struct sdg_choice_watcher {
	/* Somebody has chosen; the results are valid inside, those not among them go with it. */
	void (*chosen)(void *watcher, const struct sdh_results *results);
	/* This one is looked at; the picture's reference stays ours. */
	void (*looked)(void *watcher, GdkPixbuf *picture);
	void *watcher;
};

struct sdg_choice *sdg_choice_new(const struct sdg_choice_watcher *watcher);
struct sdg_choice *sdg_choice_free(struct sdg_choice *choice);
/* Hidden while there is nothing to choose. It belongs to its container. */
GtkWidget *sdg_choice_widget(struct sdg_choice *choice);
/* Offer these (copied, pixels and all) in place of what was there. */
void sdg_choice_offer(struct sdg_choice *choice, const struct sdh_results *results);
/* Nothing to choose any more. */
void sdg_choice_clear(struct sdg_choice *choice);
