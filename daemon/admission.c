/*
 * Budgets against footprints, and the words for it; see admission.h.
 */
#include "daemon/admission.h"
#include "daemon/budget.h"
#include "daemon/model-stamp.h"
#include "daemon/residency.h"
#include "daemon/util/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SIDE_GRAIN = 64 };

static int within(int value, int low, int high)
{
	return value < low ? low : value > high ? high : value;
}

/* It paints the picture that it begins with beside its own, in the same calls of the denoiser. */
static bool is_edit(const struct sdp_record *job)
{
	return *sdp_record_string(job, SDP_JOB_PARAMETERS_SOURCE_PROMPT) ||
	       sdp_record_count(job, SDP_JOB_PARAMETERS_WORD_WEIGHTS) > 0;
}

/* What the engine will work on: of a picture the part that suits the model, which is not known yet, so at most one and a half of its side. */
static struct sdd_work work_of(const struct sdd_model *model, const struct sdp_record *job)
{
	const int native = model->facts.native_size > 0 ? model->facts.native_size
							: model->footprint.native_size;
	struct sdd_work work = {.width = native, .height = native};
	const struct sdp_pixels *image;

	if (!job)
		return work;
	work.tiled = sdp_record_bool(job, SDP_JOB_PARAMETERS_VAE_TILING);
	if (sdp_record_int(job, SDP_JOB_PARAMETERS_KIND) == SDP_JOB_KIND_TXT2IMG) {
		if (sdp_record_int(job, SDP_JOB_PARAMETERS_WIDTH) > 0)
			work.width = sdp_record_int(job, SDP_JOB_PARAMETERS_WIDTH);
		if (sdp_record_int(job, SDP_JOB_PARAMETERS_HEIGHT) > 0)
			work.height = sdp_record_int(job, SDP_JOB_PARAMETERS_HEIGHT);
		work.batch = is_edit(job) ? 2 : 1;
		return work;
	}
	work.encodes = true;
	image = sdp_record_pixels(job, SDP_JOB_SUBMIT_IMAGE);
	if (image) {
		work.width = within((int)image->width, native, native * 3 / 2);
		work.height = within((int)image->height, native, native * 3 / 2);
	}
	return work;
}

/* What other models take: those that connected clients have pinned, or all. */
static uint64_t others_bytes(const struct sdd_server *server, const struct sdd_model *model,
			     bool pinned_only)
{
	const struct sdd_model *other;
	uint64_t bytes = 0;
	bool pinned;

	sdd_list_for_each (other, &server->registry.models, link) {
		if (other == model || other->state != SDP_MODEL_STATE_LOADED)
			continue;
		sdd_residency_holders(server, other, &pinned);
		if (pinned || !pinned_only)
			bytes = sdd_u64_add_saturated(bytes, other->weight_bytes);
	}
	return bytes;
}

/* The largest square of which the job fits, 0 = none. */
static int side_that_fits(const struct sdd_footprint *footprint, struct sdd_types types,
			  struct sdd_work work, uint64_t free_bytes)
{
	int side = work.width > work.height ? work.width : work.height;

	for (side = (side - 1) / SIDE_GRAIN * SIDE_GRAIN; side > 0; side -= SIDE_GRAIN) {
		work.width = work.height = side;
		if (sdd_footprint_staged(footprint, types, &work) <= free_bytes)
			return side;
	}
	return 0;
}

/* As people say it: MB below a gigabyte. */
static double amount(uint64_t bytes, const char **ret_unit)
{
	const bool large = bytes >= UINT64_C(1000000000);

	*ret_unit = large ? "GB" : "MB";
	return (double)bytes / (large ? 1e9 : 1e6);
}

