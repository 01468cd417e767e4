/*
 * The rule of company; see batch.h.
 */
#include "daemon/batch.h"
#include "daemon/admission.h"
#include "daemon/util/clock.h"

#include <string.h>

/* As the engine's (group.c): what is gained by less is not worth that the first one waits for the second. */
static const double worth_it = 1 / 0.95;
static const uint64_t forget_us = 600 * 1000000ULL;
/* Joined so often without a word about it: the steps did not meet. */
enum { TRIES_MAX = 8 };

/* What the work looks like, as far as the request tells. */
static struct sdd_batch_shape shape_of(const struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdp_record *record = job->record;
	const struct sdp_pixels *image = sdp_record_pixels(record, SDP_JOB_SUBMIT_IMAGE);
	const struct sdd_model *model;
	const double guidance = sdp_record_double(record, SDP_JOB_PARAMETERS_GUIDANCE_SCALE);
	struct sdd_batch_shape shape = {.guided = guidance < 0 || guidance > 1};

	snprintf(shape.model, sizeof(shape.model), "%s", job->model);
	if (image) {
		const struct sdp_rect select = sdp_record_rect(record, SDP_JOB_PARAMETERS_SELECT);

		shape.width = image->width;
		shape.height = image->height;
		shape.select_width = select.width;
		shape.select_height = select.height;
		return shape;
	}
	model = sdd_registry_known((struct sdd_registry *)&server->registry, job->model);
	shape.width = sdp_record_int(record, SDP_JOB_PARAMETERS_WIDTH);
	shape.height = sdp_record_int(record, SDP_JOB_PARAMETERS_HEIGHT);
	if (shape.width == 0 && model)
		shape.width = model->facts.native_size;
	if (shape.height == 0 && model)
		shape.height = model->facts.native_size;
	return shape;
}

static bool same_shape(const struct sdd_batch_shape *a, const struct sdd_batch_shape *b)
{
	return strcmp(a->model, b->model) == 0 && a->guided == b->guided && a->width == b->width &&
	       a->height == b->height && a->select_width == b->select_width &&
	       a->select_height == b->select_height;
}

static bool shows_its_work(enum sdp_job_kind kind)
{
	return kind == SDP_JOB_KIND_TXT2IMG || kind == SDP_JOB_KIND_IMG2IMG ||
	       kind == SDP_JOB_KIND_INPAINT;
}

/* Adapters change the model for everybody, and so does tiling; in a prompt adapters are tags. A mask's work and that of growth show when they run. */
static bool can_have_company(const struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdp_record *record = job->record;
	const struct sdd_batch_shape shape = shape_of(server, job);
	const uint64_t pixels = (uint64_t)shape.width * (uint64_t)shape.height;

	return !job->keeps_apart && !job->staged &&
	       !sdp_record_bool(record, SDP_JOB_PARAMETERS_VAE_TILING) && !job->cancel_requested &&
	       shows_its_work(job->kind) && pixels > 0 && pixels <= server->config->batch_pixels &&
	       !sdp_record_given(record, SDP_JOB_SUBMIT_MASK) &&
	       sdp_record_count(record, SDP_JOB_PARAMETERS_LORAS) == 0 &&
	       sdp_record_count(record, SDP_JOB_PARAMETERS_CONTROLS) == 0 &&
	       sdp_record_int(record, SDP_JOB_PARAMETERS_TILING) == SDP_TILING_NONE &&
	       !sdp_record_bool(record, SDP_JOB_PARAMETERS_EXPLAIN) &&
	       !sdp_record_given(record, SDP_JOB_PARAMETERS_SOURCE_PROMPT) &&
	       sdp_record_count(record, SDP_JOB_PARAMETERS_WORD_WEIGHTS) == 0 &&
	       !strchr(sdp_record_string(record, SDP_JOB_PARAMETERS_PROMPT), '<');
}

static struct sdd_batch_figures *find(struct sdd_server *server,
				      const struct sdd_batch_shape *shape)
{
	struct sdd_batch_figures *figures;

	for (size_t i = 0; i < SDD_BATCH_SHAPES_MAX; i++)
		if (same_shape(&server->batch[i].shape, shape))
			return &server->batch[i];
	figures = &server->batch[server->next_batch++ % SDD_BATCH_SHAPES_MAX];
	*figures = (struct sdd_batch_figures){.shape = *shape, .since_us = sdd_now_us()};
	return figures;
}

bool sdd_batch_joins(struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdd_batch_shape shape = shape_of(server, job);
	const size_t jobs = server->runner.n_jobs + 1;
	struct sdd_batch_figures *figures;
	const struct sdd_job *running;
	const struct sdd_model *model;

	if (jobs < 2 || jobs > SDD_BATCH_MAX || !can_have_company(server, job))
		return false;
	sdd_list_for_each (running, &server->runner.jobs, link) {
		const struct sdd_batch_shape theirs = shape_of(server, running);

		if (running->yielding || running->priority != job->priority ||
		    !can_have_company(server, running) || !same_shape(&theirs, &shape))
			return false;
	}
	model = sdd_registry_known(&server->registry, job->model);
	if (!model || !sdd_admission_fits_batch(server, model, job->record, (int)jobs))
		return false;
	figures = find(server, &shape);
	if (figures->since_us + forget_us < sdd_now_us())
		*figures = (struct sdd_batch_figures){.shape = shape, .since_us = sdd_now_us()};
	return figures->told[jobs] ? figures->speedup[jobs] >= worth_it
				   : figures->tries[jobs] < TRIES_MAX;
}

void sdd_batch_note_join(struct sdd_server *server, const struct sdd_job *job)
{
	const struct sdd_batch_shape shape = shape_of(server, job);

	find(server, &shape)->tries[server->runner.n_jobs]++;
}

void sdd_batch_learn(struct sdd_server *server, const struct sdd_job *job, int jobs, double speedup)
{
	const struct sdd_batch_shape shape = shape_of(server, job);
	struct sdd_batch_figures *figures;

	if (jobs < 2 || jobs > SDD_BATCH_MAX)
		return;
	figures = find(server, &shape);
	figures->told[jobs] = true;
	figures->speedup[jobs] = speedup;
}
