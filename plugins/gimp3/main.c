/*
 * The plug-in for GIMP 3. One procedure an action, with named arguments for scripts:
 *
 *     (plug-in-sdd-fill #:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector drawable)
 *                       #:prompt "a red fox" #:strength "0.8" #:seed "7" #:exact "yes")
 *
 * Every setting of plugins/common/settings.h is an argument of that name, a text; "" is the daemon's default. They return
 * the new layer (a group when count > 1) and a line of JSON with timings and warnings.
 */
#include <libgimp/gimp.h>
#include <libgimp/gimpui.h>
#include <locale.h>
#include <string.h>

#include "plugins/common/daemon.h"
#include "plugins/common/task.h"
#include "plugins/common/text.h"
#include "plugins/gimp/dialog.h"
#include "plugins/gimp/report.h"
#include "plugins/gimp3/host.h"

#define PREFIX "plug-in-sdd"
#define MENU   "<Image>/Filters/sdd"

/* Procedures that are no action: the dialog with the last action, and three that work on a result. */
static const struct {
	const char *name, *label, *help;
} others[] = {
	{"", N_("_Generate with sdd..."), N_("Generate pictures with the local daemon sdd.")},
	{"-again", N_("Make this layer a_gain"),
	 N_("Repeats the job that made this layer, with the same seed.")},
	{"-vary", N_("_Vary this layer"),
	 N_("Repeats the job that made this layer, with another seed.")},
	{"-keep", N_("_Keep this result"),
	 N_("Keeps this one of several results and drops the others.")},
};

typedef struct {
	GimpPlugIn parent;
} Sdd;

typedef struct {
	GimpPlugInClass parent;
} SddClass;

GType sdd_get_type(void);
G_DEFINE_TYPE(Sdd, sdd, GIMP_TYPE_PLUG_IN)

static GList *query(GimpPlugIn *plug_in)
{
	GList *names = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
		names = g_list_append(names, g_strconcat(PREFIX, others[i].name, NULL));
	for (size_t i = 0; i < SDH_N_ACTIONS; i++)
		names = g_list_append(names, g_strconcat(PREFIX "-", sdh_actions[i].name, NULL));
	return names;
}

/* Labels are translated when they are made: GIMP would look for a catalogue beside the program only. */
static gboolean set_i18n(GimpPlugIn *plug_in, const gchar *name, gchar **domain, gchar **folder)
{
	return FALSE;
}

static GimpValueArray *fail(GimpProcedure *procedure, GimpPDBStatusType status, const char *text)
{
	return gimp_procedure_new_return_values(procedure, status,
						g_error_new_literal(GIMP_PLUG_IN_ERROR, 0, text));
}

static GimpValueArray *give_failure(GimpProcedure *procedure, const sdc_error *error)
{
	if (error->code == SDC_E_CANCELLED)
		return gimp_procedure_new_return_values(procedure, GIMP_PDB_CANCEL, NULL);
	return fail(procedure,
		    error->code == SDC_E_BAD_VALUE || error->code == SDC_E_UNKNOWN_FIELD
			    ? GIMP_PDB_CALLING_ERROR
			    : GIMP_PDB_EXECUTION_ERROR,
		    error->message);
}

/* Takes the report. */
static GimpValueArray *give_layer(GimpProcedure *procedure, GimpLayer *layer, gchar *report)
{
	GimpValueArray *values =
		gimp_procedure_new_return_values(procedure, GIMP_PDB_SUCCESS, NULL);

	GIMP_VALUES_SET_LAYER(values, 1, layer);
	g_value_take_string(gimp_value_array_index(values, 2), report);
	return values;
}

static void progress(void *watcher, double fraction, const char *text)
{
	gimp_progress_set_text(text);
	if (fraction < 0)
		gimp_progress_pulse();
	else
		gimp_progress_update(fraction);
}

static GimpValueArray *run_task(GimpProcedure *procedure, struct sdg_host *host,
				const struct sdh_settings *settings)
{
	struct sdh_host table = sdg_host_table(host);
	GimpValueArray *values;
	struct sdh_task *task;
	sdc_error error = {0};

	table.progress = progress;
	gimp_progress_init("sdd");
	if (sdh_task_new(&table, settings, NULL, &task, &error) < 0)
		return give_failure(procedure, &error);
	if (sdh_task_run(task, &error) < 0)
		values = give_failure(procedure, &error);
	else
		values = give_layer(procedure, host->result, sdg_report(task));
	sdh_task_free(task);
	gimp_progress_end();
	return values;
}

static GimpValueArray *repeat(GimpProcedure *procedure, struct sdg_host *host, gboolean vary)
{
	gchar *parameters = sdg_host_parameters(GIMP_ITEM(host->drawable));
	struct sdh_settings *settings;
	GimpValueArray *values;
	sdc_error error = {0};

	if (!parameters || !GIMP_IS_LAYER(host->drawable))
		return fail(procedure, GIMP_PDB_EXECUTION_ERROR,
			    _("This layer was not made by sdd: it stores no parameters."));
	host->repeated = GIMP_LAYER(host->drawable);
	settings = sdh_settings_new();
	if (sdh_settings_from_json(settings, parameters, &error) < 0) {
		values = give_failure(procedure, &error);
	} else {
		if (vary)
			sdh_settings_set(settings, "seed", NULL, NULL);
		values = run_task(procedure, host, settings);
	}
	g_free(parameters);
	sdh_settings_free(settings);
	return values;
}

