/*
 * How long one network of real size takes, and what it holds in memory: sdd-bench write MANIFEST FILE makes a synthetic checkpoint
 * (tests/golden/synthetic.h), sdd-bench [--dtype T] [--threads N] [--runs N] [--size PIXELS] WHAT FILE runs one of its networks and
 * prints a line of JSON. WHAT: unet (one step with guidance, a batch of 2), batch (two such steps apart and as a batch of 4), lora
 * (the change to one and back), text (CLIP, 2 prompts), decode, encode. run.py compares.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "daemon/engine/formats/checkpoint.h"
#include "tests/bench/bench.h"
#include "tests/golden/synthetic.h"

#define TOKENS 77

double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *noise(size_t n)
{
	float *values = malloc(n * sizeof(*values));
	uint64_t z = 1;

	if (!values)
		abort();
	for (size_t i = 0; i < n; i++) {
		z = z * 6364136223846793005u + 1442695040888963407u;
		values[i] = (float)((double)(z >> 40) * 0x1p-23 - 1);
	}
	return values;
}

static double peak_mib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)usage.ru_maxrss / 1024;
}

int bench_fail(const struct bench *bench)
{
	fprintf(stderr, "sdd-bench: %s\n", bench->error.message);
	return 1;
}

/* Run once to prepare, then bench->runs times; call returns a negative errno with the bench's error. */
static int measure(struct bench *bench, const char *what, int (*call)(struct bench *, void *),
		   void *userdata)
{
	double start = bench_now(), first, best = 1e9, seconds;

	if (call(bench, userdata) < 0)
		return bench_fail(bench);
	first = bench_now() - start;
	for (int i = 0; i < bench->runs; i++) {
		start = bench_now();
		if (call(bench, userdata) < 0)
			return bench_fail(bench);
		seconds = bench_now() - start;
		best = seconds < best ? seconds : best;
	}
	printf("{\"what\": \"%s\", \"backend\": \"%s\", \"size\": %d, \"first_s\": %.3f, "
	       "\"best_s\": %.3f, "
	       "\"peak_mib\": %.0f}\n",
	       what, sde_runner_describe(bench->runner), bench->size, first, best, peak_mib());
	return 0;
}

static int unet_once(struct bench *bench, void *userdata)
{
	struct unet_run *run = userdata;

	return sde_unet_forward(bench->runner, &run->unet, &run->call, run->out, &bench->error);
}

struct unet_run bench_unet_run(const struct bench *bench, const struct sde_unet_config *config)
{
	static const float timesteps[] = {501, 501, 301, 301};
	const size_t side = (size_t)bench->size / 8;
	struct unet_run run = {0};

	run.out = noise(2 * BENCH_JOBS * (size_t)config->out_channels * side * side);
	run.call = (struct sde_unet_call){
		.sample = noise(2 * BENCH_JOBS * (size_t)config->in_channels * side * side),
		.batch = 2,
		.height = (int)side,
		.width = (int)side,
		.timesteps = timesteps,
		.tokens = TOKENS,
		.encoder_hidden_states =
			noise(2 * BENCH_JOBS * TOKENS * (size_t)config->cross_attention_dim),
	};
	if (config->text_time) {
		run.call.n_time_ids = 6;
		run.call.text_width = config->projection_class_embeddings_input_dim -
				      6 * config->addition_time_embed_dim;
		run.call.text_embeds = noise(2 * BENCH_JOBS * (size_t)run.call.text_width);
		run.call.time_ids = noise(2 * BENCH_JOBS * 6);
	}
	return run;
}

