/*
 * The dialog of both GIMPs; see dialog.h. One job at a time; its events come through the GLib main loop, so the window
 * answers while the daemon paints, and Cancel is a message to the daemon.
 */
#include "plugins/gimp/dialog.h"

#include <gdk/gdkkeysyms.h>
#include <string.h>

#include "plugins/common/daemon.h"
#include "plugins/common/request.h"
#include "plugins/common/task.h"
#include "plugins/common/text.h"
#include "plugins/gimp/choice.h"
#include "plugins/gimp/form.h"
#include "plugins/gimp/pixels.h"
#include "plugins/gimp/watch.h"

#define PREVIEW_SIDE 256

struct dialog {
	struct sdh_host host,
		task_host; /* the editor's; and the one tasks get, which lets choose */
	struct sdh_settings *settings;
	struct sdg_form form;
	struct sdg_choice *choice;
	GtkWidget *window, *generate, *cancel, *start, *retry, *bar, *message, *preview;
	struct sdh_task *task;
	guint watch;
};

static void say(struct dialog *dialog, const char *text)
{
	g_debug("message: %s", text);
	gtk_label_set_text(GTK_LABEL(dialog->message), text);
}

static void set_running(struct dialog *dialog, gboolean running)
{
	gtk_widget_set_sensitive(dialog->generate, !running);
	gtk_widget_set_sensitive(dialog->cancel, running);
	if (!running) {
		gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(dialog->bar), 0);
		gtk_progress_bar_set_text(GTK_PROGRESS_BAR(dialog->bar), "");
	}
}

/* What another try of the same may cure. */
static gboolean may_try_again(int code)
{
	return code == SDC_E_DISCONNECTED || code == SDC_E_SHUTTING_DOWN ||
	       code == SDC_E_WORKER_LOST || code == SDC_E_BUSY || code == SDC_E_TIMEOUT ||
	       code == SDC_E_CONNECT || code == SDC_E_NO_MEMORY;
}

static void show_failure(struct dialog *dialog, const sdc_error *error)
{
	say(dialog, error->message);
	gtk_widget_set_visible(dialog->start, error->code == SDC_E_CONNECT);
	gtk_widget_set_visible(dialog->retry, may_try_again(error->code));
	if (may_try_again(error->code))
		gtk_widget_grab_focus(error->code == SDC_E_CONNECT ? dialog->start : dialog->retry);
}

static void ask_daemon(struct dialog *dialog)
{
	struct sdh_offer *offer;
	sdc_error error = {0};

	if (sdh_offer_new(NULL, &offer, &error) < 0) {
		show_failure(dialog, &error);
		return;
	}
	sdg_form_offer(&dialog->form, offer);
	gtk_widget_hide(dialog->start);
}

static void on_start(GtkButton *button, struct dialog *dialog)
{
	sdc_error error = {0};

	if (sdh_service_start(&error) < 0)
		say(dialog, error.message);
	else
		ask_daemon(dialog);
	if (dialog->form.offer)
		say(dialog, _("sdd runs."));
}

static void on_progress(void *userdata, double fraction, const char *text)
{
	struct dialog *dialog = userdata;
	GtkProgressBar *bar = GTK_PROGRESS_BAR(dialog->bar);

	g_debug("progress: %s", text);
	gtk_progress_bar_set_text(bar, text);
	if (fraction < 0)
		gtk_progress_bar_pulse(bar);
	else
		gtk_progress_bar_set_fraction(bar, CLAMP(fraction, 0, 1));
}

static void show_picture(void *userdata, GdkPixbuf *picture)
{
	struct dialog *dialog = userdata;

	gtk_image_set_from_pixbuf(GTK_IMAGE(dialog->preview), picture);
}

static void on_preview(void *userdata, const sdc_image *image)
{
	GdkPixbuf *picture = sdg_picture(image, PREVIEW_SIDE);

	g_debug("preview: %d x %d", image->width, image->height);
	show_picture(userdata, picture);
	g_object_unref(picture);
}

static void end_task(struct dialog *dialog)
{
	if (dialog->watch)
		g_source_remove(dialog->watch);
	dialog->watch = 0;
	dialog->task = sdh_task_free(dialog->task);
	set_running(dialog, FALSE);
}

