/*
 * The engine thread: makes the engine, then loads, unloads and runs what the control thread puts into the task queue.
 */
#include "daemon/worker/worker.h"
#include "daemon/log.h"
#include "daemon/util/clock.h"
#include "daemon/util/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sdd_worker_translate_error(const struct sde_error *from, bool loading, struct sdp_error *to)
{
	enum sdp_code code = SDP_CODE_INTERNAL;

	if (from->code == -ECANCELED)
		code = SDP_CODE_CANCELLED;
	else if (from->code == -ENOMEM)
		code = SDP_CODE_NO_MEMORY;
	else if (loading)
		code = SDP_CODE_MODEL_ERROR;
	else if (from->code == -EINVAL || from->code == -ERANGE || from->code == -EOVERFLOW)
		code = SDP_CODE_BAD_VALUE;
	else if (from->code == -ENOTSUP)
		code = SDP_CODE_UNSUPPORTED;
	/* an adapter's file: the model's own were read when it was loaded */
	else if (from->code == -ENOENT)
		code = SDP_CODE_NOT_FOUND;
	else if (from->code == -EBADMSG)
		code = SDP_CODE_MODEL_ERROR;
	sdp_error_set(to, code, "%s",
		      from->message[0] ? from->message : strerrordesc_np(-from->code));
}

static void post_failure(struct sdd_worker *worker, uint32_t msgid, const struct sdp_error *error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_failure(&writer, msgid, error);
	sdd_worker_post(worker, &writer, 0);
}

void sdd_worker_post_caches(struct sdd_worker *worker)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sde_cache_stats stats;

	sdp_writer_event(&writer, "worker.caches");
	sdp_writer_list_begin(&writer, "caches");
	for (int kind = 0; kind < SDE_CACHE_KINDS; kind++) {
		sde_engine_cache_stats(worker->engine, (enum sde_cache_kind)kind, &stats);
		sdp_writer_map_begin(&writer, NULL);
		sdp_writer_string(&writer, "kind", sdp_enum_cache_kind.values[kind]);
		sdp_writer_uint(&writer, "entries", stats.entries);
		sdp_writer_uint(&writer, "bytes", stats.bytes);
		sdp_writer_uint(&writer, "hits", stats.hits);
		sdp_writer_uint(&writer, "misses", stats.misses);
		sdp_writer_end(&writer);
	}
	sdp_writer_end(&writer);
	sdd_worker_post(worker, &writer, 0);
}

static struct sdd_loaded_model *find_model(struct sdd_worker *worker, const char *name)
{
	struct sdd_loaded_model *loaded;

	sdd_list_for_each (loaded, &worker->models, link)
		if (strcmp(loaded->name, name) == 0)
			return loaded;
	return NULL;
}

static void drop_model(struct sdd_loaded_model *loaded)
{
	sdd_list_remove(&loaded->link);
	sde_group_free(loaded->group);
	sde_model_unref(loaded->model);
	free(loaded);
}

static void post_loaded(struct sdd_worker *worker, uint32_t msgid,
			const struct sdd_loaded_model *loaded, uint64_t load_us)
{
	const struct sde_model_info *info = sde_model_info(loaded->model);
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_response(&writer, msgid);
	sdp_writer_string(&writer, "name", loaded->name);
	sdp_writer_string(&writer, "state", "loaded");
	sdp_writer_string(&writer, "family", info->family);
	sdp_writer_int(&writer, "in_channels", info->in_channels);
	sdp_writer_int(&writer, "native_size", info->native_size);
	sdp_writer_string(&writer, "default_sampler", info->default_sampler);
	sdp_writer_int(&writer, "default_steps", info->default_steps);
	sdp_writer_double(&writer, "default_guidance", info->default_guidance);
	sdp_writer_uint(&writer, "weight_bytes", info->weight_bytes);
	if (info->shared_bytes > 0)
		sdp_writer_uint(&writer, "shared_bytes", info->shared_bytes);
	sdp_writer_uint(&writer, "load_ms", load_us / 1000);
	sdp_writer_string(&writer, "weights", sdp_enum_weights_form.values[info->weights]);
	sdd_worker_post(worker, &writer, 0);
}

_Static_assert((int)SDP_WEIGHTS_FORM_Q8_0 == (int)SDE_WEIGHTS_Q8_0, "weights_form");

static enum sde_weights_form form_of(const struct sdp_record *record)
{
	if (!sdp_record_given(record, SDP_WORKER_LOAD_WEIGHTS))
		return SDE_WEIGHTS_DEFAULT;
	return (enum sde_weights_form)sdp_record_int(record, SDP_WORKER_LOAD_WEIGHTS);
}

