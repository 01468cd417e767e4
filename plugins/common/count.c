/*
 * See count.h. A connection lasts for a burst of typing alone, so that an open dialog keeps no daemon from ending.
 */
#include "plugins/common/count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/style.h"
#include "plugins/common/text.h"

#define CONNECT_TIMEOUT_MS 1000
#define LINE_SIZE	   640

struct sdh_counter {
	char *socket;
	sdh_counted_fn counted;
	void *watcher;
	sdc_client *client;	   /* NULL: nothing is awaited */
	bool under_way;		   /* a call waits for its answer */
	struct sdh_settings *next; /* to be asked when it has come; NULL: none */
};

struct sdh_counter *sdh_counter_new(const char *socket, sdh_counted_fn counted, void *watcher)
{
	struct sdh_counter *counter = calloc(1, sizeof(*counter));

	if (!counter)
		return NULL;
	counter->counted = counted;
	counter->watcher = watcher;
	counter->socket = socket ? strdup(socket) : NULL;
	return counter;
}

static void hang_up(struct sdh_counter *counter)
{
	counter->under_way = false;
	counter->client = sdc_client_free(counter->client);
	counter->next = sdh_settings_free(counter->next);
}

struct sdh_counter *sdh_counter_free(struct sdh_counter *counter)
{
	if (counter) {
		counter->counted = NULL;
		hang_up(counter);
		free(counter->socket);
	}
	free(counter);
	return NULL;
}

static void line_of(const sdc_reply *reply, const char *name, char line[LINE_SIZE])
{
	int64_t tokens = 0, chunks = 0, limit = 0;
	const char *lost = "";
	char path[64];

	snprintf(path, sizeof(path), "%s.tokens", name);
	sdc_reply_int(reply, path, &tokens);
	snprintf(path, sizeof(path), "%s.chunks", name);
	sdc_reply_int(reply, path, &chunks);
	snprintf(path, sizeof(path), "%s.limit", name);
	sdc_reply_int(reply, path, &limit);
	snprintf(path, sizeof(path), "%s.lost", name);
	sdc_reply_string(reply, path, &lost);
	line[0] = '\0';
	if (tokens == 0)
		return;
	if (*lost)
		snprintf(line, LINE_SIZE, _("%d of %d tokens; not read: “%.400s”"), (int)tokens,
			 (int)limit, lost);
	else if (chunks > 1)
		snprintf(line, LINE_SIZE, _("%d tokens, in %d parts of %d"), (int)tokens,
			 (int)chunks, (int)limit);
	else
		snprintf(line, LINE_SIZE, _("%d of %d tokens"), (int)tokens, (int)limit);
}

static void tell(struct sdh_counter *counter, const char *prompt, const char *negative)
{
	if (counter->counted)
		counter->counted(counter->watcher, prompt, negative);
}

/* What is wrong with the prompt itself is for the one who types; the rest will be said when something is painted. */
static void on_answer(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		      void *userdata)
{
	struct sdh_counter *counter = userdata;
	char prompt[LINE_SIZE], negative[LINE_SIZE];

	counter->under_way = false;
	if (!reply) {
		tell(counter, error->code == SDC_E_BAD_VALUE ? error->message : "", "");
		return;
	}
	line_of(reply, "prompt", prompt);
	line_of(reply, "negative_prompt", negative);
	tell(counter, prompt, negative);
}

static int fill(sdc_request *request, const struct sdh_settings *settings)
{
	const char *model = sdh_settings_get(settings, "model");
	const char *negative = sdh_settings_get(settings, "negative");
	int r = 0;

	if (*model)
		r = sdc_request_set_string(request, "model", model, NULL);
	if (r >= 0 && *negative)
		r = sdc_request_set_string(request, "negative_prompt", negative, NULL);
	return r < 0 ? r : sdh_style_apply(request, settings, NULL);
}

static int send_request(struct sdh_counter *counter, const struct sdh_settings *settings)
{
	sdc_request *request = sdc_request_new("prompt.count", NULL);
	int64_t call = -1;

	if (request && fill(request, settings) >= 0)
		call = sdc_call_async(counter->client, request, on_answer, counter, NULL);
	sdc_request_free(request);
	counter->under_way = call > 0;
	return call > 0 ? 0 : -1;
}

void sdh_counter_ask(struct sdh_counter *counter, const struct sdh_settings *settings)
{
	if (counter->under_way) {
		sdh_settings_free(counter->next);
		counter->next = sdh_settings_copy(settings);
		return;
	}
	if (!counter->client && sdc_connect(counter->socket, "sdd-plugin", 0, CONNECT_TIMEOUT_MS,
					    &counter->client, NULL) < 0) {
		tell(counter, "", "");
		return;
	}
	if (send_request(counter, settings) < 0) {
		hang_up(counter);
		tell(counter, "", "");
	}
	sdh_counter_dispatch(counter); /* so that it leaves at once */
}

int sdh_counter_fd(const struct sdh_counter *counter)
{
	return counter->client ? sdc_client_fd(counter->client) : -1;
}

int sdh_counter_events(const struct sdh_counter *counter)
{
	return counter->client ? sdc_client_events(counter->client) : 0;
}

int sdh_counter_dispatch(struct sdh_counter *counter)
{
	struct sdh_settings *next;

	if (!counter->client)
		return 1;
	if (sdc_client_dispatch(counter->client, NULL) < 0) {
		hang_up(counter);
		return 1;
	}
	next = counter->next;
	if (!counter->under_way && next) {
		counter->next = NULL;
		send_request(counter, next);
		sdh_settings_free(next);
		return sdh_counter_dispatch(counter); /* so that it leaves at once */
	}
	if (counter->under_way)
		return 0;
	hang_up(counter);
	return 1;
}
