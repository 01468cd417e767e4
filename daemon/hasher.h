/*
 * Content hashes of the models, made by a helper process, one model at a time, from the first time on that somebody asks for the list: reading
 * gigabytes must hold up neither the daemon's loop nor a start. The helper is a fork of sdd that keeps no socket, runs at the lowest priority
 * (or, where the sandbox forbids that, rests as long as it works) and tells what it found through a pipe. It also writes what is known to
 * the cache folder, for the next start.
 */
#pragma once

#include "daemon/model-hash.h"

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct sdd_server;

struct sdd_hasher {
	bool wanted;
	pid_t pid; /* 0: none runs */
	int fd;	   /* our end of its pipe */
	sd_event_source *io, *child;
	char model[129]; /* whose files it reads */
	uint64_t stamp;	 /* of them, when it began */
	bool has_ended;	 /* it told the model's hash */
	uint8_t hash[SDD_DIGEST_SIZE];
	size_t n_read;		 /* files that it had to read */
	struct sdd_memo digests; /* of single files, for the next time */
	char store[4096]; /* where they stay for the next start (hash-store.h); "" = nowhere */
};

void sdd_hasher_init(struct sdd_hasher *hasher);
/* Ends the helper. */
void sdd_hasher_clear(struct sdd_server *server);
/* From now on hashes are of interest; or: a model came, changed, or the helper has ended. */
void sdd_hasher_want(struct sdd_server *server);
void sdd_hasher_kick(struct sdd_server *server);
