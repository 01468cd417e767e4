/*
 * What /proc says of a process.
 */
#pragma once

#include "daemon/util/cleanup.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* Resident bytes of a process, 0 when it cannot be read. */
static inline uint64_t sdd_resident_bytes(pid_t pid)
{
	SDD_CLEANUP(sdd_fclosep) FILE *file = NULL;
	unsigned long long size, resident;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%llu %llu", &size, &resident) != 2)
		return 0;
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
