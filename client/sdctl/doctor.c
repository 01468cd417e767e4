/*
 * The verb doctor: one file with everything a bug report needs. It is written to be posted in public: no prompts and no
 * pictures, which the daemon's answers do not have, and no names of home folders, which they do.
 */
#include "client/sdctl/ask.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define QUOTED "prompt: '"

/* The lines of a file that begin so, or all; the first one only where `once`. */
static void copy_lines(FILE *out, const char *path, const char *beginning, bool once)
{
	char line[4096];
	FILE *file = fopen(path, "re");

	if (!file) {
		fprintf(out, "%s: %s\n", path, strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, beginning, strlen(beginning)) == 0) {
			fputs(line, out);
			if (once)
				break;
		}
	fclose(file);
}

/* Nodes of accelerators, and whether the one who reports may use them. */
static void write_nodes(FILE *out, const char *folder, const char *beginning)
{
	const struct dirent *entry;
	char path[512];
	DIR *dir = opendir(folder);

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' ||
		    strncmp(entry->d_name, beginning, strlen(beginning)) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		fprintf(out, "%s: %s\n", path,
			access(path, R_OK | W_OK) == 0 ? "usable" : strerror(errno));
	}
	if (dir)
		closedir(dir);
}

static void write_machine(FILE *out)
{
	static const char *const variables[] = {"SDD_SOCKET", "XDG_RUNTIME_DIR", "OMP_NUM_THREADS",
						"DNNL_VERBOSE"};
	struct utsname system;

	fputs("== machine\n", out);
	if (uname(&system) == 0)
		fprintf(out, "%s %s %s\n", system.sysname, system.release, system.machine);
	copy_lines(out, "/etc/os-release", "PRETTY_NAME", true);
	copy_lines(out, "/proc/meminfo", "Mem", false);
	copy_lines(out, "/proc/self/cgroup", "", false);
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *value = getenv(variables[i]);

		if (value)
			fprintf(out, "%s=%s\n", variables[i], value);
	}
	fputs("\n== devices\n", out);
	copy_lines(out, "/proc/cpuinfo", "model name", true);
	copy_lines(out, "/proc/cpuinfo", "flags", true);
	fprintf(out, "processors: %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	write_nodes(out, "/dev/dri", "");
	write_nodes(out, "/dev", "nvidia");
	write_nodes(out, "/dev", "kfd");
}

/* 0, or the error, which is in the report. */
static int write_answer(FILE *out, sdc_client *client, const char *method, const char *model)
{
	sdc_error error = {0};
	sdc_request *request = sdc_request_new(method, &error);
	sdc_reply *reply = NULL;
	const char *text = NULL;
	char *json;
	int r = request ? 0 : error.code;

	fprintf(out, "\n== %s\n", method);
	if (r == 0 && model)
		r = sdc_request_set_string(request, "model", model, &error);
	if (r == 0)
		r = sdc_call(client, request, -1, &reply, &error);
	sdc_request_free(request);
	if (r < 0) {
		fprintf(out, "no answer: %s\n", error.message);
		return r;
	}
	if (sdc_reply_string(reply, "text", &text) == 0) {
		fputs(text, out);
	} else {
		json = sdc_reply_json(reply, "");
		fprintf(out, "%s\n", json ? json : "out of memory");
		free(json);
	}
	sdc_reply_free(reply);
	return 0;
}

static bool ends_a_name(char c)
{
	return !isalnum((unsigned char)c) && !strchr("-_.", c ? c : ' ');
}

/* How many bytes of text are the path of a home folder; 0 = it is none. */
static size_t home_length(const char *text, const char *home)
{
	static const char homes[] = "/home/";
	const size_t own = home && home[0] == '/' ? strlen(home) : 0;
	size_t n = sizeof(homes) - 1;

	if (own > 1 && strncmp(text, home, own) == 0 && ends_a_name(text[own]))
		return own;
	if (strncmp(text, homes, n) != 0)
		return 0;
	while (!ends_a_name(text[n]))
		n++;
	return n;
}

/* Where the text ends that begins like this: the error of a job whose prompt cannot be read quotes it. NULL = it does not. */
static const char *end_of_quote(const char *text)
{
	if (strncmp(text, QUOTED, strlen(QUOTED)) != 0)
		return NULL;
	for (text += strlen(QUOTED); *text && *text != '"' && *text != '\n'; text++)
		if (text[0] == '\\' && text[1])
			text++;
	return text;
}

/* The report with ~ for every home folder, and without what errors quote of prompts. */
static void print_masked(const char *text, FILE *to)
{
	const char *home = getenv("HOME");

	while (*text) {
		const size_t n = *text == '/' ? home_length(text, home) : 0;
		const char *end = *text == QUOTED[0] ? end_of_quote(text) : NULL;

		if (end)
			fputs("prompt: (not shown)", to);
		else
			fputc(n ? '~' : *text, to);
		text = end ? end : text + (n ? n : 1);
	}
}

/* What the daemon says, from what cannot fail to what may end its engine. */
static int write_report(FILE *out, const struct context *context, const char *model)
{
	static const char *const methods[] = {"config",	  "models.list", "adapters.list",
					      "job.list", "status",	 "metrics"};
	sdc_client *client;
	int r;

	fprintf(out, "sdctl %s, protocol library %s\n\n", SDD_VERSION, sdc_version());
	write_machine(out);
	r = reach_daemon(context, &client);
	if (r != EXIT_OK) {
		fputs("\nno daemon answers\n", out);
		return r;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (write_answer(out, client, methods[i], NULL) < 0)
			r = EXIT_FAILED;
	/* a model that cannot be checked is what a report may be about; one that can has started the engine, which says what it is */
	if ((!model || strcmp(model, "-") != 0) &&
	    write_answer(out, client, "models.check", model) == 0)
		write_answer(out, client, "status", NULL);
	sdc_client_free(client);
	return r;
}

int run_doctor(const struct context *context, int argc, char **argv)
{
	FILE *out, *to = stdout;
	char *text = NULL;
	size_t size;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "doctor"), argc, argv, 0, 2);
	if (r >= 0)
		return r;
	if (argc > 1 && strcmp(argv[1], "-") != 0)
		to = fopen(argv[1], "we");
	if (!to) {
		complain("%s: %s", argv[1], strerror(errno));
		return EXIT_FAILED;
	}
	out = open_memstream(&text, &size);
	r = out ? write_report(out, context, argc > 2 ? argv[2] : NULL) : EXIT_FAILED;
	if (out && fclose(out) == 0)
		print_masked(text, to);
	free(text);
	if (fflush(to) != 0 || ferror(to)) {
		complain("%s: not written whole", argc > 1 ? argv[1] : "standard output");
		r = EXIT_FAILED;
	}
	if (to != stdout)
		fclose(to);
	return r;
}
