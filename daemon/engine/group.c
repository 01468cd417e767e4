/*
 * Stacks, meeting, and the choice between one batch and one after the other; see group.h.
 */
#include "daemon/engine/group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "daemon/engine/adapters/adapted.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/model.h"
#include "daemon/engine/runner.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#else
#define __tsan_get_current_fiber()	     NULL
#define __tsan_create_fiber(flags)	     NULL
#define __tsan_destroy_fiber(fiber)	     ((void)(fiber))
#define __tsan_switch_to_fiber(fiber, flags) ((void)(fiber))
#endif

#define STACK_BYTES ((size_t)8 << 20) /* as threads have; what is not touched costs nothing */
#define TRIALS_MAX  32
#define TRY_AGAIN   256	 /* turns: machines are busy now and idle then */
#define WORTH_IT    0.95 /* of the time that one after the other takes */

struct member {
	struct sde_group *group;
	ucontext_t context;
	void *stack, *fiber;
	const struct sde_job *job;
	const struct sde_hooks *hooks;
	struct sde_result result;
	struct sde_error error;
	int r;
	bool ended, alone;
	/* the call it waits for; NULL: it does not */
	const struct sde_denoiser_call *call;
	float *output;
	struct sde_error *call_error;
	int call_r;
};

/* What is known of so many jobs whose calls look like this. */
struct trial {
	int height, width, tokens, rows;
	size_t jobs;
	uint64_t turns;
	bool equal;
	double apart_s, together_s;
};

struct sde_group {
	struct sde_model *model;
	struct member *members[SDE_GROUP_MAX];
	size_t n;
	struct member *current;
	ucontext_t home;
	void *home_fiber;
	struct trial trials[TRIALS_MAX];
	size_t next_trial;
	double worth;
	uint64_t calls_together;
};

static double now_s(void)
{
	struct timespec t;

	/* of this process: what others use of the machine says nothing about the two ways */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int sde_group_new(struct sde_model *model, struct sde_group **ret_group)
{
	struct sde_group *group = calloc(1, sizeof(*group));

	if (!group)
		return -ENOMEM;
	group->model = model;
	group->worth = WORTH_IT;
	model->group = group;
	*ret_group = group;
	return 0;
}

static void member_free(struct member *member)
{
	if (member->stack)
		munmap(member->stack, STACK_BYTES);
	if (member->fiber)
		__tsan_destroy_fiber(member->fiber);
	free(member);
}

struct sde_group *sde_group_free(struct sde_group *group)
{
	if (group)
		group->model->group = NULL;
	free(group);
	return NULL;
}

/* Adapters change the model for everybody, and so does tiling; in a prompt adapters are tags. Watched attention is of one job. */
static bool is_alone(const struct sde_job *job)
{
	return job->explain || job->source_prompt || job->n_word_weights > 0 ||
	       job->tiling != SDE_TILING_NONE || job->n_loras > 0 || job->n_controls > 0 ||
	       (job->prompt && strchr(job->prompt, '<'));
}

bool sde_group_takes(const struct sde_group *group, const struct sde_job *job)
{
	if (group->n == 0)
		return true;
	return group->n < SDE_GROUP_MAX && !is_alone(job) && !group->members[0]->alone;
}

static void switch_to(struct member *member)
{
	struct sde_group *group = member->group;

	group->current = member;
	/* what a job sets up on the model: another may have begun since */
	group->model->partition = member->job->partition;
	group->model->vae.tiled = member->job->vae_tiling;
	sde_runner_set_cancel(group->model->runner, member->hooks ? member->hooks->cancel : NULL);
	group->home_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(member->fiber, 0);
	swapcontext(&group->home, &member->context);
	group->current = NULL;
	sde_runner_set_cancel(group->model->runner, NULL);
}

static void switch_home(struct member *member)
{
	__tsan_switch_to_fiber(member->group->home_fiber, 0);
	swapcontext(&member->context, &member->group->home);
}

/* makecontext passes ints only. */
static _Thread_local struct member *beginning;

static void live(void)
{
	struct member *member = beginning;

	member->r = sde_job_run(member->group->model, member->job, member->hooks, &member->result,
				&member->error);
	member->ended = true;
	switch_home(member);
}

int sde_group_add(struct sde_group *group, const struct sde_job *job, const struct sde_hooks *hooks)
{
	struct member *member;

	if (!sde_group_takes(group, job))
		return -EBUSY;
	member = calloc(1, sizeof(*member));
	if (!member)
		return -ENOMEM;
	member->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (member->stack == MAP_FAILED) {
		free(member);
		return -ENOMEM;
	}
	/* the page below it: who needs more stack ends here and not in somebody's memory */
	mprotect(member->stack, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE);
	member->group = group;
	member->job = job;
	member->hooks = hooks;
	member->alone = is_alone(job);
	member->fiber = __tsan_create_fiber(0);
	getcontext(&member->context);
	member->context.uc_stack.ss_sp = member->stack;
	member->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&member->context, live, 0);
	group->members[group->n++] = member;
	return 0;
}