/* Out of its group, in the group's place, visible; the others go. */
static GimpValueArray *keep(GimpProcedure *procedure, GimpImage *image, GimpItem *layer)
{
	GimpItem *group = gimp_item_get_parent(layer);

	if (!group)
		return fail(procedure, GIMP_PDB_EXECUTION_ERROR,
			    _("This layer is not one of several results."));
	gimp_image_undo_group_start(image);
	gimp_image_reorder_item(image, layer, gimp_item_get_parent(group),
				gimp_image_get_item_position(image, group));
	gimp_item_set_visible(layer, TRUE);
	gimp_image_remove_layer(image, GIMP_LAYER(group));
	gimp_image_undo_group_end(image);
	return give_layer(procedure, GIMP_LAYER(layer), g_strdup("{}"));
}

/* The call's arguments that are settings. */
static int read_arguments(GimpProcedureConfig *config, struct sdh_settings *settings,
			  sdc_error *error)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && sdh_settings_name(i); i++) {
		const char *name = sdh_settings_name(i);
		gchar *value = NULL;

		if (!g_object_class_find_property(G_OBJECT_GET_CLASS(config), name))
			continue;
		g_object_get(config, name, &value, NULL);
		if (value && *value)
			r = sdh_settings_set(settings, name, value, error);
		g_free(value);
	}
	return r;
}

static GimpValueArray *generate(GimpProcedure *procedure, const char *action, GimpRunMode mode,
				GimpProcedureConfig *config, struct sdg_host *host)
{
	struct sdh_settings *settings = sdh_settings_new();
	GimpValueArray *values;
	sdc_error error = {0};
	int r = 0;

	if (mode == GIMP_RUN_NONINTERACTIVE)
		r = read_arguments(config, settings, &error);
	else
		sdh_settings_recall(settings);
	if (r >= 0 && *action)
		r = sdh_settings_set(settings, "action", action, &error);
	if (r < 0) {
		values = give_failure(procedure, &error);
	} else if (mode == GIMP_RUN_INTERACTIVE) {
		const struct sdh_host table = sdg_host_table(host);

		gimp_ui_init("sdd");
		sdg_dialog_run(&table, settings);
		values = host->result ? give_layer(procedure, host->result, g_strdup("{}"))
				      : gimp_procedure_new_return_values(procedure, GIMP_PDB_CANCEL,
									 NULL);
	} else {
		values = run_task(procedure, host, settings);
	}
	sdh_settings_free(settings);
	return values;
}

static GimpValueArray *run(GimpProcedure *procedure, GimpRunMode mode, GimpImage *image,
			   GimpDrawable **drawables, GimpProcedureConfig *config, gpointer data)
{
	const char *what = gimp_procedure_get_name(procedure) + strlen(PREFIX);
	struct sdg_host host = {.image = image};
	GimpValueArray *values;

	gegl_init(NULL, NULL);
	if (!drawables || !drawables[0] || drawables[1])
		return fail(procedure, GIMP_PDB_CALLING_ERROR,
			    _("Select one layer: the result goes above it."));
	host.drawable = drawables[0];
	if (!strcmp(what, "-again") || !strcmp(what, "-vary"))
		values = repeat(procedure, &host, !strcmp(what, "-vary"));
	else if (!strcmp(what, "-keep"))
		values = keep(procedure, image, GIMP_ITEM(host.drawable));
	else
		values = generate(procedure, *what == '-' ? what + 1 : what, mode, config, &host);
	if (mode != GIMP_RUN_NONINTERACTIVE)
		gimp_displays_flush();
	return values;
}

static void describe_procedure(GimpProcedure *procedure, const char *label, const char *help)
{
	gimp_procedure_set_menu_label(procedure, label);
	gimp_procedure_set_documentation(procedure, help, help, gimp_procedure_get_name(procedure));
}

static GimpProcedure *create(GimpPlugIn *plug_in, const gchar *name)
{
	GimpProcedure *procedure =
		gimp_image_procedure_new(plug_in, name, GIMP_PDB_PROC_TYPE_PLUGIN, run, NULL, NULL);
	const char *what = name + strlen(PREFIX);
	gboolean takes_settings = !*what;
	char label[96];

	setlocale(LC_ALL, "");
	sdh_translate(SDD_LOCALEDIR);
	for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
		if (!strcmp(what, others[i].name))
			describe_procedure(procedure, _(others[i].label), _(others[i].help));
	for (size_t i = 0; i < SDH_N_ACTIONS; i++)
		if (*what && !strcmp(what + 1, sdh_actions[i].name)) {
			g_snprintf(label, sizeof(label), "%s...", _(sdh_actions[i].label));
			describe_procedure(procedure, label, _(sdh_actions[i].help));
			takes_settings = TRUE;
		}
	gimp_procedure_set_image_types(procedure, "*");
	gimp_procedure_set_sensitivity_mask(procedure, GIMP_PROCEDURE_SENSITIVE_DRAWABLE);
	gimp_procedure_add_menu_path(procedure, MENU);
	gimp_procedure_set_attribution(procedure, "The sdd authors", "The sdd authors", "2026");
	for (size_t i = 0; takes_settings && sdh_settings_name(i); i++)
		gimp_procedure_add_string_argument(procedure, sdh_settings_name(i),
						   sdh_settings_name(i), sdh_settings_name(i), "",
						   G_PARAM_READWRITE);
	gimp_procedure_add_layer_return_value(procedure, "layer", "layer", "the new layer or group",
					      TRUE, G_PARAM_READWRITE);
	gimp_procedure_add_string_return_value(procedure, "report", "report",
					       "JSON: timings and warnings", "", G_PARAM_READWRITE);
	return procedure;
}

static void sdd_class_init(SddClass *class)
{
	GimpPlugInClass *plug_in = GIMP_PLUG_IN_CLASS(class);

	plug_in->query_procedures = query;
	plug_in->create_procedure = create;
	plug_in->set_i18n = set_i18n;
}

static void sdd_init(Sdd *sdd)
{
}

GIMP_MAIN(sdd_get_type())
