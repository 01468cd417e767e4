/*
 * The verbs that look or steer: models, load, unload, jobs, get, cancel, status, watch, api; count and preview are in files of their own.
 */
#include "client/sdctl/ask.h"

#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/sdctl/layers.h"

static void print_model(const sdc_reply *reply, size_t i)
{
	const char *inpaint;
	double guidance = -1;
	int is_default = 0;
	char path[64];

	printf("%-24s", string_at(reply, path_of(path, sizeof(path), "models", i, "name")));
	printf(" %-9s", string_at(reply, path_of(path, sizeof(path), "models", i, "state")));
	printf(" %-11s", string_at(reply, path_of(path, sizeof(path), "models", i, "kind")));
	printf(" %8" PRIi64,
	       int_at(reply, path_of(path, sizeof(path), "models", i, "in_channels")));
	printf(" %6" PRIi64,
	       int_at(reply, path_of(path, sizeof(path), "models", i, "native_size")));
	printf(" %5" PRIi64,
	       int_at(reply, path_of(path, sizeof(path), "models", i, "default_steps")));
	sdc_reply_double(reply, path_of(path, sizeof(path), "models", i, "default_guidance"),
			 &guidance);
	if (guidance >= 0)
		printf(" %8.3g", guidance);
	else
		printf(" %8s", "");
	printf(" %-16s",
	       string_at(reply, path_of(path, sizeof(path), "models", i, "default_sampler")));
	printf(" %7.1f",
	       (double)uint_at(reply, path_of(path, sizeof(path), "models", i, "weight_bytes")) /
		       1048576.0);
	/* as many digits as model sites show; --json has all */
	printf(" %-10.10s", string_at(reply, path_of(path, sizeof(path), "models", i, "hash")));
	sdc_reply_bool(reply, path_of(path, sizeof(path), "models", i, "default"), &is_default);
	inpaint = string_at(reply, path_of(path, sizeof(path), "models", i, "inpaint"));
	printf("%s%s%s\n", is_default ? "  (default)" : "", *inpaint ? "  repaints with " : "",
	       inpaint);
}

static void print_models(const sdc_reply *reply)
{
	const size_t count = sdc_reply_count(reply, "models");

	if (count == 0) {
		complain("no model is installed; sdd(8) says where model folders go");
		return;
	}
	printf("%-24s %-9s %-11s %8s %6s %5s %8s %-16s %7s %-10s\n", "NAME", "STATE", "KIND",
	       "CHANNELS", "NATIVE", "STEPS", "GUIDANCE", "SAMPLER", "MIB", "SHA256");
	for (size_t i = 0; i < count; i++)
		print_model(reply, i);
}

static void print_jobs(const sdc_reply *reply)
{
	char path[64];

	printf("%6s %-9s %-8s %-24s %9s\n", "JOB", "STATE", "KIND", "MODEL", "STEP");
	for (size_t i = 0; i < sdc_reply_count(reply, "jobs"); i++) {
		printf("%6" PRIi64, int_at(reply, path_of(path, sizeof(path), "jobs", i, "job")));
		printf(" %-9s", string_at(reply, path_of(path, sizeof(path), "jobs", i, "state")));
		printf(" %-8s", string_at(reply, path_of(path, sizeof(path), "jobs", i, "kind")));
		printf(" %-24s", string_at(reply, path_of(path, sizeof(path), "jobs", i, "model")));
		printf(" %4" PRIi64, int_at(reply, path_of(path, sizeof(path), "jobs", i, "step")));
		printf("/%-4" PRIi64 "\n",
		       int_at(reply, path_of(path, sizeof(path), "jobs", i, "total")));
	}
}

/* "text 3 hits of 4 (75 %), 0.9 MiB; ..." */
static void print_caches(const sdc_reply *reply)
{
	const size_t n = sdc_reply_count(reply, "caches");
	char path[64];

	for (size_t i = 0; i < n; i++) {
		const uint64_t hits =
			uint_at(reply, path_of(path, sizeof(path), "caches", i, "hits"));
		const uint64_t all =
			hits + uint_at(reply, path_of(path, sizeof(path), "caches", i, "misses"));

		printf("%s%s", i == 0 ? "caches: " : "; ",
		       string_at(reply, path_of(path, sizeof(path), "caches", i, "kind")));
		printf(" %" PRIu64 " hits of %" PRIu64, hits, all);
		if (all > 0)
			printf(" (%.0f %%)", 100.0 * (double)hits / (double)all);
		printf(", %.1f MiB",
		       (double)uint_at(reply, path_of(path, sizeof(path), "caches", i, "bytes")) /
			       1048576.0);
	}
	if (n > 0)
		printf("; at most %" PRIu64 " MiB\n", uint_at(reply, "cache_budget") >> 20);
}