int sde_group_denoise(struct sde_model *model, const struct sde_denoiser_call *call,
		      float *ret_output, struct sde_error *error)
{
	struct member *member = model->group ? model->group->current : NULL;

	if (!member || member->alone || call->guides || call->skipped_layers)
		return sde_denoiser_forward(model->runner, sde_model_denoiser(model), call,
					    ret_output, error);
	member->call = call;
	member->output = ret_output;
	member->call_error = error;
	switch_home(member);
	return member->call_r;
}

/* As many rows, too: a library may compute a single row in another way, and one such job would spoil the batch of the others. */
static bool same_shape(const struct sde_denoiser_call *a, const struct sde_denoiser_call *b)
{
	return a->batch == b->batch && a->height == b->height && a->width == b->width &&
	       a->tokens == b->tokens && a->pooled_width == b->pooled_width &&
	       a->n_time_ids == b->n_time_ids;
}

static void run_apart(struct sde_group *group, struct member **members, size_t n)
{
	struct sde_runner *runner = group->model->runner;

	for (size_t i = 0; i < n; i++) {
		struct member *member = members[i];

		sde_runner_set_cancel(runner, member->hooks ? member->hooks->cancel : NULL);
		member->call_r = sde_denoiser_forward(runner, &group->model->denoiser, member->call,
						      member->output, member->call_error);
	}
	sde_runner_set_cancel(runner, NULL);
}

/* The inputs of several calls behind each other; arrays that the network does not take are NULL in all of them. */
struct batch {
	struct sde_denoiser_call call;
	float *arrays[6], *output;
	size_t row; /* of output */
};

static void batch_clear(struct batch *batch)
{
	for (size_t i = 0; i < 6; i++)
		free(batch->arrays[i]);
	free(batch->output);
}

static float *joined(struct member **members, size_t n, size_t offset, size_t row, int rows)
{
	float *all = malloc((size_t)rows * row * sizeof(*all) + 1), *to = all;

	for (size_t i = 0; all && i < n; i++) {
		const struct sde_denoiser_call *call = members[i]->call;
		const float *from = *(const float *const *)((const char *)call + offset);
		const size_t count = (size_t)call->batch * row;

		if (from && count > 0)
			memcpy(to, from, count * sizeof(*to));
		to += count;
	}
	return all;
}

static int batch_init(struct batch *batch, const struct sde_group *group, struct member **members,
		      size_t n)
{
	const struct sde_denoiser *denoiser = &group->model->denoiser;
	const struct sde_denoiser_call *first = members[0]->call;
	const size_t pixels = (size_t)first->height * (size_t)first->width;
	struct sde_denoiser_call *call = &batch->call;
	const float **const to[6] = {&call->sample, &call->timesteps, &call->context,
				     &call->pooled, &call->time_ids,  &call->guidance_scales};
	const size_t rows[6] = {(size_t)denoiser->in_channels * pixels,
				1,
				(size_t)first->tokens * (size_t)denoiser->context_width,
				(size_t)first->pooled_width,
				(size_t)first->n_time_ids,
				1};

	*batch = (struct batch){.call = *first};
	call->batch = 0;
	for (size_t i = 0; i < n; i++)
		call->batch += members[i]->call->batch;
	batch->row = (size_t)denoiser->out_channels * pixels;
	batch->output = malloc((size_t)call->batch * batch->row * sizeof(float));
	for (size_t k = 0; k < 6; k++) {
		const size_t offset = (size_t)((const char *)to[k] - (const char *)call);

		batch->arrays[k] = joined(members, n, offset, rows[k], call->batch);
		if (*to[k])
			*to[k] = batch->arrays[k];
		if (!batch->arrays[k] || !batch->output) {
			batch_clear(batch);
			return -ENOMEM;
		}
	}
	return 0;
}

