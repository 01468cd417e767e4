/*
 * See task.h. Results are put into the document after the client library's callbacks have returned: a host may then do
 * whatever it likes, also free the task.
 */
#include "plugins/common/task.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plugins/common/daemon.h"
#include "plugins/common/fail.h"
#include "plugins/common/pictures.h"
#include "plugins/common/results.h"
#include "plugins/common/selection.h"
#include "plugins/common/text.h"

struct sdh_task {
	struct sdh_host host;
	struct sdh_settings *settings;
	struct sdh_document document;
	struct sdh_plan plan;
	sdc_client *client;
	sdc_job *job;
	sdc_request *request; /* what was sent */
	bool answered, ended, tiled;
	sdc_error error; /* code 0 after success */
	struct sdh_timings timings;
	double begun_ms, sent_ms;
	char warnings[1024];
};

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void tell(struct sdh_task *task, double fraction, const char *text)
{
	if (task->host.progress)
		task->host.progress(task->host.watcher, fraction, text);
}

static void on_progress(sdc_job *job, const sdc_progress *now, void *userdata)
{
	struct sdh_task *task = userdata;
	char text[128];

	if (now->position >= 0) {
		snprintf(
			text, sizeof(text),
			P_("Waiting: %d job is first", "Waiting: %d jobs are first", now->position),
			now->position);
		tell(task, -1, now->position ? text : _("Waiting for the engine"));
	} else if (now->stage == SDC_STAGE_LOAD) {
		tell(task, -1, _("Loading the model"));
	} else if (now->stage == SDC_STAGE_ENCODE) {
		tell(task, 0, _("Reading prompt and picture"));
	} else if (now->stage == SDC_STAGE_STEPS && now->total > 0) {
		snprintf(text, sizeof(text), _("Step %d of %d"), now->step, now->total);
		tell(task, (double)now->step / now->total, text);
	} else if (now->stage == SDC_STAGE_DECODE) {
		tell(task, 1, _("Finishing the picture"));
	}
}

static void on_preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	struct sdh_task *task = userdata;

	if (task->host.preview)
		task->host.preview(task->host.watcher, image);
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct sdh_task *task = userdata;

	task->answered = true;
	if (error) {
		task->error = *error;
		if (error->code != SDC_E_NO_MEMORY)
			sdh_explain(&task->error);
	}
}

static int submit(struct sdh_task *task, sdc_error *error)
{
	const sdc_job_handlers handlers = {
		.progress = on_progress, .preview = on_preview, .done = on_done, .userdata = task};

	task->sent_ms = now_ms();
	return sdc_job_submit(task->client, task->request, &handlers, &task->job, error);
}

/* From the document to the daemon: what is selected, what of the canvas is needed, that part, and off it goes. */
static int send_job(struct sdh_task *task, const char *socket, sdc_error *error)
{
	const struct sdh_host *host = &task->host;
	struct sdh_mask mask = {0};
	struct sdh_rect area;
	double before_ms;
	int r;

	r = sdh_mask_read(&task->plan, host, &task->document, task->settings, &mask, error);
	before_ms = now_ms();
	if (r >= 0)
		r = sdh_connect(socket, &task->client, error);
	if (r >= 0)
		r = sdh_area_ask(task->client, &task->plan, task->settings, &task->document, &mask,
				 &area, error);
	if (r < 0)
		sdh_explain(error);
	task->timings.plan_ms = now_ms() - before_ms;
	if (r >= 0) {
		task->request =
			sdh_request_new(&task->plan, task->settings, &task->document, error);
		r = task->request ? 0 : error->code;
	}
	if (r >= 0)
		r = sdh_pictures_attach(task->request, &task->plan, host, &task->document, &mask,
					area, &task->timings.sent_bytes, error);
	sdh_mask_clear(&mask);
	task->timings.read_ms = now_ms() - task->begun_ms - task->timings.plan_ms;
	return r < 0 ? r : submit(task, error);
}

/* What is selected now goes before what a stored job had selected. */
static void choose_selection(struct sdh_task *task)
{
	if (task->document.selection.width > 0)
		sdh_settings_set(task->settings, "selection", NULL, NULL);
	else
		sdh_selection_bounds(sdh_settings_get(task->settings, "selection"),
				     &task->document.selection);
}