static void print_status(const sdc_reply *reply)
{
	const uint64_t uptime_s = uint_at(reply, "uptime_ms") / 1000;

	printf("sdd %s, pid %" PRIi64 ", up %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ", %" PRIu64
	       " connections, %.1f MiB; %" PRIu64 " MiB for models\n",
	       string_at(reply, "version"), int_at(reply, "pid"), uptime_s / 3600,
	       uptime_s / 60 % 60, uptime_s % 60, uint_at(reply, "connections"),
	       (double)uint_at(reply, "rss_bytes") / 1048576.0,
	       uint_at(reply, "memory_budget") >> 20);
	if (int_at(reply, "worker.pid") > 0)
		printf("engine: %s, pid %" PRIi64 ", %" PRIu64 " restarts, %.1f MiB, %s\n",
		       string_at(reply, "worker.state"), int_at(reply, "worker.pid"),
		       uint_at(reply, "worker.restarts"),
		       (double)uint_at(reply, "worker.rss_bytes") / 1048576.0,
		       string_at(reply, "worker.engine"));
	else
		printf("engine: %s; it starts with the first job\n",
		       string_at(reply, "worker.state"));
	printf("jobs: %" PRIu64 " queued, %" PRIu64 " running, %" PRIu64 " done, %" PRIu64
	       " failed, %" PRIu64 " cancelled\n",
	       uint_at(reply, "jobs.queued"), uint_at(reply, "jobs.running"),
	       uint_at(reply, "jobs.done"), uint_at(reply, "jobs.failed"),
	       uint_at(reply, "jobs.cancelled"));
	print_caches(reply);
	if (sdc_reply_count(reply, "models") > 0)
		print_models(reply);
}

static int show(const struct context *context, const char *method,
		void (*print)(const sdc_reply *reply))
{
	sdc_reply *reply = NULL;
	int r;

	r = ask(context, method, NULL, NULL, &reply);
	if (r != EXIT_OK)
		return r;
	if (context->json)
		r = print_json(reply, "");
	else
		print(reply);
	sdc_reply_free(reply);
	return r;
}

static void print_adapters(const sdc_reply *reply)
{
	static const char *const kinds[] = {"loras", "controlnets", "embeddings"};
	char path[32];

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t i = 0; i < sdc_reply_count(reply, kinds[k]); i++) {
			snprintf(path, sizeof(path), "%s.%zu", kinds[k], i);
			printf("%-12s %s\n", kinds[k], string_at(reply, path));
		}
}

static int run_adapters(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(query_verbs, "adapters"), argc, argv, 0, 0);

	return r >= 0 ? r : show(context, "adapters.list", print_adapters);
}

static int run_models(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(query_verbs, "models"), argc, argv, 0, 0);

	return r >= 0 ? r : show(context, "models.list", print_models);
}

static int run_jobs(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(query_verbs, "jobs"), argc, argv, 0, 0);

	return r >= 0 ? r : show(context, "job.list", print_jobs);
}

static int run_status(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(query_verbs, "status"), argc, argv, 0, 0);

	return r >= 0 ? r : show(context, "status", print_status);
}

static int show_model(const struct context *context, const sdc_reply *reply)
{
	if (context->json)
		return print_json(reply, "");
	if (!context->quiet && strcmp(string_at(reply, "state"), "loaded") == 0) {
		printf("%s: loaded in %" PRIu64 " ms, %.1f MiB of weights (%s)",
		       string_at(reply, "name"), uint_at(reply, "load_ms"),
		       (double)uint_at(reply, "weight_bytes") / 1048576.0,
		       string_at(reply, "weights"));
		if (uint_at(reply, "shared_bytes") > 0)
			printf(", %.1f of them shared with other models",
			       (double)uint_at(reply, "shared_bytes") / 1048576.0);
		putchar('\n');
	} else if (!context->quiet) {
		printf("%s: unloaded\n", string_at(reply, "name"));
	}
	return EXIT_OK;
}

