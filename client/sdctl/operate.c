/*
 * The verbs of who runs a daemon: ps, top, why, check, metrics; doctor is in doctor.c.
 */
#include "client/sdctl/ask.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB 1048576.0

static const char *text_of(const sdc_reply *reply, const char *list, size_t i, const char *name)
{
	char path[64];

	return string_at(reply, path_of(path, sizeof(path), list, i, name));
}

static int64_t number_of(const sdc_reply *reply, const char *list, size_t i, const char *name)
{
	char path[64];

	return int_at(reply, path_of(path, sizeof(path), list, i, name));
}

/* "while 2 clients use it", "pinned", "for 41 s more", "until it must make room" */
static void print_stay(const sdc_reply *reply, size_t i)
{
	const int64_t holders = number_of(reply, "models", i, "holders");
	int64_t rest_ms = -1;
	char path[64];
	int pinned = 0;

	sdc_reply_bool(reply, path_of(path, sizeof(path), "models", i, "pinned"), &pinned);
	sdc_reply_int(reply, path_of(path, sizeof(path), "models", i, "leaves_in_ms"), &rest_ms);
	if (pinned)
		printf("pinned by one of %" PRIi64 " client%s\n", holders, holders == 1 ? "" : "s");
	else if (holders > 0)
		printf("while %" PRIi64 " client%s there\n", holders,
		       holders == 1 ? " is" : "s are");
	else if (rest_ms >= 0)
		printf("for %" PRIi64 " s more\n", rest_ms / 1000);
	else
		puts("until it must make room");
}

static void print_ps(const sdc_reply *status, const sdc_reply *jobs)
{
	printf("sdd %.1f MiB, engine (%s) %.1f MiB, %.0f MiB for models; %" PRIu64
	       " connections, %" PRIu64 " jobs wait, %" PRIu64 " done\n",
	       (double)uint_at(status, "rss_bytes") / MIB, string_at(status, "worker.state"),
	       (double)uint_at(status, "worker.rss_bytes") / MIB,
	       (double)uint_at(status, "memory_budget") / MIB, uint_at(status, "connections"),
	       uint_at(status, "jobs.queued"), uint_at(status, "jobs.done"));
	printf("\n%-24s %-9s %8s  %s\n", "MODEL", "STATE", "MIB", "STAYS");
	for (size_t i = 0; i < sdc_reply_count(status, "models"); i++) {
		printf("%-24s %-9s %8.1f  ", text_of(status, "models", i, "name"),
		       text_of(status, "models", i, "state"),
		       (double)number_of(status, "models", i, "weight_bytes") / MIB);
		print_stay(status, i);
	}
	printf("\n%6s %-11s %-8s %-24s %s\n", "JOB", "CLASS", "KIND", "MODEL", "WHY");
	for (size_t i = 0; i < sdc_reply_count(jobs, "jobs"); i++) {
		const char *error = text_of(jobs, "jobs", i, "error");

		printf("%6" PRIi64 " %-11s %-8s %-24s %s\n", number_of(jobs, "jobs", i, "job"),
		       text_of(jobs, "jobs", i, "priority"), text_of(jobs, "jobs", i, "kind"),
		       text_of(jobs, "jobs", i, "model"),
		       *error ? error : text_of(jobs, "jobs", i, "why"));
	}
}

/* Both answers; EXIT_OK or an exit code. */
static int ask_both(const struct context *context, sdc_reply **ret_status, sdc_reply **ret_jobs)
{
	int r = ask(context, "status", NULL, NULL, ret_status);

	if (r != EXIT_OK)
		return r;
	r = ask(context, "job.list", NULL, NULL, ret_jobs);
	if (r != EXIT_OK)
		sdc_reply_free(*ret_status);
	return r;
}

static int show_ps(const struct context *context, bool clear)
{
	sdc_reply *status = NULL, *jobs = NULL;
	int r = ask_both(context, &status, &jobs);

	if (r != EXIT_OK)
		return r;
	if (context->json) {
		char *left = sdc_reply_json(status, ""), *right = sdc_reply_json(jobs, "jobs");

		if (left && right)
			printf("{\"status\":%s,\"jobs\":%s}\n", left, right);
		else
			r = EXIT_FAILED;
		free(left);
		free(right);
	} else {
		if (clear)
			fputs("\033[H\033[2J", stdout);
		print_ps(status, jobs);
	}
	fflush(stdout);
	sdc_reply_free(status);
	sdc_reply_free(jobs);
	return r;
}

static int run_ps(const struct context *context, int argc, char **argv)
{
	const int r = plain_arguments(find_verb(operate_verbs, "ps"), argc, argv, 0, 0);

	return r >= 0 ? r : show_ps(context, false);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = 1;
}

