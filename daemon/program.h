/*
 * All of sdd's main() but the choice of who makes its worker: a process (daemon/main.c), or in tests a thread of the same
 * process, so that a sanitizer sees both ends at once.
 */
#pragma once

#include "daemon/spawn.h"

/* Returns the exit code: 0, EX_CONFIG or EX_UNAVAILABLE. */
int sdd_program(int argc, char **argv, sdd_spawn_fn spawn);
