/*
 * Reading ahead: see readahead.h. In pieces, because madvise may block while the disk's queue is full, and who stops should
 * not wait for gigabytes.
 */
#include "daemon/engine/readahead.h"

#include <signal.h>

static bool wanted(void *userdata)
{
	return !atomic_load((atomic_bool *)userdata);
}

static void *read_parts(void *userdata)
{
	struct sde_readahead *readahead = userdata;

	for (int i = 0; i < SDE_READAHEAD_PARTS; i++)
		if (readahead->parts[i])
			sde_weights_read_ahead(readahead->parts[i], wanted, &readahead->stop);
	return NULL;
}

void sde_readahead_start(struct sde_readahead *readahead)
{
	sigset_t all, before;

	atomic_store(&readahead->stop, false);
	sigfillset(&all); /* signals are the other threads' */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	readahead->running = pthread_create(&readahead->thread, NULL, read_parts, readahead) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sde_readahead_stop(struct sde_readahead *readahead)
{
	if (!readahead->running)
		return;
	atomic_store(&readahead->stop, true);
	pthread_join(readahead->thread, NULL);
	readahead->running = false;
}