static int parse_load(int argc, char **argv, sdc_request *request, sdc_error *error)
{
	static const struct option options[] = {
		{"weights", required_argument, NULL, 'w'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option, r = 0;

	while (r >= 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (option == 'h')
			return plain_arguments(find_verb(query_verbs, "load"), 2,
					       (char *[]){argv[0], (char *)"--help"}, 0, 1);
		if (option != 'w')
			return EXIT_USAGE;
		r = sdc_request_set_string(request, "weights", optarg, error);
	}
	if (r >= 0 && argc - optind > 1)
		return usage(find_verb(query_verbs, "load"));
	if (r >= 0 && argc > optind)
		r = sdc_request_set_string(request, "model", argv[optind], error);
	return r < 0 ? fail(error) : -1;
}

static int run_load(const struct context *context, int argc, char **argv)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("models.load", &error);
	int r = request ? parse_load(argc, argv, request, &error) : fail(&error);
	sdc_reply *reply = NULL;

	if (r < 0)
		r = ask_request(context, request, &reply);
	if (reply)
		r = show_model(context, reply);
	sdc_reply_free(reply);
	sdc_request_free(request);
	return r;
}

static int run_unload(const struct context *context, int argc, char **argv)
{
	sdc_reply *reply = NULL;
	int r;

	r = plain_arguments(find_verb(query_verbs, "unload"), argc, argv, 0, 1);
	if (r >= 0)
		return r;
	r = ask(context, "models.unload", argc > 1 ? "model" : NULL, argv[1], &reply);
	if (r != EXIT_OK)
		return r;
	r = show_model(context, reply);
	sdc_reply_free(reply);
	return r;
}

static int run_cancel(const struct context *context, int argc, char **argv)
{
	sdc_reply *reply = NULL;
	int r;

	r = plain_arguments(find_verb(query_verbs, "cancel"), argc, argv, 1, 1);
	if (r >= 0)
		return r;
	r = ask(context, "job.cancel", "job", argv[1], &reply);
	if (r != EXIT_OK)
		return r;
	if (context->json)
		r = print_json(reply, "");
	else if (!context->quiet)
		printf("job %s: %s\n", argv[1], string_at(reply, "state"));
	sdc_reply_free(reply);
	return r;
}

static int run_get(const struct context *context, int argc, char **argv)
{
	const char *job, *output, *state;
	sdc_reply *reply = NULL;
	int r;

	r = job_and_file(find_verb(query_verbs, "get"), argc, argv, &job, &output);
	if (r >= 0)
		return r;
	r = ask(context, "job.get", "job", job, &reply);
	if (r != EXIT_OK)
		return r;
	state = string_at(reply, "state");
	if (strcmp(state, "done") != 0) {
		complain("job %s is %s; `sdctl jobs` shows how far it is", job, state);
		r = EXIT_FAILED;
	} else {
		r = layers_save(context, reply,
				&(struct layers_target){.output = output, .as_layer = true});
	}
	sdc_reply_free(reply);
	return r;
}

static int run_api(const struct context *context, int argc, char **argv)
{
	sdc_reply *reply = NULL;
	int r;

	r = plain_arguments(find_verb(query_verbs, "api"), argc, argv, 0, 0);
	if (r >= 0)
		return r;
	r = ask(context, "api.info", NULL, NULL, &reply);
	if (r != EXIT_OK)
		return r;
	puts(string_at(reply, "metadata"));
	sdc_reply_free(reply);
	return EXIT_OK;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = 1;
}

static void print_event(sdc_client *client, const char *event, const sdc_reply *reply,
			void *userdata)
{
	char *json = sdc_reply_json(reply, "");

	printf("{\"event\":\"%s\",\"params\":%s}\n", event, json ? json : "null");
	fflush(stdout);
	free(json);
}

static int watch_events(sdc_client *client)
{
	sdc_error error = {0};
	int r = EXIT_OK;

	signal(SIGINT, on_interrupt);
	while (!interrupted) {
		struct pollfd pollfd = {sdc_client_fd(client), (short)sdc_client_events(client), 0};

		if (poll(&pollfd, 1, 1000) > 0 && sdc_client_dispatch(client, &error) < 0) {
			r = fail(&error);
			break;
		}
	}
	return r;
}

static int run_watch(const struct context *context, int argc, char **argv)
{
	sdc_request *request;
	sdc_client *client;
	sdc_error error = {0};
	int r;

	r = plain_arguments(find_verb(query_verbs, "watch"), argc, argv, 0, 0);
	if (r >= 0)
		return r;
	request = sdc_request_new("events.subscribe", &error);
	if (!request)
		return fail(&error);
	sdc_request_set_bool(request, "jobs", 1, NULL);
	sdc_request_set_bool(request, "models", 1, NULL);
	r = reach_daemon(context, &client);
	if (r == EXIT_OK) {
		sdc_client_on_event(client, print_event, NULL);
		r = sdc_call(client, request, -1, NULL, &error) < 0 ? fail(&error)
								    : watch_events(client);
		sdc_client_free(client);
	}
	sdc_request_free(request);
	return r;
}

const struct verb query_verbs[] = {
	{"models", run_models, "", "list the models the daemon can use"},
	{"adapters", run_adapters, "", "list LoRAs, ControlNets and embeddings"},
	{"count", run_count, "[--model NAME] [--negative TEXT] PROMPT",
	 "count a prompt's tokens as the model would read them"},
	{"load", run_load, "[--weights FORM] [MODEL]", "load a model ahead of its first job"},
	{"unload", run_unload, "[MODEL]", "take a model out of memory"},
	{"jobs", run_jobs, "", "list your jobs"},
	{"get", run_get, "JOB -o FILE", "fetch the result of a detached job"},
	{"preview", run_preview, "JOB -o FILE", "a sketch of a job behind its next step, as a PNG"},
	{"cancel", run_cancel, "JOB", "cancel a queued or running job"},
	{"status", run_status, "", "how the daemon and its engine are"},
	{"watch", run_watch, "", "print events as lines of JSON until ^C"},
	{"api", run_api, "", "print the protocol's description as JSON"},
	{"convert", run_convert, "FILE.ckpt FILE.safetensors",
	 "rewrite a checkpoint of torch, without executing it"},
	{0},
};
