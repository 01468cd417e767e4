/*
 * The dialog of both GIMPs; see dialog.h. One job at a time; its events come through the GLib main loop, so the window
 * answers while the daemon paints, and Cancel is a message to the daemon.
 */
#include "plugins/gimp/dialog.h"

#include <gdk/gdkkeysyms.h>
#include <poll.h>
#include <string.h>

#include "plugins/common/daemon.h"
#include "plugins/common/task.h"
#include "plugins/common/text.h"
#include "plugins/gimp/form.h"

#define PREVIEW_SIDE 256

struct dialog {
	struct sdh_host host;
	struct sdh_settings *settings;
	struct sdg_form form;
	GtkWidget *window, *generate, *cancel, *start, *bar, *message, *preview;
	struct sdh_task *task;
	guint watch;
};

static void say(struct dialog *dialog, const char *text)
{
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

static void show_failure(struct dialog *dialog, const sdc_error *error)
{
	say(dialog, error->message);
	gtk_widget_set_visible(dialog->start, error->code == SDC_E_CONNECT);
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
	say(dialog, sdh_offer_engine(offer));
}

static void on_start(GtkButton *button, struct dialog *dialog)
{
	sdc_error error = {0};

	if (sdh_service_start(&error) < 0)
		say(dialog, error.message);
	else
		ask_daemon(dialog);
}

static void on_progress(void *userdata, double fraction, const char *text)
{
	struct dialog *dialog = userdata;
	GtkProgressBar *bar = GTK_PROGRESS_BAR(dialog->bar);

	gtk_progress_bar_set_text(bar, text);
	if (fraction < 0)
		gtk_progress_bar_pulse(bar);
	else
		gtk_progress_bar_set_fraction(bar, CLAMP(fraction, 0, 1));
}

static void on_preview(void *userdata, const sdc_image *image)
{
	struct dialog *dialog = userdata;
	const int side = MAX(image->width, image->height);
	GdkPixbuf *pixbuf, *scaled;

	if (image->channels != 3 || image->type != SDC_U8)
		return;
	pixbuf = gdk_pixbuf_new_from_data(
		image->data, GDK_COLORSPACE_RGB, FALSE, 8, image->width, image->height,
		image->stride ? (int)image->stride : image->width * 3, NULL, NULL);
	scaled = gdk_pixbuf_scale_simple(pixbuf, MAX(1, image->width * PREVIEW_SIDE / side),
					 MAX(1, image->height * PREVIEW_SIDE / side),
					 GDK_INTERP_BILINEAR);
	gtk_image_set_from_pixbuf(GTK_IMAGE(dialog->preview), scaled);
	g_object_unref(scaled);
	g_object_unref(pixbuf);
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

/* Watch for what the task wants now: it changes when a request did not fit into the socket at once. */
static void watch(struct dialog *dialog)
{
	const int events = sdh_task_events(dialog->task);
	GIOChannel *channel = g_io_channel_unix_new(sdh_task_fd(dialog->task));

	dialog->watch = g_io_add_watch(
		channel, (events & POLLOUT ? G_IO_OUT : 0) | G_IO_IN | G_IO_HUP | G_IO_ERR,
		on_ready, dialog);
	g_io_channel_unref(channel);
}

static gboolean on_ready(GIOChannel *channel, GIOCondition condition, gpointer userdata)
{
	struct dialog *dialog = userdata;

	dialog->watch = 0;
	if (sdh_task_dispatch(dialog->task) == 0) {
		watch(dialog);
		return FALSE;
	}
	end_task(dialog);
	return FALSE;
}

static void on_done(void *userdata, const sdc_error *error)
{
	struct dialog *dialog = userdata;
	struct sdh_timings t;
	char text[160];

	if (error) {
		show_failure(dialog, error);
		return;
	}
	sdh_task_timings(dialog->task, &t);
	g_snprintf(text, sizeof(text), _("Done in %.1f s (%.1f s computing)."), t.total_ms / 1e3,
		   t.compute_ms / 1e3);
	say(dialog, *sdh_task_warnings(dialog->task) ? sdh_task_warnings(dialog->task) : text);
}

static void on_generate(GtkButton *button, struct dialog *dialog)
{
	sdc_error error = {0};
	int r;

	if (dialog->task)
		return;
	sdg_form_draw_seed(&dialog->form, FALSE);
	say(dialog, "");
	r = sdg_form_read(&dialog->form, dialog->settings, &error);
	if (r >= 0) {
		sdh_settings_remember(dialog->settings);
		r = sdh_task_new(&dialog->host, dialog->settings, NULL, &dialog->task, &error);
	}
	if (r < 0) {
		show_failure(dialog, &error);
		return;
	}
	gtk_widget_hide(dialog->start);
	set_running(dialog, TRUE);
	watch(dialog);
}

static void on_cancel(GtkButton *button, struct dialog *dialog)
{
	if (dialog->task)
		sdh_task_cancel(dialog->task);
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

/* How the canvas grows: the new one light, the old one dark. */
static void show_sides(struct dialog *dialog)
{
	int side[4], width, height, scale;
	struct sdh_document document;
	GdkPixbuf *pixbuf, *old;

	if (dialog->task || dialog->host.describe(dialog->host.userdata, &document, NULL) < 0)
		return;
	for (int i = 0; i < 4; i++)
		side[i] = gtk_spin_button_get_value_as_int(
			GTK_SPIN_BUTTON(dialog->form.fields[SDG_LEFT + i]));
	width = document.width + side[0] + side[1];
	height = document.height + side[2] + side[3];
	scale = MAX(1, MAX(width, height));
	pixbuf = gdk_pixbuf_new(GDK_COLORSPACE_RGB, FALSE, 8, MAX(1, width * PREVIEW_SIDE / scale),
				MAX(1, height * PREVIEW_SIDE / scale));
	gdk_pixbuf_fill(pixbuf, 0xd0e0ffff);
	old = gdk_pixbuf_new_subpixbuf(pixbuf, side[0] * PREVIEW_SIDE / scale,
				       side[2] * PREVIEW_SIDE / scale,
				       MAX(1, document.width * PREVIEW_SIDE / scale),
				       MAX(1, document.height * PREVIEW_SIDE / scale));
	gdk_pixbuf_fill(old, 0x606060ff);
	gtk_image_set_from_pixbuf(GTK_IMAGE(dialog->preview), pixbuf);
	g_object_unref(old);
	g_object_unref(pixbuf);
}

static void on_side(GtkSpinButton *spin, struct dialog *dialog)
{
	show_sides(dialog);
}

static GtkWidget *buttons(struct dialog *dialog)
{
	GtkWidget *row = gtk_hbox_new(FALSE, 6), *close = gtk_button_new_with_mnemonic(_("_Close"));

	dialog->start = gtk_button_new_with_mnemonic(_("Sta_rt sdd"));
	dialog->generate = gtk_button_new_with_mnemonic(_("_Generate"));
	dialog->cancel = gtk_button_new_with_mnemonic(_("Cance_l"));
	gtk_box_pack_start(GTK_BOX(row), dialog->start, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), dialog->generate, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), dialog->cancel, FALSE, FALSE, 0);
	gtk_box_pack_end(GTK_BOX(row), close, FALSE, FALSE, 0);
	g_signal_connect(dialog->start, "clicked", G_CALLBACK(on_start), dialog);
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
	gtk_box_pack_start(GTK_BOX(all), buttons(dialog), FALSE, FALSE, 0);
	gtk_container_add(GTK_CONTAINER(dialog->window), all);
	gtk_widget_show_all(all);
	gtk_widget_hide(dialog->start);
	gtk_widget_set_visible(dialog->form.sides, FALSE);
	g_signal_connect(dialog->window, "key-press-event", G_CALLBACK(on_key), dialog);
	g_signal_connect(dialog->window, "delete-event", G_CALLBACK(on_close), dialog);
	for (int i = SDG_LEFT; i <= SDG_BOTTOM; i++)
		g_signal_connect(dialog->form.fields[i], "value-changed", G_CALLBACK(on_side),
				 dialog);
}

void sdg_dialog_run(const struct sdh_host *host, struct sdh_settings *settings)
{
	struct dialog dialog = {.host = *host, .settings = settings};

	dialog.host.progress = on_progress;
	dialog.host.preview = on_preview;
	dialog.host.done = on_done;
	dialog.host.watcher = &dialog;
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
}