/* With compare, only look whether the members' outputs are the batch's. Negative: it could not be run. */
static int run_together(struct sde_group *group, struct member **members, size_t n, bool compare,
			bool *ret_equal)
{
	struct sde_error ignored;
	const float *from;
	struct batch batch;
	int r;

	r = batch_init(&batch, group, members, n);
	if (r < 0)
		return r;
	r = sde_denoiser_forward(group->model->runner, &group->model->denoiser, &batch.call,
				 batch.output, &ignored);
	from = batch.output;
	*ret_equal = true;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const size_t count = (size_t)members[i]->call->batch * batch.row;

		if (!compare)
			memcpy(members[i]->output, from, count * sizeof(*from));
		else if (memcmp(members[i]->output, from, count * sizeof(*from)) != 0)
			*ret_equal = false;
		members[i]->call_r = 0;
		from += count;
	}
	batch_clear(&batch);
	return r;
}

static struct trial *trial_of(struct sde_group *group, struct member **members, size_t n)
{
	const struct sde_denoiser_call *call = members[0]->call;
	struct trial *trial;
	int rows = 0;

	for (size_t i = 0; i < n; i++)
		rows += members[i]->call->batch;
	for (size_t i = 0; i < TRIALS_MAX; i++) {
		trial = &group->trials[i];
		if (trial->jobs == n && trial->rows == rows && trial->height == call->height &&
		    trial->width == call->width && trial->tokens == call->tokens)
			return trial;
	}
	trial = &group->trials[group->next_trial++ % TRIALS_MAX];
	*trial = (struct trial){.height = call->height,
				.width = call->width,
				.tokens = call->tokens,
				.rows = rows,
				.jobs = n,
				.equal = true};
	return trial;
}

static void tell(struct member **members, size_t n, const struct trial *trial)
{
	const double speedup = trial->equal ? trial->apart_s / trial->together_s : 0;

	for (size_t i = 0; i < n; i++)
		if (members[i]->hooks && members[i]->hooks->batched)
			members[i]->hooks->batched(members[i]->hooks->userdata, (int)n, speedup);
}

/* Both ways. What is computed apart is what counts. The first time includes preparing the network for so many rows. */
static void try_both(struct sde_group *group, struct member **members, size_t n,
		     struct trial *trial)
{
	const double begin = now_s();
	double middle, end;
	bool equal;

	run_apart(group, members, n);
	middle = now_s();
	for (size_t i = 0; i < n; i++)
		if (members[i]->call_r < 0)
			return;
	if (run_together(group, members, n, true, &equal) < 0)
		equal = false;
	end = now_s();
	trial->equal = trial->equal && equal;
	if (trial->turns++ == 0 && equal)
		return;
	trial->apart_s = middle - begin;
	trial->together_s = end - middle;
	tell(members, n, trial);
}

static void run_calls(struct sde_group *group, struct member **members, size_t n)
{
	struct trial *trial;
	bool equal;

	if (n == 1) {
		run_apart(group, members, 1);
		return;
	}
	trial = trial_of(group, members, n);
	if (trial->equal && (trial->turns < 2 || trial->turns % TRY_AGAIN == 0)) {
		try_both(group, members, n, trial);
		return;
	}
	trial->turns++;
	if (!trial->equal || trial->together_s > group->worth * trial->apart_s ||
	    run_together(group, members, n, false, &equal) < 0)
		run_apart(group, members, n);
	else
		group->calls_together++;
}

void sde_group_set_worth(struct sde_group *group, double part)
{
	group->worth = part;
}

uint64_t sde_group_calls_together(const struct sde_group *group)
{
	return group->calls_together;
}

void sde_group_turn(struct sde_group *group)
{
	struct member *left[SDE_GROUP_MAX], *alike[SDE_GROUP_MAX];
	size_t n_left = 0;

	for (size_t i = 0; i < group->n; i++) {
		struct member *member = group->members[i];

		if (member->ended)
			continue;
		beginning = member;
		switch_to(member);
		if (member->call)
			left[n_left++] = member;
	}
	while (n_left > 0) {
		size_t n_alike = 0, kept = 0;

		for (size_t i = 0; i < n_left; i++) {
			if (i == 0 || same_shape(left[i]->call, alike[0]->call))
				alike[n_alike++] = left[i];
			else
				left[kept++] = left[i];
		}
		n_left = kept;
		run_calls(group, alike, n_alike);
		for (size_t i = 0; i < n_alike; i++)
			alike[i]->call = NULL;
	}
}

bool sde_group_take_ended(struct sde_group *group, const struct sde_job **ret_job, int *ret_r,
			  struct sde_result *ret_result, struct sde_error *ret_error)
{
	for (size_t i = 0; i < group->n; i++) {
		struct member *member = group->members[i];

		if (!member->ended)
			continue;
		*ret_job = member->job;
		*ret_r = member->r;
		*ret_result = member->result;
		*ret_error = member->error;
		member_free(member);
		memmove(&group->members[i], &group->members[i + 1],
			(--group->n - i) * sizeof(group->members[0]));
		return true;
	}
	return false;
}
