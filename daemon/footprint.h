/*
 * What a job takes at its highest, told before it is accepted and before its model is in memory: from the headers of the weight files and a few
 * numbers of the configurations. Weights count in the form they stay in (sdd.json's "weights", or what somebody chose), activations by formulas that were fitted to
 * the engine's own plans; tests/integration/test-memory.c holds them against what sdd-worker really took.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/util/memo.h"
#include "protocol/schema.h"

/* Matrices of one part of a model. */
struct sdd_part {
	uint64_t numbers, stored_bytes;
};

struct sdd_footprint {
	bool known;
	bool quantised; /* stored in blocks or 8 bits: auto leaves it so */
	struct sdd_part text, t5, denoiser, vae_encoder, vae_decoder;
	uint64_t largest;	    /* numbers of the denoiser's largest matrix */
	enum sdp_weights_form form; /* auto unless its settings say otherwise */
	bool says_form;
	bool transformer;
	int channels,
		vae_channels[2]; /* at full resolution; of the autoencoder also one level below */
	int native_size;
	/* of a job's adapters (sdd_footprint_add_adapters): numbers in the denoiser's type, and in float32 */
	uint64_t adapter_numbers, adapter_text_numbers, image_encoder_numbers;
	uint64_t adapter_file_bytes; /* that stay mapped */
	bool guided; /* by ControlNets or T2I-Adapters, whose findings lie beside the denoiser's activations */
};

/* Bytes of a packed weight and of an activation, as the worker will choose them. */
struct sdd_types {
	unsigned int weight, activation;
};
struct sdd_types sdd_types_expected(const char *backend, const char *dtype);

/* Of a model folder or checkpoint file. What cannot be read leaves it unknown: then nothing is refused for it. */
void sdd_footprint_read(const char *path, struct sdd_footprint *ret_footprint);

struct sdp_record;
/* Folders of models, below which loras/ and controlnets/ lie, and what headers said before; borrowed. */
struct sdd_footprint_roots {
	char *const *paths;
	size_t count;
	struct sdd_memo *headers;
};
/* Nothing is known yet; at most 512 files, 24 KiB. The caller's to clear. */
struct sdd_memo sdd_footprint_headers_new(void);
/* job: the record of job_parameters (or job_submit, worker_run). Adds what its adapters take; reads headers of files that are not
 * known in their state. */
void sdd_footprint_add_adapters(struct sdd_footprint *footprint,
				const struct sdd_footprint_roots *roots,
				const struct sdp_record *job);

/* The picture a job works on, pixels; encodes: it has a source picture. */
struct sdd_work {
	int width, height;
	bool encodes, tiled;
	int batch; /* pictures that go through the denoiser together; 0 is 1 */
};
/*
 * What a worker's first job takes beside them, once: the libraries' kernels and primitives, small tensors, the heap. No part of a budget: what
 * budgets leave of a machine or a control group is for it, too (budget.h).
 */
#define SDD_FOOTPRINT_PROGRAM_BYTES ((uint64_t)36 << 20)

/*
 * Bytes at the highest, beside the program: everything in memory at once; or, staged, part after part. 0 for a footprint that is
 * not known.
 */
uint64_t sdd_footprint_whole(const struct sdd_footprint *footprint, struct sdd_types types,
			     const struct sdd_work *work);
uint64_t sdd_footprint_staged(const struct sdd_footprint *footprint, struct sdd_types types,
			      const struct sdd_work *work);
