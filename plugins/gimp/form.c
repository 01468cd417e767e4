/*
 * The dialog's fields; see form.h. Every field has a label with a mnemonic, so all can be reached from the keyboard.
 */
#include "plugins/gimp/form.h"

#include <string.h>

#include "plugins/common/style.h"
#include "plugins/common/text.h"

static const char *const field_names[SDG_N_FIELDS] = {
	[SDG_ACTION] = "action",   [SDG_PROMPT] = "prompt",	[SDG_NEGATIVE] = "negative",
	[SDG_STYLE] = "style",	   [SDG_MODEL] = "model",	[SDG_STRENGTH] = "strength",
	[SDG_STEPS] = "steps",	   [SDG_GUIDANCE] = "guidance", [SDG_SAMPLER] = "sampler",
	[SDG_SEED] = "seed",	   [SDG_LOCK] = "lock-seed",	[SDG_COUNT] = "count",
	[SDG_EXACT] = "exact",	   [SDG_GROW] = "grow",		[SDG_FEATHER] = "feather",
	[SDG_PADDING] = "padding", [SDG_CONTEXT] = "context",	[SDG_LEFT] = "left",
	[SDG_RIGHT] = "right",	   [SDG_TOP] = "top",		[SDG_BOTTOM] = "bottom",
	[SDG_SCALE] = "scale",
};

static const char *const contexts[] = {"auto", "selection", "image", "layer", NULL};

static const char *action_name(size_t i)
{
	return i < SDH_N_ACTIONS ? sdh_actions[i].name : NULL;
}

static const char *style_name(size_t i)
{
	return i == 0 ? "" : sdh_style_name(i - 1);
}

static const char *sampler_name(size_t i)
{
	return i == 0 ? "" : sdh_sampler_name(i - 1);
}

static const char *context_name(size_t i)
{
	return contexts[i];
}

/* The i-th choice of a field as settings store it, NULL behind the last. */
static const char *choice(const struct sdg_form *form, int field, size_t i)
{
	switch (field) {
	case SDG_ACTION:
		return action_name(i);
	case SDG_STYLE:
		return style_name(i);
	case SDG_SAMPLER:
		return sampler_name(i);
	case SDG_CONTEXT:
		return context_name(i);
	case SDG_MODEL:
		return i == 0 ? "" : form->offer ? sdh_offer_model(form->offer, i - 1) : NULL;
	default:
		return NULL;
	}
}

static gboolean is_choice(int field)
{
	return field == SDG_ACTION || field == SDG_STYLE || field == SDG_SAMPLER ||
	       field == SDG_CONTEXT || field == SDG_MODEL;
}

/* `field` with a label whose mnemonic goes to `target`, a widget in it. */
static void attach(GtkWidget *table, int row, const char *label, GtkWidget *field,
		   GtkWidget *target)
{
	GtkWidget *text = gtk_label_new_with_mnemonic(label);

	gtk_misc_set_alignment(GTK_MISC(text), 0, 0.5f);
	gtk_label_set_mnemonic_widget(GTK_LABEL(text), target);
	gtk_table_attach(GTK_TABLE(table), text, 0, 1, (guint)row, (guint)row + 1, GTK_FILL, 0, 0,
			 0);
	gtk_table_attach(GTK_TABLE(table), field, 1, 2, (guint)row, (guint)row + 1,
			 GTK_FILL | GTK_EXPAND, 0, 0, 0);
}

static void attach_field(GtkWidget *table, int row, const char *label, GtkWidget *field)
{
	attach(table, row, label, field, field);
}

static GtkWidget *new_table(int rows)
{
	GtkWidget *table = gtk_table_new((guint)rows, 2, FALSE);

	gtk_table_set_row_spacings(GTK_TABLE(table), 4);
	gtk_table_set_col_spacings(GTK_TABLE(table), 8);
	return table;
}

static GtkWidget *new_entry(const char *hint)
{
	GtkWidget *entry = gtk_entry_new();

	gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
	gtk_entry_set_width_chars(GTK_ENTRY(entry), 8);
	if (hint)
		gtk_widget_set_tooltip_text(entry, hint);
	return entry;
}

