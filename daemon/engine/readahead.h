/*
 * Weights are mapped, and read from the disk when a plan first touches them: a model's first job would wait for the disk
 * between its prompt and its first step. So while the text encoders compute, a thread asks the system for the pages of what
 * comes next, denoiser and autoencoder. On the processor that is all there is to upload; a backend with memory of its own
 * would copy here, piece by piece.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/engine/formats/weights.h"

#define SDE_READAHEAD_PARTS 2

/* One run of it. Zeroed before the first start; lives where it is until stop. */
struct sde_readahead {
	pthread_t thread;
	atomic_bool stop;
	bool running;
	const struct sde_weights *parts[SDE_READAHEAD_PARTS]; /* borrowed until stop; NULL = none */
};

/*
 * Begin to read parts in their order, in pieces, and return at once. Nothing is told of failure: without a thread the pages
 * come when they are touched. Parts must not be changed or freed before stop.
 */
void sde_readahead_start(struct sde_readahead *readahead);
/* Ends it behind the piece it is at. Also when it never started. */
void sde_readahead_stop(struct sde_readahead *readahead);
