/*
 * The plug-in for GIMP 2.10. One procedure an action, usable from scripts:
 *
 *     (plug-in-sdd-fill RUN-NONINTERACTIVE image drawable "a red fox" "strength=0.8 seed=7 exact=yes")
 *
 * prompt, then any settings by name. They return the new layer (a group when count > 1) and a line of JSON with timings
 * and warnings. Interactively they open the dialog, which stays open for the next try.
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
#include "plugins/gimp2/host.h"

#define PREFIX "plug-in-sdd"
#define MENU   "<Image>/Filters/sdd"

/* Procedures that are no action: the dialog with the last action, and two that repeat a result. */
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

static void install(const char *name, const char *label, const char *help, gboolean takes_text)
{
	static const GimpParamDef arguments[] = {
		{GIMP_PDB_INT32, (gchar *)"run-mode",
		 (gchar *)"RUN-INTERACTIVE (0) opens the dialog, RUN-NONINTERACTIVE (1)"},
		{GIMP_PDB_IMAGE, (gchar *)"image", (gchar *)"The image"},
		{GIMP_PDB_DRAWABLE, (gchar *)"drawable",
		 (gchar *)"The layer above which the result goes"},
		{GIMP_PDB_STRING, (gchar *)"prompt", (gchar *)"What to paint"},
		{GIMP_PDB_STRING, (gchar *)"settings",
		 (gchar *)"name=value ...: strength, seed, steps, guidance, sampler, model, style, "
			  "negative, count, exact, grow, feather, padding, context, left, right, "
			  "top, "
			  "bottom, scale"}};
	static const GimpParamDef results[] = {
		{GIMP_PDB_LAYER, (gchar *)"layer", (gchar *)"The new layer or group"},
		{GIMP_PDB_STRING, (gchar *)"report", (gchar *)"JSON: timings and warnings"}};

	gimp_install_procedure(name, help, help, "The sdd authors", "The sdd authors", "2026",
			       label, "*", GIMP_PLUGIN, takes_text ? 5 : 3, 2, arguments, results);
	gimp_plugin_menu_register(name, MENU);
}

static void query(void)
{
	char name[64], label[96];

	gimp_plugin_domain_register(SDH_DOMAIN, SDD_LOCALEDIR);
	for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
		g_snprintf(name, sizeof(name), PREFIX "%s", others[i].name);
		install(name, others[i].label, others[i].help, i == 0);
	}
	for (size_t i = 0; i < SDH_N_ACTIONS; i++) {
		g_snprintf(name, sizeof(name), PREFIX "-%s", sdh_actions[i].name);
		g_snprintf(label, sizeof(label), "%s...", sdh_actions[i].label);
		install(name, label, sdh_actions[i].help, TRUE);
	}
}

/* What a call ends with; the values GIMP reads stay valid until the next call. */
static GimpParam values[3];

static void give(GimpPDBStatusType status, const char *message, gint *n_values)
{
	values[0].type = GIMP_PDB_STATUS;
	values[0].data.d_status = status;
	*n_values = 1;
	if (message) {
		values[1].type = GIMP_PDB_STRING;
		values[1].data.d_string = g_strdup(message);
		*n_values = 2;
	}
}

static void give_failure(const sdc_error *error, gint *n_values)
{
	if (error->code == SDC_E_CANCELLED)
		give(GIMP_PDB_CANCEL, NULL, n_values);
	else
		give(error->code == SDC_E_BAD_VALUE || error->code == SDC_E_UNKNOWN_FIELD
			     ? GIMP_PDB_CALLING_ERROR
			     : GIMP_PDB_EXECUTION_ERROR,
		     error->message, n_values);
}

static void give_layer(gint32 layer, char *report, gint *n_values)
{
	give(GIMP_PDB_SUCCESS, NULL, n_values);
	values[1].type = GIMP_PDB_LAYER;
	values[1].data.d_layer = layer;
	values[2].type = GIMP_PDB_STRING;
	values[2].data.d_string = report;
	*n_values = 3;
}

static void progress(void *userdata, double fraction, const char *text)
{
	gimp_progress_set_text(text);
	if (fraction < 0)
		gimp_progress_pulse();
	else
		gimp_progress_update(fraction);
}

