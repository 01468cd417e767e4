/*
 * What verbs that only ask have in common: plain arguments, one call, and reading the answer without ceremony (an absent
 * field is 0 or "").
 */
#pragma once

#include "client/sdctl/sdctl.h"

#include <stddef.h>
#include <stdint.h>

/* Parse `sdctl VERB [ARGUMENT]` with no options but --help; -1 = go on, else an exit code. */
int plain_arguments(const struct verb *verb, int argc, char **argv, int least, int most);
/* Parse `sdctl VERB JOB -o FILE`; -1 = go on with both, which point into argv, else an exit code. */
int job_and_file(const struct verb *verb, int argc, char **argv, const char **ret_job,
		 const char **ret_file);
/* Connect, call method with at most one field, and hand the reply over, which the caller frees. An exit code. */
int ask(const struct context *context, const char *method, const char *field, const char *value,
	sdc_reply **ret_reply);
/* The same with a request of the caller's. */
int ask_request(const struct context *context, const sdc_request *request, sdc_reply **ret_reply);
/* A part of the reply as one line. An exit code. */
int print_json(const sdc_reply *reply, const char *path);

const char *string_at(const sdc_reply *reply, const char *path);
int64_t int_at(const sdc_reply *reply, const char *path);
uint64_t uint_at(const sdc_reply *reply, const char *path);
/* "LIST.i.NAME" into a buffer of the caller. */
const char *path_of(char *buffer, size_t size, const char *list, size_t i, const char *name);
