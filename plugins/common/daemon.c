/*
 * Reaching the daemon; see daemon.h.
 */
#include "plugins/common/daemon.h"

#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "plugins/common/fail.h"
#include "plugins/common/text.h"

#define CONNECT_TIMEOUT_MS 5000
#define CALL_TIMEOUT_MS	   5000

extern char **environ;

struct sdh_offer {
	sdc_reply *models;
	char engine[256];
	char note[256]; /* of the model asked for last */
};

void sdh_translate(const char *folder)
{
	bindtextdomain(SDH_DOMAIN, folder);
	bind_textdomain_codeset(SDH_DOMAIN, "UTF-8");
}

const char *sdh_text(const char *text)
{
	return *text ? _(text) : "";
}

void sdh_explain(sdc_error *error)
{
	char said[sizeof(error->message)];

	memcpy(said, error->message, sizeof(said));
	switch (error->code) {
	case SDC_E_CONNECT:
		snprintf(error->message, sizeof(error->message),
			 _("sdd is not running. Start it with: %s (%.300s)"), SDH_START_COMMAND,
			 said);
		break;
	case SDC_E_DISCONNECTED:
	case SDC_E_SHUTTING_DOWN:
		snprintf(error->message, sizeof(error->message), "%s",
			 _("sdd was stopped or restarted while it painted. Nothing in your picture "
			   "has changed; try again."));
		break;
	case SDC_E_WORKER_LOST:
		snprintf(error->message, sizeof(error->message),
			 _("The engine was lost while it painted and is started again. Nothing in "
			   "your picture has changed; try again. (%.200s)"),
			 said);
		break;
	case SDC_E_BUSY:
		snprintf(error->message, sizeof(error->message),
			 _("Too many jobs are waiting already; try again in %d seconds. (%.200s)"),
			 (error->retry_ms + 999) / 1000, said);
		break;
	case SDC_E_CANCELLED:
		snprintf(error->message, sizeof(error->message), "%s", _("Cancelled."));
		break;
	default:
		break;
	}
}

void sdh_explain_shortage(sdc_error *error, const sdc_shortage *shortage)
{
	const char *advice = "";

	if (strcmp(shortage->remedy, "size") == 0)
		advice = _("A smaller picture or selection fits.");
	else if (strcmp(shortage->remedy, "weights") == 0)
		advice = _("Weights in q8_0 fit: the model's sdd.json or “sdctl load --weights "
			   "q8_0” chooses them.");
	else if (strcmp(shortage->remedy, "vae_tiling") == 0)
		advice = _("Decoding in tiles (vae_tiling) fits.");
	else if (shortage->remedy[0])
		advice = _("Choose a smaller model, close programs that use sdd, or raise "
			   "memory-budget in sdd.conf.");
	if (error->code == SDC_E_NO_MEMORY && shortage->needed_bytes > 0)
		snprintf(error->message, sizeof(error->message),
			 _("Not enough memory: this needs %.1f GB, and sdd may use %.1f GB. %s"),
			 (double)shortage->needed_bytes / 1e9, (double)shortage->free_bytes / 1e9,
			 advice);
}

int sdh_connect(const char *socket, sdc_client **ret_client, sdc_error *error)
{
	const int r = sdc_connect(socket, "sdd-plugin", 0, CONNECT_TIMEOUT_MS, ret_client, error);

	if (r < 0 && error)
		sdh_explain(error);
	return r;
}

int sdh_service_start(sdc_error *error)
{
	char *argv[] = {(char *)"systemctl", (char *)"--user", (char *)"start",
			(char *)"sdd.socket", NULL};
	int status = -1;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		return sdh_fail(error, SDC_E_SYSTEM,
				_("sdd.socket could not be started; in a terminal, “%s” says why. "
				  "Without systemd, run: sdd"),
				SDH_START_COMMAND);
	return 0;
}

