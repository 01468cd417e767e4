/*
 * libsdclient against a scripted peer: hello, calls, jobs with their events, cancelling before the number is known,
 * pictures both ways, a daemon that dies at each point, and nothing leaked.
 */
#include "wire.h"

#include "client/internal.h"

struct fixture {
	int fds;
	struct sdp_connection *peer;
	sdc_client *client;
};

static const struct sdp_connection_options OPTIONS = {.inline_max = SDP_INLINE_MAX};

static void queue_hello(struct sdp_connection *peer, uint32_t msgid)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_response(&w, msgid);
	sdp_writer_string(&w, "server", "script");
	sdp_writer_int(&w, "api", 1);
	sdp_writer_string(&w, "instance", "x");
	assert_int_equal(sdp_connection_queue(peer, &w, 0), 0);
	assert_int_equal(sdp_connection_write(peer), 0);
}

static struct sdp_message *receive(struct sdp_connection *peer)
{
	struct sdp_message *m = NULL;
	struct sdp_error error;

	while (sdp_connection_pop(peer, &m, &error) == 0)
		assert_int_equal(sdp_connection_read(peer, &error), 1);
	assert_non_null(m);
	return m;
}

/* Receive a request, check its name and its shape as the daemon would; returns its id. */
static uint32_t expect(struct fixture *f, const char *method)
{
	struct sdp_record *record;
	struct sdp_error error = {0};

	struct sdp_message *m = receive(f->peer);
	uint32_t id = m->msgid;
	assert_int_equal(m->kind, SDP_REQUEST);
	assert_string_equal(m->name, method);
	if (sdp_record_decode(m, m->method->params, SDP_STRICT, &record, &error) < 0)
		fail_msg("%s", error.message);
	sdp_message_free(m);
	return id;
}

