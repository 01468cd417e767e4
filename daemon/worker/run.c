/*
 * One job on the engine thread: the request's record into the engine's struct, its pictures mapped (not copied), the
 * layers into sealed buffers, and the answer with every choice that was made.
 */
#include "daemon/worker/worker.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"
#include "daemon/util/fault.h"

#include <string.h>

/* With the job's number: which waiting message a newer preview replaces; progress has the number alone. */
#define COALESCE_PREVIEW    (UINT64_C(1) << 63)
#define ROOTS_MAX	    64
#define COALESCE_CHECKPOINT (UINT64_C(1) << 62)

enum { STATE_ROW = 4096 }; /* bytes */

struct sdd_worker_run {
	struct sdd_worker *worker;
	struct sdd_worker_task *task;
	struct sdp_mapping image_mapping, mask_mapping, resume_mapping;
	int step;	    /* last told */
	uint64_t last_kept; /* letter of the last state told, 0 = none */
	struct sde_image image, mask;
	struct sde_job job;
	struct sde_hooks hooks;
	/* the job's adapters */
	const char *roots[ROOTS_MAX];
	struct sde_lora loras[SDE_LORAS_MAX];
	struct sde_control controls[SDE_CONTROLS_MAX];
	struct sde_image guides[SDE_CONTROLS_MAX];
	struct sdp_mapping guide_mappings[SDE_CONTROLS_MAX];
	struct sde_region regions[SDE_REGIONS_MAX];
	struct sde_image region_masks[SDE_REGIONS_MAX];
	struct sdp_mapping region_mappings[SDE_REGIONS_MAX];
	struct sde_word_weight word_weights[SDE_WORD_WEIGHTS_MAX];
	const char *local_blend[SDE_BLEND_WORDS_MAX];
	struct sdd_worker_latents latents;
};

/* The enums have the same order on the wire and in the engine; a changed one must not pass silently. */
_Static_assert((int)SDP_JOB_KIND_UPSCALE == (int)SDE_UPSCALE, "job_kind");
_Static_assert((int)SDP_FILL_ORIGINAL == (int)SDE_FILL_ORIGINAL, "fill");
_Static_assert((int)SDP_CONTEXT_IMAGE == (int)SDE_CONTEXT_IMAGE, "context");
_Static_assert((int)SDP_STAGE_DECODE == (int)SDE_STAGE_DECODE, "stage");
_Static_assert((int)SDP_CACHE_KIND_ADAPTERS == (int)SDE_CACHE_ADAPTERS, "cache_kind");
_Static_assert((int)SDP_RNG_PHILOX == (int)SDE_RNG_PHILOX, "rng");
_Static_assert((int)SDP_GUIDER_APG == (int)SDE_GUIDER_APG, "guider");
_Static_assert((int)SDP_INTERPOLATION_LERP == (int)SDE_LERP, "interpolation");
_Static_assert((int)SDP_NOISING_INVERT == (int)SDE_NOISING_INVERT, "noising");
_Static_assert((int)SDP_TILING_BOTH == (int)SDE_TILING_BOTH, "tiling");
_Static_assert((int)SDP_EDIT_REFINE == (int)SDE_EDIT_REFINE, "edit");
_Static_assert((int)SDP_TILES_OFF == (int)SDE_TILES_OFF, "tiles");
_Static_assert((int)SDP_SAMPLE_TYPE_F32 == (int)SDE_PIXEL_F32, "sample_type");

static const char *const stage_points[] = {"load", "encode", "steps", "decode"};

static const char *text_or_null(const struct sdp_record *record, int index)
{
	const char *text = sdp_record_string(record, index);

	return *text ? text : NULL;
}

int sdd_worker_map_picture(const struct sdp_pixels *pixels, const char *what,
			   struct sdp_mapping *mapping, struct sde_image *image,
			   struct sdp_error *ret_error)
{
	struct sde_error error = {0};
	int r;

