/*
 * Thumbnails; see choice.h. Radio buttons without their dot: GTK gives them arrow keys, focus and a name for screen readers.
 */
#include "plugins/gimp/choice.h"

#include <string.h>

#include "plugins/common/text.h"
#include "plugins/gimp/pixels.h"

#define THUMBNAIL_SIDE 96
#define PICTURE_SIDE   256

struct sdg_choice {
	struct sdg_choice_watcher watcher;
	GtkWidget *box, *row;
	GPtrArray *thumbnails;
	struct sdh_results results; /* owned copies; count 0: nothing */
	struct sdh_layer *layers;
	size_t current;
};

static void free_results(struct sdg_choice *choice)
{
	for (size_t i = 0; i < choice->results.count; i++) {
		g_free((gchar *)choice->layers[i].name);
		g_free((gchar *)choice->layers[i].parameters);
		g_free((gpointer)choice->layers[i].image.data);
	}
	g_free(choice->layers);
	g_free((gchar *)choice->results.name);
	choice->layers = NULL;
	choice->results = (struct sdh_results){0};
}

static void copy_results(struct sdg_choice *choice, const struct sdh_results *from)
{
	choice->results = *from;
	choice->results.name = g_strdup(from->name);
	choice->layers = g_new(struct sdh_layer, from->count);
	choice->results.layers = choice->layers;
	for (size_t i = 0; i < from->count; i++) {
		choice->layers[i] = from->layers[i];
		choice->layers[i].name = g_strdup(from->layers[i].name);
		choice->layers[i].parameters = g_strdup(from->layers[i].parameters);
		choice->layers[i].image = sdg_copy_rgba(&from->layers[i].image);
	}
}

void sdg_choice_clear(struct sdg_choice *choice)
{
	gtk_widget_hide(choice->box);
	for (guint i = 0; i < choice->thumbnails->len; i++)
		gtk_widget_destroy(g_ptr_array_index(choice->thumbnails, i));
	g_ptr_array_set_size(choice->thumbnails, 0);
	free_results(choice);
}

static void on_look(GtkToggleButton *button, struct sdg_choice *choice)
{
	GdkPixbuf *picture;

	if (!gtk_toggle_button_get_active(button))
		return;
	for (guint i = 0; i < choice->thumbnails->len; i++)
		if (g_ptr_array_index(choice->thumbnails, i) == (gpointer)button)
			choice->current = i;
	picture = sdg_picture(&choice->layers[choice->current].image, PICTURE_SIDE);
	choice->watcher.looked(choice->watcher.watcher, picture);
	g_object_unref(picture);
}

/* Without their dot GTK's radio buttons only take the focus when an arrow key comes: here that is choosing. */
static gboolean on_focus(GtkToggleButton *button, GdkEventFocus *event, struct sdg_choice *choice)
{
	gtk_toggle_button_set_active(button, TRUE);
	return FALSE;
}

static void on_keep(GtkButton *button, struct sdg_choice *choice)
{
	struct sdh_results one = choice->results;
	struct sdh_layer layer;

	if (one.count == 0)
		return;
	layer = choice->layers[choice->current];
	layer.visible = true;
	one.layers = &layer;
	one.count = 1;
	choice->watcher.chosen(choice->watcher.watcher, &one);
	sdg_choice_clear(choice);
}

static void on_keep_all(GtkButton *button, struct sdg_choice *choice)
{
	if (choice->results.count == 0)
		return;
	choice->watcher.chosen(choice->watcher.watcher, &choice->results);
	sdg_choice_clear(choice);
}

static void on_drop(GtkButton *button, struct sdg_choice *choice)
{
	sdg_choice_clear(choice);
}

static void add_button(struct sdg_choice *choice, GtkWidget *row, const char *label,
		       GCallback callback)
{
	GtkWidget *button = gtk_button_new_with_mnemonic(label);

	g_signal_connect(button, "clicked", callback, choice);
	gtk_box_pack_start(GTK_BOX(row), button, FALSE, FALSE, 0);
}

struct sdg_choice *sdg_choice_new(const struct sdg_choice_watcher *watcher)
{
	struct sdg_choice *choice = g_new0(struct sdg_choice, 1);
	GtkWidget *buttons = gtk_hbox_new(FALSE, 6),
		  *scrolled = gtk_scrolled_window_new(NULL, NULL);

	choice->watcher = *watcher;
	choice->thumbnails = g_ptr_array_new();
	choice->box = gtk_vbox_new(FALSE, 6);
	choice->row = gtk_hbox_new(FALSE, 4);
	gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scrolled), GTK_POLICY_AUTOMATIC,
				       GTK_POLICY_NEVER);
	gtk_scrolled_window_add_with_viewport(GTK_SCROLLED_WINDOW(scrolled), choice->row);
	add_button(choice, buttons, _("_Keep this one"), G_CALLBACK(on_keep));
	add_button(choice, buttons, _("Keep all as a group (_W)"), G_CALLBACK(on_keep_all));
	add_button(choice, buttons, _("Drop t_hem"), G_CALLBACK(on_drop));
	gtk_box_pack_start(GTK_BOX(choice->box), scrolled, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(choice->box), buttons, FALSE, FALSE, 0);
	gtk_widget_show_all(choice->box);
	gtk_widget_set_no_show_all(choice->box, TRUE);
	gtk_widget_hide(choice->box);
	return choice;
}

struct sdg_choice *sdg_choice_free(struct sdg_choice *choice)
{
	free_results(choice);
	g_ptr_array_free(choice->thumbnails, TRUE);
	g_free(choice);
	return NULL;
}

GtkWidget *sdg_choice_widget(struct sdg_choice *choice)
{
	return choice->box;
}

void sdg_choice_offer(struct sdg_choice *choice, const struct sdh_results *results)
{
	GtkWidget *first = NULL;

	sdg_choice_clear(choice);
	copy_results(choice, results);
	for (size_t i = 0; i < results->count; i++) {
		GdkPixbuf *picture = sdg_picture(&choice->layers[i].image, THUMBNAIL_SIDE);
		GtkWidget *button =
			first ? gtk_radio_button_new_from_widget(GTK_RADIO_BUTTON(first))
			      : gtk_radio_button_new(NULL);

		first = first ? first : button;
		gtk_toggle_button_set_mode(GTK_TOGGLE_BUTTON(button), FALSE);
		gtk_container_add(GTK_CONTAINER(button), gtk_image_new_from_pixbuf(picture));
		gtk_widget_set_tooltip_text(button, choice->layers[i].name);
		atk_object_set_name(gtk_widget_get_accessible(button), choice->layers[i].name);
		g_object_unref(picture);
		g_ptr_array_add(choice->thumbnails, button);
		gtk_box_pack_start(GTK_BOX(choice->row), button, FALSE, FALSE, 0);
		gtk_widget_show_all(button);
		g_signal_connect(button, "toggled", G_CALLBACK(on_look), choice);
		g_signal_connect(button, "focus-in-event", G_CALLBACK(on_focus), choice);
	}
	g_debug("choice: %zu", results->count);
	choice->current = 0;
	on_look(GTK_TOGGLE_BUTTON(first), choice);
	gtk_widget_show(choice->box);
	gtk_widget_grab_focus(first);
}
