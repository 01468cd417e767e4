/*
 * golden-runner [--backend ref|cpu|cuda] [--dtype f32|bf16|f16] [--filter GLOB] [--timeout SECONDS] [--no-fork] DIR|CASE.json...
 *
 * Runs every case below the folders given (a *.json with a "kind" beside a .safetensors of the same name) and prints a line a
 * case and the sum. Cases run one after the other in a child process; when it dies, that case has failed and a fresh child goes
 * on with the next one. Exit status: 0, 1 when a case failed, 2 for a usage error or when there was no case at all.
 */
#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/json.h"
#include "tests/golden/golden.h"

#define LINE_MAX_BYTES 1024
#define LARGE_FACTOR   10

/* Shared between runner and child, so that nothing is lost when the child dies. */
struct tally {
	size_t next; /* case in work */
	bool fresh;  /* the child ended itself so that the next case finds its memory free */
	size_t counts[3];
};

struct run {
	struct golden_options options;
	const char *filter;
	unsigned int timeout_s;
	bool fork;
	char **paths;
	size_t count;
	struct tally *tally;
};

static const char *const verdicts[] = {"PASS", "FAIL", "SKIP"};

static void report(struct run *run, size_t index, int result, const char *line)
{
	printf("%s %s%s%s\n", verdicts[result], run->paths[index], line[0] ? ": " : "", line);
	fflush(stdout);
	run->tally->counts[result]++;
}

/* A case has a "kind"; a broken JSON beside a .safetensors is taken for one, so that it is reported. */
static bool is_case(const char *path)
{
	const size_t length = strlen(path);
	_cleanup_free_ char *tensors = NULL;
	_cleanup_json_ json_t *root = NULL;

	if (length < 6 || strcmp(path + length - 5, ".json"))
		return false;
	if (asprintf(&tensors, "%.*s.safetensors", (int)length - 5, path) < 0)
		abort();
	if (access(tensors, F_OK) < 0)
		return false;
	return sde_json_load(path, SDE_JSON_INDEX_MAX, &root, NULL) < 0 ||
	       json_object_get(root, "kind");
}

static void add_case(struct run *run, const char *path)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

	if (run->filter && fnmatch(run->filter, base, 0) && fnmatch(run->filter, path, 0))
		return;
	run->paths = reallocarray(run->paths, run->count + 1, sizeof(*run->paths));
	if (!run->paths || !(run->paths[run->count++] = strdup(path)))
		abort();
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int collect(struct run *run, char **arguments)
{
	FTS *tree = fts_open(arguments, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	FTSENT *entry;
	int r = 0;

	if (!tree)
		return -errno;
	while ((entry = fts_read(tree))) {
		if (entry->fts_info == FTS_F &&
		    (entry->fts_level == FTS_ROOTLEVEL || is_case(entry->fts_path)))
			add_case(run, entry->fts_path);
		if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DNR ||
		    entry->fts_info == FTS_ERR) {
			fprintf(stderr, "golden-runner: %s: %s\n", entry->fts_path,
				strerror(entry->fts_errno));
			r = -entry->fts_errno;
		}
	}
	fts_close(tree);
	return r;
}

/* A network of real size: gigabytes, and minutes on a small machine. */
static bool is_large(const char *path)
{
	_cleanup_json_ json_t *root = NULL;
	const char *kind;

	if (sde_json_load(path, SDE_JSON_INDEX_MAX, &root, NULL) < 0)
		return false;
	kind = json_string_value(json_object_get(root, "kind"));
	return kind && strncmp(kind, "fullsize_", 9) == 0;
}

/* A case of real size is the last of its process, and may take LARGE_FACTOR times as long. */
static void run_cases(struct run *run)
{
	char line[LINE_MAX_BYTES];
	bool large;
	int result;

	while (run->tally->next < run->count) {
		size_t index = run->tally->next;

		large = is_large(run->paths[index]);
		alarm(run->timeout_s * (large ? LARGE_FACTOR : 1));
		line[0] = '\0';
		result = golden_case_run(run->paths[index], &run->options, line, sizeof(line));
		alarm(0);
		run->tally->next++;
		report(run, index, result, line);
		run->tally->fresh = run->fork && large;
		if (run->tally->fresh)
			return;
	}
}

static int supervise(struct run *run)
{
	char line[LINE_MAX_BYTES];
	int status;
	pid_t pid;

	while (run->tally->next < run->count) {
		fflush(stdout);
		run->tally->fresh = false;
		pid = fork();
		if (pid < 0 || (pid > 0 && waitpid(pid, &status, 0) < 0))
			return -errno;
		if (pid == 0) {
			run_cases(run);
			exit(EXIT_SUCCESS); /* leak and sanitizer reports come from here */
		}
		if (run->tally->fresh && WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		if (run->tally->next >= run->count)
			return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
			snprintf(line, sizeof(line), "took longer than allowed (--timeout %u)",
				 run->timeout_s);
		else if (WIFSIGNALED(status))
			snprintf(line, sizeof(line), "crashed: %s", strsignal(WTERMSIG(status)));
		else
			snprintf(line, sizeof(line), "ended the process with status %d",
				 WEXITSTATUS(status));
		report(run, run->tally->next++, GOLDEN_FAIL, line);
	}
	return 0;
}

static bool one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

static int usage(void)
{
	fprintf(stderr, "usage: golden-runner [--backend ref|cpu|cuda] [--dtype f32|bf16|f16] "
			"[--filter GLOB] [--timeout SECONDS] [--no-fork] DIR|CASE.json...\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"backend", required_argument, NULL, 'b'},
		{"dtype", required_argument, NULL, 'd'},
		{"filter", required_argument, NULL, 'f'},
		{"timeout", required_argument, NULL, 't'},
		{"no-fork", no_argument, NULL, 'n'},
		{0},
	};
	struct run run = {
		.options = {.backend = "cpu", .dtype = "f32"},
		.timeout_s = 300,
		.fork = true,
	};
	int option, r;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case 'b':
			run.options.backend = optarg;
			break;
		case 'd':
			run.options.dtype = optarg;
			break;
		case 'f':
			run.filter = optarg;
			break;
		case 't':
			run.timeout_s = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			run.fork = false;
			break;
		default:
			return usage();
		}
	}
	if (optind == argc ||
	    !one_of(run.options.backend, (const char *const[]){"ref", "cpu", "cuda", NULL}) ||
	    !one_of(run.options.dtype, (const char *const[]){"f32", "bf16", "f16", NULL}))
		return usage();
	run.tally = mmap(NULL, sizeof(*run.tally), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.tally == MAP_FAILED)
		abort();
	r = collect(&run, argv + optind);
	if (run.fork && r >= 0)
		r = supervise(&run);
	else if (r >= 0)
		run_cases(&run);
	printf("%zu passed, %zu failed, %zu skipped\n", run.tally->counts[GOLDEN_PASS],
	       run.tally->counts[GOLDEN_FAIL], run.tally->counts[GOLDEN_SKIP]);
	for (size_t i = 0; i < run.count; i++)
		free(run.paths[i]);
	free(run.paths);
	if (r < 0)
		fprintf(stderr, "golden-runner: %s\n", strerror(-r));
	return run.tally->counts[GOLDEN_FAIL] ? 1 : r < 0 || !run.count ? 2 : 0;
}
