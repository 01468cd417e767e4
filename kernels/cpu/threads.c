/*
 * Threads: how many cores are really ours, and the parallel loop. OpenMP because oneDNN uses it: one pool, no fight.
 */
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Quota of one cgroup in whole cores, rounded up; 0 = none. */
static int quota_of(const char *directory)
{
	char path[4096];
	long long quota, period;
	FILE *file;
	int n;

	if (snprintf(path, sizeof(path), CGROUP_ROOT "%s/cpu.max", directory) >= (int)sizeof(path))
		return 0;
	file = fopen(path, "re");
	if (!file)
		return 0;
	n = fscanf(file, "%lld %lld", &quota, &period); /* "max 100000" does not match */
	fclose(file);
	if (n != 2 || quota <= 0 || period <= 0 || quota / period > 4096)
		return 0;
	return (int)((quota + period - 1) / period);
}

/* The tightest quota on the way from our cgroup (version 2) to the root. */
static int cgroup_cores(void)
{
	char line[4000];
	int cores = 0;
	FILE *file = fopen("/proc/self/cgroup", "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		char *directory = line + 3, *end;

		if (strncmp(line, "0::", 3) != 0)
			continue;
		directory[strcspn(directory, "\n")] = '\0';
		while ((end = strrchr(directory, '/'))) {
			const int quota = quota_of(directory);

			if (quota > 0 && (cores == 0 || quota < cores))
				cores = quota;
			*end = '\0';
		}
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
