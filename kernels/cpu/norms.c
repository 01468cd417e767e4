/*
 * Group norm over channels-last pictures: one pass for the sums, shifted by the first pixel so that a large mean costs no
 * precision, one pass that scales (and applies silu). Partial sums belong to fixed chunks of rows and are merged in double
 * in a fixed order: the number of threads changes nothing.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"

#define CHUNK ((size_t)256) /* pixels */

struct norm {
	struct sdk_packed *weight, *bias;
};

struct job {
	const struct sdk_cpu *cpu;
	const struct sdk_op *op;
	const char *x;
	char *y;
	size_t pixels, chunks, c, element;
	float *sums;   /* [n][chunk][2][c] */
	float *scales; /* [n][2][c] */
	const float *weight, *bias;
};

static void norm_release(struct sdk_cpu *cpu, void *state)
{
	struct norm *norm = state;

	if (!norm)
		return;
	sdk_packed_unref(cpu, norm->weight);
	sdk_packed_unref(cpu, norm->bias);
	free(norm);
}

static size_t chunks_of(const struct sdk_op *op)
{
	return ((size_t)op->out_shape.h * (size_t)op->out_shape.w + CHUNK - 1) / CHUNK;
}

static int norm_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	const size_t n = (size_t)op->out_shape.n, c = (size_t)op->out_shape.c;
	struct norm *norm = calloc(1, sizeof(*norm));
	int r;

	if (!norm)
		return -ENOMEM;
	r = sdk_packed_floats(cpu, op->weight, &norm->weight);
	if (r >= 0 && op->bias)
		r = sdk_packed_floats(cpu, op->bias, &norm->bias);
	if (r >= 0 && op->kind == SDK_OP_GROUP_NORM)
		r = sdk_cpu_scratch(cpu, n * 2 * c * sizeof(float) * (chunks_of(op) + 1));
	if (r < 0) {
		norm_release(cpu, norm);
		return r;
	}
	*ret_state = norm;
	return 0;
}

static void sum_chunk(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t n = i / job->chunks, first = i % job->chunks * CHUNK;
	const size_t rows = job->pixels - first < CHUNK ? job->pixels - first : CHUNK;
	const char *image = job->x + n * job->pixels * job->c * job->element;
	float *sum = job->sums + i * 2 * job->c;

	job->cpu->simd->moments(job->cpu->base.activation, image + first * job->c * job->element,
				image, rows, job->c, sum, sum + job->c);
}

/* Merge one image's chunks per channel, channels per group, and turn the statistics into y = x * scale + shift. */
static void merge_image(void *userdata, size_t n)
{
	const struct job *job = userdata;
	const size_t per_group = job->c / (size_t)job->op->groups;
	const double count = (double)job->pixels;
	const char *pixel0 = job->x + n * job->pixels * job->c * job->element;
	float *scale = job->scales + n * 2 * job->c, *shift = scale + job->c;

	for (size_t g = 0; g < (size_t)job->op->groups; g++) {
		double mean = 0, spread = 0;

		for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
			double sum = 0, square = 0;
			float first;

			sdk_widen(job->cpu->base.activation, pixel0 + c * job->element, &first, 1);
			for (size_t chunk = 0; chunk < job->chunks; chunk++) {
				const float *sums =
					job->sums + (n * job->chunks + chunk) * 2 * job->c;

				sum += sums[c];
				square += sums[job->c + c];
			}
			mean += first + sum / count;
			spread += square - sum * sum / count;
			scale[c] = (float)(first +
					   sum / count); /* the channel's mean, for the next loop */
		}
		mean /= (double)per_group;
		for (size_t c = g * per_group; c < (g + 1) * per_group; c++)
			spread += count * (scale[c] - mean) * (scale[c] - mean);
		spread /= count * (double)per_group;
		for (size_t c = g * per_group; c < (g + 1) * per_group; c++) {
			const double factor = job->weight[c] / sqrt((spread > 0 ? spread : 0) +
								    (double)job->op->eps);

			scale[c] = (float)factor;
			shift[c] = (float)((job->bias ? job->bias[c] : 0) - mean * factor);
		}
	}
}

static void scale_chunk(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t n = i / job->chunks, first = i % job->chunks * CHUNK;
	const size_t rows = job->pixels - first < CHUNK ? job->pixels - first : CHUNK;
	const size_t at = (n * job->pixels + first) * job->c * job->element;
	const float *scale = job->scales + n * 2 * job->c;

	job->cpu->simd->scale_rows(job->cpu->base.activation, job->x + at, job->y + at, rows,
				   job->c, scale, scale + job->c, job->op->silu);
}

