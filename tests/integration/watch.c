/*
 * Following jobs and comparing their pictures, for tests that let them be interrupted; see harness.h.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_progress(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	struct watch *watch = userdata;

	assert_true(progress->step >= watch->step);
	watch->step = progress->step;
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct watch *watch = userdata;

	watch->done++;
	watch->code = error ? error->code : 0;
}

sdc_job *submit_watched(sdc_client *client, sdc_request *request, const char *priority,
			struct watch *watch)
{
	const sdc_job_handlers handlers = {
		.progress = on_progress, .done = on_done, .userdata = watch};
	sdc_error error = {0};
	sdc_job *job = NULL;

	*watch = (struct watch){0};
	assert_int_equal(sdc_request_set_string(request, "priority", priority, &error), 0);
	if (sdc_job_submit(client, request, &handlers, &job, &error) < 0)
		fail_msg("submit: %s", error.message);
	sdc_request_free(request);
	return job;
}

void turn_clients(sdc_client *const *clients, size_t n, int ms)
{
	struct pollfd fds[TURN_CLIENTS_MAX];

	assert_in_range(n, 1, TURN_CLIENTS_MAX);
	for (size_t i = 0; i < n; i++)
		fds[i] = (struct pollfd){sdc_client_fd(clients[i]),
					 (short)sdc_client_events(clients[i]), 0};
	poll(fds, n, ms);
	for (size_t i = 0; i < n; i++)
		assert_true(sdc_client_dispatch(clients[i], NULL) >= 0);
}

void turn_client(sdc_client *client, int ms)
{
	turn_clients(&client, 1, ms);
}

struct result result_of(const sdc_reply *reply)
{
	const size_t n = sdc_reply_count(reply, "images");
	struct result picture = {0};
	sdc_error error = {0};
	sdc_image image;
	char path[48];

	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "images.%zu.pixels", i);
		assert_int_equal(sdc_reply_image(reply, path, &image, &error), 0);
		const size_t size = image.stride * (size_t)image.height;

		picture.bytes = realloc(picture.bytes, picture.size + size);
		assert_non_null(picture.bytes);
		memcpy(picture.bytes + picture.size, image.data, size);
		picture.size += size;
	}
	return picture;
}

void assert_result(const struct result *right, const sdc_reply *reply)
{
	struct result picture = result_of(reply);

	assert_int_equal(picture.size, right->size);
	assert_memory_equal(picture.bytes, right->bytes, right->size);
	free(picture.bytes);
}

sdc_reply *call_request(sdc_client *client, sdc_request *request)
{
	sdc_error error = {0};
	sdc_reply *reply = NULL;

	if (sdc_call(client, request, 120000, &reply, &error) < 0)
		fail_msg("%s", error.message);
	sdc_request_free(request);
	return reply;
}