	r = sdp_pixels_map(pixels, mapping, ret_error);
	if (r < 0)
		return r;
	/* the engine takes views as writable memory and promises not to write through them */
	r = sde_image_view((void *)mapping->data,
			   pixels->stride * (uint64_t)(pixels->height - 1) +
				   (uint64_t)pixels->width * (uint64_t)pixels->channels *
					   sdp_sample_size(pixels->type),
			   (uint32_t)pixels->width, (uint32_t)pixels->height,
			   (uint32_t)pixels->channels, (enum sde_pixel_type)pixels->type,
			   pixels->stride, image, &error);
	if (r < 0)
		return sdp_error_field(ret_error, SDP_CODE_BAD_PIXELS, what, "%s: %s", what,
				       error.message);
	return 0;
}

/* Names and pictures; what does not fit the arrays was refused by the schema. */
static int fill_adapters(struct sdd_worker_run *run, struct sdp_error *ret_error)
{
	const struct sdp_record *record = run->task->record;
	struct sde_job *job = &run->job;
	int r;

	for (size_t i = 0; i < sdp_record_count(record, SDP_WORKER_RUN_ROOTS) && i < ROOTS_MAX; i++)
		run->roots[job->n_adapter_roots++] =
			sdp_record_item(record, SDP_WORKER_RUN_ROOTS, i)->string.text;
	for (size_t i = 0;
	     i < sdp_record_count(record, SDP_JOB_PARAMETERS_LORAS) && i < SDE_LORAS_MAX; i++) {
		const struct sdp_record *lora =
			sdp_record_item(record, SDP_JOB_PARAMETERS_LORAS, i)->record;

		run->loras[job->n_loras++] =
			(struct sde_lora){sdp_record_string(lora, SDP_LORA_NAME),
					  sdp_record_double(lora, SDP_LORA_WEIGHT)};
	}
	for (size_t i = 0;
	     i < sdp_record_count(record, SDP_JOB_PARAMETERS_CONTROLS) && i < SDE_CONTROLS_MAX;
	     i++) {
		const struct sdp_record *control =
			sdp_record_item(record, SDP_JOB_PARAMETERS_CONTROLS, i)->record;

		r = sdd_worker_map_picture(sdp_record_pixels(control, SDP_CONTROL_IMAGE),
					   "controls", &run->guide_mappings[i], &run->guides[i],
					   ret_error);
		if (r < 0)
			return r;
		run->controls[job->n_controls++] = (struct sde_control){
			sdp_record_string(control, SDP_CONTROL_KIND), &run->guides[i],
			sdp_record_double(control, SDP_CONTROL_SCALE),
			sdp_record_double(control, SDP_CONTROL_START),
			sdp_record_double(control, SDP_CONTROL_END)};
	}
	job->adapter_roots = run->roots;
	job->loras = run->loras;
	job->controls = run->controls;
	job->staged = sdp_record_bool(record, SDP_WORKER_RUN_STAGED);
	job->vae_tiling = sdp_record_bool(record, SDP_JOB_PARAMETERS_VAE_TILING);
	job->guess_mode = sdp_record_bool(record, SDP_JOB_PARAMETERS_GUESS_MODE);
	return 0;
}

static int fill_regions(struct sdd_worker_run *run, struct sdp_error *ret_error)
{
	const struct sdp_record *record = run->task->record;
	const size_t n = sdp_record_count(record, SDP_JOB_PARAMETERS_REGIONS);
	int r;

	for (size_t i = 0; i < n && i < SDE_REGIONS_MAX; i++) {
		const struct sdp_record *region =
			sdp_record_item(record, SDP_JOB_PARAMETERS_REGIONS, i)->record;
		const struct sdp_pixels *mask = sdp_record_pixels(region, SDP_REGION_MASK);
		const struct sdp_rect rect = sdp_record_rect(region, SDP_REGION_RECT);

		run->regions[i] =
			(struct sde_region){.prompt = sdp_record_string(region, SDP_REGION_PROMPT),
					    .x = rect.x,
					    .y = rect.y,
					    .width = rect.width,
					    .height = rect.height,
					    .weight = sdp_record_double(region, SDP_REGION_WEIGHT)};
		if (mask) {
			r = sdd_worker_map_picture(mask, "regions", &run->region_mappings[i],
						   &run->region_masks[i], ret_error);
			if (r < 0)
				return r;
			run->regions[i].mask = &run->region_masks[i];
		}
		run->job.n_regions++;
	}
	run->job.regions = run->regions;
	return 0;
}