static gboolean on_ready(GIOChannel *channel, GIOCondition condition, gpointer userdata);

static void watch(struct dialog *dialog)
{
	dialog->watch = sdg_watch(sdh_task_fd(dialog->task), sdh_task_events(dialog->task),
				  on_ready, dialog);
}

static gboolean on_ready(GIOChannel *channel, GIOCondition condition, gpointer userdata)
{
	struct dialog *dialog = userdata;

	dialog->watch = 0;
	if (sdh_task_dispatch(dialog->task) == 0)
		watch(dialog);
	else
		end_task(dialog);
	return FALSE;
}

static void on_done(void *userdata, const sdc_error *error)
{
	struct dialog *dialog = userdata;
	struct sdh_timings t;
	gchar *text;

	if (error) {
		show_failure(dialog, error);
		return;
	}
	sdh_task_timings(dialog->task, &t);
	text = g_strdup_printf(_("Done in %.1f s (%.1f s computing)."), t.total_ms / 1e3,
			       t.compute_ms / 1e3);
	if (*sdh_task_warnings(dialog->task)) {
		gchar *both = g_strconcat(text, " ", sdh_task_warnings(dialog->task), NULL);

		g_free(text);
		text = both;
	}
	say(dialog, text);
	g_free(text);
	ask_daemon(dialog); /* which model is in memory has changed */
}

static int describe(void *userdata, struct sdh_document *ret_document, sdc_error *error)
{
	const struct sdh_host *host = &((struct dialog *)userdata)->host;

	return host->describe(host->userdata, ret_document, error);
}

static int read_canvas(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
		       sdc_error *error)
{
	const struct sdh_host *host = &((struct dialog *)userdata)->host;

	return host->read_canvas(host->userdata, area, type, ret_pixels, error);
}

static int read_selection(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			  sdc_error *error)
{
	const struct sdh_host *host = &((struct dialog *)userdata)->host;

	return host->read_selection(host->userdata, area, type, ret_pixels, error);
}

/* One result becomes a layer; several wait as thumbnails until somebody chooses. */
static int add_results(void *userdata, const struct sdh_results *results, sdc_error *error)
{
	struct dialog *dialog = userdata;

	if (results->count == 1)
		return dialog->host.add_results(dialog->host.userdata, results, error);
	sdg_choice_offer(dialog->choice, results);
	return 0;
}

static void on_chosen(void *userdata, const struct sdh_results *results)
{
	struct dialog *dialog = userdata;
	sdc_error error = {0};

	if (dialog->host.add_results(dialog->host.userdata, results, &error) < 0)
		say(dialog, error.message);
	else
		say(dialog, results->count > 1 ? _("All are in the picture, as a group.")
					       : _("It is in the picture, as a layer."));
	gtk_widget_grab_focus(dialog->generate);
}

/* With the settings as they stand. */
static void begin(struct dialog *dialog)
{
	sdc_error error = {0};

	say(dialog, "");
	gtk_widget_hide(dialog->start);
	gtk_widget_hide(dialog->retry);
	sdg_choice_clear(dialog->choice);
	if (sdh_task_new(&dialog->task_host, dialog->settings, NULL, &dialog->task, &error) < 0) {
		show_failure(dialog, &error);
		return;
	}
	set_running(dialog, TRUE);
	watch(dialog);
}

static void on_generate(GtkButton *button, struct dialog *dialog)
{
	sdc_error error = {0};

	if (dialog->task)
		return;
	sdg_form_draw_seed(&dialog->form, FALSE);
	if (sdg_form_read(&dialog->form, dialog->settings, &error) < 0) {
		show_failure(dialog, &error);
		return;
	}
	sdh_settings_remember(dialog->settings);
	begin(dialog);
}

/* The same once more, seed and all: what was lost with a daemon or worker comes as it would have. */
static void on_retry(GtkButton *button, struct dialog *dialog)
{
	if (dialog->task)
		return;
	if (!dialog->form.offer)
		ask_daemon(dialog);
	begin(dialog);
}

