/*
 * worker.count, on the control thread: how a model reads prompts, beside whatever the engine thread does. Tokenizers are read
 * when they are first needed and a few models' are kept, since somebody who types asks again and again.
 */
#include "daemon/worker/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COUNTERS_MAX = 3, ROOTS_MAX = 64 };

struct sdd_worker_counter {
	struct sdd_list link;
	char *path;
	struct sde_counter *counter;
};

static void drop(struct sdd_worker_counter *kept)
{
	sdd_list_remove(&kept->link);
	sde_counter_free(kept->counter);
	free(kept->path);
	free(kept);
}

void sdd_worker_drop_counters(struct sdd_worker *worker)
{
	struct sdd_worker_counter *kept;

	while ((kept = sdd_list_first(&worker->counters, struct sdd_worker_counter, link)))
		drop(kept);
}

/* Room for one more: the one not used for the longest time goes. */
static void make_room(struct sdd_worker *worker)
{
	struct sdd_worker_counter *kept, *last = NULL;
	int n = 0;

	sdd_list_for_each (kept, &worker->counters, link) {
		last = kept;
		n++;
	}
	if (n >= COUNTERS_MAX)
		drop(last);
}

static int open_counter(const char *path, struct sdd_worker_counter **ret_kept,
			struct sde_error *error)
{
	struct sdd_worker_counter *kept = calloc(1, sizeof(*kept));
	int r = -ENOMEM;

	if (kept)
		kept->path = strdup(path);
	if (kept && kept->path)
		r = sde_counter_new(path, &kept->counter, error);
	if (r < 0) {
		if (kept)
			free(kept->path);
		free(kept);
		return r;
	}
	*ret_kept = kept;
	return 0;
}

/* The most recently used stand first. */
static int find_counter(struct sdd_worker *worker, const char *path,
			const struct sde_counter **ret_counter, struct sde_error *error)
{
	struct sdd_worker_counter *kept, *found = NULL;
	int r;

	sdd_list_for_each (kept, &worker->counters, link)
		if (strcmp(kept->path, path) == 0)
			found = kept;
	if (found) {
		sdd_list_remove(&found->link);
	} else {
		r = open_counter(path, &found, error);
		if (r < 0)
			return r;
		make_room(worker);
	}
	sdd_list_prepend(&worker->counters, &found->link);
	*ret_counter = found->counter;
	return 0;
}

static int count(const struct sde_counter *counter, const struct sdp_record *record, int field,
		 const char *name, struct sdp_writer *writer, struct sde_error *error)
{
	const size_t n = sdp_record_count(record, SDP_WORKER_COUNT_ROOTS);
	const char *roots[ROOTS_MAX];
	struct sde_count result;
	int r;

	for (size_t i = 0; i < n && i < ROOTS_MAX; i++)
		roots[i] = sdp_record_item(record, SDP_WORKER_COUNT_ROOTS, i)->string.text;
	r = sde_counter_count(counter, sdp_record_string(record, field), roots,
			      n < ROOTS_MAX ? n : ROOTS_MAX, &result, error);
	if (r < 0)
		return r;
	sdp_writer_map_begin(writer, name);
	sdp_writer_int(writer, "tokens", result.tokens);
	sdp_writer_int(writer, "chunks", result.chunks);
	sdp_writer_int(writer, "limit", result.limit);
	sdp_writer_string(writer, "lost", result.lost);
	sdp_writer_end(writer);
	free(result.lost);
	return 0;
}

void sdd_worker_count(struct sdd_worker *worker, uint32_t msgid, const struct sdp_record *record,
		      struct sdp_writer *writer)
{
	const char *path = sdp_record_string(record, SDP_WORKER_COUNT_PATH);
	const struct sde_counter *counter = NULL;
	struct sde_error engine_error = {0};
	struct sdp_error error;
	bool opened;
	int r;

	r = find_counter(worker, path, &counter, &engine_error);
	opened = r >= 0;
	sdp_writer_response(writer, msgid);
	sdp_writer_string(writer, "model", sdp_record_string(record, SDP_PROMPT_COUNT_MODEL));
	if (r >= 0)
		r = count(counter, record, SDP_PROMPT_COUNT_PROMPT, "prompt", writer,
			  &engine_error);
	if (r >= 0)
		r = count(counter, record, SDP_PROMPT_COUNT_NEGATIVE_PROMPT, "negative_prompt",
			  writer, &engine_error);
	if (r >= 0)
		return;
	engine_error.code = r;
	sdd_worker_translate_error(&engine_error, !opened, &error);
	sdp_writer_failure(writer, msgid, &error);
}