static int call(sdc_client *client, const char *method, sdc_reply **ret_reply, sdc_error *error)
{
	sdc_request *request = sdc_request_new(method, error);
	int r;

	if (!request)
		return error ? error->code : SDC_E_NO_MEMORY;
	r = sdc_call(client, request, CALL_TIMEOUT_MS, ret_reply, error);
	sdc_request_free(request);
	return r;
}

int sdh_offer_new(const char *socket, struct sdh_offer **ret_offer, sdc_error *error)
{
	struct sdh_offer *offer = calloc(1, sizeof(*offer));
	sdc_client *client = NULL;
	sdc_reply *status = NULL;
	const char *engine = "";
	int r;

	if (!offer)
		return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	r = sdh_connect(socket, &client, error);
	if (r >= 0)
		r = call(client, "models.list", &offer->models, error);
	if (r >= 0)
		r = call(client, "status", &status, error);
	if (r >= 0) {
		sdc_reply_string(status, "worker.engine", &engine);
		snprintf(offer->engine, sizeof(offer->engine), "%s", engine);
	}
	sdc_reply_free(status);
	sdc_client_free(client);
	if (r < 0) {
		sdh_offer_free(offer);
		return r;
	}
	*ret_offer = offer;
	return 0;
}

struct sdh_offer *sdh_offer_free(struct sdh_offer *offer)
{
	if (offer)
		sdc_reply_free(offer->models);
	free(offer);
	return NULL;
}

static const char *text_of(const struct sdh_offer *offer, size_t i, const char *field)
{
	const char *text = "";
	char path[64];

	snprintf(path, sizeof(path), "models.%zu.%s", i, field);
	sdc_reply_string(offer->models, path, &text);
	return text;
}

const char *sdh_offer_model(const struct sdh_offer *offer, size_t i)
{
	return i < sdc_reply_count(offer->models, "models") ? text_of(offer, i, "name") : NULL;
}

static const char *state_label(const char *state)
{
	if (!strcmp(state, "loaded"))
		return _("loaded");
	if (!strcmp(state, "loading"))
		return _("loading");
	if (!strcmp(state, "failed"))
		return _("cannot be used");
	return _("not loaded");
}

const char *sdh_offer_model_note(const struct sdh_offer *offer_, size_t i)
{
	struct sdh_offer *offer = (struct sdh_offer *)offer_; /* the buffer alone changes */
	const char *family = text_of(offer, i, "family");
	int64_t size = 0;
	char path[64];

	snprintf(path, sizeof(path), "models.%zu.native_size", i);
	sdc_reply_int(offer->models, path, &size);
	offer->note[0] = '\0';
	if (size > 0)
		snprintf(offer->note, sizeof(offer->note), _("%s%s%lld pixels, "), family,
			 *family ? ", " : "", (long long)size);
	strncat(offer->note, state_label(text_of(offer, i, "state")),
		sizeof(offer->note) - strlen(offer->note) - 1);
	return offer->note;
}

int sdh_offer_default(const struct sdh_offer *offer)
{
	for (size_t i = 0; i < sdc_reply_count(offer->models, "models"); i++) {
		char path[64];
		int is = 0;

		snprintf(path, sizeof(path), "models.%zu.default", i);
		sdc_reply_bool(offer->models, path, &is);
		if (is)
			return (int)i;
	}
	return -1;
}

const char *sdh_offer_engine(const struct sdh_offer *offer)
{
	return offer->engine;
}

const char *sdh_sampler_name(size_t i)
{
	static const char *const names[] = {
		"DPM++ 2M Karras",
		"DPM++ 2M",
		"DPM++ 2M SDE Karras",
		"DPM++ SDE Karras",
		"Euler",
		"Euler a",
		"Heun",
		"LMS Karras",
		"DDIM",
		"PNDM",
		"UniPC",
		"DEIS",
		"DPM2 a Karras",
		"LCM",
		"TCD",
	};

	return i < sizeof(names) / sizeof(names[0]) ? names[i] : NULL;
}