static void adopt(struct fixture *f, unsigned flags)
{
	sdc_error error = {0};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(sdp_connection_new(pair[0], &OPTIONS, &f->peer), 0);
	queue_hello(f->peer, 1);
	if (sdc_client_adopt(pair[1], "test", flags, 1000, &f->client, &error) < 0)
		fail_msg("%s", error.message);
	assert_int_equal(expect(f, "hello"), 1);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->fds = count_fds();
	adopt(f, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sdc_client_free(f->client);
	sdp_connection_free(f->peer);
	assert_int_equal(count_fds(), f->fds);
	free(f);
	return 0;
}

static void hang_up(struct fixture *f)
{
	f->peer = sdp_connection_free(f->peer);
}

static void answer(struct fixture *f, struct sdp_writer *w)
{
	assert_int_equal(sdp_connection_queue(f->peer, w, 0), 0);
	assert_int_equal(sdp_connection_write(f->peer), 0);
}

static void test_hello(void **state)
{
	struct fixture *f = *state;
	const char *text;
	int64_t api;

	assert_int_equal(sdc_reply_string(sdc_client_hello(f->client), "server", &text), 0);
	assert_string_equal(text, "script");
	assert_int_equal(sdc_reply_int(sdc_client_hello(f->client), "api", &api), 0);
	assert_int_equal(sdc_reply_int(sdc_client_hello(f->client), "server", &api),
			 SDC_E_BAD_VALUE);
	assert_int_equal(sdc_reply_int(sdc_client_hello(f->client), "nothing", &api),
			 SDC_E_NOT_FOUND);
	assert_int_equal(api, 1);
}

static void test_call(void **state)
{
	struct fixture *f = *state;
	struct sdp_writer w = SDP_WRITER_INIT;
	sdc_request *request = sdc_request_new("status", NULL);
	sdc_reply *reply = NULL;
	sdc_error error;
	const char *text = NULL;
	uint64_t rss;
	double real;
	int flag = 7;

	sdp_writer_response(&w, 2); /* the script knows the next id */
	sdp_writer_uint(&w, "rss_bytes", UINT64_MAX);
	sdp_writer_string(&w, "of_tomorrow", "a\tb");
	sdp_writer_list_begin(&w, "models");
	for (int i = 0; i < 3; i++) {
		sdp_writer_map_begin(&w, NULL);
		sdp_writer_string(&w, "name", i == 2 ? "last" : "other");
		sdp_writer_string(&w, "state", "loaded");
		sdp_writer_double(&w, "default_guidance", 7.5);
		sdp_writer_bool(&w, "default", i == 2);
		sdp_writer_end(&w);
	}
	answer(f, &w);
	assert_int_equal(sdc_call(f->client, request, 1000, &reply, &error), 0);
	assert_int_equal(sdc_reply_uint(reply, "rss_bytes", &rss), 0);
	assert_true(rss == UINT64_MAX);
	assert_int_equal(sdc_reply_count(reply, "models"), 3);
	assert_int_equal(sdc_reply_count(reply, "models.0"), 0);
	assert_int_equal(sdc_reply_string(reply, "models.2.name", &text), 0);
	assert_string_equal(text, "last");
	assert_int_equal(sdc_reply_bool(reply, "models.2.default", &flag), 0);
	assert_int_equal(flag, 1);
	assert_int_equal(sdc_reply_double(reply, "models.1.default_guidance", &real), 0);
	assert_true(real == 7.5);
	assert_int_equal(sdc_reply_string(reply, "models.3.name", &text), SDC_E_NOT_FOUND);
	assert_int_equal(sdc_reply_string(reply, "models.x.name", &text), SDC_E_NOT_FOUND);
	assert_int_equal(sdc_reply_string(reply, "models.2.name.x", &text), SDC_E_NOT_FOUND);
	char *json = sdc_reply_json(reply, "models.0");
	assert_string_equal(json,
			    "{\"name\":\"other\",\"state\":\"loaded\",\"default_guidance\":7.5,"
			    "\"default\":false}");
	free(json);
	assert_null(sdc_reply_json(reply, "nothing"));
	sdc_reply_free(reply);
	sdc_request_free(request);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error why = {
		.code = SDP_CODE_BUSY, .retry_ms = 1500, .field = "x", .message = "full"};
	sdc_request *request = sdc_request_new("ping", NULL);
	sdc_reply *reply = NULL;
	sdc_shortage shortage;
	sdc_error error;

	sdp_writer_failure(&w, 2, &why);
	answer(f, &w);
	assert_int_equal(sdc_call(f->client, request, 1000, &reply, &error), SDC_E_BUSY);
	assert_int_equal(error.code, SDC_E_BUSY);
	assert_int_equal(error.retry_ms, 1500);
	assert_string_equal(error.field, "x");
	assert_string_equal(error.message, "full");
	assert_null(reply);
	assert_int_equal(sdc_client_shortage(f->client, &shortage), SDC_E_NOT_FOUND);
	/* a malformed answer ends the call, not the connection */
	sdp_writer_response(&w, 3);
	sdp_writer_int(&w, "version", 1);
	answer(f, &w);
	sdc_request *status = sdc_request_new("api.info", NULL);
	assert_int_equal(sdc_call(f->client, status, 1000, &reply, &error), SDC_E_PROTOCOL);
	sdc_request_free(status);
	/* no answer: a timeout, and the late answer is dropped */
	assert_int_equal(sdc_call(f->client, request, 10, &reply, &error), SDC_E_TIMEOUT);
	sdp_writer_response(&w, 4);
	answer(f, &w);
	assert_int_equal(sdc_client_dispatch(f->client, &error), 1);
	/* an answer to nothing is the end */
	sdp_writer_response(&w, 99);
	answer(f, &w);
	assert_int_equal(sdc_client_dispatch(f->client, &error), SDC_E_PROTOCOL);
	assert_int_equal(sdc_client_dispatch(f->client, &error), SDC_E_PROTOCOL);
	assert_int_equal(sdc_call(f->client, request, 10, &reply, &error), SDC_E_PROTOCOL);
	assert_int_equal(sdc_client_fd(f->client), -1);
	sdc_request_free(request);
}

/* One without figures takes back what an earlier one said. */
static void test_shortage(void **state)
{
	struct fixture *f = *state;
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error why = {.code = SDP_CODE_NO_MEMORY,
				.needed_bytes = 5200000000,
				.free_bytes = 4100000000,
				.remedy = "vae_tiling",
				.message = "too little"};
	sdc_request *request = sdc_request_new("ping", NULL);
	sdc_shortage shortage;
	sdc_error error;

	sdp_writer_failure(&w, 2, &why);
	answer(f, &w);
	assert_int_equal(sdc_call(f->client, request, 1000, NULL, &error), SDC_E_NO_MEMORY);
	assert_int_equal(sdc_client_shortage(f->client, &shortage), 0);
	assert_true(shortage.needed_bytes == 5200000000 && shortage.free_bytes == 4100000000);
	assert_string_equal(shortage.remedy, "vae_tiling");
	why.needed_bytes = 0;
	sdp_writer_failure(&w, 3, &why);
	answer(f, &w);
	assert_int_equal(sdc_call(f->client, request, 1000, NULL, &error), SDC_E_NO_MEMORY);
	assert_int_equal(sdc_client_shortage(f->client, &shortage), SDC_E_NOT_FOUND);
	sdc_request_free(request);
}

/* The codes of the public header are the daemon's, negated. */
static void test_codes(void **state)
{
	assert_int_equal(SDC_E_BAD_MESSAGE, -SDP_CODE_BAD_MESSAGE);
	assert_int_equal(SDC_E_BAD_PIXELS, -SDP_CODE_BAD_PIXELS);
	assert_int_equal(SDC_E_BUSY, -SDP_CODE_BUSY);
	assert_int_equal(SDC_E_CANCELLED, -SDP_CODE_CANCELLED);
	assert_int_equal(SDC_E_WORKER_LOST, -SDP_CODE_WORKER_LOST);
	assert_int_equal(SDC_E_INTERNAL, -SDP_CODE_INTERNAL);
	assert_string_equal(sdc_code_name(SDC_E_MODEL_ERROR), "model_error");
	assert_string_equal(sdc_code_name(SDC_E_DISCONNECTED), "disconnected");
	assert_int_equal(SDC_F32, SDP_SAMPLE_TYPE_F32);
	assert_int_equal(SDC_STAGE_DECODE, SDP_STAGE_DECODE);
}

struct counter {
	int progress, previews, done, events;
	sdc_progress last;
	int code, preview_width;
};

static void on_progress(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	struct counter *n = userdata;

	n->progress++;
	n->last = *progress;
}

static void on_preview(sdc_job *job, const sdc_image *image, void *userdata)
{
	struct counter *n = userdata;

	n->previews++;
	n->preview_width = image->width;
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct counter *n = userdata;

	n->done++;
	n->code = error ? error->code : 0;
	assert_true(!result != !error);
	assert_int_equal(sdc_job_wait(job, 0, NULL), n->code);
}

static void on_event(sdc_client *client, const char *event, const sdc_reply *reply, void *userdata)
{
	((struct counter *)userdata)->events++;
}

static void job_event(struct fixture *f, const char *event, int64_t job, uint32_t request,
		      const char *stage, int step)
{
	struct sdp_writer w = SDP_WRITER_INIT;

	sdp_writer_event(&w, event);
	sdp_writer_int(&w, "job", job);
	if (request)
		sdp_writer_uint(&w, "request", request);
	if (stage) {
		sdp_writer_string(&w, "stage", stage);
		sdp_writer_int(&w, "step", step);
		sdp_writer_int(&w, "total", 20);
		sdp_writer_int(&w, "eta_ms", 3000);
	}
	answer(f, &w);
}

static sdc_job *submit(struct fixture *f, struct counter *n, uint32_t *ret_msgid)
{
	const sdc_job_handlers handlers = {on_progress, on_preview, on_done, n};
	sdc_request *request = sdc_job_request_new("txt2img", NULL);
	sdc_job *job = NULL;
	sdc_error error;

	assert_int_equal(sdc_request_set_int(request, "preview", 5, NULL), 0);
	assert_int_equal(sdc_job_submit(f->client, request, &handlers, &job, &error), 0);
	sdc_request_free(request);
	assert_int_equal(sdc_client_dispatch(f->client, &error), 0);
	*ret_msgid = expect(f, "job.submit");
	return job;
}

static void test_job(void **state)
{
	struct fixture *f = *state;
	struct counter n = {0};
	struct sdp_buffer b;
	struct sdp_pixels p = sealed_pixels(16, 8, 4, SDP_SAMPLE_TYPE_U8, 5, &b);
	struct sdp_writer w = SDP_WRITER_INIT;
	sdc_error error;
	sdc_image image;
	uint32_t id;
	int64_t seed = 0;

	sdc_client_on_event(f->client, on_event, &n);
	sdc_job *job = submit(f, &n, &id);
	assert_int_equal(sdc_job_id(job), 0);
	job_event(f, "job.queued", 41, 12345, NULL, 0); /* another connection's, for a subscriber */
	job_event(f, "job.queued", 42, id, NULL, 0);
	job_event(f, "job.started", 42, 0, NULL, 0);
	job_event(f, "job.progress", 42, 0, "steps", 7);
	job_event(f, "job.progress", 41, 0, "steps", 19);
	sdp_writer_event(&w, "job.preview");
	sdp_writer_int(&w, "job", 42);
	sdp_writer_pixels(&w, "pixels", &p);
	answer(f, &w);
	sdp_writer_event(&w, "event.of.tomorrow");
	answer(f, &w);
	assert_int_equal(sdc_client_dispatch(f->client, &error), 7);
	assert_int_equal(sdc_job_id(job), 42);
	assert_int_equal(n.progress, 3);
	assert_int_equal(n.last.step, 7);
	assert_int_equal(n.last.total, 20);
	assert_int_equal(n.last.stage, SDC_STAGE_STEPS);
	assert_int_equal(n.last.position, -1);
	assert_int_equal(n.last.eta_ms, 3000);
	assert_int_equal(n.previews, 1);
	assert_int_equal(n.preview_width, 16);
	assert_int_equal(n.events, 6);
	assert_int_equal(sdc_job_wait(job, 0, &error), SDC_E_TIMEOUT);
	assert_null(sdc_job_result(job));

	sdp_writer_response(&w, id);
	sdp_writer_int(&w, "job", 42);
	sdp_writer_string(&w, "state", "done");
	sdp_writer_list_begin(&w, "images");
	sdp_writer_map_begin(&w, NULL);
	sdp_writer_pixels(&w, "pixels", &p);
	sdp_writer_int(&w, "seed", 8);
	answer(f, &w);
	assert_int_equal(sdc_job_wait(job, 1000, &error), 0);
	assert_int_equal(n.done, 1);
	assert_int_equal(n.code, 0);
	assert_int_equal(sdc_job_ended(job), 1);
	hang_up(f);
	assert_int_equal(sdc_client_dispatch(f->client, &error), SDC_E_DISCONNECTED);
	/* the result outlives the connection */
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error), 0);
	assert_int_equal(((const uint8_t *)image.data)[16 * 8 * 4 - 1], 5);
	assert_int_equal(sdc_reply_int(sdc_job_result(job), "images.0.seed", &seed), 0);
	assert_int_equal(seed, 8);
	assert_int_equal(sdc_reply_image(sdc_job_result(job), "images.1.pixels", &image, &error),
			 SDC_E_NOT_FOUND);
	assert_int_equal(sdc_reply_image(sdc_job_result(job), "state", &image, &error),
			 SDC_E_BAD_VALUE);
	assert_int_equal(n.done, 1);
	sdc_job_free(job);
	sdp_buffer_clear(&b);
}