static GtkWidget *new_combo(const char *const *labels)
{
	GtkWidget *combo = gtk_combo_box_text_new();

	for (; *labels; labels++)
		gtk_combo_box_text_append_text(GTK_COMBO_BOX_TEXT(combo), *labels);
	gtk_combo_box_set_active(GTK_COMBO_BOX(combo), 0);
	return combo;
}

static GtkWidget *new_note(void)
{
	GtkWidget *note = gtk_label_new("");

	gtk_misc_set_alignment(GTK_MISC(note), 0, 0.5f);
	gtk_label_set_line_wrap(GTK_LABEL(note), TRUE);
	return note;
}

/* A text of several lines with its count of tokens below. The label's mnemonic goes to the text, not to what scrolls it. */
static void attach_text(GtkWidget *table, int row, const char *label, int height,
			GtkWidget **ret_view, GtkWidget **ret_count)
{
	GtkWidget *scrolled = gtk_scrolled_window_new(NULL, NULL), *box = gtk_vbox_new(FALSE, 0);

	*ret_view = gtk_text_view_new();
	*ret_count = new_note();
	gtk_text_view_set_wrap_mode(GTK_TEXT_VIEW(*ret_view), GTK_WRAP_WORD_CHAR);
	gtk_text_view_set_accepts_tab(GTK_TEXT_VIEW(*ret_view), FALSE);
	gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scrolled), GTK_POLICY_NEVER,
				       GTK_POLICY_AUTOMATIC);
	gtk_scrolled_window_set_shadow_type(GTK_SCROLLED_WINDOW(scrolled), GTK_SHADOW_IN);
	gtk_widget_set_size_request(scrolled, 300, height);
	gtk_container_add(GTK_CONTAINER(scrolled), *ret_view);
	gtk_box_pack_start(GTK_BOX(box), scrolled, TRUE, TRUE, 0);
	gtk_box_pack_start(GTK_BOX(box), *ret_count, FALSE, FALSE, 0);
	attach(table, row, label, box, *ret_view);
}

static void on_action(GtkComboBox *combo, struct sdg_form *form)
{
	const int action = gtk_combo_box_get_active(combo);

	gtk_widget_set_visible(form->sides, action == SDH_OUTPAINT);
	gtk_widget_set_visible(form->scale, action == SDH_UPSCALE);
	gtk_widget_set_sensitive(form->fields[SDG_STRENGTH],
				 action >= 0 && sdh_actions[action].uses_strength);
	/* nothing of the picture would be left */
	if ((action == SDH_REFINE || action == SDH_UPSCALE) &&
	    gtk_range_get_value(GTK_RANGE(form->fields[SDG_STRENGTH])) >= 1)
		gtk_range_set_value(GTK_RANGE(form->fields[SDG_STRENGTH]),
				    action == SDH_REFINE ? 0.6 : 0.3);
}

/* What the model is; for the daemon's choice its name before that. */
static void on_model(GtkComboBox *combo, struct sdg_form *form)
{
	sdg_count_soon(form);

	const int chosen_here = gtk_combo_box_get_active(combo) - 1;
	const int i = chosen_here >= 0 ? chosen_here
		      : form->offer    ? sdh_offer_default(form->offer)
				       : -1;
	gchar *note = NULL;

	if (i >= 0)
		note = g_strconcat(chosen_here < 0 ? sdh_offer_model(form->offer, (size_t)i) : "",
				   chosen_here < 0 ? ": " : "",
				   sdh_offer_model_note(form->offer, (size_t)i), "\n",
				   sdh_offer_engine(form->offer), NULL);
	gtk_label_set_text(GTK_LABEL(form->model_note), note ? note : "");
	g_free(note);
}

static void on_style(GtkComboBox *combo, struct sdg_form *form)
{
	sdg_count_soon(form);
}

static void on_text(GtkTextBuffer *buffer, struct sdg_form *form)
{
	sdg_count_soon(form);
}

static void on_dice(GtkButton *button, struct sdg_form *form)
{
	sdg_form_draw_seed(form, TRUE);
}

static GtkWidget *seed_row(struct sdg_form *form)
{
	GtkWidget *box = gtk_hbox_new(FALSE, 4), *dice = gtk_button_new_with_mnemonic(_("_Dice"));

	form->fields[SDG_SEED] = new_entry(_("The same seed gives the same picture."));
	form->fields[SDG_LOCK] = gtk_check_button_new_with_mnemonic(_("_Lock"));
	gtk_box_pack_start(GTK_BOX(box), form->fields[SDG_SEED], TRUE, TRUE, 0);
	gtk_box_pack_start(GTK_BOX(box), dice, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(box), form->fields[SDG_LOCK], FALSE, FALSE, 0);
	g_signal_connect(dice, "clicked", G_CALLBACK(on_dice), form);
	return box;
}

