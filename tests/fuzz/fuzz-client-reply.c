/*
 * A daemon gone mad: libsdclient has said hello, has a job and a call waiting, and then reads whatever the input says.
 * It must end every call once, never hang, and keep no descriptor.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char HELLO[] = "\x94\x01\x01\xc0\x83\xa6server\xa1x\xa3"
			    "api\x01\xa8instance\xa1x";

static void replied(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		    void *userdata)
{
	int *calls = userdata;

	if (!reply == !error || ++*calls > 1)
		abort();
}

static void done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	sdc_image image;

	replied(NULL, result, error, userdata);
	if (result && sdc_reply_image(result, "images.0.pixels", &image, NULL) == 0 &&
	    image.width < 1)
		abort();
}

static void changed(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	if (progress->step == 13)
		sdc_job_cancel(job, NULL);
}

static void preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	volatile uint8_t last =
		((const uint8_t *)image->data)[image->stride * (size_t)(image->height - 1)];
	(void)last;
}

static void event(sdc_client *client, const char *name, const sdc_reply *reply, void *userdata)
{
	free(sdc_reply_json(reply, ""));
}

static void session(sdc_client *client, int peer, const uint8_t *data, size_t size)
{
	int calls = 0, jobs = 0;
	const sdc_job_handlers handlers = {changed, preview, done, &jobs};
	sdc_request *status = sdc_request_new("status", NULL);
	sdc_request *txt2img = sdc_job_request_new("txt2img", NULL);
	sdc_job *job = NULL;

	sdc_client_on_event(client, event, NULL);
	if (sdc_call_async(client, status, replied, &calls, NULL) != 2 ||
	    sdc_job_submit(client, txt2img, &handlers, &job, NULL) < 0)
		abort();
	while (size > 0) {
		ssize_t n = send(peer, data, size < 777 ? size : 777, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			data += n, size -= (size_t)n;
		if (sdc_client_dispatch(client, NULL) < 0 && n < 0)
			break;
	}
	close(peer);
	while (sdc_client_dispatch(client, NULL) >= 0)
		;
	if (calls != 1 || jobs != 1)
		abort();
	sdc_job_free(job);
	sdc_request_free(status);
	sdc_request_free(txt2img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	sdc_client *client;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ||
	    write(pair[0], HELLO, sizeof(HELLO) - 1) != sizeof(HELLO) - 1 ||
	    sdc_client_adopt(pair[1], "fuzz", 0, 1000, &client, NULL) < 0)
		abort();
	session(client, pair[0], data, size);
	sdc_client_free(client);
	int next = dup(0); /* descriptors that stayed would push it up */
	if (next > 64)
		abort();
	close(next);
	return 0;
}