static int refuse(const struct sdd_server *server, const struct sdd_model *model,
		  const struct sdd_footprint *footprint, const struct sdd_work *work,
		  uint64_t needed, uint64_t pinned, struct sdp_error *ret_error)
{
	const uint64_t budget = server->memory_budget_bytes;
	const uint64_t free_bytes = budget > pinned ? budget - pinned : 0;
	struct sdd_footprint small = *footprint;
	struct sdd_work tiled = *work;
	const char *name, *needed_unit, *free_unit;
	const double needed_amount = amount(needed, &needed_unit);
	const double free_amount = amount(free_bytes, &free_unit);
	char remedy[160];
	int side;

	tiled.tiled = true;
	small.form = SDP_WEIGHTS_FORM_Q8_0;
	side = side_that_fits(footprint, server->types, *work, free_bytes);
	if (!work->tiled && sdd_footprint_staged(footprint, server->types, &tiled) <= free_bytes) {
		name = "vae_tiling";
		snprintf(remedy, sizeof(remedy), "tiled VAE fits (vae_tiling)");
	} else if (sdd_footprint_staged(&small, server->types, &tiled) <= free_bytes) {
		name = "weights";
		snprintf(remedy, sizeof(remedy),
			 "weights in q8_0 (models.load, sdd.conf or the model's sdd.json)%s fit",
			 sdd_footprint_staged(&small, server->types, work) <= free_bytes
				 ? ""
				 : " with vae_tiling");
	} else if (side > 0) {
		name = "size";
		snprintf(remedy, sizeof(remedy), "a picture of %d x %d fits", side, side);
	} else {
		name = "memory_budget";
		snprintf(remedy, sizeof(remedy),
			 "choose a smaller model, or raise memory-budget or the limit of the "
			 "daemon's control group");
	}
	sdp_error_field(ret_error, SDP_CODE_NO_MEMORY, "model",
			"a picture of %d x %d with '%s' needs %.1f %s, %.1f %s free%s: %s",
			work->width, work->height, model->name, needed_amount, needed_unit,
			free_amount, free_unit,
			pinned > 0 ? " beside what clients have pinned" : "", remedy);
	if (!ret_error)
		return -ENOMEM;
	ret_error->needed_bytes = needed;
	ret_error->free_bytes = free_bytes;
	snprintf(ret_error->remedy, sizeof(ret_error->remedy), "%s", name);
	return -ENOMEM;
}

/* The model's, in the form its weights will have, and what the job's adapters add. */
static struct sdd_footprint footprint_of(struct sdd_server *server, const struct sdd_model *model,
					 const struct sdp_record *job,
					 const enum sdp_weights_form *form)
{
	const struct sdd_footprint_roots roots = {server->registry.roots, server->registry.n_roots,
						  &server->adapter_headers};
	struct sdd_footprint footprint;

	footprint = model->footprint;
	if (form)
		footprint.form = *form;
	else if (model->has_chosen_weights)
		footprint.form = model->chosen_weights;
	else if (!footprint.says_form)
		footprint.form = (enum sdp_weights_form)server->config->weights;
	if (job)
		sdd_footprint_add_adapters(&footprint, &roots, job);
	return footprint;
}

int sdd_admission_check(struct sdd_server *server, struct sdd_model *model,
			const struct sdp_record *job, const enum sdp_weights_form *form,
			struct sdd_admission *ret_admission, struct sdp_error *ret_error)
{
	const uint64_t stamp = sdd_model_stamp(model->path),
		       pinned = others_bytes(server, model, true);
	const uint64_t budget = server->memory_budget_bytes;
	struct sdd_admission admission = {0};
	struct sdd_footprint footprint;
	struct sdd_work work;
	uint64_t whole;

	if (stamp != model->footprint_stamp) {
		sdd_footprint_read(model->path, &model->footprint);
		model->footprint_stamp = stamp;
	}
	if (!model->footprint.known) {
		ret_admission->staged = false;
		ret_admission->needed_bytes = model->weight_bytes;
		return sdd_budget_check(budget, model, ret_error);
	}
	footprint = footprint_of(server, model, job, form);
	work = work_of(model, job);
	whole = sdd_footprint_whole(&footprint, server->types, &work);
	admission.needed_bytes = sdd_footprint_staged(&footprint, server->types, &work);
	admission.staged = pinned > budget || whole > budget - pinned;
	if (!admission.staged)
		admission.needed_bytes = whole;
	else if (pinned > budget || admission.needed_bytes > budget - pinned)
		return refuse(server, model, &footprint, &work, admission.needed_bytes, pinned,
			      ret_error);
	*ret_admission = admission;
	return 0;
}

bool sdd_admission_fits_batch(struct sdd_server *server, const struct sdd_model *model,
			      const struct sdp_record *job, int jobs)
{
	const struct sdd_footprint footprint = footprint_of(server, model, job, NULL);
	const uint64_t others = others_bytes(server, model, false);
	const uint64_t budget = server->memory_budget_bytes;
	struct sdd_work work = work_of(model, job);

	work.batch = jobs;
	return others <= budget &&
	       sdd_footprint_whole(&footprint, server->types, &work) <= budget - others;
}