static void test_cancel_before_number(void **state)
{
	struct fixture *f = *state;
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error why = {.code = SDP_CODE_CANCELLED, .message = "cancelled"};
	struct counter n = {0};
	sdc_error error;
	uint32_t id;

	sdc_job *job = submit(f, &n, &id);
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	job_event(f, "job.queued", 6, id, NULL, 0);
	sdc_client_dispatch(f->client, &error);
	expect(f, "job.cancel");
	sdp_writer_failure(&w, id, &why);
	answer(f, &w);
	assert_int_equal(sdc_job_wait(job, 1000, &error), SDC_E_CANCELLED);
	assert_int_equal(n.done, 1);
	assert_int_equal(sdc_job_cancel(job, &error), 0);
	sdc_job_free(job);
}

/* Freed with a number and without: cancelled each time, and no handler is called any more. */
static void test_free_running(void **state)
{
	struct fixture *f = *state;
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error why = {.code = SDP_CODE_CANCELLED, .message = "cancelled"};

	for (int known = 0; known < 2; known++) {
		struct counter n = {0};
		sdc_error error;
		uint32_t id;
		sdc_job *job = submit(f, &n, &id);

		if (known) {
			job_event(f, "job.queued", 7, id, NULL, 0);
			sdc_client_dispatch(f->client, &error);
		}
		sdc_job_free(job);
		if (!known)
			job_event(f, "job.queued", 8, id, NULL, 0);
		sdc_client_dispatch(f->client, &error);
		expect(f, "job.cancel");
		sdp_writer_failure(&w, id, &why);
		answer(f, &w);
		assert_int_equal(sdc_client_dispatch(f->client, &error), 1);
		assert_int_equal(n.done, 0);
		assert_int_equal(n.progress, known);
	}
}