int sdh_task_new(const struct sdh_host *host, const struct sdh_settings *settings,
		 const char *socket, struct sdh_task **ret_task, sdc_error *ret_error)
{
	struct sdh_task *task = calloc(1, sizeof(*task));
	sdc_error ignored, *error = ret_error ? ret_error : &ignored;
	int r;

	if (!task)
		return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	*error = (sdc_error){0};
	task->begun_ms = now_ms();
	task->host = *host;
	task->settings = sdh_settings_copy(settings);
	r = task->settings ? 0 : sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	if (r >= 0)
		r = host->describe(host->userdata, &task->document, error);
	if (r >= 0)
		choose_selection(task);
	if (r >= 0)
		r = sdh_plan_init(&task->plan, task->settings, &task->document, error);
	if (r >= 0)
		r = send_job(task, socket, error);
	if (r < 0) {
		sdh_task_free(task);
		return r;
	}
	*ret_task = task;
	return 0;
}

struct sdh_task *sdh_task_free(struct sdh_task *task)
{
	if (!task)
		return NULL;
	sdc_job_free(task->job);
	sdc_request_free(task->request);
	sdc_client_free(task->client);
	sdh_settings_free(task->settings);
	free(task);
	return NULL;
}

int sdh_task_fd(const struct sdh_task *task)
{
	return sdc_client_fd(task->client);
}

int sdh_task_events(const struct sdh_task *task)
{
	return sdc_client_events(task->client);
}

static void take_timings(struct sdh_task *task, const sdc_reply *reply)
{
	static const char *const computing[] = {"load_ms", "encode_ms", "steps_ms", "decode_ms"};
	uint64_t ms = 0;
	char path[32];

	sdc_reply_uint(reply, "timings.queue_ms", &ms);
	task->timings.queue_ms = (double)ms;
	for (size_t i = 0; i < sizeof(computing) / sizeof(computing[0]); i++) {
		ms = 0;
		snprintf(path, sizeof(path), "timings.%s", computing[i]);
		sdc_reply_uint(reply, path, &ms);
		task->timings.compute_ms += (double)ms;
	}
	task->timings.transport_ms =
		now_ms() - task->sent_ms - task->timings.queue_ms - task->timings.compute_ms;
	for (size_t i = 0; i < sdc_reply_count(reply, "warnings"); i++) {
		const size_t used = strlen(task->warnings);
		const char *text = "";

		snprintf(path, sizeof(path), "warnings.%zu", i);
		sdc_reply_string(reply, path, &text);
		snprintf(task->warnings + used, sizeof(task->warnings) - used, "%s%s",
			 used ? " " : "", text);
	}
}

static void finish(struct sdh_task *task)
{
	const sdc_reply *reply = sdc_job_result(task->job);
	double before_ms;

	task->ended = true;
	if (task->error.code == 0) {
		take_timings(task, reply);
		before_ms = now_ms();
		if (sdh_results_deliver(reply, &task->host, task->settings, &task->plan,
					&task->document, &task->error) == 0)
			task->error.code = 0;
		task->timings.insert_ms = now_ms() - before_ms;
	}
	task->timings.total_ms = now_ms() - task->begun_ms;
	if (task->host.done)
		task->host.done(task->host.watcher, task->error.code ? &task->error : NULL);
}

/*
 * Refused for want of memory: where the autoencoder in tiles would fit, ask for that, once, instead of asking the artist to find a setting.
 * True when the job is on its way again; else the error tells what would help.
 */
static bool tries_tiles(struct sdh_task *task)
{
	sdc_shortage shortage = {0};

	if (task->error.code != SDC_E_NO_MEMORY)
		return false;
	sdc_client_shortage(task->client, &shortage);
	if (!task->tiled && strcmp(shortage.remedy, "vae_tiling") == 0 &&
	    sdc_request_set_bool(task->request, "vae_tiling", 1, NULL) == 0) {
		task->tiled = true;
		task->answered = false;
		task->error = (sdc_error){0};
		task->job = sdc_job_free(task->job);
		if (submit(task, &task->error) == 0)
			return true;
		task->answered = true;
	}
	sdh_explain_shortage(&task->error, &shortage);
	return false;
}

int sdh_task_dispatch(struct sdh_task *task)
{
	if (task->ended)
		return 1;
	sdc_client_dispatch(task->client, NULL);
	if (!task->answered || tries_tiles(task))
		return 0;
	finish(task);
	return 1;
}

void sdh_task_cancel(struct sdh_task *task)
{
	if (!task->answered)
		sdc_job_cancel(task->job, NULL);
}

int sdh_task_run(struct sdh_task *task, sdc_error *ret_error)
{
	while (sdh_task_dispatch(task) == 0) {
		struct pollfd fd = {sdh_task_fd(task), (short)sdh_task_events(task), 0};

		poll(&fd, 1, -1);
	}
	if (ret_error)
		*ret_error = task->error;
	return task->error.code;
}

void sdh_task_timings(const struct sdh_task *task, struct sdh_timings *ret_timings)
{
	*ret_timings = task->timings;
}

const char *sdh_task_warnings(const struct sdh_task *task)
{
	return task->warnings;
}
