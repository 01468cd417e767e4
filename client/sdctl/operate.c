/*
 * The verbs of who runs a daemon: check and metrics; ps, top and why are in ps.c, doctor in doctor.c.
 */
#include "client/sdctl/ask.h"

#include <inttypes.h>
#include <stdio.h>

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
