/*
 * Tokens while somebody types; see form.h. The counter asks the daemon without blocking (plugins/common/count.h).
 */
#include "plugins/gimp/form.h"
#include "plugins/gimp/watch.h"

#define PAUSE_MS 200

static void on_counted(void *watcher, const char *prompt, const char *negative)
{
	struct sdg_form *form = watcher;

	g_debug("tokens: %s; %s", prompt, negative);
	gtk_label_set_text(GTK_LABEL(form->counts[0]), prompt);
	gtk_label_set_text(GTK_LABEL(form->counts[1]), negative);
}

static gboolean on_ready(GIOChannel *channel, GIOCondition condition, gpointer userdata);

static void watch(struct sdg_form *form)
{
	if (form->count_watch || sdh_counter_fd(form->counter) < 0)
		return;
	form->count_watch = sdg_watch(sdh_counter_fd(form->counter),
				      sdh_counter_events(form->counter), on_ready, form);
}

static gboolean on_ready(GIOChannel *channel, GIOCondition condition, gpointer userdata)
{
	struct sdg_form *form = userdata;

	form->count_watch = 0;
	if (sdh_counter_dispatch(form->counter) == 0)
		watch(form);
	return FALSE;
}

/* Not without an offer: a daemon that is away is tried again by its button, not with every key. */
static gboolean on_pause(gpointer userdata)
{
	struct sdg_form *form = userdata;
	struct sdh_settings *settings;

	form->count_delay = 0;
	if (!form->offer)
		return FALSE;
	settings = sdh_settings_new();
	sdg_form_read_words(form, settings);
	sdh_counter_ask(form->counter, settings);
	sdh_settings_free(settings);
	watch(form);
	return FALSE;
}

void sdg_count_init(struct sdg_form *form)
{
	form->counter = sdh_counter_new(NULL, on_counted, form);
}

void sdg_count_clear(struct sdg_form *form)
{
	if (form->count_watch)
		g_source_remove(form->count_watch);
	if (form->count_delay)
		g_source_remove(form->count_delay);
	form->count_watch = form->count_delay = 0;
	form->counter = sdh_counter_free(form->counter);
}

void sdg_count_soon(struct sdg_form *form)
{
	if (!form->counter)
		return;
	if (form->count_delay)
		g_source_remove(form->count_delay);
	form->count_delay = g_timeout_add(PAUSE_MS, on_pause, form);
}
