/*
 * Attention over all heads: first every head's keys and values are packed, block by block, into the scratch; then slices of
 * queries stream over them (attention-body.h). Both phases are cut by shape alone.
 */
#include "kernels/cpu/cpu.h"

struct job {
	const struct sdk_cpu *cpu;
	const struct sdk_op *op;
	struct sdk_attention_sizes sizes;
	size_t heads, dim, channels, queries, keys, blocks, slices, element;
	const char *q, *k, *v, *bias; /* bias NULL: none */
	char *out, *keys_at, *values_at, *work;
};

static struct job job_of(const struct sdk_cpu *cpu, const struct sdk_op *op)
{
	struct job job = {
		.cpu = cpu,
		.op = op,
		.heads = (size_t)op->heads,
		.channels = (size_t)op->in_shape[0].c,
		.queries = (size_t)op->in_shape[0].w,
		.keys = (size_t)op->in_shape[1].w,
		.element = sdk_type_size(cpu->base.activation),
	};

	job.dim = job.channels / job.heads;
	cpu->attention->sizes(job.dim, &job.sizes);
	job.sizes.work = (job.sizes.work + 63) & ~(size_t)63;
	job.blocks = (job.keys + job.sizes.key_block - 1) / job.sizes.key_block;
	job.slices = (job.queries + SDK_ATTEND_QUERIES - 1) / SDK_ATTEND_QUERIES;
	return job;
}

static size_t packed_blocks(const struct job *job)
{
	return (size_t)job->op->in_shape[0].n * job->heads * job->blocks;
}

static int attention_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	const struct job job = job_of(cpu, op);

	return sdk_cpu_scratch(
		cpu, packed_blocks(&job) * (job.sizes.block_keys + job.sizes.block_values) +
			     (size_t)cpu->base.threads * job.sizes.work);
}

static void pack_block(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t first = i % job->blocks * job->sizes.key_block;
	const size_t head = i / job->blocks % job->heads, n = i / job->blocks / job->heads;
	const size_t left = job->keys - first;
	const size_t count = left < job->sizes.key_block ? left : job->sizes.key_block;
	const size_t at =
		((n * job->keys + first) * job->channels + head * job->dim) * job->element;
	const enum sdk_type type = job->cpu->base.activation;

	job->cpu->attention->pack_keys(type, job->k + at, job->channels, count, job->dim,
				       job->keys_at + i * job->sizes.block_keys);
	job->cpu->attention->pack_values(type, job->v + at, job->channels, count, job->dim,
					 job->values_at + i * job->sizes.block_values);
}

static void attend_slice(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t first = i % job->slices * SDK_ATTEND_QUERIES;
	const size_t head = i / job->slices % job->heads, n = i / job->slices / job->heads;
	const size_t left = job->queries - first, at_head = (n * job->heads + head) * job->blocks;
	const size_t at =
		((n * job->queries + first) * job->channels + head * job->dim) * job->element;
	const struct sdk_attend attend = {
		.type = job->cpu->base.activation,
		.q = job->q + at,
		.out = job->out + at,
		.stride = job->channels,
		.queries = left < SDK_ATTEND_QUERIES ? left : SDK_ATTEND_QUERIES,
		.keys = job->keys,
		.dim = job->dim,
		.first_query = first,
		.causal = job->op->causal,
		.scale = job->op->scale,
		.bias = job->bias ? job->bias +
					    ((job->queries - 1) * job->heads + head) * job->element
				  : NULL,
		.bias_stride = job->heads,
		.packed_keys = job->keys_at + at_head * job->sizes.block_keys,
		.packed_values = job->values_at + at_head * job->sizes.block_values,
		.work = job->work + (size_t)sdk_cpu_thread() * job->sizes.work,
	};

	job->cpu->attention->attend(&attend);
}

static int attention_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
			 void *out)
{
	struct job job = job_of(cpu, op);
	const size_t blocks = packed_blocks(&job);

	job.q = in[0];
	job.k = in[1];
	job.v = in[2];
	job.bias = op->n_in > 3 ? in[3] : NULL;
	job.out = out;
	job.work = cpu->scratch;
	job.keys_at = job.work + (size_t)cpu->base.threads * job.sizes.work;
	job.values_at = job.keys_at + blocks * job.sizes.block_keys;
	sdk_cpu_parallel(cpu, blocks, pack_block, &job);
	sdk_cpu_parallel(cpu, (size_t)op->in_shape[0].n * job.heads * job.slices, attend_slice,
			 &job);
	return 0;
}

const struct sdk_cpu_op sdk_cpu_attention = {.prepare = attention_prepare, .run = attention_run};
