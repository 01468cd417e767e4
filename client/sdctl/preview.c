/*
 * sdctl preview: one sketch of a job that runs or waits, whoever submitted it, without a preview every few steps.
 */
#include "client/sdctl/ask.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/sdctl/layers.h"

struct awaited {
	const struct context *context;
	int64_t job;
	const char *output;
	int result; /* an exit code, -1 while nothing has come */
};

static void save(struct awaited *awaited, const sdc_reply *reply)
{
	struct picture picture;
	char message[256] = "";
	sdc_error error = {0};
	sdc_image image;

	if (sdc_reply_image(reply, "pixels", &image, &error) < 0) {
		awaited->result = fail(&error);
		return;
	}
	awaited->result = layers_copy_picture(&image, &picture);
	if (awaited->result != EXIT_OK)
		return;
	if (picture_save_png(awaited->output, &picture, NULL, 0, message, sizeof(message)) < 0) {
		complain("%s", message);
		awaited->result = EXIT_FAILED;
	} else if (awaited->context->json) {
		fprintf(strcmp(awaited->output, "-") == 0 ? stderr : stdout,
			"{\"job\":%" PRIi64 ",\"step\":%" PRIi64 "}\n", awaited->job,
			int_at(reply, "step"));
	} else if (!awaited->context->quiet && strcmp(awaited->output, "-") != 0) {
		fprintf(stderr, "wrote %s (job %" PRIi64 ", behind step %" PRIi64 ")\n",
			awaited->output, awaited->job, int_at(reply, "step"));
	}
	picture_clear(&picture);
}

static void on_event(sdc_client *client, const char *event, const sdc_reply *reply, void *userdata)
{
	struct awaited *awaited = userdata;

	if (awaited->result >= 0 || int_at(reply, "job") != awaited->job)
		return;
	if (strcmp(event, "job.preview") == 0) {
		save(awaited, reply);
	} else if (strcmp(event, "job.done") == 0) {
		complain("job %" PRIi64
			 " is %s and no preview came before: it had made its last step, or "
			 "its model has no preview decoder",
			 awaited->job, string_at(reply, "state"));
		awaited->result = EXIT_FAILED;
	}
}

/* Ask, with this connection as one that hears of it. */
static int request_preview(sdc_client *client, const char *job)
{
	sdc_error error = {0};
	sdc_request *subscription = sdc_request_new("events.subscribe", &error);
	sdc_request *request = sdc_request_new("job.request_preview", &error);
	int r = subscription && request ? 0 : -1;

	if (r == 0)
		r = sdc_request_set_bool(subscription, "jobs", 1, &error);
	if (r >= 0)
		r = sdc_request_set_bool(subscription, "previews", 1, &error);
	if (r >= 0)
		r = sdc_request_set_text(request, "job", job, &error);
	if (r >= 0)
		r = sdc_call(client, subscription, -1, NULL, &error);
	if (r >= 0)
		r = sdc_call(client, request, -1, NULL, &error);
	sdc_request_free(subscription);
	sdc_request_free(request);
	return r < 0 ? fail(&error) : EXIT_OK;
}

int run_preview(const struct context *context, int argc, char **argv)
{
	const char *job, *output;
	struct awaited awaited = {.context = context, .result = -1};
	sdc_client *client;
	sdc_error error = {0};
	int r;

	r = job_and_file(find_verb(query_verbs, "preview"), argc, argv, &job, &output);
	if (r >= 0)
		return r;
	awaited.job = strtoll(job, NULL, 10);
	awaited.output = output;
	r = reach_daemon(context, &client);
	if (r != EXIT_OK)
		return r;
	sdc_client_on_event(client, on_event, &awaited);
	r = request_preview(client, job);
	while (r == EXIT_OK && awaited.result < 0) {
		struct pollfd pollfd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

		if (poll(&pollfd, 1, -1) > 0 && sdc_client_dispatch(client, &error) < 0)
			r = fail(&error);
	}
	sdc_client_free(client);
	return r == EXIT_OK ? awaited.result : r;
}