/* The daemon dies with a job, a call and a blocking call waiting: each ends once, none hangs. */
static void test_death(void **state)
{
	struct fixture *f = *state;
	struct counter n = {0};
	sdc_request *ping = sdc_request_new("ping", NULL);
	sdc_reply *reply = NULL;
	sdc_error error = {0};
	uint32_t id;

	sdc_job *job = submit(f, &n, &id);
	sdc_job *orphan = submit(f, &n, &id);
	sdc_job_free(orphan);
	hang_up(f);
	assert_int_equal(sdc_call(f->client, ping, -1, &reply, &error), SDC_E_DISCONNECTED);
	assert_true(error.message[0]);
	assert_int_equal(n.done, 1);
	assert_int_equal(n.code, SDC_E_DISCONNECTED);
	assert_int_equal(sdc_job_wait(job, -1, &error), SDC_E_DISCONNECTED);
	sdc_client_free(f->client);
	f->client = NULL;
	sdc_job_free(job); /* after the client */
	sdc_request_free(ping);
}

/* Freeing the client ends what waits. */
static void test_free_client(void **state)
{
	struct fixture *f = *state;
	struct counter n = {0};
	uint32_t id;

	sdc_job *job = submit(f, &n, &id);
	f->client = sdc_client_free(f->client);
	assert_int_equal(n.done, 1);
	assert_int_equal(sdc_job_ended(job), 1);
	sdc_job_free(job);
}

