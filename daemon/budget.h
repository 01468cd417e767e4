/*
 * How much memory is ours: what the machine has, or the tightest limit of the control groups we are in (systemd's
 * MemoryMax= and MemoryHigh=, a container's), less what is left to the desktop. Cores are the kernels' affair
 * (sdk_cpu_cores()).
 */
#pragma once

#include "daemon/registry.h"

#include <stdint.h>

/*
 * The tightest limit in bytes on the way from this process's control groups to their roots, version 2 (memory.max,
 * memory.high) and version 1; UINT64_MAX = none. root is "" or, for tests, a folder that holds proc/self/cgroup and
 * sys/fs/cgroup.
 */
uint64_t sdd_budget_cgroup_limit(const char *root);

/*
 * The budget when nobody configures one. A limit of a control group is taken whole but for a tenth, which the front
 * process, plans and pictures need; of a machine's memory reserve_bytes are left to the desktop, 0 = a quarter, at least 1 GiB
 * and at most half of what there is.
 */
uint64_t sdd_budget_default(uint64_t machine_bytes, uint64_t cgroup_bytes, uint64_t reserve_bytes);

/* sdd_budget_default() for this machine and process. */
uint64_t sdd_budget_read(uint64_t reserve_bytes);

/* 0, or -ENOMEM and no_memory with the remedy when a model's weights alone do not fit. */
int sdd_budget_check(uint64_t budget_bytes, const struct sdd_model *model,
		     struct sdp_error *ret_error);
