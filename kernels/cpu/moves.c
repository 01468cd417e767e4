/*
 * Ops that copy: they depend on the size of an element, not on its type. Tables of rows stay in the file's type.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define ROWS_A_TASK ((size_t)256)

struct job {
	const struct sdk_cpu *cpu;
	const struct sdk_op *op;
	const char *x, *other;
	char *y;
	size_t rows;		    /* of y */
	size_t x_row, y_row, b_row; /* bytes */
};

static struct job job_of(const struct sdk_cpu *cpu, const struct sdk_op *op, void *const *in,
			 void *out)
{
	const size_t element = sdk_type_size(cpu->base.activation);

	return (struct job){
		.cpu = cpu,
		.op = op,
		.x = in[0],
		.other = op->n_in > 1 ? in[1] : NULL,
		.y = out,
		.rows = (size_t)op->out_shape.n * (size_t)op->out_shape.h * (size_t)op->out_shape.w,
		.x_row = (size_t)op->in_shape[0].c * element,
		.y_row = (size_t)op->out_shape.c * element,
		.b_row = op->n_in > 1 ? (size_t)op->in_shape[1].c * element : 0,
	};
}

static void run_rows(const struct sdk_cpu *cpu, struct job *job, void (*task)(void *, size_t))
{
	sdk_cpu_parallel(cpu, (job->rows + ROWS_A_TASK - 1) / ROWS_A_TASK, task, job);
}

static size_t last_row(const struct job *job, size_t i)
{
	return (i + 1) * ROWS_A_TASK < job->rows ? (i + 1) * ROWS_A_TASK : job->rows;
}

static void resize_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const struct sdk_shape from = job->op->in_shape[0], to = job->op->out_shape;

	for (size_t row = i * ROWS_A_TASK; row < last_row(job, i); row++) {
		const size_t x = row % (size_t)to.w, y = row / (size_t)to.w % (size_t)to.h;
		const size_t n = row / (size_t)to.w / (size_t)to.h;
		const size_t sx = x * (size_t)from.w / (size_t)to.w;
		const size_t sy = y * (size_t)from.h / (size_t)to.h;

		memcpy(job->y + row * job->y_row,
		       job->x + ((n * (size_t)from.h + sy) * (size_t)from.w + sx) * job->x_row,
		       job->y_row);
	}
}

static int resize_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		      void *out)
{
	struct job job = job_of(cpu, op, in, out);

	run_rows(cpu, &job, resize_rows);
	return 0;
}

static void concat_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;

	for (size_t row = i * ROWS_A_TASK; row < last_row(job, i); row++) {
		memcpy(job->y + row * job->y_row, job->x + row * job->x_row, job->x_row);
		memcpy(job->y + row * job->y_row + job->x_row, job->other + row * job->b_row,
		       job->b_row);
	}
}

static int concat_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		      void *out)
{
	struct job job = job_of(cpu, op, in, out);

	run_rows(cpu, &job, concat_rows);
	return 0;
}

static void slice_rows(void *userdata, size_t i)
{
	const struct job *job = userdata;
	const size_t first = (size_t)job->op->first * sdk_type_size(job->cpu->base.activation);

	for (size_t row = i * ROWS_A_TASK; row < last_row(job, i); row++)
		memcpy(job->y + row * job->y_row, job->x + row * job->x_row + first, job->y_row);
}

static int slice_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		     void *out)
{
	struct job job = job_of(cpu, op, in, out);

	run_rows(cpu, &job, slice_rows);
	return 0;
}

static int row_scratch_prepare(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state)
{
	return sdk_cpu_scratch(cpu, (size_t)op->out_shape.c * 2 * sizeof(float));
}

static int embedding_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
			 void *out)
{
	const struct job job = job_of(cpu, op, in, out);
	const int32_t *ids = in[0];

	for (size_t row = 0; row < job.rows; row++) {
		if (ids[row] < 0 || ids[row] >= op->weight->shape[0])
			return -ERANGE;
		sdk_tensor_row(op->weight, (size_t)ids[row], cpu->scratch);
		sdk_narrow(cpu->base.activation, cpu->scratch, job.y + row * job.y_row,
			   (size_t)op->out_shape.c);
	}
	return 0;
}

static int add_rows_run(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
			void *out)
{
	const struct job job = job_of(cpu, op, in, out);
	const size_t c = (size_t)op->out_shape.c, tokens = (size_t)op->out_shape.w;
	float *sum = cpu->scratch, *added = sum + c;

	for (size_t row = 0; row < job.rows; row++) {
		sdk_widen(cpu->base.activation, job.x + row * job.x_row, sum, c);
		sdk_tensor_row(op->weight, row % tokens, added);
		cpu->simd->add(SDK_F32, sum, added, sum, c);
		sdk_narrow(cpu->base.activation, sum, job.y + row * job.y_row, c);
	}
	return 0;
}

const struct sdk_cpu_op sdk_cpu_resize_nearest = {.run = resize_run};
const struct sdk_cpu_op sdk_cpu_concat = {.run = concat_run};
const struct sdk_cpu_op sdk_cpu_slice = {.run = slice_run};
const struct sdk_cpu_op sdk_cpu_embedding = {.prepare = row_scratch_prepare, .run = embedding_run};
const struct sdk_cpu_op sdk_cpu_add_rows = {.prepare = row_scratch_prepare, .run = add_rows_run};