static void blocking_inside(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	struct fixture *f = userdata;
	sdc_request *ping = sdc_request_new("ping", NULL);
	sdc_error error;

	assert_int_equal(sdc_call(f->client, ping, -1, NULL, &error), SDC_E_BAD_REQUEST);
	assert_int_equal(sdc_job_wait(job, -1, &error), SDC_E_BAD_REQUEST);
	assert_int_equal(sdc_client_dispatch(f->client, &error), SDC_E_BAD_REQUEST);
	sdc_request_free(ping);
	f->fds += 1000; /* it ran */
}

static void test_blocking_in_callback(void **state)
{
	struct fixture *f = *state;
	const sdc_job_handlers handlers = {.progress = blocking_inside, .userdata = f};
	sdc_request *request = sdc_job_request_new("txt2img", NULL);
	sdc_job *job;
	sdc_error error;

	assert_int_equal(sdc_job_submit(f->client, request, &handlers, &job, &error), 0);
	sdc_client_dispatch(f->client, &error);
	job_event(f, "job.queued", 1, expect(f, "job.submit"), NULL, 0);
	sdc_client_dispatch(f->client, &error);
	assert_true(f->fds > 1000);
	f->fds -= 1000;
	sdc_job_free(job);
	sdc_request_free(request);
}