static int group_norm_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state,
			  void *const *in, void *out)
{
	const struct norm *norm = state;
	const size_t n = (size_t)op->out_shape.n;
	struct job job = {
		.cpu = cpu,
		.op = op,
		.x = in[0],
		.y = out,
		.pixels = (size_t)op->out_shape.h * (size_t)op->out_shape.w,
		.chunks = chunks_of(op),
		.c = (size_t)op->out_shape.c,
		.element = sdk_type_size(cpu->base.activation),
		.weight = sdk_packed_data(norm->weight),
		.bias = norm->bias ? sdk_packed_data(norm->bias) : NULL,
	};

	job.scales = cpu->scratch;
	job.sums = job.scales + n * 2 * job.c;
	sdk_cpu_parallel(cpu, n * job.chunks, sum_chunk, &job);
	sdk_cpu_parallel(cpu, n, merge_image, &job);
	sdk_cpu_parallel(cpu, n * job.chunks, scale_chunk, &job);
	return 0;
}

static void norm_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t first = i * CHUNK, at = first * job->c * job->element;
	const size_t rows = job->pixels - first < CHUNK ? job->pixels - first : CHUNK;

	if (job->op->kind == SDK_OP_LAYER_NORM)
		job->cpu->simd->layer_norm(job->cpu->base.activation, job->x + at, job->y + at,
					   rows, job->c, job->weight, job->bias, job->op->eps);
	else
		job->cpu->simd->rms_norm(job->cpu->base.activation, job->x + at, job->y + at, rows,
					 job->c, job->weight, job->op->eps);
}

static int row_norm_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
			void *out)
{
	const struct norm *norm = state;
	struct job job = {
		.cpu = cpu,
		.op = op,
		.x = in[0],
		.y = out,
		.pixels =
			(size_t)op->out_shape.n * (size_t)op->out_shape.h * (size_t)op->out_shape.w,
		.c = (size_t)op->out_shape.c,
		.element = sdk_type_size(cpu->base.activation),
		.weight = sdk_packed_data(norm->weight),
		.bias = norm->bias ? sdk_packed_data(norm->bias) : NULL,
	};

	sdk_cpu_parallel(cpu, (job.pixels + CHUNK - 1) / CHUNK, norm_rows, &job);
	return 0;
}

static int ada_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	return sdk_cpu_scratch(cpu, (size_t)op->out_shape.n * 2 * (size_t)op->out_shape.c *
					    sizeof(float));
}

static void ada_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t n = i / job->chunks, first = i % job->chunks * CHUNK;
	const size_t rows = job->pixels - first < CHUNK ? job->pixels - first : CHUNK;
	const size_t at = (n * job->pixels + first) * job->c * job->element;
	const float *scale = job->scales + n * 2 * job->c;

	job->cpu->simd->layer_norm(job->cpu->base.activation, job->x + at, job->y + at, rows,
				   job->c, scale, scale + job->c, job->op->eps);
}

/* A layer norm whose weight and bias are an image's 1 + scale and shift. */
static int ada_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		   void *out)
{
	const size_t n = (size_t)op->out_shape.n;
	struct job job = {
		.cpu = cpu,
		.op = op,
		.x = in[0],
		.y = out,
		.pixels = (size_t)op->out_shape.h * (size_t)op->out_shape.w,
		.chunks = chunks_of(op),
		.c = (size_t)op->out_shape.c,
		.element = sdk_type_size(cpu->base.activation),
		.scales = cpu->scratch,
	};

	for (size_t b = 0; b < n; b++) {
		float *scale = job.scales + b * 2 * job.c;
		const size_t at = b * job.c * job.element;

		sdk_widen(cpu->base.activation, (const char *)in[1] + at, scale, job.c);
		sdk_widen(cpu->base.activation, (const char *)in[2] + at, scale + job.c, job.c);
		cpu->simd->affine(SDK_F32, 1, 1, scale, scale, job.c);
	}
	sdk_cpu_parallel(cpu, n * job.chunks, ada_rows, &job);
	return 0;
}

const struct sdk_cpu_op sdk_cpu_ada_layer_norm = {.prepare = ada_prepare, .run = ada_run};
const struct sdk_cpu_op sdk_cpu_group_norm = {norm_prepare, group_norm_run, norm_release};
const struct sdk_cpu_op sdk_cpu_row_norm = {norm_prepare, row_norm_run, norm_release};