static void fill_attention(struct sdd_worker_run *run)
{
	const struct sdp_record *record = run->task->record;
	const size_t n = sdp_record_count(record, SDP_JOB_PARAMETERS_WORD_WEIGHTS);
	struct sde_job *job = &run->job;

	job->source_prompt = text_or_null(record, SDP_JOB_PARAMETERS_SOURCE_PROMPT);
	job->edit = (enum sde_edit_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_EDIT);
	job->cross_replace = sdp_record_double(record, SDP_JOB_PARAMETERS_CROSS_REPLACE);
	job->self_replace = sdp_record_double(record, SDP_JOB_PARAMETERS_SELF_REPLACE);
	job->explain = sdp_record_bool(record, SDP_JOB_PARAMETERS_EXPLAIN);
	for (size_t i = 0; i < n && i < SDE_WORD_WEIGHTS_MAX; i++) {
		const struct sdp_record *weight =
			sdp_record_item(record, SDP_JOB_PARAMETERS_WORD_WEIGHTS, i)->record;

		run->word_weights[job->n_word_weights++] =
			(struct sde_word_weight){sdp_record_string(weight, SDP_WORD_WEIGHT_WORD),
						 sdp_record_double(weight, SDP_WORD_WEIGHT_WEIGHT)};
	}
	job->word_weights = run->word_weights;
	for (size_t i = 0; i < sdp_record_count(record, SDP_JOB_PARAMETERS_LOCAL_BLEND) &&
			   i < SDE_BLEND_WORDS_MAX;
	     i++)
		run->local_blend[job->n_local_blend++] =
			sdp_record_item(record, SDP_JOB_PARAMETERS_LOCAL_BLEND, i)->string.text;
	job->local_blend = run->local_blend;
	job->blend_threshold = sdp_record_double(record, SDP_JOB_PARAMETERS_BLEND_THRESHOLD);
	job->blend_start = sdp_record_double(record, SDP_JOB_PARAMETERS_BLEND_START);
}

static int map_resume(struct sdd_worker_run *run, struct sdp_error *ret_error)
{
	const struct sdp_pixels *state =
		sdp_record_pixels(run->task->record, SDP_WORKER_RUN_RESUME);
	int r;

	if (!state)
		return 0;
	r = sdp_pixels_map(state, &run->resume_mapping, ret_error);
	if (r < 0)
		return r;
	run->job.resume = run->resume_mapping.data;
	run->job.resume_size = (size_t)state->stride * (size_t)state->height;
	return 0;
}