static void on_cancel(GtkButton *button, struct dialog *dialog)
{
	if (!dialog->task)
		return;
	sdh_task_cancel(dialog->task);
	/* the request wants to leave now, not with the next event, which a waiting job may not have */
	g_source_remove(dialog->watch);
	watch(dialog);
}

/* Ctrl+Return generates from anywhere, also from a text of several lines; Escape cancels first and closes then. */
static gboolean on_key(GtkWidget *window, GdkEventKey *event, struct dialog *dialog)
{
	if ((event->state & GDK_CONTROL_MASK) &&
	    (event->keyval == GDK_KEY_Return || event->keyval == GDK_KEY_KP_Enter)) {
		on_generate(NULL, dialog);
		return TRUE;
	}
	if (event->keyval == GDK_KEY_Escape) {
		if (dialog->task)
			on_cancel(NULL, dialog);
		else
			gtk_main_quit();
		return TRUE;
	}
	return FALSE;
}

static gboolean on_close(GtkWidget *window, GdkEvent *event, struct dialog *dialog)
{
	gtk_main_quit();
	return TRUE;
}

static void on_close_button(GtkButton *button, struct dialog *dialog)
{
	gtk_main_quit();
}

/* How the canvas grows, by the rules of the job itself: the new one light, the old one dark. */
static void show_sides(struct dialog *dialog)
{
	struct sdh_settings *settings;
	struct sdh_document document;
	struct sdh_rect after;
	GdkPixbuf *pixbuf, *old;
	int longer, r;

	if (dialog->task || gtk_combo_box_get_active(
				    GTK_COMBO_BOX(dialog->form.fields[SDG_ACTION])) != SDH_OUTPAINT)
		return;
	settings = sdh_settings_new();
	r = sdg_form_read(&dialog->form, settings, NULL);
	if (r >= 0)
		r = sdh_canvas_after(&dialog->host, settings, &after, NULL);
	if (r >= 0)
		r = dialog->host.describe(dialog->host.userdata, &document, NULL);
	sdh_settings_free(settings);
	if (r < 0)
		return;
	g_debug("outpaint: %d,%d %d x %d", after.x, after.y, after.width, after.height);
	longer = MAX(1, MAX(after.width, after.height));
	pixbuf = gdk_pixbuf_new(GDK_COLORSPACE_RGB, FALSE, 8,
				MAX(1, after.width * PREVIEW_SIDE / longer),
				MAX(1, after.height * PREVIEW_SIDE / longer));
	gdk_pixbuf_fill(pixbuf, 0xd0e0ffff);
	old = gdk_pixbuf_new_subpixbuf(pixbuf, -after.x * PREVIEW_SIDE / longer,
				       -after.y * PREVIEW_SIDE / longer,
				       MAX(1, document.width * PREVIEW_SIDE / longer),
				       MAX(1, document.height * PREVIEW_SIDE / longer));
	gdk_pixbuf_fill(old, 0x606060ff);
	gtk_image_set_from_pixbuf(GTK_IMAGE(dialog->preview), pixbuf);
	g_object_unref(old);
	g_object_unref(pixbuf);
}

static void on_side(GtkWidget *widget, struct dialog *dialog)
{
	show_sides(dialog);
}

static GtkWidget *buttons(struct dialog *dialog)
{
	GtkWidget *row = gtk_hbox_new(FALSE, 6),
		  *close = gtk_button_new_with_mnemonic(_("Close (_Q)"));

	dialog->start = gtk_button_new_with_mnemonic(_("Sta_rt sdd"));
	dialog->retry = gtk_button_new_with_mnemonic(_("Try aga_in"));
	dialog->generate = gtk_button_new_with_mnemonic(_("_Generate"));
	dialog->cancel = gtk_button_new_with_mnemonic(_("Cancel (Esc)"));
	gtk_box_pack_start(GTK_BOX(row), dialog->start, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(row), dialog->retry, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), dialog->generate, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), dialog->cancel, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), close, FALSE, FALSE, 0);
	g_signal_connect(dialog->start, "clicked", G_CALLBACK(on_start), dialog);
	g_signal_connect(dialog->retry, "clicked", G_CALLBACK(on_retry), dialog);
	g_signal_connect(dialog->generate, "clicked", G_CALLBACK(on_generate), dialog);
	g_signal_connect(dialog->cancel, "clicked", G_CALLBACK(on_cancel), dialog);
	g_signal_connect(close, "clicked", G_CALLBACK(on_close_button), dialog);
	return row;
}

