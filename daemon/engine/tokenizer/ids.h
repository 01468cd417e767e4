/*
 * A growing list of token ids, what every tokenizer appends to.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Zero-initialise; release with sde_ids_clear(). */
struct sde_ids {
	int32_t *ids;
	size_t count, room;
};

int sde_ids_append(struct sde_ids *ids, int32_t id); /* 0 or -ENOMEM */
void sde_ids_clear(struct sde_ids *ids);
