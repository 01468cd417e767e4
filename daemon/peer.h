/*
 * Who is at the other end of a connection, as the kernel says, and whether that user may be here: the daemon's own and
 * root always, others when the configuration names them or one of their groups.
 */
#pragma once

#include "daemon/config.h"

#include <sys/socket.h>

/* The credentials that the peer had when it connected. 0 or a negative errno. */
int sdd_peer_read(int fd, struct ucred *ret_peer);
/* A failure to read the peer's groups is a no. */
bool sdd_peer_is_allowed(const struct sdd_config *config, int fd, const struct ucred *peer);