static void build(struct dialog *dialog)
{
	GtkWidget *all = gtk_vbox_new(FALSE, 8), *upper = gtk_hbox_new(FALSE, 12);

	dialog->window = gtk_window_new(GTK_WINDOW_TOPLEVEL);
	gtk_window_set_title(GTK_WINDOW(dialog->window), _("Generate with sdd"));
	gtk_window_set_role(GTK_WINDOW(dialog->window), "sdd-generate");
	gtk_container_set_border_width(GTK_CONTAINER(dialog->window), 12);
	sdg_form_init(&dialog->form);
	dialog->preview = gtk_image_new();
	gtk_widget_set_size_request(dialog->preview, PREVIEW_SIDE, PREVIEW_SIDE);
	dialog->bar = gtk_progress_bar_new();
#if GTK_CHECK_VERSION(3, 0, 0)
	gtk_progress_bar_set_show_text(GTK_PROGRESS_BAR(dialog->bar), TRUE);
#endif
	dialog->message = gtk_label_new("");
	gtk_label_set_line_wrap(GTK_LABEL(dialog->message), TRUE);
	gtk_label_set_selectable(GTK_LABEL(dialog->message), TRUE);
	gtk_misc_set_alignment(GTK_MISC(dialog->message), 0, 0.5f);
	gtk_widget_set_size_request(dialog->message, 560, -1);
	gtk_box_pack_start(GTK_BOX(upper), dialog->form.box, TRUE, TRUE, 0);
	gtk_box_pack_start(GTK_BOX(upper), dialog->preview, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(all), upper, TRUE, TRUE, 0);
	gtk_box_pack_start(GTK_BOX(all), dialog->bar, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(all), dialog->message, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(all), sdg_choice_widget(dialog->choice), FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(all), buttons(dialog), FALSE, FALSE, 0);
	gtk_container_add(GTK_CONTAINER(dialog->window), all);
	gtk_widget_show_all(all);
	gtk_widget_hide(dialog->start);
	gtk_widget_hide(dialog->retry);
	gtk_widget_set_can_default(dialog->generate, TRUE);
	gtk_window_set_default(GTK_WINDOW(dialog->window), dialog->generate);
	gtk_widget_set_visible(dialog->form.sides, FALSE);
	gtk_widget_set_visible(dialog->form.scale, FALSE);
	g_signal_connect(dialog->window, "key-press-event", G_CALLBACK(on_key), dialog);
	g_signal_connect(dialog->window, "delete-event", G_CALLBACK(on_close), dialog);
	for (int i = SDG_LEFT; i <= SDG_BOTTOM; i++)
		g_signal_connect(dialog->form.fields[i], "value-changed", G_CALLBACK(on_side),
				 dialog);
	g_signal_connect(dialog->form.fields[SDG_ACTION], "changed", G_CALLBACK(on_side), dialog);
}

void sdg_dialog_run(const struct sdh_host *host, struct sdh_settings *settings)
{
	struct dialog dialog = {.host = *host, .settings = settings};
	const struct sdg_choice_watcher watcher = {on_chosen, show_picture, &dialog};

	dialog.task_host = (struct sdh_host){
		.describe = describe,
		.read_canvas = read_canvas,
		.read_selection = read_selection,
		.add_results = add_results,
		.userdata = &dialog,
		.progress = on_progress,
		.preview = on_preview,
		.done = on_done,
		.watcher = &dialog,
	};
	dialog.choice = sdg_choice_new(&watcher);
	build(&dialog);
	ask_daemon(&dialog);
	sdg_form_show(&dialog.form, settings);
	set_running(&dialog, FALSE);
	gtk_widget_grab_focus(dialog.form.fields[SDG_PROMPT]);
	gtk_widget_show(dialog.window);
	gtk_main();
	end_task(&dialog);
	sdg_form_clear(&dialog.form);
	gtk_widget_destroy(dialog.window);
	dialog.choice = sdg_choice_free(dialog.choice);
}