static void load(struct sdd_worker *worker, const struct sdd_worker_task *task)
{
	const char *name = sdp_record_string(task->record, SDP_WORKER_LOAD_MODEL);
	const char *path = sdp_record_string(task->record, SDP_WORKER_LOAD_PATH);
	struct sdd_loaded_model *loaded = find_model(worker, name);
	const uint64_t started_us = sdd_now_us();
	struct sde_error engine_error = {0};
	struct sdp_error error;
	int r;

	if (loaded) {
		post_loaded(worker, task->message->msgid, loaded, 0);
		return;
	}
	sdd_fault_point("load");
	loaded = calloc(1, sizeof(*loaded));
	if (!loaded) {
		sdp_error_set(&error, SDP_CODE_NO_MEMORY, "out of memory");
		post_failure(worker, task->message->msgid, &error);
		return;
	}
	r = sde_model_load_as(worker->engine, path, form_of(task->record), &loaded->model,
			      &engine_error);
	if (r >= 0)
		r = sde_group_new(loaded->model, &loaded->group);
	if (r < 0) {
		sde_model_unref(loaded->model);
		free(loaded);
		engine_error.code = r;
		sdd_worker_translate_error(&engine_error, true, &error);
		post_failure(worker, task->message->msgid, &error);
		return;
	}
	strncpy(loaded->name, name, sizeof(loaded->name) - 1);
	sdd_list_append(&worker->models, &loaded->link);
	post_loaded(worker, task->message->msgid, loaded, sdd_now_us() - started_us);
}

static void unload(struct sdd_worker *worker, const struct sdd_worker_task *task)
{
	struct sdd_loaded_model *loaded =
		find_model(worker, sdp_record_string(task->record, SDP_MODEL_REFERENCE_MODEL));
	struct sdp_writer writer = SDP_WRITER_INIT;

	if (loaded)
		drop_model(loaded);
	sdd_worker_post_caches(worker);
	sdp_writer_response(&writer, task->message->msgid);
	sdd_worker_post(worker, &writer, 0);
}

static void post_health(struct sdd_worker *worker, uint32_t msgid, const char *name,
			const struct sde_health *health)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_response(&writer, msgid);
	sdp_writer_string(&writer, "model", name);
	sdp_writer_bool(&writer, "healthy", health->healthy);
	sdp_writer_list_begin(&writer, "findings");
	for (int i = 0; i < health->n_findings; i++)
		sdp_writer_string(&writer, NULL, health->findings[i]);
	sdp_writer_end(&writer);
	sdp_writer_string(&writer, "autoencoder", health->autoencoder);
	sdp_writer_int(&writer, "latent_channels", health->latent_channels);
	sdp_writer_int(&writer, "pictures", health->pictures);
	sdp_writer_int(&writer, "side", health->side);
	sdp_writer_double(&writer, "raw_mean", health->raw_mean);
	sdp_writer_double(&writer, "raw_std", health->raw_std);
	sdp_writer_double(&writer, "scaled_mean", health->scaled_mean);
	sdp_writer_double(&writer, "scaled_std", health->scaled_std);
	sdp_writer_double(&writer, "scaling_factor", health->scaling_factor);
	sdp_writer_double(&writer, "shift_factor", health->shift_factor);
	sdp_writer_double(&writer, "fitting_factor", health->fitting_factor);
	sdp_writer_double(&writer, "psnr", health->psnr_db);
	sdp_writer_uint(&writer, "not_finite", health->n_bad);
	sdd_worker_post(worker, &writer, 0);
}

/* A model that must have been loaded before. */
static const struct sdd_loaded_model *require_model(struct sdd_worker *worker, const char *name,
						    uint32_t msgid)
{
	const struct sdd_loaded_model *loaded = find_model(worker, name);
	struct sdp_error error;

	if (!loaded) {
		sdp_error_set(&error, SDP_CODE_INTERNAL, "the model '%s' is not loaded", name);
		post_failure(worker, msgid, &error);
	}
	return loaded;
}

static void check(struct sdd_worker *worker, struct sdd_worker_task *task)
{
	const uint32_t msgid = task->message->msgid;
	const struct sdd_loaded_model *loaded = require_model(
		worker, sdp_record_string(task->record, SDP_MODEL_CHECK_MODEL), msgid);
	struct sde_error engine_error = {0};
	struct sde_health health;
	struct sdp_error error;
	int r;

	if (!loaded)
		return;
	sdd_fault_point("check");
	r = sde_model_check(loaded->model, &task->cancel, &health, &engine_error);
	if (r < 0) {
		engine_error.code = r;
		sdd_worker_translate_error(&engine_error, false, &error);
		post_failure(worker, msgid, &error);
		return;
	}
	post_health(worker, msgid, loaded->name, &health);
}

static void end_task(struct sdd_worker *worker, struct sdd_worker_task *task)
{
	pthread_mutex_lock(&worker->lock);
	sdd_list_remove(&task->link);
	pthread_mutex_unlock(&worker->lock);
	sdp_message_free(task->message);
	free(task);
}