static int fill_job(struct sdd_worker_run *run, struct sdp_error *ret_error)
{
	const struct sdp_record *record = run->task->record;
	const struct sdp_pixels *image = sdp_record_pixels(record, SDP_WORKER_RUN_IMAGE);
	const struct sdp_pixels *mask = sdp_record_pixels(record, SDP_WORKER_RUN_MASK);
	struct sde_job *job = &run->job;
	int r;

	*job = (struct sde_job){
		.kind = (enum sde_job_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_KIND),
		.prompt = sdp_record_string(record, SDP_JOB_PARAMETERS_PROMPT),
		.negative_prompt = text_or_null(record, SDP_JOB_PARAMETERS_NEGATIVE_PROMPT),
		.sampler = text_or_null(record, SDP_JOB_PARAMETERS_SAMPLER),
		.seed = sdp_record_uint(record, SDP_JOB_PARAMETERS_SEED),
		.steps = sdp_record_int(record, SDP_JOB_PARAMETERS_STEPS),
		.guidance_scale = sdp_record_double(record, SDP_JOB_PARAMETERS_GUIDANCE_SCALE),
		.strength = sdp_record_double(record, SDP_JOB_PARAMETERS_STRENGTH),
		.scale = sdp_record_double(record, SDP_JOB_PARAMETERS_SCALE),
		.rng = (enum sde_rng_kind)sdp_record_int(record, SDP_JOB_PARAMETERS_RNG),
		.guidance_rescale = sdp_record_double(record, SDP_JOB_PARAMETERS_GUIDANCE_RESCALE),
		.guider = (enum sde_guider)sdp_record_int(record, SDP_JOB_PARAMETERS_GUIDER),
		.apg_eta = sdp_record_double(record, SDP_JOB_PARAMETERS_APG_ETA),
		.apg_momentum = sdp_record_double(record, SDP_JOB_PARAMETERS_APG_MOMENTUM),
		.apg_norm = sdp_record_double(record, SDP_JOB_PARAMETERS_APG_NORM),
		.tiling = (enum sde_tiling)sdp_record_int(record, SDP_JOB_PARAMETERS_TILING),
		.tiles = (enum sde_tile_use)sdp_record_int(record, SDP_JOB_PARAMETERS_TILES),
		.hires_scale = sdp_record_double(record, SDP_JOB_PARAMETERS_HIRES_SCALE),
		.hires_strength = sdp_record_double(record, SDP_JOB_PARAMETERS_HIRES_STRENGTH),
		.clip_skip = sdp_record_int(record, SDP_JOB_PARAMETERS_CLIP_SKIP),
		.width = sdp_record_int(record, SDP_JOB_PARAMETERS_WIDTH),
		.height = sdp_record_int(record, SDP_JOB_PARAMETERS_HEIGHT),
		.count = sdp_record_int(record, SDP_JOB_PARAMETERS_COUNT),
		.preview_every = sdp_record_int(record, SDP_WORKER_RUN_PREVIEW),
		.partition = sdp_record_uint(record, SDP_WORKER_RUN_USER),
	};
	sdd_worker_fill_geometry(record, job);
	fill_attention(run);
	if (image) {
		r = sdd_worker_map_picture(image, "image", &run->image_mapping, &run->image,
					   ret_error);
		if (r < 0)
			return r;
		job->image = &run->image;
	}
	if (mask) {
		r = sdd_worker_map_picture(mask, "mask", &run->mask_mapping, &run->mask, ret_error);
		if (r < 0)
			return r;
		job->mask = &run->mask;
	}
	r = fill_adapters(run, ret_error);
	if (r >= 0)
		r = fill_regions(run, ret_error);
	if (r >= 0)
		r = sdd_worker_fill_latents(record, job, &run->latents, ret_error);
	return r < 0 ? r : map_resume(run, ret_error);
}

static void post_progress(struct sdd_worker_run *run, enum sde_stage stage, int step, int total)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_event(&writer, "worker.progress");
	sdp_writer_uint(&writer, "job", run->task->job);
	sdp_writer_string(&writer, "stage", sdp_enum_stage.values[stage]);
	sdp_writer_int(&writer, "step", step);
	sdp_writer_int(&writer, "total", total);
	sdd_worker_post(run->worker, &writer, run->task->job);
	atomic_fetch_add(&run->worker->pulse, 1);
	sdd_fault_point(stage_points[stage]);
}

/* The engine tells of steps; what lies before the first and after the last of them has its name too. */
static void on_progress(void *userdata, const struct sde_progress *progress)
{
	struct sdd_worker_run *run = userdata;

	run->step = progress->step;
	post_progress(run, progress->stage, progress->step, progress->total);
	if (progress->stage == SDE_STAGE_STEPS && progress->total > 0 &&
	    progress->step == progress->total)
		post_progress(run, SDE_STAGE_DECODE, progress->step, progress->total);
}

/* A picture packed into a sealed buffer, which the caller clears, and what describes it. */
static int seal_picture(const struct sde_image *image, const char *name, struct sdp_buffer *buffer,
			struct sdp_pixels *pixels)
{
	const size_t row = image->width * sde_image_pixel_size(image);
	int r;

	r = sdp_buffer_new(name, (uint64_t)row * image->height, buffer);
	if (r < 0)
		return r;
	for (uint32_t y = 0; y < image->height; y++)
		memcpy(buffer->data + y * row, sde_image_row(image, y), row);
	r = sdp_buffer_seal(buffer);
	if (r < 0)
		return r;
	*pixels = SDP_PIXELS_INIT;
	pixels->width = (int)image->width;
	pixels->height = (int)image->height;
	pixels->channels = (int)image->channels;
	pixels->type = (enum sdp_sample_type)image->type;
	pixels->stride = row;
	pixels->size = buffer->size;
	pixels->fd = buffer->fd;
	return 0;
}

