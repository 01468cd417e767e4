/*
 * One function a metric family; see metrics.h.
 */
#include "daemon/metrics.h"
#include "daemon/util/clock.h"
#include "daemon/util/process.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void unit_family(FILE *out, const char *name, const char *type, const char *unit,
			const char *help)
{
	fprintf(out, "# TYPE %s %s\n# UNIT %s %s\n# HELP %s %s\n", name, type, name, unit, name,
		help);
}

/* A label's value: names of models are people's. */
static void put_label(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			fputc(*text, out);
	}
}

static void write_jobs(struct sdd_server *server, FILE *out)
{
	uint64_t waiting[SDP_PRIORITY_COUNT] = {0};
	const struct sdd_job *job;

	family(out, "sdd_jobs", "counter", "Jobs that ended, by how.");
	fprintf(out, "sdd_jobs_total{state=\"done\"} %" PRIu64 "\n", server->n_done);
	fprintf(out, "sdd_jobs_total{state=\"failed\"} %" PRIu64 "\n", server->n_failed);
	fprintf(out, "sdd_jobs_total{state=\"cancelled\"} %" PRIu64 "\n", server->n_cancelled);
	family(out, "sdd_jobs_interrupted", "counter",
	       "Times a job made room for another or lost its worker, and went on.");
	fprintf(out, "sdd_jobs_interrupted_total %" PRIu64 "\n", server->n_interrupted);
	family(out, "sdd_jobs_running", "gauge", "Jobs running now.");
	fprintf(out, "sdd_jobs_running %zu\n", server->runner.n_jobs);
	family(out, "sdd_jobs_joined", "counter", "Jobs that began beside others, as one batch.");
	fprintf(out, "sdd_jobs_joined_total %" PRIu64 "\n", server->n_joined);
	sdd_list_for_each (job, &server->queue.jobs, link)
		waiting[job->priority]++;
	family(out, "sdd_jobs_waiting", "gauge", "Jobs waiting now, by class.");
	for (size_t i = 0; i < SDP_PRIORITY_COUNT; i++)
		fprintf(out, "sdd_jobs_waiting{class=\"%s\"} %" PRIu64 "\n",
			sdp_enum_priority.values[i], waiting[i]);
	family(out, "sdd_results_kept", "gauge", "Results nobody has fetched yet.");
	fprintf(out, "sdd_results_kept %zu\n", server->n_kept);
	unit_family(out, "sdd_results_kept_bytes", "gauge", "bytes", "Their pictures.");
	fprintf(out, "sdd_results_kept_bytes %" PRIu64 "\n", server->kept_bytes);
}

static void write_models(struct sdd_server *server, FILE *out)
{
	const struct sdd_model *model;

	unit_family(out, "sdd_model_weight_bytes", "gauge", "bytes",
		    "Weights of models in memory.");
	sdd_list_for_each (model, &server->registry.models, link) {
		if (model->state != SDP_MODEL_STATE_LOADED)
			continue;
		fputs("sdd_model_weight_bytes{model=\"", out);
		put_label(out, model->name);
		fprintf(out, "\"} %" PRIu64 "\n", model->weight_bytes);
	}
	family(out, "sdd_model_loads", "counter", "Models brought into memory.");
	fprintf(out, "sdd_model_loads_total %" PRIu64 "\n", server->n_loads);
	unit_family(out, "sdd_memory_budget_bytes", "gauge", "bytes", "What models may use.");
	fprintf(out, "sdd_memory_budget_bytes %" PRIu64 "\n", server->memory_budget_bytes);
}

static void write_caches(struct sdd_server *server, FILE *out)
{
	family(out, "sdd_cache_hits", "counter", "What was found in a cache, by kind.");
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++)
		fprintf(out, "sdd_cache_hits_total{cache=\"%s\"} %" PRIu64 "\n",
			sdp_enum_cache_kind.values[i], server->caches[i].hits);
	family(out, "sdd_cache_misses", "counter", "What had to be computed, by kind.");
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++)
		fprintf(out, "sdd_cache_misses_total{cache=\"%s\"} %" PRIu64 "\n",
			sdp_enum_cache_kind.values[i], server->caches[i].misses);
	family(out, "sdd_cache_entries", "gauge", "Kept now, by kind.");
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++)
		fprintf(out, "sdd_cache_entries{cache=\"%s\"} %" PRIu64 "\n",
			sdp_enum_cache_kind.values[i], server->caches[i].entries);
	unit_family(out, "sdd_cache_bytes", "gauge", "bytes", "Memory of what is kept, by kind.");
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++)
		fprintf(out, "sdd_cache_bytes{cache=\"%s\"} %" PRIu64 "\n",
			sdp_enum_cache_kind.values[i], server->caches[i].bytes);
	unit_family(out, "sdd_cache_budget_bytes", "gauge", "bytes", "What caches may use.");
	fprintf(out, "sdd_cache_budget_bytes %" PRIu64 "\n", server->config->cache_bytes);
}

static void write_processes(struct sdd_server *server, FILE *out)
{
	unit_family(out, "sdd_resident_bytes", "gauge", "bytes", "Resident memory, by process.");
	fprintf(out, "sdd_resident_bytes{process=\"sdd\"} %" PRIu64 "\n",
		sdd_resident_bytes(getpid()));
	if (server->supervisor.pid > 0)
		fprintf(out, "sdd_resident_bytes{process=\"sdd-worker\"} %" PRIu64 "\n",
			sdd_resident_bytes(server->supervisor.pid));
	family(out, "sdd_worker_restarts", "counter", "Times the worker was started again.");
	fprintf(out, "sdd_worker_restarts_total %" PRIu64 "\n", server->supervisor.n_restarts);
	family(out, "sdd_connections", "gauge", "Open connections.");
	fprintf(out, "sdd_connections %" PRIu64 "\n", server->connections.used);
	unit_family(out, "sdd_uptime_seconds", "gauge", "seconds", "Since the start.");
	fprintf(out, "sdd_uptime_seconds %.3f\n",
		(double)(sdd_now_us() - server->started_us) / 1e6);
	family(out, "sdd_build", "info", "The version.");
	fprintf(out, "sdd_build_info{version=\"%s\"} 1\n", SDD_VERSION);
}

char *sdd_metrics_text(struct sdd_server *server)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	write_jobs(server, out);
	write_models(server, out);
	write_caches(server, out);
	write_processes(server, out);
	fputs("# EOF\n", out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