static int run_top(const struct context *context, int argc, char **argv)
{
	const struct timespec second = {1, 0};
	unsigned long left = 0;
	char *end;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "top"), argc, argv, 0, 1);
	if (r >= 0)
		return r;
	if (argc > 1) {
		left = strtoul(argv[1], &end, 10);
		if (*end || left == 0)
			return usage(find_verb(operate_verbs, "top"));
	}
	signal(SIGINT, on_interrupt);
	for (;;) {
		r = show_ps(context, isatty(STDOUT_FILENO));
		if (r != EXIT_OK || interrupted || --left == 0)
			return r;
		nanosleep(&second, NULL);
		if (interrupted)
			return EXIT_OK;
	}
}

static int run_why(const struct context *context, int argc, char **argv)
{
	sdc_reply *jobs = NULL;
	const char *error;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "why"), argc, argv, 1, 1);
	if (r >= 0)
		return r;
	r = ask(context, "job.list", NULL, NULL, &jobs);
	if (r != EXIT_OK)
		return r;
	r = EXIT_FAILED;
	for (size_t i = 0; i < sdc_reply_count(jobs, "jobs") && r != EXIT_OK; i++) {
		if (number_of(jobs, "jobs", i, "job") != strtoll(argv[1], NULL, 10))
			continue;
		error = text_of(jobs, "jobs", i, "error");
		printf("job %s is %s: %s\n", argv[1], text_of(jobs, "jobs", i, "state"),
		       *error ? error : text_of(jobs, "jobs", i, "why"));
		r = EXIT_OK;
	}
	if (r != EXIT_OK)
		complain(
			"no job %s of yours waits, runs or keeps a result; `sdctl jobs` lists them",
			argv[1]);
	sdc_reply_free(jobs);
	return r;
}

static int run_metrics(const struct context *context, int argc, char **argv)
{
	sdc_reply *reply = NULL;
	int r;

	r = plain_arguments(find_verb(operate_verbs, "metrics"), argc, argv, 0, 0);
	if (r >= 0)
		return r;
	r = ask(context, "metrics", NULL, NULL, &reply);
	if (r != EXIT_OK)
		return r;
	fputs(string_at(reply, "text"), stdout);
	sdc_reply_free(reply);
	return EXIT_OK;
}

static void print_health(const sdc_reply *health)
{
	double raw = 0, scaled = 0, factor = 0, fitting = 0, psnr = 0;
	const size_t n = sdc_reply_count(health, "findings");
	char path[32];

	sdc_reply_double(health, "raw_std", &raw);
	sdc_reply_double(health, "scaled_std", &scaled);
	sdc_reply_double(health, "scaling_factor", &factor);
	sdc_reply_double(health, "fitting_factor", &fitting);
	sdc_reply_double(health, "psnr", &psnr);
	printf("%s: %s of %" PRIi64 " latent channels, %" PRIi64 " pictures of %" PRIi64
	       " pixels a side\n",
	       string_at(health, "model"), string_at(health, "autoencoder"),
	       int_at(health, "latent_channels"), int_at(health, "pictures"),
	       int_at(health, "side"));
	printf("latents: std %.4g, scaled by %.5g std %.4g (1 is right; %.4g would fit)\n", raw,
	       factor, scaled, fitting);
	printf("encoded and decoded again: %.1f dB\n", psnr);
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "findings.%zu", i);
		printf("fault: %s\n", string_at(health, path));
	}
	if (n == 0)
		puts("healthy");
}

/* A model with a fault is exit code 1, for scripts. */
static int run_check(const struct context *context, int argc, char **argv)
{
	sdc_reply *health = NULL;
	int healthy = 0, r;

	r = plain_arguments(find_verb(operate_verbs, "check"), argc, argv, 0, 1);
	if (r >= 0)
		return r;
	r = ask(context, "models.check", argc > 1 ? "model" : NULL, argv[1], &health);
	if (r != EXIT_OK)
		return r;
	sdc_reply_bool(health, "healthy", &healthy);
	if (context->json)
		r = print_json(health, "");
	else
		print_health(health);
	sdc_reply_free(health);
	return r == EXIT_OK && !healthy ? EXIT_FAILED : r;
}

const struct verb operate_verbs[] = {
	{"ps", run_ps, "", "models in memory and why they stay; jobs and what they wait for"},
	{"top", run_top, "[TIMES]", "the same every second, until ^C or so many times"},
	{"why", run_why, "JOB", "why a job is where it is"},
	{"check", run_check, "[MODEL]",
	 "whether a model's autoencoder and scaling factor are right"},
	{"doctor", run_doctor, "[FILE [MODEL]]",
	 "everything a bug report needs, without prompts or pictures"},
	{"metrics", run_metrics, "", "figures for monitoring, as OpenMetrics text"},
	{0},
};
