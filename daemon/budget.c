/*
 * Limits of control groups and the memory of the machine; see budget.h.
 */
#include "daemon/budget.h"
#include "daemon/util/cleanup.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 4096 };
/* version 1 writes "no limit" as the largest multiple of a page */
static const uint64_t no_limit_bytes = 1ULL << 62;
static const uint64_t desktop_bytes_min = 1ULL << 30;

/* One file with one number; "max", a missing file and anything else are no limit. */
static uint64_t read_limit(const char *folder, const char *name)
{
	SDD_CLEANUP(sdd_fclosep) FILE *file = NULL;
	char path[PATH_MAX];
	uint64_t bytes;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		return UINT64_MAX;
	file = fopen(path, "re");
	if (!file || fscanf(file, "%" SCNu64, &bytes) != 1 || bytes >= no_limit_bytes)
		return UINT64_MAX;
	return bytes;
}

/* From the group at base + group up to base itself; both are changed. */
static uint64_t tightest(const char *base, char *group, const char *const names[])
{
	uint64_t bytes = UINT64_MAX;
	char folder[PATH_MAX];
	char *slash;

	do {
		slash = strrchr(group, '/');
		if ((size_t)snprintf(folder, sizeof(folder), "%s%s", base, group) >= sizeof(folder))
			return bytes;
		for (size_t i = 0; names[i]; i++) {
			const uint64_t limit = read_limit(folder, names[i]);

			if (limit < bytes)
				bytes = limit;
		}
		if (slash)
			*slash = '\0';
	} while (slash);
	return bytes;
}

uint64_t sdd_budget_cgroup_limit(const char *root)
{
	static const char *const unified[] = {"memory.max", "memory.high", NULL};
	static const char *const legacy[] = {"memory.limit_in_bytes", NULL};
	SDD_CLEANUP(sdd_fclosep) FILE *file = NULL;
	char path[PATH_MAX], base[PATH_MAX], line[LINE_BYTES_MAX];
	uint64_t bytes = UINT64_MAX;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	/* lines of cgroups(7): number:controllers:/group */
	while (file && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		bool is_unified = group == controllers + 1;
		uint64_t limit;

		if (!group)
			continue;
		*controllers++ = '\0';
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (!is_unified && strcmp(controllers, "memory") != 0)
			continue;
		snprintf(base, sizeof(base), "%s/sys/fs/cgroup%s", root,
			 is_unified ? "" : "/memory");
		limit = tightest(base, group, is_unified ? unified : legacy);
		if (limit < bytes)
			bytes = limit;
	}
	return bytes;
}

uint64_t sdd_budget_default(uint64_t machine_bytes, uint64_t cgroup_bytes, uint64_t reserve_bytes)
{
	uint64_t desktop_bytes = machine_bytes / 4, ours;

	if (desktop_bytes < desktop_bytes_min)
		desktop_bytes = desktop_bytes_min;
	if (desktop_bytes > machine_bytes / 2)
		desktop_bytes = machine_bytes / 2;
	if (reserve_bytes > 0)
		desktop_bytes = reserve_bytes < machine_bytes ? reserve_bytes : machine_bytes;
	ours = machine_bytes - desktop_bytes;
	if (cgroup_bytes < machine_bytes && cgroup_bytes - cgroup_bytes / 10 < ours)
		ours = cgroup_bytes - cgroup_bytes / 10;
	return ours;
}

uint64_t sdd_budget_read(uint64_t reserve_bytes)
{
	const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
	const uint64_t machine_bytes =
		pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;

	return sdd_budget_default(machine_bytes, sdd_budget_cgroup_limit(""), reserve_bytes);
}

int sdd_budget_check(uint64_t budget_bytes, const struct sdd_model *model,
		     struct sdp_error *ret_error)
{
	if (model->weight_bytes <= budget_bytes)
		return 0;
	return sdp_error_set(ret_error, SDP_CODE_NO_MEMORY,
			     "model '%s' has %" PRIu64 " MiB of weights, and %" PRIu64
			     " MiB is all this daemon may use; choose a smaller model, or raise "
			     "memory-budget or the limit of the daemon's control group",
			     model->name, model->weight_bytes >> 20, budget_bytes >> 20);
}
