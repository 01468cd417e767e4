/*
 * The dialog's fields: a widget for each setting an artist changes, filled from settings and read back into them.
 */
#pragma once

#include <gtk/gtk.h>

#include "plugins/common/count.h"
#include "plugins/common/daemon.h"
#include "plugins/common/host.h"

enum {
	SDG_ACTION,
	SDG_PROMPT,
	SDG_NEGATIVE,
	SDG_STYLE,
	SDG_MODEL,
	SDG_STRENGTH,
	SDG_STEPS,
	SDG_GUIDANCE,
	SDG_SAMPLER,
	SDG_SEED,
	SDG_LOCK,
	SDG_COUNT,
	SDG_EXACT,
	SDG_GROW,
	SDG_FEATHER,
	SDG_PADDING,
	SDG_CONTEXT,
	SDG_LEFT,
	SDG_RIGHT,
	SDG_TOP,
	SDG_BOTTOM,
	SDG_SCALE,
	SDG_N_FIELDS,
};

struct sdg_form {
	GtkWidget *fields[SDG_N_FIELDS];
	GtkWidget *box;	  /* holds everything */
	GtkWidget *sides; /* shown for Outpaint alone */
	GtkWidget *scale; /* shown for Upscale alone */
	GtkWidget *model_note;
	GtkWidget *counts[2];	 /* tokens of prompt and negative prompt */
	struct sdh_offer *offer; /* NULL while the daemon is away */
	struct sdh_counter *counter;
	guint count_watch, count_delay;
};

void sdg_form_init(struct sdg_form *form);
void sdg_form_clear(struct sdg_form *form);
/* Take the daemon's models; the choice stays when it is still there. The offer becomes the form's. */
void sdg_form_offer(struct sdg_form *form, struct sdh_offer *offer);
void sdg_form_show(struct sdg_form *form, const struct sdh_settings *settings);
/* 0, or the first field's error. */
int sdg_form_read(struct sdg_form *form, struct sdh_settings *settings, sdc_error *error);
/* What the count of tokens hangs on; values that cannot be are passed over. */
void sdg_form_read_words(struct sdg_form *form, struct sdh_settings *settings);
/* A new seed in its field, unless it is locked. */
void sdg_form_draw_seed(struct sdg_form *form, gboolean also_locked);

/* count.c: the counts of tokens below the prompts, asked for when typing has paused for a moment. */
void sdg_count_init(struct sdg_form *form);
void sdg_count_clear(struct sdg_form *form);
void sdg_count_soon(struct sdg_form *form);
