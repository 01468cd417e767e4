/*
 * Bringing an sdd-worker to life. The supervisor calls this through a pointer, so that the in-process test build can
 * start a thread instead.
 */
#pragma once

#include "daemon/config.h"

/*
 * Start a worker that speaks on the other end of *ret_fd. 0, or a negative errno when the program cannot be started.
 * *ret_pid 0 means a thread of this process: its end is the end of the socket.
 */
typedef int (*sdd_spawn_fn)(const struct sdd_config *config, int *ret_fd, pid_t *ret_pid);

/* fork and exec config->worker: socket on fd 3, nothing else but stderr open, killed when this process dies. */
int sdd_spawn_worker(const struct sdd_config *config, int *ret_fd, pid_t *ret_pid);