static void test_request_setters(void **state)
{
	sdc_request *r = sdc_job_request_new("inpaint", NULL);
	sdc_error error;

	assert_int_equal(sdc_request_set_int(r, "steps", 20, &error), 0);
	assert_int_equal(sdc_request_set_int(r, "steps", 1001, &error), SDC_E_BAD_VALUE);
	assert_string_equal(error.field, "steps");
	assert_non_null(strstr(error.message, "1000"));
	assert_int_equal(sdc_request_set_int(r, "stepps", 1, &error), SDC_E_UNKNOWN_FIELD);
	assert_string_equal(error.field, "stepps");
	assert_int_equal(sdc_request_set_text(r, "guidance_scale", "7.5", &error), 0);
	assert_int_equal(sdc_request_set_text(r, "steps", "2x", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "steps", "-3", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "steps", "", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "steps", "99999999999999999999999", &error),
			 SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "seed", "18446744073709551615", &error), 0);
	assert_int_equal(sdc_request_set_text(r, "color_match", "no", &error), 0);
	assert_int_equal(sdc_request_set_text(r, "color_match", "maybe", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "select", "-1,2,30,40", &error), 0);
	assert_int_equal(sdc_request_set_text(r, "select", "1,2,30", &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_text(r, "context", "selection", &error), 0);
	assert_int_equal(sdc_request_set_rect(r, "context", 1, 2, 3, 4, &error), 0);
	assert_int_equal(sdc_request_set_double(r, "strength", 2, &error), SDC_E_BAD_VALUE);
	assert_int_equal(sdc_request_set_string(r, "prompt", "\xff", &error), SDC_E_BAD_VALUE);
	char *json = sdc_request_json(r);
	assert_string_equal(json,
			    "{\"kind\":\"inpaint\",\"seed\":18446744073709551615,\"steps\":20,"
			    "\"guidance_scale\":7.5,\"select\":[-1,2,30,40],\"context\":[1,2,3,4],"
			    "\"color_match\":false}");
	free(json);
	sdc_request_free(r);
	assert_null(sdc_request_new("nonsense", &error));
	assert_int_equal(error.code, SDC_E_UNKNOWN_METHOD);
	assert_null(sdc_request_new("worker.run", &error));
	assert_null(sdc_job_request_new("paint", &error));
	assert_int_equal(error.code, SDC_E_BAD_VALUE);
}

static void test_pictures_sent(void **state)
{
	struct fixture *f = *state;
	uint8_t padded[4][40];
	sdc_image image = {.width = 10, .height = 4, .channels = 3, .stride = 40, .data = padded};
	sdc_error error;

	for (int y = 0; y < 4; y++)
		memset(padded[y], y, 40);
	for (int way = 0; way < 4; way++) {
		sdc_request *r = sdc_job_request_new("img2img", NULL);

		sdc_client_free(f->client);
		hang_up(f);
		adopt(f, way & 1 ? SDC_INLINE_PIXELS : 0);
		if (way < 2) {
			assert_int_equal(sdc_request_set_image(r, "image", &image, &error), 0);
		} else {
			sdc_pixels *p = sdc_pixels_new(10, 4, 3, SDC_U8, &error);
			uint8_t *data = sdc_pixels_data(p);

			assert_int_equal(sdc_pixels_set_icc(p, "profile", 7, &error), 0);
			for (int y = 0; y < 4; y++)
				memset(data + y * 30, y, 30);
			assert_int_equal(sdc_request_set_pixels(r, "image", p, &error), 0);
			assert_null(sdc_pixels_data(p));
			assert_int_equal(sdc_pixels_set_icc(p, "profile", 7, &error),
					 SDC_E_BAD_REQUEST);
			assert_int_equal(sdc_request_set_pixels(r, "image", p, &error), 0);
			sdc_pixels_free(p);
		}
		assert_true(sdc_call_async(f->client, r, NULL, NULL, &error) > 0);
		sdc_client_dispatch(f->client, &error);
		struct sdp_message *m = receive(f->peer);
		struct sdp_record *record;
		struct sdp_mapping map;
		struct sdp_error why = {0};
		if (sdp_record_decode(m, &sdp_struct_job_submit, SDP_STRICT, &record, &why) < 0)
			fail_msg("%s", why.message);
		assert_int_equal(m->n_fds, !(way & 1));
		const struct sdp_pixels *p = sdp_record_pixels(record, SDP_JOB_SUBMIT_IMAGE);
		assert_int_equal(p->icc_size, way < 2 ? 0 : 7);
		assert_int_equal(sdp_pixels_map(p, &map, &why), 0);
		for (size_t y = 0; y < 4; y++)
			assert_memory_equal(map.data + y * p->stride, padded[y], 30);
		sdp_mapping_clear(&map);
		sdp_message_free(m);
		sdc_request_free(r);
	}
	image.stride = 29;
	sdc_request *r = sdc_job_request_new("img2img", NULL);
	assert_int_equal(sdc_request_set_image(r, "image", &image, &error), SDC_E_BAD_PIXELS);
	assert_int_equal(sdc_request_set_image(r, "prompt", &image, &error), SDC_E_BAD_PIXELS);
	image.stride = 0;
	assert_int_equal(sdc_request_set_image(r, "prompt", &image, &error), SDC_E_UNKNOWN_FIELD);
	image.channels = 5;
	assert_int_equal(sdc_request_set_image(r, "image", &image, &error), SDC_E_BAD_PIXELS);
	image.channels = 3;
	assert_int_equal(
		sdc_request_set_image_fd(r, "image", &image, sdc_client_fd(f->client), 0, &error),
		SDC_E_BAD_PIXELS);
	struct sdp_buffer b;
	sealed_pixels(10, 4, 3, SDP_SAMPLE_TYPE_U8, 0, &b);
	assert_int_equal(sdc_request_set_image_fd(r, "image", &image, b.fd, 1, &error),
			 SDC_E_BAD_PIXELS);
	assert_int_equal(sdc_request_set_image_fd(r, "image", &image, b.fd, 0, &error), 0);
	sdp_buffer_clear(&b);
	sdc_request_free(r);
}

