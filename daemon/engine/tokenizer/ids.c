/*
 * The list of ids: doubles as it grows.
 */
#include "daemon/engine/tokenizer/ids.h"

#include <errno.h>
#include <stdlib.h>

int sde_ids_append(struct sde_ids *ids, int32_t id)
{
	if (ids->count == ids->room) {
		size_t room = ids->room ? 2 * ids->room : 64;
		int32_t *grown = reallocarray(ids->ids, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		ids->ids = grown;
		ids->room = room;
	}
	ids->ids[ids->count++] = id;
	return 0;
}

void sde_ids_clear(struct sde_ids *ids)
{
	free(ids->ids);
	*ids = (struct sde_ids){0};
}
