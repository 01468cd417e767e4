/*
 * sdd-worker: the engine in a process of its own, so that what kills an engine kills nothing else. Started by sdd, never
 * by hand: it speaks the worker.* methods on descriptor 3 and dies with its parent.
 */
#include "daemon/engine/engine.h"
#include "daemon/log.h"
#include "daemon/util/fault.h"
#include "daemon/worker/worker.h"

#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>

enum { SOCKET_FD = 3, THREADS_MAX = 1024 };

static const struct option long_options[] = {
	{"backend", required_argument, NULL, 'b'},     {"dtype", required_argument, NULL, 'd'},
	{"threads", required_argument, NULL, 't'},     {"log-level", required_argument, NULL, 'l'},
	{"cache-bytes", required_argument, NULL, 'm'}, {"weights", required_argument, NULL, 'w'},
	{"convert", no_argument, NULL, 'c'},	       {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},	       {NULL, 0, NULL, 0},
};

static const char help[] =
	"sdd-worker - the engine of sdd; sdd starts it, with a socket on descriptor 3\n"
	"\n"
	"  --backend NAME     auto, cpu or ref\n"
	"  --dtype TYPE       activations: auto, f32 or bf16\n"
	"  --threads N        0 = all the cores given to us\n"
	"  --cache-bytes N    memory for what jobs have in common; 0 = nothing is kept\n"
	"  --weights FORM     of models that name none: auto, stored, f16, bf16 or q8_0\n"
	"  --log-level N      0 (emerg) to 7 (debug)\n"
	"  --convert IN OUT   rewrite a checkpoint of torch as .safetensors and exit\n"
	"  --help, --version  print and exit\n";

/* What `sdctl convert` runs: the one thing that people may want of this program. */
static int convert(int argc, char **argv)
{
	struct sde_error error = {0};

	if (argc != 2) {
		fputs("usage: sdd-worker --convert FILE.ckpt FILE.safetensors\n", stderr);
		return EX_USAGE;
	}
	if (sde_convert_to_safetensors(argv[0], argv[1], &error) >= 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "sdd-worker: %s\n", error.message);
	return EXIT_FAILURE;
}

static int parse_large(const char *text, long maximum, long *ret)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (!*text || *end || number < 0 || number > maximum)
		return -1;
	*ret = number;
	return 0;
}

static int parse_number(const char *text, int maximum, int *ret)
{
	long number;

	if (parse_large(text, maximum, &number) < 0)
		return -1;
	*ret = (int)number;
	return 0;
}

static bool is_socket(int fd)
{
	socklen_t length = sizeof(int);
	int type;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

int main(int argc, char **argv)
{
	struct sdd_worker_options options = {.backend = "auto", .dtype = "auto"};
	int level = LOG_INFO, c, r = 0;
	long bytes = 0;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'b':
			options.backend = optarg;
			break;
		case 'd':
			options.dtype = optarg;
			break;
		case 't':
			r = parse_number(optarg, THREADS_MAX, &options.threads);
			break;
		case 'm':
			r = parse_large(optarg, LONG_MAX, &bytes);
			options.cache_bytes = (uint64_t)bytes;
			break;
		case 'w':
			if (sde_weights_form_parse(optarg, &options.weights) < 0) {
				fprintf(stderr, "sdd-worker: no form of weights '%s'; see --help\n",
					optarg);
				return EX_USAGE;
			}
			break;
		case 'l':
			r = parse_number(optarg, LOG_DEBUG, &level);
			break;
		case 'c':
			return convert(argc - optind, argv + optind);
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		case 'v':
			puts("sdd-worker " SDD_VERSION);
			return EXIT_SUCCESS;
		default:
			return EX_USAGE;
		}
		if (r < 0) {
			fprintf(stderr, "sdd-worker: '%s' is no number in range; see --help\n",
				optarg);
			return EX_USAGE;
		}
	}
	if (!is_socket(SOCKET_FD)) {
		fputs("sdd-worker: descriptor 3 is no socket; sdd starts this program, people do "
		      "not\n",
		      stderr);
		return EX_USAGE;
	}
	if (sdd_fault_configure(getenv("SDD_FAULT")) < 0) {
		fputs("sdd-worker: SDD_FAULT must look like POINT[@N]:kill|stop|abort|hang\n",
		      stderr);
		return EX_USAGE;
	}
	sdd_log_open("sdd-worker", level);
	/* sdd asks for this before exec; a set-uid or capability change on the way would have undone it */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	return sdd_worker_serve(SOCKET_FD, &options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