static void test_connect(void **state)
{
	int before = count_fds();
	sdc_client *client = NULL;
	sdc_error error;
	char path[64];
	int pair[2];

	assert_int_equal(sdc_connect("/nonexistent/sdd.sock", "test", 0, 100, &client, &error),
			 SDC_E_CONNECT);
	assert_non_null(strstr(error.message, "/nonexistent/sdd.sock"));
	setenv("SDD_SOCKET", "/nonexistent/env.sock", 1);
	assert_int_equal(sdc_connect(NULL, "test", 0, 100, &client, &error), SDC_E_CONNECT);
	assert_non_null(strstr(error.message, "/nonexistent/env.sock"));
	assert_int_equal(sdc_default_socket(path, sizeof(path)), strlen("/nonexistent/env.sock"));
	unsetenv("SDD_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	sdc_default_socket(path, sizeof(path));
	if (access("/run/sdd/sdd.sock", F_OK) < 0)
		assert_string_equal(path, "/nonexistent/sdd/sdd.sock");
	unsetenv("XDG_RUNTIME_DIR");
	sdc_default_socket(path, sizeof(path));
	assert_string_equal(path, "/run/sdd/sdd.sock");
	/* a peer that never answers, one that hangs up, one that speaks no msgpack */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		if (i == 1)
			close(pair[0]);
		if (i == 2)
			assert_int_equal(write(pair[0], "HTTP/1.1", 8), 8);
		int r = sdc_client_adopt(pair[1], "test", 0, 20, &client, &error);
		assert_int_equal(r, i == 0   ? SDC_E_TIMEOUT
				    : i == 1 ? SDC_E_DISCONNECTED
					     : SDC_E_PROTOCOL);
		if (i != 1)
			close(pair[0]);
	}
	/* the daemon refuses the connection and says why */
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_error why = {.code = SDP_CODE_PERMISSION, .message = "another user"};
	struct sdp_connection *peer;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(sdp_connection_new(pair[0], &OPTIONS, &peer), 0);
	sdp_writer_failure(&w, 0, &why);
	assert_int_equal(sdp_connection_queue(peer, &w, 0), 0);
	assert_int_equal(sdp_connection_write(peer), 0);
	sdp_connection_free(peer);
	assert_int_equal(sdc_client_adopt(pair[1], "test", 0, 1000, &client, &error),
			 SDC_E_PERMISSION);
	assert_string_equal(error.message, "another user");
	assert_null(client);
	assert_int_equal(count_fds(), before);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_hello),
		T(test_call),
		T(test_errors),
		T(test_shortage),
		cmocka_unit_test(test_codes),
		T(test_job),
		T(test_cancel_before_number),
		T(test_free_running),
		T(test_death),
		T(test_free_client),
		T(test_blocking_in_callback),
		cmocka_unit_test(test_request_setters),
		T(test_pictures_sent),
		cmocka_unit_test(test_connect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