/* Processor time: what others use of the machine does not count. */
static double busy(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Two jobs' steps one after the other, then as one batch. */
static int compare_batch(struct bench *bench, const struct sde_unet_config *config,
			 struct unet_run *run)
{
	const size_t side = (size_t)bench->size / 8;
	const size_t in = 2 * (size_t)config->in_channels * side * side;
	const size_t out = 2 * (size_t)config->out_channels * side * side;
	float *apart = noise(2 * out);
	double best[2] = {1e9, 1e9};
	bool equal = true;

	for (int i = 0; i <= bench->runs; i++)
		for (int together = 0; together < 2; together++) {
			const double start = busy();
			double seconds;

			for (int job = 0; job < (together ? 1 : 2); job++) {
				struct sde_unet_call call = run->call;

				call.batch = together ? 4 : 2;
				call.sample += (size_t)job * in;
				call.timesteps += 2 * job;
				call.encoder_hidden_states += (size_t)job * 2 * TOKENS *
							      (size_t)config->cross_attention_dim;
				if (call.text_embeds)
					call.text_embeds += 2 * job * call.text_width;
				if (call.time_ids)
					call.time_ids += 2 * job * call.n_time_ids;
				if (sde_unet_forward(bench->runner, &run->unet, &call,
						     together ? run->out
							      : apart + (size_t)job * out,
						     &bench->error) < 0)
					return bench_fail(bench);
			}
			seconds = busy() - start;
			if (i > 0 && seconds < best[together])
				best[together] = seconds;
			if (together)
				equal = equal && !memcmp(apart, run->out, 2 * out * sizeof(float));
		}
	free(apart);
	printf("{\"what\": \"batch\", \"backend\": \"%s\", \"size\": %d, \"apart_s\": %.3f, "
	       "\"together_s\": %.3f, \"equal\": %s, \"peak_mib\": %.0f}\n",
	       sde_runner_describe(bench->runner), bench->size, best[0], best[1],
	       equal ? "true" : "false", peak_mib());
	return 0;
}

static int bench_unet(struct bench *bench, bool batch)
{
	struct sde_unet_config config;
	struct unet_run run;

	if (sde_unet_config_parse(bench->config, "config", &config, &bench->error) < 0)
		return bench_fail(bench);
	run = bench_unet_run(bench, &config);
	if (sde_unet_bind(&run.unet, &config, bench->weights, &bench->error) < 0)
		return bench_fail(bench);
	return batch ? compare_batch(bench, &config, &run)
		     : measure(bench, "unet", unet_once, &run);
}

struct text_run {
	struct sde_clip clip;
	int32_t ids[2 * TOKENS];
	float *states;
};

static int text_once(struct bench *bench, void *userdata)
{
	static const struct sde_clip_wanted last = {1, true};
	struct text_run *run = userdata;

	return sde_clip_forward(bench->runner, &run->clip, run->ids, NULL, 2, TOKENS, &last, 1,
				&run->states, &bench->error);
}

static int bench_text(struct bench *bench)
{
	struct sde_clip_config config;
	struct text_run run = {0};

	if (sde_clip_config_parse(bench->config, "config", &config, &bench->error) < 0 ||
	    sde_clip_bind(&run.clip, &config, bench->weights, &bench->error) < 0)
		return bench_fail(bench);
	for (int i = 0; i < 2 * TOKENS; i++)
		run.ids[i] = (i * 977 + 1) % config.vocab_size;
	run.states = noise(2 * TOKENS * (size_t)config.hidden_size);
	return measure(bench, "text", text_once, &run);
}

struct vae_run {
	struct sde_kl kl;
	float *latents, *image;
	int side;
};

static int decode_once(struct bench *bench, void *userdata)
{
	struct vae_run *run = userdata;

	return sde_kl_decode(bench->runner, &run->kl, run->latents, 1, run->side, run->side,
			     run->image, &bench->error);
}

static int encode_once(struct bench *bench, void *userdata)
{
	struct vae_run *run = userdata;

	return sde_kl_encode(bench->runner, &run->kl, run->image, 1, 8 * run->side, 8 * run->side,
			     run->latents, &bench->error);
}

static int bench_vae(struct bench *bench, bool decode)
{
	struct vae_run run = {.side = bench->size / 8};
	struct sde_kl_config config;
	const size_t pixels = (size_t)bench->size * (size_t)bench->size;

	if (sde_kl_config_parse(bench->config, "config", &config, &bench->error) < 0 ||
	    sde_kl_bind(&run.kl, &config, bench->weights, &bench->error) < 0)
		return bench_fail(bench);
	run.latents = noise(2 * (size_t)config.latent_channels * pixels / 64);
	run.image = noise(3 * pixels);
	return measure(bench, decode ? "decode" : "encode", decode ? decode_once : encode_once,
		       &run);
}

static int write_checkpoint(const char *manifest, const char *path)
{
	struct sde_error error = {0};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && golden_synthetic_write(manifest, "", true, fd, &error) >= 0)
		return 0;
	fprintf(stderr, "sdd-bench: %s\n", fd < 0 ? strerror(errno) : error.message);
	return 1;
}

static int usage(void)
{
	fprintf(stderr, "usage: sdd-bench write MANIFEST FILE\n"
			"       sdd-bench [--dtype f32|bf16|auto] [--threads N] [--runs N] [--size "
			"PIXELS] unet|batch|lora|text|decode|encode FILE\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"dtype", required_argument, NULL, 'd'},
						{"threads", required_argument, NULL, 't'},
						{"runs", required_argument, NULL, 'r'},
						{"size", required_argument, NULL, 's'},
						{0}};
	struct bench bench = {.size = 512, .runs = 3};
	struct sde_checkpoint *checkpoint = NULL;
	const char *dtype = "auto", *what, *component;
	int option, threads = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'd')
			dtype = optarg;
		else if (option == 't')
			threads = atoi(optarg);
		else if (option == 'r')
			bench.runs = atoi(optarg);
		else if (option == 's')
			bench.size = atoi(optarg);
		else
			return usage();
	}
	if (argc - optind == 3 && !strcmp(argv[optind], "write"))
		return write_checkpoint(argv[optind + 1], argv[optind + 2]);
	if (argc - optind != 2 || bench.size < 64 || bench.size % 8 != 0)
		return usage();
	what = argv[optind];
	component = !strcmp(what, "unet") || !strcmp(what, "batch") || !strcmp(what, "lora")
			    ? "unet"
		    : !strcmp(what, "text") ? "text_encoder"
					    : "vae";
	if (sde_checkpoint_open(argv[optind + 1], &checkpoint, &bench.error) < 0 ||
	    sde_checkpoint_config(checkpoint, component, &bench.config, &bench.error) < 0 ||
	    sde_checkpoint_weights(checkpoint, component, &bench.weights, &bench.error) < 0 ||
	    sde_runner_new("cpu", dtype, threads, &bench.runner, &bench.error) < 0)
		return bench_fail(&bench);
	if (!strcmp(what, "unet"))
		return bench_unet(&bench, false);
	if (!strcmp(what, "batch"))
		return bench_unet(&bench, true);
	if (!strcmp(what, "lora"))
		return bench_lora(&bench);
	if (!strcmp(what, "text"))
		return bench_text(&bench);
	if (!strcmp(what, "decode") || !strcmp(what, "encode"))
		return bench_vae(&bench, what[0] == 'd');
	return usage();
}