/* The next task, if it is a job of this model that may step with those that run. */
static struct sdd_worker_task *next_mate(struct sdd_worker *worker,
					 const struct sdd_loaded_model *loaded)
{
	struct sdd_worker_task *task, *mate = NULL;

	pthread_mutex_lock(&worker->lock);
	task = sdd_list_first(&worker->tasks, struct sdd_worker_task, link);
	if (task && !worker->quit && task->message->method->id == SDP_METHOD_WORKER_RUN &&
	    strcmp(sdp_record_string(task->record, SDP_JOB_PARAMETERS_MODEL), loaded->name) == 0) {
		const char *source =
			sdp_record_string(task->record, SDP_JOB_PARAMETERS_SOURCE_PROMPT);
		const struct sde_job job = {
			.prompt = sdp_record_string(task->record, SDP_JOB_PARAMETERS_PROMPT),
			.n_loras = sdp_record_count(task->record, SDP_JOB_PARAMETERS_LORAS),
			.n_controls = sdp_record_count(task->record, SDP_JOB_PARAMETERS_CONTROLS),
			.tiling = (enum sde_tiling)sdp_record_int(task->record,
								  SDP_JOB_PARAMETERS_TILING),
			.explain = sdp_record_bool(task->record, SDP_JOB_PARAMETERS_EXPLAIN),
			.source_prompt = *source ? source : NULL,
			.n_word_weights =
				sdp_record_count(task->record, SDP_JOB_PARAMETERS_WORD_WEIGHTS),
		};

		if (sde_group_takes(loaded->group, &job))
			mate = task;
	}
	if (mate) {
		sdd_list_remove(&mate->link);
		sdd_list_append(&worker->running, &mate->link);
	}
	pthread_mutex_unlock(&worker->lock);
	return mate;
}

/* The job, and those that come while it or they run. */
static void run(struct sdd_worker *worker, struct sdd_worker_task *task)
{
	const struct sdd_loaded_model *loaded =
		require_model(worker, sdp_record_string(task->record, SDP_JOB_PARAMETERS_MODEL),
			      task->message->msgid);
	size_t running = 0;

	if (!loaded) {
		end_task(worker, task);
		return;
	}
	for (;;) {
		for (; task; task = next_mate(worker, loaded)) {
			if (sdd_worker_run_begin(worker, task, loaded->group))
				running++;
			else
				end_task(worker, task);
		}
		if (running == 0)
			break;
		sde_group_turn(loaded->group);
		for (; (task = sdd_worker_run_end(worker, loaded->group)); running--)
			end_task(worker, task);
		task = next_mate(worker, loaded);
	}
}

/* Waits for a task; NULL when it is time to go. */
static struct sdd_worker_task *next_task(struct sdd_worker *worker)
{
	struct sdd_worker_task *task = NULL;

	pthread_mutex_lock(&worker->lock);
	while (!worker->quit && sdd_list_is_empty(&worker->tasks))
		pthread_cond_wait(&worker->changed, &worker->lock);
	if (!worker->quit) {
		task = sdd_list_first(&worker->tasks, struct sdd_worker_task, link);
		sdd_list_remove(&task->link);
		sdd_list_append(&worker->running, &task->link);
	}
	pthread_mutex_unlock(&worker->lock);
	return task;
}

static void do_task(struct sdd_worker *worker, struct sdd_worker_task *task)
{
	switch (task->message->method->id) {
	case SDP_METHOD_WORKER_LOAD:
		load(worker, task);
		end_task(worker, task);
		break;
	case SDP_METHOD_WORKER_UNLOAD:
		unload(worker, task);
		end_task(worker, task);
		break;
	case SDP_METHOD_WORKER_CHECK:
		check(worker, task);
		end_task(worker, task);
		break;
	default:
		run(worker, task);
	}
}

static int make_engine(struct sdd_worker *worker)
{
	const struct sdd_worker_options *options = worker->options;
	const struct sde_engine_options engine_options = {
		.backend = strcmp(options->backend, "auto") == 0 ? NULL : options->backend,
		.dtype = strcmp(options->dtype, "auto") == 0 ? NULL : options->dtype,
		.threads = options->threads,
		.cache_bytes = options->cache_bytes,
		.weights = options->weights,
		.pulse = &worker->pulse,
	};
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sde_error error = {0};
	int r;

	r = sde_engine_new(&engine_options, &worker->engine, &error);
	if (r < 0) {
		sdd_log(LOG_ERR, NULL, "no engine: %s", error.message);
		return r;
	}
	sdp_writer_event(&writer, "worker.ready");
	sdp_writer_int(&writer, "pid", getpid());
	sdp_writer_string(&writer, "engine", sde_engine_describe(worker->engine));
	sdd_worker_post(worker, &writer, 0);
	return 0;
}

void *sdd_worker_engine_thread(void *userdata)
{
	struct sdd_worker *worker = userdata;
	const uint64_t one = 1;
	struct sdd_worker_task *task;
	struct sdd_loaded_model *loaded;

	if (make_engine(worker) == 0)
		while ((task = next_task(worker)))
			do_task(worker, task);
	while ((loaded = sdd_list_first(&worker->models, struct sdd_loaded_model, link)))
		drop_model(loaded);
	worker->engine = sde_engine_free(worker->engine);
	pthread_mutex_lock(&worker->lock);
	worker->engine_ended = true;
	pthread_mutex_unlock(&worker->lock);
	if (write(worker->wake_fd, &one, sizeof(one)) < 0)
		return NULL; /* the counter is full: the control thread is awake */
	return NULL;
}
