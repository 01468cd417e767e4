/*
 * T5's encoder on host arrays.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/forward.h"

static int build(struct sdk_plan *plan, const void *userdata, const sdk_value *inputs,
		 sdk_value *ret_outputs)
{
	ret_outputs[0] = sde_t5_record(plan, userdata, inputs[0], inputs[1]);
	return 0;
}

int sde_t5_forward(struct sde_runner *runner, const struct sde_t5 *t5, const int32_t *ids,
		   int batch, int tokens, int keys, float *ret_state, struct sde_error *error)
{
	const struct sde_t5_config *config = &t5->config;
	const int distances = tokens + keys - 1;
	const struct sde_program_spec spec = {
		.name = "T5 text encoder",
		.module = t5,
		.build = build,
		.userdata = t5,
		.n_inputs = 2,
		.n_outputs = 1,
		.inputs = {{batch, 1, tokens, config->d_model}, {1, 1, distances, 1}},
		.n_ids = 2,
		.precise = true,
	};
	_cleanup_free_ int32_t *buckets = NULL;
	int r;

	r = sde_t5_check_ids(t5, ids, batch, tokens, error);
	if (r < 0)
		return r;
	buckets = calloc((size_t)distances, sizeof(*buckets));
	if (!buckets)
		return sde_error_set(error, -ENOMEM, "no memory for %d tokens", tokens);
	for (int i = 0; i < distances; i++)
		buckets[i] = sde_t5_bucket(i - (tokens - 1), config->relative_attention_num_buckets,
					   config->relative_attention_max_distance);
	return sde_runner_run(runner, &spec, (const void *const[]){ids, buckets},
			      (float *const[]){ret_state}, error);
}
