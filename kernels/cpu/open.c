/*
 * The cpu backend's vtable: options, instruction set, dispatch by op.
 */
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/pages.h"

#define MAX_THREADS 256

static const struct sdk_cpu_op *const table[SDK_OP_COUNT] = {
	[SDK_OP_CONV2D] = &sdk_cpu_conv2d,
	[SDK_OP_LINEAR] = &sdk_cpu_linear,
	[SDK_OP_GROUP_NORM] = &sdk_cpu_group_norm,
	[SDK_OP_LAYER_NORM] = &sdk_cpu_row_norm,
	[SDK_OP_RMS_NORM] = &sdk_cpu_row_norm,
	[SDK_OP_ADA_LAYER_NORM] = &sdk_cpu_ada_layer_norm,
	[SDK_OP_ROPE] = &sdk_cpu_rope,
	[SDK_OP_ACTIVATE] = &sdk_cpu_activate,
	[SDK_OP_ADD] = &sdk_cpu_binary,
	[SDK_OP_MUL] = &sdk_cpu_binary,
	[SDK_OP_AFFINE] = &sdk_cpu_affine,
	[SDK_OP_GEGLU] = &sdk_cpu_geglu,
	[SDK_OP_ATTENTION] = &sdk_cpu_attention,
	[SDK_OP_RESIZE_NEAREST] = &sdk_cpu_resize_nearest,
	[SDK_OP_CONCAT] = &sdk_cpu_concat,
	[SDK_OP_SLICE] = &sdk_cpu_slice,
	[SDK_OP_EMBEDDING] = &sdk_cpu_embedding,
	[SDK_OP_ADD_ROWS] = &sdk_cpu_add_rows,
};

static const struct {
	const char *name;
	enum sdk_isa isa;
	dnnl_cpu_isa_t dnnl;
} isas[] = {
	{"baseline", SDK_ISA_BASE, dnnl_cpu_isa_sse41},
	{"avx2", SDK_ISA_AVX2, dnnl_cpu_isa_avx2},
	{"avx512", SDK_ISA_AVX512, dnnl_cpu_isa_avx512_core_vnni},
	{"avx512_bf16", SDK_ISA_AVX512_BF16, dnnl_cpu_isa_all},
};

int sdk_cpu_scratch(struct sdk_cpu *cpu, size_t bytes)
{
	void *scratch;

	if (bytes <= cpu->scratch_bytes)
		return 0;
	scratch = sdk_pages_new(bytes);
	if (!scratch)
		return -ENOMEM;
	sdk_pages_free(cpu->scratch, cpu->scratch_bytes);
	cpu->scratch = scratch;
	cpu->scratch_bytes = bytes;
	return 0;
}

/* The number of threads is a property of the calling thread in OpenMP, and oneDNN asks for it on every call. */
static void enter(const struct sdk_cpu *cpu)
{
	omp_set_num_threads(cpu->base.threads);
}

static int cpu_prepare(struct sdk_backend *backend, const struct sdk_op *op, void **ret_state)
{
	struct sdk_cpu *cpu = (struct sdk_cpu *)backend;

	if (!table[op->kind])
		return -ENOTSUP;
	enter(cpu);
	return table[op->kind]->prepare ? table[op->kind]->prepare(cpu, op, ret_state) : 0;
}

static int cpu_run(struct sdk_backend *backend, const struct sdk_op *op, void *state,
		   void *const *in, void *out)
{
	struct sdk_cpu *cpu = (struct sdk_cpu *)backend;

	enter(cpu);
	return table[op->kind]->run(cpu, op, state, in, out);
}

static void cpu_release(struct sdk_backend *backend, const struct sdk_op *op, void *state)
{
	if (table[op->kind]->release)
		table[op->kind]->release((struct sdk_cpu *)backend, state);
}

static void cpu_free(struct sdk_backend *backend)
{
	struct sdk_cpu *cpu = (struct sdk_cpu *)backend;

	if (cpu->stream)
		dnnl_stream_destroy(cpu->stream);
	if (cpu->engine)
		dnnl_engine_destroy(cpu->engine);
	sdk_pages_free(cpu->scratch, cpu->scratch_bytes);
	free(cpu);
}

/* The limit on the instruction set that the caller names; NULL = none. */
static int parse_isa(const char *name, enum sdk_isa *ret_limit, char *err, size_t err_size)
{
	if (!name) {
		*ret_limit = SDK_ISA_AVX512_BF16;
		return 0;
	}
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
		if (strcmp(name, isas[i].name) != 0)
			continue;
		/* Fails once oneDNN has made its first kernel: then the earlier choice stays, which is only slower. */
		(void)dnnl_set_max_cpu_isa(isas[i].dnnl);
		*ret_limit = isas[i].isa;
		return 0;
	}
	snprintf(err, err_size,
		 "no instruction set is called %s; there are baseline, avx2, avx512, avx512_bf16",
		 name);
	return -EINVAL;
}

static int parse_dtype(const char *name, enum sdk_isa isa, enum sdk_type *ret_type, char *err,
		       size_t err_size)
{
	if (!name || strcmp(name, "auto") == 0)
		*ret_type = isa >= SDK_ISA_AVX512_BF16 ? SDK_BF16 : SDK_F32;
	else if (strcmp(name, "f32") == 0)
		*ret_type = SDK_F32;
	else if (strcmp(name, "bf16") == 0)
		*ret_type = SDK_BF16;
	else {
		snprintf(err, err_size, "the cpu backend computes in f32 or bf16, not in %s", name);
		return -EINVAL;
	}
	return 0;
}

int sdk_cpu_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		 char *err, size_t err_size)
{
	static const struct sdk_backend_ops ops = {
		.prepare = cpu_prepare,
		.run = cpu_run,
		.release = cpu_release,
		.free = cpu_free,
		.fuses = true,
	};
	const dnnl_version_t *version = dnnl_version();
	struct sdk_cpu *cpu;
	enum sdk_isa limit;
	enum sdk_type activation;
	int r;

	r = parse_isa(options->isa, &limit, err, err_size);
	if (r < 0)
		return r;
	limit = sdk_isa_pick(limit);
	r = parse_dtype(options->dtype, limit, &activation, err, err_size);
	if (r < 0)
		return r;
	cpu = calloc(1, sizeof(*cpu));
	if (!cpu) {
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	cpu->base.ops = &ops;
	cpu->base.activation = activation;
	cpu->base.rounds = activation != SDK_F32;
	cpu->base.threads = options->threads > 0 ? options->threads : sdk_cpu_cores();
	if (cpu->base.threads > MAX_THREADS)
		cpu->base.threads = MAX_THREADS;
	cpu->isa = limit;
	cpu->simd = sdk_simd_for(limit);
	cpu->attention = &cpu->simd->attention;
#if defined(__x86_64__)
	if (limit >= SDK_ISA_AVX512_BF16 && activation == SDK_BF16)
		cpu->attention = &sdk_attention_avx512_bf16;
#endif
	enter(cpu);
	if (dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) != dnnl_success ||
	    dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags) !=
		    dnnl_success) {
		cpu_free(&cpu->base);
		snprintf(err, err_size, "oneDNN cannot make an engine on this processor");
		return -EIO;
	}
	snprintf(cpu->base.description, sizeof(cpu->base.description),
		 "cpu (oneDNN %d.%d.%d, %s), %s, %d thread%s", version->major, version->minor,
		 version->patch, isas[limit].name, activation == SDK_BF16 ? "bf16" : "f32",
		 cpu->base.threads, cpu->base.threads == 1 ? "" : "s");
	*ret_backend = &cpu->base;
	return 0;
}
