/*
 * From an answer to layers; see results.h.
 */
#include "plugins/common/results.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/text.h"

#define NAME_MAX_BYTES 80 /* of the prompt, in a layer's name */
#define PICTURES_MAX   16 /* the protocol's limit */

/* The prompt's beginning, cut between characters, and what tells results apart. malloc'd or NULL. */
static char *name_of(const struct sdh_settings *settings, const uint64_t *seed)
{
	const char *prompt = sdh_settings_get(settings, "prompt");
	size_t length = strlen(prompt);
	char *name;
	int n;

	if (length == 0) {
		prompt = _(sdh_actions[sdh_settings_action(settings)].label);
		length = strlen(prompt);
	}
	if (length > NAME_MAX_BYTES)
		for (length = NAME_MAX_BYTES; length > 0 && (prompt[length] & 0xc0) == 0x80;)
			length--;
	if (seed)
		n = asprintf(&name, "%.*s (%" PRIu64 ")", (int)length, prompt, *seed);
	else
		n = asprintf(&name, "%.*s", (int)length, prompt);
	return n < 0 ? NULL : name;
}

/* The settings with the seed that made it, and the daemon's own account of the job. malloc'd or NULL. */
static char *parameters_of(const sdc_reply *reply, const struct sdh_settings *settings,
			   uint64_t seed)
{
	struct sdh_settings *made = sdh_settings_copy(settings);
	char text[24], *json = NULL, *job = sdc_reply_json(reply, "parameters"), *all = NULL;

	snprintf(text, sizeof(text), "%" PRIu64, seed);
	if (made && sdh_settings_set(made, "seed", text, NULL) == 0 &&
	    sdh_settings_set(made, "count", NULL, NULL) == 0)
		json = sdh_settings_json(made);
	if (json && job &&
	    asprintf(&all, "{\"sdd\":\"%s\",\"settings\":%s,\"parameters\":%s}", sdc_version(),
		     json, job) < 0)
		all = NULL;
	sdh_settings_free(made);
	free(json);
	free(job);
	return all;
}

static int take(const sdc_reply *reply, size_t i, const struct sdh_settings *settings,
		const struct sdh_plan *plan, const struct sdh_document *document,
		struct sdh_layer *ret_layer, sdc_error *error)
{
	struct sdh_layer layer = {.visible = i == 0};
	uint64_t seed = 0;
	int64_t x = 0, y = 0;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "images.%zu.pixels", i);
	r = sdc_reply_image(reply, path, &layer.image, error);
	if (r < 0)
		return r;
	if (layer.image.channels != 4)
		return sdh_fail(error, SDC_E_PROTOCOL,
				_("sdd sent a picture of %d channels instead of RGBA."),
				layer.image.channels);
	snprintf(path, sizeof(path), "images.%zu.x", i);
	sdc_reply_int(reply, path, &x);
	snprintf(path, sizeof(path), "images.%zu.y", i);
	sdc_reply_int(reply, path, &y);
	snprintf(path, sizeof(path), "images.%zu.seed", i);
	sdc_reply_uint(reply, path, &seed);
	layer.x = (int)x;
	layer.y = (int)y;
	if (plan->clips) {
		if (layer.image.stride == 0) /* packed rows must be told once they are cut */
			layer.image.stride = (size_t)layer.image.width * 4;
		if (layer.image.width > document->width)
			layer.image.width = document->width;
		if (layer.image.height > document->height)
			layer.image.height = document->height;
	}
	layer.name = name_of(settings, &seed);
	layer.parameters = parameters_of(reply, settings, seed);
	*ret_layer = layer;
	return layer.name && layer.parameters
		       ? 0
		       : sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
}

int sdh_results_deliver(const sdc_reply *reply, const struct sdh_host *host,
			const struct sdh_settings *settings, const struct sdh_plan *plan,
			const struct sdh_document *document, sdc_error *error)
{
	struct sdh_layer layers[PICTURES_MAX] = {0};
	struct sdh_results results = {
		.layers = layers,
		.count = sdc_reply_count(reply, "images"),
		.canvas = sdh_plan_canvas(plan, document),
	};
	char *name = name_of(settings, NULL);
	int r = 0;

	if (results.count == 0 || results.count > PICTURES_MAX)
		r = sdh_fail(error, SDC_E_PROTOCOL, _("sdd sent %zu pictures."), results.count);
	else if (!name)
		r = sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	for (size_t i = 0; r >= 0 && i < results.count; i++)
		r = take(reply, i, settings, plan, document, &layers[i], error);
	results.name = name;
	if (r >= 0 && plan->scales) {
		results.scaled_width = layers[0].image.width;
		results.scaled_height = layers[0].image.height;
	}
	if (r >= 0)
		r = host->add_results(host->userdata, &results, error);
	for (size_t i = 0; i < PICTURES_MAX; i++) {
		free((char *)layers[i].name);
		free((char *)layers[i].parameters);
	}
	free(name);
	return r;
}
