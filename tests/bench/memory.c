/*
 * What a whole job of real size takes: the peak of this process's memory (VmHWM) over loading a checkpoint and painting one picture.
 * Without a checkpoint it makes one of synthetic weights first, in a process of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "tests/golden/synthetic.h"

/* A line of /proc/self/status, MiB. */
static unsigned long status_mib(const char *key)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), ": %lu", &kib);
	if (file)
		fclose(file);
	return kib >> 10;
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
		sde_result_clear(&result);
		printf("done: %lu MiB now, %lu at most\n", status_mib("VmRSS"),
		       status_mib("VmHWM"));
	}
	sde_model_unref(model);
	sde_engine_free(engine);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], argv[3]);
	if (argc == 9 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], argv[4], strcmp(argv[5], "staged") == 0, atoi(argv[6]),
			   atoi(argv[7]), atoi(argv[8]));
	fprintf(stderr,
		"usage: %s make MANIFEST FILE | run FILE auto|f32|bf16 WEIGHTS whole|staged SIDE "
		"STEPS JOBS\n",
		argv[0]);
	return 2;
}