static void run_task(struct sdg_host *host, const struct sdh_settings *settings, gint *n_values)
{
	struct sdh_host table = sdg_host_table(host);
	struct sdh_task *task;
	sdc_error error = {0};

	table.progress = progress;
	gimp_progress_init("sdd");
	if (sdh_task_new(&table, settings, NULL, &task, &error) < 0) {
		give_failure(&error, n_values);
		return;
	}
	if (sdh_task_run(task, &error) < 0)
		give_failure(&error, n_values);
	else
		give_layer(host->result, sdg_report(task), n_values);
	sdh_task_free(task);
	gimp_progress_end();
}

static void repeat(struct sdg_host *host, gboolean vary, gint *n_values)
{
	struct sdh_settings *settings = sdh_settings_new();
	gchar *parameters = sdg_host_parameters(host->drawable);
	sdc_error error = {0};

	host->repeated = host->drawable;
	if (!parameters)
		give(GIMP_PDB_EXECUTION_ERROR,
		     _("This layer was not made by sdd: it stores no parameters."), n_values);
	else if (sdh_settings_from_json(settings, parameters, &error) < 0)
		give_failure(&error, n_values);
	else {
		if (vary)
			sdh_settings_set(settings, "seed", NULL, NULL);
		run_task(host, settings, n_values);
	}
	g_free(parameters);
	sdh_settings_free(settings);
}

/* Out of its group, in the group's place, visible; the others go. */
static void keep(gint32 image, gint32 layer, gint *n_values)
{
	const gint32 group = gimp_item_get_parent(layer);

	if (group < 0) {
		give(GIMP_PDB_EXECUTION_ERROR, _("This layer is not one of several results."),
		     n_values);
		return;
	}
	gimp_image_undo_group_start(image);
	gimp_image_reorder_item(image, layer, gimp_item_get_parent(group),
				gimp_image_get_item_position(image, group));
	gimp_item_set_visible(layer, TRUE);
	gimp_image_remove_layer(image, group);
	gimp_image_set_active_layer(image, layer);
	gimp_image_undo_group_end(image);
	give_layer(layer, g_strdup("{}"), n_values);
}

static void generate(const char *action, GimpRunMode mode, const GimpParam *param, gint n_params,
		     struct sdg_host *host, gint *n_values)
{
	struct sdh_settings *settings = sdh_settings_new();
	sdc_error error = {0};
	int r = 0;

	if (mode == GIMP_RUN_NONINTERACTIVE) {
		if (n_params != 5) {
			give(GIMP_PDB_CALLING_ERROR,
			     _("Five arguments, please: run-mode, image, drawable, prompt, "
			       "settings."),
			     n_values);
			sdh_settings_free(settings);
			return;
		}
		r = sdh_settings_set(settings, "prompt", param[3].data.d_string, &error);
		if (r >= 0 && param[4].data.d_string)
			r = sdh_settings_parse(settings, param[4].data.d_string, &error);
	} else {
		sdh_settings_recall(settings);
	}
	if (r >= 0 && *action)
		r = sdh_settings_set(settings, "action", action, &error);
	if (r < 0) {
		give_failure(&error, n_values);
	} else if (mode == GIMP_RUN_INTERACTIVE) {
		const struct sdh_host table = sdg_host_table(host);

		gimp_ui_init("sdd", FALSE);
		sdg_dialog_run(&table, settings);
		give_layer(host->result, g_strdup("{}"), n_values);
		if (host->result < 0)
			give(GIMP_PDB_CANCEL, NULL, n_values);
	} else {
		run_task(host, settings, n_values);
	}
	sdh_settings_free(settings);
}

static void run(const gchar *name, gint n_params, const GimpParam *param, gint *n_values,
		GimpParam **ret_values)
{
	const GimpRunMode mode = (GimpRunMode)param[0].data.d_int32;
	const char *what = name + strlen(PREFIX);
	struct sdg_host host;

	setlocale(LC_ALL, "");
	sdh_translate(SDD_LOCALEDIR);
	gegl_init(NULL, NULL);
	sdg_host_init(&host, param[1].data.d_image, param[2].data.d_drawable);
	*ret_values = values;
	if (!strcmp(what, "-again") || !strcmp(what, "-vary"))
		repeat(&host, !strcmp(what, "-vary"), n_values);
	else if (!strcmp(what, "-keep"))
		keep(host.image, host.drawable, n_values);
	else
		generate(*what == '-' ? what + 1 : what, mode, param, n_params, &host, n_values);
	if (mode != GIMP_RUN_NONINTERACTIVE)
		gimp_displays_flush();
}

const GimpPlugInInfo PLUG_IN_INFO = {NULL, NULL, query, run};

MAIN()