static GtkWidget *main_table(struct sdg_form *form)
{
	const char *actions[SDH_N_ACTIONS + 1] = {NULL},
					    *no_models[] = {_("The daemon's choice"), NULL};
	const char *styles[80] = {_("None")}, *samplers[80] = {_("The model's choice")};
	GtkWidget *table = new_table(9), *models = gtk_vbox_new(FALSE, 0), *seeds;
	const char *text;

	for (size_t i = 0; i < SDH_N_ACTIONS; i++)
		actions[i] = _(sdh_actions[i].label);
	for (size_t i = 0; i < 64 && (text = sdh_style_label(i)); i++)
		styles[i + 1] = text;
	for (size_t i = 0; i < 64 && (text = sdh_sampler_name(i)); i++)
		samplers[i + 1] = text;
	form->fields[SDG_ACTION] = new_combo(actions);
	form->fields[SDG_STYLE] = new_combo(styles);
	form->fields[SDG_SAMPLER] = new_combo(samplers);
	form->fields[SDG_MODEL] = new_combo(no_models);
	form->model_note = new_note();
	gtk_box_pack_start(GTK_BOX(models), form->fields[SDG_MODEL], FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(models), form->model_note, FALSE, FALSE, 0);
	attach_field(table, 0, _("_Action:"), form->fields[SDG_ACTION]);
	attach_text(table, 1, _("_Prompt:"), 62, &form->fields[SDG_PROMPT], &form->counts[0]);
	attach_text(table, 2, _("_Negative:"), 40, &form->fields[SDG_NEGATIVE], &form->counts[1]);
	attach_field(table, 3, _("St_yle:"), form->fields[SDG_STYLE]);
	attach(table, 4, _("_Model:"), models, form->fields[SDG_MODEL]);
	form->fields[SDG_STRENGTH] = gtk_hscale_new_with_range(0.01, 1, 0.01);
	gtk_scale_set_value_pos(GTK_SCALE(form->fields[SDG_STRENGTH]), GTK_POS_RIGHT);
	attach_field(table, 5, _("S_trength:"), form->fields[SDG_STRENGTH]);
	seeds = seed_row(form);
	attach(table, 6, _("S_eed:"), seeds, form->fields[SDG_SEED]);
	form->fields[SDG_COUNT] = gtk_spin_button_new_with_range(1, 16, 1);
	attach_field(table, 7, _("Pict_ures:"), form->fields[SDG_COUNT]);
	return table;
}

static GtkWidget *more_table(struct sdg_form *form)
{
	const char *names[] = {_("Automatic"), _("The selection"), _("The whole image"),
			       _("The current layer"), NULL};
	GtkWidget *table = new_table(8), *expander = gtk_expander_new_with_mnemonic(_("M_ore"));
	const char *hint = _("Empty: the model's own.");

	form->fields[SDG_STEPS] = new_entry(hint);
	form->fields[SDG_GUIDANCE] = new_entry(hint);
	form->fields[SDG_EXACT] =
		gtk_check_button_new_with_mnemonic(_("E_xact selection: nothing else changes"));
	form->fields[SDG_GROW] = new_entry(_("Pixels; empty: 4."));
	form->fields[SDG_FEATHER] = new_entry(_("A part of the selection's diagonal; empty: 0.1."));
	form->fields[SDG_PADDING] =
		new_entry(_("A part of the selection's diagonal; empty: 0.06."));
	form->fields[SDG_CONTEXT] = new_combo(names);
	attach_field(table, 0, _("Steps (_1):"), form->fields[SDG_STEPS]);
	attach_field(table, 1, _("Guidance (_2):"), form->fields[SDG_GUIDANCE]);
	attach_field(table, 2, _("Sampler (_3):"), form->fields[SDG_SAMPLER]);
	gtk_table_attach(GTK_TABLE(table), form->fields[SDG_EXACT], 0, 2, 3, 4, GTK_FILL, 0, 0, 0);
	attach_field(table, 4, _("Grow (_4):"), form->fields[SDG_GROW]);
	attach_field(table, 5, _("Feather (_5):"), form->fields[SDG_FEATHER]);
	attach_field(table, 6, _("Padding (_6):"), form->fields[SDG_PADDING]);
	attach_field(table, 7, _("Context (_7):"), form->fields[SDG_CONTEXT]);
	gtk_container_add(GTK_CONTAINER(expander), table);
	return expander;
}

