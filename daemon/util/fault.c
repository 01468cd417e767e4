/*
 * Named points where a test can make the worker die or hang; see fault.h.
 */
#include "daemon/util/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	char point[32];	   /* "" = nothing configured */
	unsigned long nth; /* 0 = every pass */
	int signal;
	atomic_ulong passes;
} fault;

static const struct {
	const char *name;
	int signal;
} actions[] = {
	{"kill", SIGKILL},
	{"stop", SIGSTOP},
	{"abort", SIGABRT},
	{"hang", 0},
};

int sdd_fault_configure(const char *specification)
{
	const char *colon, *at;
	unsigned long nth = 0;
	size_t length;
	char *end;

	fault.point[0] = '\0';
	if (!specification || !*specification)
		return 0;
	colon = strchr(specification, ':');
	if (!colon)
		return -EINVAL;
	at = memchr(specification, '@', (size_t)(colon - specification));
	length = (size_t)((at ? at : colon) - specification);
	if (length == 0 || length >= sizeof(fault.point))
		return -EINVAL;
	if (at) {
		nth = strtoul(at + 1, &end, 10);
		if (end != colon || nth == 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(colon + 1, actions[i].name) != 0)
			continue;
		memcpy(fault.point, specification, length);
		fault.point[length] = '\0';
		fault.nth = nth;
		fault.signal = actions[i].signal;
		atomic_store(&fault.passes, 0);
		return 0;
	}
	return -EINVAL;
}

void sdd_fault_point(const char *point)
{
	if (!fault.point[0] || strcmp(point, fault.point) != 0)
		return;
	if (fault.nth != 0 && atomic_fetch_add(&fault.passes, 1) + 1 != fault.nth)
		return;
	while (fault.signal == 0)
		pause();
	raise(fault.signal);
}
