/*
 * sdctl convert: a checkpoint of torch rewritten as .safetensors. The reader is the engine's, so the engine's program does it; no daemon is
 * asked, and no path goes through a socket.
 */
#include "client/sdctl/sdctl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where sdd-worker may stand as seen from our own folder: in the build folder, beside us, or installed. */
static const char *const places[] = {"../../daemon/sdd-worker", "sdd-worker",
				     "../libexec/sdd/sdd-worker"};

int run_convert(const struct context *context, int argc, char **argv)
{
	const struct verb *verb = find_verb(query_verbs, "convert");
	char self[PATH_MAX - 64], worker[PATH_MAX];
	ssize_t length;

	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		printf("usage: sdctl %s %s\n%s\n", verb->name, verb->arguments, verb->help);
		return EXIT_OK;
	}
	if (argc != 3)
		return usage(verb);
	length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[length > 0 ? length : 0] = '\0';
	if (strrchr(self, '/'))
		*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(worker, sizeof(worker), "%s/%s", self, places[i]);
		if (access(worker, X_OK) == 0)
			execl(worker, "sdd-worker", "--convert", argv[1], argv[2], NULL);
	}
	execl(SDD_LIBEXECDIR "/sdd-worker", "sdd-worker", "--convert", argv[1], argv[2], NULL);
	complain("%s: %s", SDD_LIBEXECDIR "/sdd-worker", strerror(errno));
	return EXIT_FAILED;
}
