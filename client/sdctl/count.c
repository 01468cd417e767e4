/*
 * sdctl count: how a model would read a prompt, without painting.
 */
#include "client/sdctl/ask.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

static void print_count(const sdc_reply *reply, const char *name)
{
	const char *lost;
	char path[64];
	int64_t chunks;

	snprintf(path, sizeof(path), "%s.tokens", name);
	printf("%s: %" PRIi64 " tokens", name, int_at(reply, path));
	snprintf(path, sizeof(path), "%s.chunks", name);
	chunks = int_at(reply, path);
	snprintf(path, sizeof(path), "%s.limit", name);
	printf(", %" PRIi64 " %s of %" PRIi64, chunks, chunks == 1 ? "chunk" : "chunks",
	       int_at(reply, path));
	snprintf(path, sizeof(path), "%s.lost", name);
	lost = string_at(reply, path);
	printf("%s%s\n", *lost ? "; not read: " : "", lost);
}

static int parse(int argc, char **argv, sdc_request *request, sdc_error *error)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
						{"negative", required_argument, NULL, 'n'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int option, r = 0;

	while (r >= 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (option == 'h')
			return plain_arguments(find_verb(query_verbs, "count"), 2,
					       (char *[]){argv[0], (char *)"--help"}, 0, 1);
		if (option != 'm' && option != 'n')
			return EXIT_USAGE;
		r = sdc_request_set_string(request, option == 'm' ? "model" : "negative_prompt",
					   optarg, error);
	}
	if (r >= 0 && optind + 1 != argc)
		return usage(find_verb(query_verbs, "count"));
	if (r >= 0)
		r = sdc_request_set_string(request, "prompt", argv[optind], error);
	return r < 0 ? fail(error) : -1;
}

int run_count(const struct context *context, int argc, char **argv)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("prompt.count", &error);
	sdc_reply *reply = NULL;
	int r = request ? parse(argc, argv, request, &error) : fail(&error);

	if (r < 0)
		r = ask_request(context, request, &reply);
	if (reply && context->json) {
		r = print_json(reply, "");
	} else if (reply) {
		print_count(reply, "prompt");
		print_count(reply, "negative_prompt");
	}
	sdc_reply_free(reply);
	sdc_request_free(request);
	return r;
}
