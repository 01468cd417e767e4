/*
 * sdd with its worker in a thread instead of a process, so that ThreadSanitizer and debuggers see the event loop, the
 * worker's control thread and its engine thread at once. The product never does this: sdd links no engine.
 * Takes sdd's options; --worker is ignored.
 */
#include "daemon/log.h"
#include "daemon/program.h"
#include "daemon/util/cleanup.h"
#include "daemon/worker/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct worker {
	struct sdd_worker_options options;
	pthread_t thread;
	int fd;
	bool running;
} worker;

static void *serve(void *userdata)
{
	sdd_worker_serve(worker.fd, &worker.options);
	return NULL;
}

/* The one before has ended or ends now: its socket is closed. */
static void join(void)
{
	if (worker.running)
		pthread_join(worker.thread, NULL);
	worker.running = false;
}

static int spawn_thread(const struct sdd_config *config, int *ret_fd, pid_t *ret_pid)
{
	int pair[2], r;

	join();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	worker.options =
		(struct sdd_worker_options){.backend = config->backend,
					    .dtype = config->dtype,
					    .threads = (int)config->threads,
					    .cache_bytes = config->cache_bytes,
					    .weights = (enum sde_weights_form)config->weights};
	worker.fd = pair[1];
	r = pthread_create(&worker.thread, NULL, serve, NULL);
	if (r != 0) {
		sdd_close(pair[0]);
		sdd_close(pair[1]);
		return -r;
	}
	worker.running = true;
	*ret_fd = pair[0];
	*ret_pid = 0;
	return 0;
}

int main(int argc, char **argv)
{
	int r = sdd_program(argc, argv, spawn_thread);

	join();
	return r;
}