/* A preview that cannot be handed over is left out. */
static void on_preview(void *userdata, int step, const struct sde_image *image)
{
	struct sdd_worker_run *run = userdata;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_buffer buffer = SDP_BUFFER_INIT;
	struct sdp_pixels pixels;

	if (seal_picture(image, "sdd-preview", &buffer, &pixels) == 0) {
		sdp_writer_event(&writer, "worker.preview");
		sdp_writer_uint(&writer, "job", run->task->job);
		sdp_writer_int(&writer, "step", step);
		sdp_writer_pixels(&writer, "pixels", &pixels);
		sdd_worker_post(run->worker, &writer, COALESCE_PREVIEW | run->task->job);
	}
	sdp_buffer_clear(&buffer);
}

/*
 * The job's state, for the front process to keep. One that cannot be handed over is left out: the last one still holds, and it has
 * left the process by now, so that a kill costs no more than one step.
 */
static void on_checkpoint(void *userdata, const void *data, size_t size)
{
	struct sdd_worker_run *run = userdata;
	const size_t rows = (size + STATE_ROW - 1) / STATE_ROW;
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_buffer buffer = SDP_BUFFER_INIT;
	struct sdp_pixels pixels = SDP_PIXELS_INIT;

	if (sdp_buffer_new("sdd-job", (uint64_t)rows * STATE_ROW, &buffer) < 0)
		return;
	memcpy(buffer.data, data, size);
	pixels.width = STATE_ROW;
	pixels.height = (int)rows;
	pixels.channels = 1;
	pixels.type = SDP_SAMPLE_TYPE_U8;
	pixels.stride = STATE_ROW;
	pixels.size = buffer.size;
	sdd_worker_await_sent(run->worker, run->last_kept);
	if (rows <= 65536 && sdp_buffer_seal(&buffer) == 0) {
		pixels.fd = buffer.fd;
		sdp_writer_event(&writer, "worker.checkpoint");
		sdp_writer_uint(&writer, "job", run->task->job);
		sdp_writer_int(&writer, "step", run->step + 1);
		sdp_writer_pixels(&writer, "state", &pixels);
		run->last_kept =
			sdd_worker_post(run->worker, &writer, COALESCE_CHECKPOINT | run->task->job);
	}
	sdp_buffer_clear(&buffer);
}

/* One layer, packed into a sealed buffer. */
static int write_layer(struct sdp_writer *writer, const char *key, const struct sde_layer *layer,
		       const struct sdp_pixels *source)
{
	struct sdp_buffer buffer = SDP_BUFFER_INIT;
	struct sdp_pixels pixels;
	int r;

	r = seal_picture(&layer->image, "sdd-result", &buffer, &pixels);
	if (r == 0) {
		/* colours come back as they were sent */
		if (source) {
			pixels.icc = source->icc;
			pixels.icc_size = source->icc_size;
		}
		sdp_writer_map_begin(writer, key);
		sdp_writer_pixels(writer, "pixels", &pixels);
		sdp_writer_int(writer, "x", layer->x);
		sdp_writer_int(writer, "y", layer->y);
		sdp_writer_uint(writer, "seed", layer->seed);
		sdp_writer_end(writer);
	}
	sdp_buffer_clear(&buffer);
	return r;
}

/* A picture that cannot be handed over now comes with the answer. */
static void on_picture(void *userdata, int i, const struct sde_layer *layer)
{
	struct sdd_worker_run *run = userdata;
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (!sdp_record_bool(run->task->record, SDP_WORKER_RUN_STREAM))
		return;
	sdp_writer_event(&writer, "worker.picture");
	sdp_writer_uint(&writer, "job", run->task->job);
	sdp_writer_int(&writer, "index", i);
	if (write_layer(&writer, "image", layer,
			sdp_record_pixels(run->task->record, SDP_WORKER_RUN_IMAGE)) == 0)
		sdd_worker_post(run->worker, &writer, 0);
	sdp_writer_clear(&writer);
}

