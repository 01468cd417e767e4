/*
 * What a LoRA costs: a step without, the change to a LoRA of rank 16 on every attention and feed-forward layer (written to a
 * temporary file first), a step with it, and the change back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/adapters/loras.h"
#include "daemon/engine/bind.h"
#include "tests/bench/bench.h"

#define RANK 16

/* Notes the layers of a model while it is bound. */
struct listing {
	struct sde_patch patch;
	FILE *header;
	uint64_t offset;
};

static void add_tensor(struct listing *listing, const char *layer, const char *part, int rows,
		       int columns)
{
	const uint64_t bytes = (uint64_t)rows * (uint64_t)columns * 2;

	fprintf(listing->header,
		"%s\"unet.%s.%s.weight\":{\"dtype\":\"F16\",\"shape\":[%d,%d],\"data_offsets\":[%"
		"llu,"
		"%llu]}",
		listing->offset ? "," : "{", layer, part, rows, columns,
		(unsigned long long)listing->offset, (unsigned long long)(listing->offset + bytes));
	listing->offset += bytes;
}

static int note_layer(struct sde_patch *patch, const struct sde_bound_layer *layer,
		      struct sde_error *error)
{
	struct listing *listing = (struct listing *)patch;

	if (!strstr(layer->name, ".attn") && !strstr(layer->name, ".ff."))
		return 0;
	add_tensor(listing, layer->name, "lora_A", RANK, layer->in);
	add_tensor(listing, layer->name, "lora_B", layer->out, RANK);
	return 0;
}

/* A LoRA of small numbers at path. */
static int write_lora(struct bench *bench, const struct sde_unet_config *config, const char *path)
{
	struct listing listing = {.patch = {note_layer}};
	struct sde_unet unet;
	char *text = NULL;
	size_t length;
	uint64_t size;
	FILE *file;
	int r;

	listing.header = open_memstream(&text, &length);
	file = fopen(path, "we");
	if (!listing.header || !file)
		return sde_error_set(&bench->error, -1, "cannot write %s", path);
	sde_weights_set_patch(bench->weights, &listing.patch);
	r = sde_unet_bind(&unet, config, bench->weights, &bench->error);
	sde_weights_set_patch(bench->weights, NULL);
	if (r < 0)
		return r;
	sde_unet_clear(&unet);
	fputc('}', listing.header);
	fclose(listing.header);
	size = length;
	fwrite(&size, sizeof(size), 1, file);
	fwrite(text, 1, length, file);
	for (uint64_t i = 0; i < listing.offset / 2; i++) {
		const uint16_t half = (uint16_t)(0x1400 | (i * 2654435761u >> 8 & 0x83ff));

		fwrite(&half, sizeof(half), 1, file);
	}
	free(text);
	return fclose(file);
}

static int step(struct bench *bench, struct unet_run *run, double *ret_seconds)
{
	const double start = bench_now();
	int r = sde_unet_forward(bench->runner, &run->unet, &run->call, run->out, &bench->error);

	*ret_seconds = bench_now() - start;
	return r;
}

static int best_step(struct bench *bench, struct unet_run *run, double *ret_best)
{
	double seconds;

	*ret_best = 1e9;
	for (int i = 0; i < bench->runs; i++) {
		if (step(bench, run, &seconds) < 0)
			return -1;
		*ret_best = seconds < *ret_best ? seconds : *ret_best;
	}
	return 0;
}

int bench_lora(struct bench *bench)
{
	char path[] = "/var/tmp/sdd-bench-lora-XXXXXX";
	const struct sde_lora_use use = {"bench", path, 0.8};
	struct sde_unet_config config;
	struct unet_run plain, adapted;
	struct sde_loras *loras;
	double first, step_s, start, bind_s, first_with, step_with, back;
	int fd = mkstemp(path), r;

	if (fd >= 0)
		close(fd);
	if (sde_unet_config_parse(bench->config, "config", &config, &bench->error) < 0 ||
	    write_lora(bench, &config, path) < 0)
		return bench_fail(bench);
	plain = bench_unet_run(bench, &config);
	adapted = plain;
	r = sde_unet_bind(&plain.unet, &config, bench->weights, &bench->error);
	if (r >= 0)
		r = step(bench, &plain, &first);
	if (r >= 0)
		r = best_step(bench, &plain, &step_s);
	start = bench_now();
	if (r >= 0)
		r = sde_loras_new(&use, 1, "sd1", &loras, &bench->error);
	if (r >= 0) {
		(void)sde_loras_content(loras);
		sde_weights_set_patch(bench->weights,
				      sde_loras_patch(loras, SDE_ADAPTER_UNET, &config));
		r = sde_unet_bind(&adapted.unet, &config, bench->weights, &bench->error);
		sde_weights_set_patch(bench->weights, NULL);
	}
	bind_s = bench_now() - start;
	if (r >= 0)
		r = step(bench, &adapted, &first_with);
	if (r >= 0)
		r = best_step(bench, &adapted, &step_with);
	if (r >= 0)
		r = step(bench, &plain, &back);
	unlink(path);
	if (r < 0)
		return bench_fail(bench);
	printf("{\"what\": \"lora\", \"backend\": \"%s\", \"size\": %d, \"first_s\": %.3f, "
	       "\"step_s\": "
	       "%.3f, \"switch_s\": %.3f, \"step_with_s\": %.3f, \"switch_back_s\": %.3f}\n",
	       sde_runner_describe(bench->runner), bench->size, first, step_s,
	       bind_s + first_with - step_with, step_with, back - step_s);
	return 0;
}
