/*
 * What a whole job of real size takes: the peak of this process's memory (VmHWM) over loading a checkpoint and painting one picture.
 * `judge` makes a checkpoint of synthetic weights first, in a process of its own, and fails when pictures of one step take more than so many
 * MB, or more than the daemon's estimate: the tests memory-* of suite slow. What `run` took is its last line, as sdd-bench's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/config-value.h"
#include "daemon/engine/engine.h"
#include "daemon/footprint.h"
#include "tests/golden/synthetic.h"

/* A line of /proc/self/status, KiB. */
static unsigned long status_kib(const char *key)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %lu", &kib);
	if (file)
		fclose(file);
	return kib;
}

static unsigned long status_mib(const char *key)
{
	return status_kib(key) >> 10;
}

static int fail(const char *what, const struct sde_error *error)
{
	fprintf(stderr, "%s: %s\n", what, error->message);
	return 1;
}

static int make(const char *manifest, const char *path)
{
	struct sde_error error = {0};
	int fd, r = -1;

	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0) {
		r = golden_synthetic_write(manifest, "", true, fd, &error);
		close(fd);
	}
	return r < 0 ? fail(path, &error) : 0;
}

static void on_progress(void *userdata, const struct sde_progress *progress)
{
	static const char *const stages[] = {"load", "encode", "steps", "decode"};

	printf("%s %d/%d: %lu MiB now (%lu of files), %lu at most\n", stages[progress->stage],
	       progress->step, progress->total, status_mib("VmRSS"), status_mib("RssFile"),
	       status_mib("VmHWM"));
	fflush(stdout);
}

static enum sde_weights_form form_of(const char *name)
{
	int i = 0;

	while (i < SDE_WEIGHTS_FORMS && strcmp(name, sde_weights_form_names[i]) != 0)
		i++;
	return i < SDE_WEIGHTS_FORMS ? (enum sde_weights_form)i : SDE_WEIGHTS_DEFAULT;
}

static int run(const char *path, const char *dtype, const char *form, bool staged, int side,
	       int steps, int jobs)
{
	const struct sde_engine_options options = {.dtype = dtype};
	const struct sde_hooks hooks = {.progress = on_progress};
	const struct sde_job job = {.kind = SDE_TXT2IMG,
				    .prompt = "a red fox in the snow",
				    .seed = 1,
				    .steps = steps,
				    .guidance_scale = 7.5,
				    .width = side,
				    .height = side,
				    .count = 1,
				    .staged = staged};
	struct sde_engine *engine;
	struct sde_model *model;
	struct sde_result result;
	struct sde_error error = {0};
	double seconds, first = 0, best = 0;

	if (sde_engine_new(&options, &engine, &error) < 0)
		return fail("engine", &error);
	puts(sde_engine_describe(engine));
	if (sde_model_load_as(engine, path, form_of(form), &model, &error) < 0)
		return fail(path, &error);
	printf("loaded: %lu MiB\n", status_mib("VmRSS"));
	for (int i = 0; i < jobs; i++) {
		if (sde_job_run(model, &job, &hooks, &result, &error) < 0)
			return fail("job", &error);
		printf("encode %.2f s, steps %.2f s, decode %.2f s\n",
		       (double)result.stage_us[SDE_STAGE_ENCODE] / 1e6,
		       (double)result.stage_us[SDE_STAGE_STEPS] / 1e6,
		       (double)result.stage_us[SDE_STAGE_DECODE] / 1e6);
		seconds = (double)(result.stage_us[SDE_STAGE_ENCODE] +
				   result.stage_us[SDE_STAGE_STEPS] +
				   result.stage_us[SDE_STAGE_DECODE]) /
			  1e6;
		first = i == 0 ? seconds : first;
		best = i <= 1 || seconds < best ? seconds : best;
		sde_result_clear(&result);
		printf("done: %lu MiB now, %lu at most\n", status_mib("VmRSS"),
		       status_mib("VmHWM"));
	}
	printf("{\"what\": \"job\", \"backend\": \"%s, weights %s\", \"size\": %d, "
	       "\"first_s\": %.3f, \"best_s\": %.3f, \"peak_mib\": %lu}\n",
	       sde_engine_describe(engine), form, side, first, best, status_mib("VmHWM"));
	sde_model_unref(model);
	sde_engine_free(engine);
	return 0;
}

/* What the daemon would have told before, bytes; without the program itself. */
static uint64_t told(const char *path, const char *dtype, const char *form, bool staged, int side)
{
	const struct sdd_work work = {.width = side, .height = side};
	const struct sdd_types types = sdd_types_expected(NULL, dtype);
	struct sdd_footprint footprint;
	uint64_t value;

	sdd_footprint_read(path, &footprint);
	if (sdd_value_parse_form(form, &value) == 0)
		footprint.form = (enum sdp_weights_form)value;
	return staged ? sdd_footprint_staged(&footprint, types, &work)
		      : sdd_footprint_whole(&footprint, types, &work);
}

static int judge_file(const char *path, const char *dtype, const char *form, bool staged, int side,
		      unsigned long limit_mb)
{
	const uint64_t limit = (uint64_t)limit_mb * 1000000;
	uint64_t estimate, peak;
	int r;

	/* without instructions for bfloat16 packed weights are float32: there the file's own f16 is what is promised */
	if (strcmp(form, "auto") == 0 && sdd_types_expected(NULL, dtype).weight > 2)
		form = "stored";
	/* what the first job left in memory lies beside the second's text encoders; in stages nothing is left */
	r = run(path, dtype, form, staged, side, 1, staged ? 1 : 2);
	if (r != 0)
		return r;
	peak = (uint64_t)status_kib("VmHWM") * 1024;
	estimate = told(path, dtype, form, staged, side) + SDD_FOOTPRINT_PROGRAM_BYTES;
	printf("%d x %d, %s, weights %s, %s: peak %.0f MB of %lu, told %.0f MB\n", side, side,
	       dtype, form, staged ? "staged" : "whole", (double)peak / 1e6, limit_mb,
	       (double)estimate / 1e6);
	return peak > limit || peak > estimate;
}

static int judge(const char *manifest, const char *dtype, const char *form, bool staged, int side,
		 unsigned long limit_mb)
{
	const char *folder = getenv("TMPDIR");
	char path[256];
	int fd, status = -1, r;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/sdd-memory-XXXXXX", folder ? folder : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return perror(path), 1;
	close(fd);
	pid = fork();
	if (pid == 0)
		_exit(make(manifest, path));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	r = status == 0 ? judge_file(path, dtype, form, staged, side, limit_mb) : 1;
	unlink(path);
	return r;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], argv[3]);
	if (argc == 9 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], argv[4], strcmp(argv[5], "staged") == 0, atoi(argv[6]),
			   atoi(argv[7]), atoi(argv[8]));
	if (argc == 8 && strcmp(argv[1], "judge") == 0)
		return judge(argv[2], argv[3], argv[4], strcmp(argv[5], "staged") == 0,
			     atoi(argv[6]), strtoul(argv[7], NULL, 10));
	fprintf(stderr,
		"usage: %s make MANIFEST FILE | run FILE auto|f32|bf16 WEIGHTS whole|staged SIDE "
		"STEPS JOBS | judge MANIFEST DTYPE WEIGHTS whole|staged SIDE MB\n",
		argv[0]);
	return 2;
}
