/*
 * Threads: how many cores are really ours, and the parallel loop. OpenMP because oneDNN uses it: one pool, no fight.
 */
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Quota and period as cores, rounded up; 0 = none. */
static int whole_cores(long long quota, long long period)
{
	if (quota <= 0 || period <= 0 || quota / period > 4096)
		return 0;
	return (int)((quota + period - 1) / period);
}

/* A number in a file of a cgroup; false where there is none ("max" is none). */
static bool read_number(const char *directory, const char *name, long long *ret, int count)
{
	char path[4096];
	FILE *file;
	int n;

	if (snprintf(path, sizeof(path), CGROUP_ROOT "%s/%s", directory, name) >= (int)sizeof(path))
		return false;
	file = fopen(path, "re");
	if (!file)
		return false;
	n = count == 2 ? fscanf(file, "%lld %lld", &ret[0], &ret[1])
		       : fscanf(file, "%lld", &ret[0]);
	fclose(file);
	return n == count;
}

/* Of one cgroup, by the files of version 2 and of version 1. */
static int quota_of(const char *directory)
{
	long long quota[2];

	if (read_number(directory, "cpu.max", quota, 2) ||
	    (read_number(directory, "cpu.cfs_quota_us", &quota[0], 1) &&
	     read_number(directory, "cpu.cfs_period_us", &quota[1], 1)))
		return whole_cores(quota[0], quota[1]);
	return 0;
}

/* The tightest quota from this group up to the top of its hierarchy, which is mounted at top; group is changed. */
static int tightest_quota(const char *top, char *group)
{
	char directory[4096], *end;
	int cores = 0;

	while ((end = strrchr(group, '/'))) {
		if (snprintf(directory, sizeof(directory), "%s%s", top, group) <
		    (int)sizeof(directory)) {
			const int quota = quota_of(directory);

			if (quota > 0 && (cores == 0 || quota < cores))
				cores = quota;
		}
		*end = '\0';
	}
	return cores;
}

/* The tightest quota of our cgroups; lines of cgroups(7) are number:controllers:/group. */
static int cgroup_cores(void)
{
	char line[4000];
	int cores = 0;
	FILE *file = fopen("/proc/self/cgroup", "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		int quota = 0;

		if (!group)
			continue;
		controllers++;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (!*controllers)
			quota = tightest_quota("", group);
		else if (strcmp(controllers, "cpu") == 0 || strcmp(controllers, "cpu,cpuacct") == 0)
			quota = tightest_quota("/cpu", group);
		if (quota > 0 && (cores == 0 || quota < cores))
			cores = quota;
	}
	fclose(file);
	return cores;
}

int sdk_cpu_cores(void)
{
	cpu_set_t set;
	int cores = 1, quota;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = CPU_COUNT(&set);
	quota = cgroup_cores();
	if (quota > 0 && quota < cores)
		cores = quota;
	return cores > 0 ? cores : 1;
}

int sdk_cpu_thread(void)
{
	return omp_get_thread_num();
}

void sdk_cpu_parallel(const struct sdk_cpu *cpu, size_t tasks,
		      void (*task)(void *userdata, size_t i), void *userdata)
{
	if (tasks == 1 || cpu->base.threads == 1) {
		for (size_t i = 0; i < tasks; i++)
			task(userdata, i);
		return;
	}
#pragma omp parallel for schedule(dynamic, 1) num_threads(cpu->base.threads)
	for (size_t i = 0; i < tasks; i++)
		task(userdata, i);
}
