/*
 * The engine object of the boundary: a runner and its backend.
 */
#include "daemon/engine/engine.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/cache.h"
#include "daemon/engine/model.h"

int sde_engine_new(const struct sde_engine_options *options, struct sde_engine **ret_engine,
		   struct sde_error *ret_error)
{
	struct sde_engine *engine = calloc(1, sizeof(*engine));
	int r;

	if (!engine)
		return sde_error_set(ret_error, -ENOMEM, "no memory for an engine");
	engine->cache = sde_cache_new(options->cache_bytes);
	r = engine->cache ? sde_runner_new(options->backend, options->dtype, options->threads,
					   &engine->runner, ret_error)
			  : sde_error_set(ret_error, -ENOMEM, "no memory for an engine");
	if (r < 0) {
		sde_cache_free(engine->cache);
		free(engine);
		return r;
	}
	sde_runner_set_pulse(engine->runner, options->pulse);
	engine->weights = options->weights;
	*ret_engine = engine;
	return 0;
}

struct sde_engine *sde_engine_free(struct sde_engine *engine)
{
	if (!engine)
		return NULL;
	sde_cache_free(engine->cache);
	sde_runner_free(engine->runner);
	free(engine);
	return NULL;
}

void sde_engine_cache_stats(const struct sde_engine *engine, enum sde_cache_kind kind,
			    struct sde_cache_stats *ret_stats)
{
	sde_cache_stats(engine->cache, kind, ret_stats);
}

const char *sde_engine_describe(const struct sde_engine *engine)
{
	return sde_runner_describe(engine->runner);
}