static void write_facts(struct sdd_worker_run *run, const struct sde_result *result,
			struct sdp_writer *writer)
{
	struct sdp_record *record = run->task->record;

	sdp_writer_int(writer, "prompt_tokens", result->prompt_tokens);
	sdp_writer_int(writer, "negative_tokens", result->negative_tokens);
	sdp_writer_int(writer, "chunks", result->chunks);
	sdp_writer_int(writer, "work_width", result->work_width);
	sdp_writer_int(writer, "work_height", result->work_height);
	if (result->staged)
		sdp_writer_bool(writer, "staged", true);
	if (result->n_warnings > 0) {
		sdp_writer_list_begin(writer, "warnings");
		for (int i = 0; i < result->n_warnings; i++)
			sdp_writer_string(writer, NULL, result->warnings[i]);
		sdp_writer_end(writer);
	}
	sdp_writer_map_begin(writer, "timings");
	sdp_writer_uint(writer, "encode_ms", result->stage_us[SDE_STAGE_ENCODE] / 1000);
	sdp_writer_uint(writer, "steps_ms", result->stage_us[SDE_STAGE_STEPS] / 1000);
	sdp_writer_uint(writer, "decode_ms", result->stage_us[SDE_STAGE_DECODE] / 1000);
	sdp_writer_end(writer);
	sdp_record_set_int(record, SDP_JOB_PARAMETERS_STEPS, result->steps);
	sdp_record_set_double(record, SDP_JOB_PARAMETERS_GUIDANCE_SCALE, result->guidance_scale);
	if (run->job.kind == SDE_TXT2IMG) {
		sdp_record_set_int(record, SDP_JOB_PARAMETERS_WIDTH, result->first_width);
		sdp_record_set_int(record, SDP_JOB_PARAMETERS_HEIGHT, result->first_height);
	}
	if (result->sampler[0] &&
	    sdp_record_set_string(record, SDP_JOB_PARAMETERS_SAMPLER, result->sampler) < 0)
		writer->error = -ENOMEM;
	sdp_writer_map_begin(writer, "parameters");
	sdp_writer_record(writer, record, &sdp_struct_job_parameters, SDP_WRITE_NO_PIXELS);
	sdp_writer_end(writer);
}

static int write_explanation(const struct sde_result *result, struct sdp_writer *writer)
{
	struct sdp_buffer buffer = SDP_BUFFER_INIT;
	struct sdp_pixels pixels;
	int r;

	if (result->n_words == 0)
		return 0;
	sdp_writer_list_begin(writer, "words");
	for (int i = 0; i < result->n_words; i++) {
		sdp_writer_map_begin(writer, NULL);
		sdp_writer_string(writer, "word", result->words[i].word);
		sdp_writer_int(writer, "tokens", result->words[i].tokens);
		sdp_writer_double(writer, "share", result->words[i].share);
		sdp_writer_double(writer, "peak", result->words[i].peak);
		sdp_writer_end(writer);
	}
	sdp_writer_end(writer);
	r = seal_picture(&result->maps, "sdd-maps", &buffer, &pixels);
	if (r == 0)
		sdp_writer_pixels(writer, "maps", &pixels);
	sdp_buffer_clear(&buffer);
	return r;
}

static int write_result(struct sdd_worker_run *run, const struct sde_result *result,
			struct sdp_writer *writer)
{
	const struct sdp_pixels *source =
		sdp_record_pixels(run->task->record, SDP_WORKER_RUN_IMAGE);
	int r = 0;

	sdp_writer_response(writer, run->task->message->msgid);
	sdp_writer_uint(writer, "job", run->task->job);
	sdp_writer_string(writer, "state", "done");
	sdp_writer_list_begin(writer, "images");
	for (int i = 0; i < result->count && r == 0; i++)
		r = write_layer(writer, NULL, &result->layers[i], source);
	sdp_writer_end(writer);
	if (r == 0)
		r = write_explanation(result, writer);
	if (r < 0)
		return r;
	write_facts(run, result, writer);
	return writer->error;
}