static GtkWidget *side_table(struct sdg_form *form)
{
	const char *const labels[] = {_("Left (_8):"), _("Right (_9):"), _("Top (_0):"),
				      _("_Bottom:")};
	GtkWidget *table = new_table(4);

	for (int i = 0; i < 4; i++) {
		form->fields[SDG_LEFT + i] = gtk_spin_button_new_with_range(0, 4096, 128);
		attach_field(table, i, labels[i], form->fields[SDG_LEFT + i]);
	}
	return table;
}

static GtkWidget *scale_table(struct sdg_form *form)
{
	GtkWidget *table = new_table(1);

	form->fields[SDG_SCALE] = gtk_spin_button_new_with_range(1, 4, 0.5);
	gtk_spin_button_set_digits(GTK_SPIN_BUTTON(form->fields[SDG_SCALE]), 2);
	attach_field(table, 0, _("S_cale:"), form->fields[SDG_SCALE]);
	return table;
}

void sdg_form_init(struct sdg_form *form)
{
	*form = (struct sdg_form){.box = gtk_vbox_new(FALSE, 6)};
	gtk_box_pack_start(GTK_BOX(form->box), main_table(form), FALSE, FALSE, 0);
	form->sides = side_table(form);
	form->scale = scale_table(form);
	gtk_box_pack_start(GTK_BOX(form->box), form->sides, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(form->box), form->scale, FALSE, FALSE, 0);
	gtk_box_pack_start(GTK_BOX(form->box), more_table(form), FALSE, FALSE, 0);
	gtk_widget_show_all(form->box);
	g_signal_connect(form->fields[SDG_ACTION], "changed", G_CALLBACK(on_action), form);
	g_signal_connect(form->fields[SDG_MODEL], "changed", G_CALLBACK(on_model), form);
	g_signal_connect(form->fields[SDG_STYLE], "changed", G_CALLBACK(on_style), form);
	for (int i = SDG_PROMPT; i <= SDG_NEGATIVE; i++)
		g_signal_connect(gtk_text_view_get_buffer(GTK_TEXT_VIEW(form->fields[i])),
				 "changed", G_CALLBACK(on_text), form);
	sdg_count_init(form);
	on_action(GTK_COMBO_BOX(form->fields[SDG_ACTION]), form);
}

void sdg_form_clear(struct sdg_form *form)
{
	sdg_count_clear(form);
	form->offer = sdh_offer_free(form->offer);
}

static void show_choice(struct sdg_form *form, int field, const char *value)
{
	const char *name;

	gtk_combo_box_set_active(GTK_COMBO_BOX(form->fields[field]), 0);
	for (size_t i = 0; (name = choice(form, field, i)); i++)
		if (!strcmp(name, value))
			gtk_combo_box_set_active(GTK_COMBO_BOX(form->fields[field]), (gint)i);
}

static const char *chosen(struct sdg_form *form, int field)
{
	const int i = gtk_combo_box_get_active(GTK_COMBO_BOX(form->fields[field]));
	const char *name = i < 0 ? NULL : choice(form, field, (size_t)i);

	return name ? name : "";
}

void sdg_form_offer(struct sdg_form *form, struct sdh_offer *offer)
{
	GtkComboBoxText *combo = GTK_COMBO_BOX_TEXT(form->fields[SDG_MODEL]);
	gchar *before = g_strdup(chosen(form, SDG_MODEL));
	size_t n = 1;

	while (choice(form, SDG_MODEL, n))
		n++;
	for (; n > 1; n--)
		gtk_combo_box_text_remove(combo, (gint)n - 1);
	sdh_offer_free(form->offer);
	form->offer = offer;
	for (; choice(form, SDG_MODEL, n); n++)
		gtk_combo_box_text_append_text(combo, choice(form, SDG_MODEL, n));
	show_choice(form, SDG_MODEL, before);
	on_model(GTK_COMBO_BOX(combo), form);
	g_free(before);
}

