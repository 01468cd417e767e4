/*
 * Ops on each number by itself, in slices of a size that stays in the cache of one core.
 */
#include "kernels/cpu/cpu.h"

#define SLICE ((size_t)16384) /* elements */

struct job {
	const struct sdk_cpu *cpu;
	const struct sdk_op *op;
	const char *x, *other;
	char *y;
	size_t n, c, element, rows_a_task;
};

static struct job job_of(const struct sdk_cpu *cpu, const struct sdk_op *op, void *const *in,
			 void *out)
{
	return (struct job){
		.cpu = cpu,
		.op = op,
		.x = in[0],
		.other = op->n_in > 1 ? in[1] : NULL,
		.y = out,
		.n = (size_t)sdk_shape_count(op->out_shape),
		.c = (size_t)op->out_shape.c,
		.element = sdk_type_size(cpu->base.activation),
	};
}

static size_t slices(size_t n)
{
	return (n + SLICE - 1) / SLICE;
}

static void activate_slice(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t first = i * SLICE, n = job->n - first < SLICE ? job->n - first : SLICE;
	const size_t at = first * job->element;
	const enum sdk_type type = job->cpu->base.activation;

	if (job->op->kind == SDK_OP_ACTIVATE)
		job->cpu->simd->activate(type, job->op->activation, job->x + at, job->y + at, n);
	else if (job->op->kind == SDK_OP_AFFINE)
		job->cpu->simd->affine(type, job->op->scale, job->op->shift, job->x + at,
				       job->y + at, n);
	else
		(job->op->kind == SDK_OP_ADD ? job->cpu->simd->add : job->cpu->simd->mul)(
			type, job->x + at, job->other + at, job->y + at, n);
}

static int unary_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		     void *out)
{
	struct job job = job_of(cpu, op, in, out);

	sdk_cpu_parallel(cpu, slices(job.n), activate_slice, &job);
	return 0;
}

static size_t rows_a_task(size_t c)
{
	return c < SLICE ? SLICE / c : 1;
}

/* Some rows of a picture and one row (of its image, or of the only one) that all share. */
static void broadcast_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t rows = job->n / job->c, first = i * job->rows_a_task;
	const size_t last = first + job->rows_a_task < rows ? first + job->rows_a_task : rows;
	const size_t pixels = (size_t)job->op->out_shape.h * (size_t)job->op->out_shape.w;

	for (size_t row = first; row < last; row++) {
		const size_t other = job->op->in_shape[1].n == 1 ? 0 : row / pixels;

		(job->op->kind == SDK_OP_ADD ? job->cpu->simd->add : job->cpu->simd->mul)(
			job->cpu->base.activation, job->x + row * job->c * job->element,
			job->other + other * job->c * job->element,
			job->y + row * job->c * job->element, job->c);
	}
}

static int binary_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		      void *out)
{
	struct job job = job_of(cpu, op, in, out);

	if (sdk_shape_count(op->in_shape[0]) == sdk_shape_count(op->in_shape[1])) {
		sdk_cpu_parallel(cpu, slices(job.n), activate_slice, &job);
		return 0;
	}
	job.rows_a_task = rows_a_task(job.c);
	sdk_cpu_parallel(cpu, (job.n / job.c + job.rows_a_task - 1) / job.rows_a_task,
			 broadcast_rows, &job);
	return 0;
}

static void geglu_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t rows = job->n / job->c, first = i * job->rows_a_task;
	const size_t n = rows - first < job->rows_a_task ? rows - first : job->rows_a_task;

	job->cpu->simd->geglu(job->cpu->base.activation, job->x + first * 2 * job->c * job->element,
			      job->y + first * job->c * job->element, n, job->c);
}

static int geglu_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		     void *out)
{
	struct job job = job_of(cpu, op, in, out);

	job.rows_a_task = rows_a_task(job.c);
	sdk_cpu_parallel(cpu, (job.n / job.c + job.rows_a_task - 1) / job.rows_a_task, geglu_rows,
			 &job);
	return 0;
}

static void rope_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t rows = job->n / job->c, first = i * job->rows_a_task;
	const size_t last = first + job->rows_a_task < rows ? first + job->rows_a_task : rows;
	const size_t tokens = (size_t)job->op->out_shape.w, heads = (size_t)job->op->heads;
	const size_t d = job->c / heads;

	for (size_t row = first; row < last; row++) {
		const float *cosines = (const float *)job->op->weight->data + row % tokens * 2 * d;
		const size_t at = row * job->c * job->element;

		job->cpu->simd->rope(job->cpu->base.activation, job->x + at, job->y + at, heads, d,
				     cosines, cosines + d);
	}
}

static int rope_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		    void *out)
{
	struct job job = job_of(cpu, op, in, out);

	job.rows_a_task = rows_a_task(job.c);
	sdk_cpu_parallel(cpu, (job.n / job.c + job.rows_a_task - 1) / job.rows_a_task, rope_rows,
			 &job);
	return 0;
}

const struct sdk_cpu_op sdk_cpu_rope = {.run = rope_run};
const struct sdk_cpu_op sdk_cpu_activate = {.run = unary_run};
const struct sdk_cpu_op sdk_cpu_affine = {.run = unary_run};
const struct sdk_cpu_op sdk_cpu_binary = {.run = binary_run};
const struct sdk_cpu_op sdk_cpu_geglu = {.run = geglu_run};