static void on_batched(void *userdata, int jobs, double speedup)
{
	struct sdd_worker_run *run = userdata;
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_event(&writer, "worker.batched");
	sdp_writer_uint(&writer, "job", run->task->job);
	sdp_writer_int(&writer, "jobs", jobs);
	sdp_writer_double(&writer, "speedup", speedup);
	sdd_worker_post(run->worker, &writer, 0);
}

/* Post the answer and free the run. */
static void finish(struct sdd_worker_run *run, struct sdp_writer *writer)
{
	struct sdd_worker *worker = run->worker;

	sdd_fault_point("send");
	sdp_mapping_clear(&run->image_mapping);
	sdp_mapping_clear(&run->mask_mapping);
	for (size_t i = 0; i < SDE_CONTROLS_MAX; i++)
		sdp_mapping_clear(&run->guide_mappings[i]);
	for (size_t i = 0; i < SDE_REGIONS_MAX; i++)
		sdp_mapping_clear(&run->region_mappings[i]);
	sdd_worker_latents_clear(&run->latents);
	sdp_mapping_clear(&run->resume_mapping);
	free(run);
	sdd_worker_post_caches(worker);
	sdd_worker_post(worker, writer, 0);
}

static void fail(struct sdd_worker_run *run, const struct sdp_error *error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_failure(&writer, run->task->message->msgid, error);
	finish(run, &writer);
}

struct sdd_worker_run *sdd_worker_run_begin(struct sdd_worker *worker, struct sdd_worker_task *task,
					    struct sde_group *group)
{
	struct sdd_worker_run *run = calloc(1, sizeof(*run));
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_error error;

	sdp_error_set(&error, SDP_CODE_NO_MEMORY, "out of memory");
	if (!run) {
		sdp_writer_failure(&writer, task->message->msgid, &error);
		sdd_worker_post(worker, &writer, 0);
		return NULL;
	}
	run->worker = worker;
	run->task = task;
	run->hooks = (struct sde_hooks){.progress = on_progress,
					.preview = on_preview,
					.preview_request = &task->preview,
					.checkpoint = on_checkpoint,
					.picture = on_picture,
					.batched = on_batched,
					.yield = &task->yield,
					.userdata = run,
					.cancel = &task->cancel};
	if (fill_job(run, &error) < 0 || sde_group_add(group, &run->job, &run->hooks) < 0) {
		fail(run, &error);
		return NULL;
	}
	post_progress(run, SDE_STAGE_ENCODE, 0, 0);
	return run;
}

static int write_end(struct sdd_worker_run *run, int r, struct sde_result *result,
		     struct sde_error *engine_error, struct sdp_writer *writer,
		     struct sdp_error *ret_error)
{
	if (r == -EINTR) {
		sdp_writer_response(writer, run->task->message->msgid);
		sdp_writer_uint(writer, "job", run->task->job);
		sdp_writer_string(writer, "state", "queued");
		return writer->error;
	}
	if (r < 0) {
		engine_error->code = r;
		sdd_worker_translate_error(engine_error, false, ret_error);
		return r;
	}
	r = write_result(run, result, writer);
	sde_result_clear(result);
	if (r < 0)
		sdp_error_set(ret_error, r == -E2BIG ? SDP_CODE_TOO_LARGE : SDP_CODE_NO_MEMORY,
			      "the result cannot be handed over: %s", strerrordesc_np(-r));
	return r;
}

struct sdd_worker_task *sdd_worker_run_end(struct sdd_worker *worker, struct sde_group *group)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sde_error engine_error;
	struct sdd_worker_task *task;
	struct sdp_error error = {0};
	const struct sde_job *job;
	struct sdd_worker_run *run;
	struct sde_result result;
	int r;

	if (!sde_group_take_ended(group, &job, &r, &result, &engine_error))
		return NULL;
	run = (struct sdd_worker_run *)((char *)job - offsetof(struct sdd_worker_run, job));
	task = run->task;
	if (write_end(run, r, &result, &engine_error, &writer, &error) < 0) {
		sdp_writer_clear(&writer);
		fail(run, &error);
	} else {
		finish(run, &writer);
	}
	return task;
}