/* What a number is when it was never chosen. */
static double usual(int field)
{
	return field == SDG_COUNT ? 1 : field == SDG_SCALE ? 2 : 0;
}

static void show_field(struct sdg_form *form, int field, const char *value)
{
	GtkWidget *widget = form->fields[field];

	if (is_choice(field))
		show_choice(form, field, value);
	else if (GTK_IS_TEXT_VIEW(widget))
		gtk_text_buffer_set_text(gtk_text_view_get_buffer(GTK_TEXT_VIEW(widget)), value,
					 -1);
	else if (GTK_IS_TOGGLE_BUTTON(widget))
		gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(widget),
					     !strcmp(value, "yes") || !strcmp(value, "true"));
	else if (GTK_IS_SPIN_BUTTON(widget)) /* before GTK_IS_ENTRY, which it is too */
		gtk_spin_button_set_value(GTK_SPIN_BUTTON(widget),
					  *value ? g_ascii_strtod(value, NULL) : usual(field));
	else if (GTK_IS_RANGE(widget))
		gtk_range_set_value(GTK_RANGE(widget), *value ? g_ascii_strtod(value, NULL) : 1);
	else
		gtk_entry_set_text(GTK_ENTRY(widget), value);
}

void sdg_form_show(struct sdg_form *form, const struct sdh_settings *settings)
{
	for (int i = 0; i < SDG_N_FIELDS; i++)
		show_field(form, i, sdh_settings_get(settings, field_names[i]));
	on_action(GTK_COMBO_BOX(form->fields[SDG_ACTION]), form);
}

static gchar *fraction(double value)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];

	return g_strdup(g_ascii_formatd(text, sizeof(text), "%.2f", value));
}

/* What stands in a field; g_free'd by the caller. */
static gchar *read_field(struct sdg_form *form, int field)
{
	GtkWidget *widget = form->fields[field];

	if (is_choice(field))
		return g_strdup(chosen(form, field));
	if (GTK_IS_TEXT_VIEW(widget)) {
		GtkTextBuffer *buffer = gtk_text_view_get_buffer(GTK_TEXT_VIEW(widget));
		GtkTextIter start, end;

		gtk_text_buffer_get_bounds(buffer, &start, &end);
		return g_strstrip(gtk_text_buffer_get_text(buffer, &start, &end, FALSE));
	}
	if (GTK_IS_TOGGLE_BUTTON(widget))
		return g_strdup(gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(widget)) ? "yes"
											: "");
	if (GTK_IS_SPIN_BUTTON(widget) && gtk_spin_button_get_digits(GTK_SPIN_BUTTON(widget)) == 0)
		return g_strdup_printf("%d",
				       gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(widget)));
	if (GTK_IS_SPIN_BUTTON(widget))
		return fraction(gtk_spin_button_get_value(GTK_SPIN_BUTTON(widget)));
	if (GTK_IS_RANGE(widget))
		return fraction(gtk_range_get_value(GTK_RANGE(widget)));
	return g_strstrip(g_strdup(gtk_entry_get_text(GTK_ENTRY(widget))));
}

void sdg_form_read_words(struct sdg_form *form, struct sdh_settings *settings)
{
	static const int fields[] = {SDG_ACTION, SDG_PROMPT, SDG_NEGATIVE, SDG_STYLE, SDG_MODEL};

	for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
		gchar *value = read_field(form, fields[i]);

		sdh_settings_set(settings, field_names[fields[i]], value, NULL);
		g_free(value);
	}
}

int sdg_form_read(struct sdg_form *form, struct sdh_settings *settings, sdc_error *error)
{
	int r = 0;

	for (int i = 0; r >= 0 && i < SDG_N_FIELDS; i++) {
		gchar *value = read_field(form, i);

		r = sdh_settings_set(settings, field_names[i], value, error);
		if (r < 0)
			gtk_widget_grab_focus(form->fields[i]);
		g_free(value);
	}
	return r;
}

void sdg_form_draw_seed(struct sdg_form *form, gboolean also_locked)
{
	char text[16];

	if (!also_locked && gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(form->fields[SDG_LOCK])))
		return;
	g_snprintf(text, sizeof(text), "%u", g_random_int() >> 1);
	gtk_entry_set_text(GTK_ENTRY(form->fields[SDG_SEED]), text);
}
