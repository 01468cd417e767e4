/*
 * One question to the daemon, and its answer's fields; see ask.h.
 */
#include "client/sdctl/ask.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int plain_arguments(const struct verb *verb, int argc, char **argv, int least, int most)
{
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		printf("usage: sdctl %s %s\n%s\n", verb->name, verb->arguments, verb->help);
		return EXIT_OK;
	}
	if (argc - 1 < least || argc - 1 > most)
		return usage(verb);
	return -1;
}

int job_and_file(const struct verb *verb, int argc, char **argv, const char **ret_job,
		 const char **ret_file)
{
	static const struct option options[] = {
		{"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
	const char *file = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) >= 0) {
		if (option == 'h')
			return plain_arguments(verb, 2, (char *[]){argv[0], (char *)"--help"}, 0,
					       1);
		if (option != 'o')
			return EXIT_USAGE;
		file = optarg;
	}
	if (optind + 1 != argc || !file)
		return usage(verb);
	*ret_job = argv[optind];
	*ret_file = file;
	return -1;
}

int print_json(const sdc_reply *reply, const char *path)
{
	char *json = sdc_reply_json(reply, path);

	if (!json) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	puts(json);
	free(json);
	return EXIT_OK;
}

int ask_request(const struct context *context, const sdc_request *request, sdc_reply **ret_reply)
{
	sdc_client *client;
	sdc_error error = {0};
	int r = reach_daemon(context, &client);

	if (r != EXIT_OK)
		return r;
	if (sdc_call(client, request, -1, ret_reply, &error) < 0)
		r = fail(&error);
	sdc_client_free(client);
	return r;
}

int ask(const struct context *context, const char *method, const char *field, const char *value,
	sdc_reply **ret_reply)
{
	sdc_request *request;
	sdc_error error = {0};
	int r;

	request = sdc_request_new(method, &error);
	if (!request)
		return fail(&error);
	if (field && sdc_request_set_text(request, field, value, &error) < 0)
		r = fail(&error);
	else
		r = ask_request(context, request, ret_reply);
	sdc_request_free(request);
	return r;
}

const char *string_at(const sdc_reply *reply, const char *path)
{
	const char *value = "";

	sdc_reply_string(reply, path, &value);
	return value;
}

int64_t int_at(const sdc_reply *reply, const char *path)
{
	int64_t value = 0;

	sdc_reply_int(reply, path, &value);
	return value;
}

uint64_t uint_at(const sdc_reply *reply, const char *path)
{
	uint64_t value = 0;

	sdc_reply_uint(reply, path, &value);
	return value;
}

const char *path_of(char *buffer, size_t size, const char *list, size_t i, const char *name)
{
	snprintf(buffer, size, "%s.%zu.%s", list, i, name);
	return buffer;
}
