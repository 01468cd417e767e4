/*
 * SO_PEERCRED and SO_PEERGROUPS; see peer.h.
 */
#include "daemon/peer.h"
#include "daemon/util/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int sdd_peer_read(int fd, struct ucred *ret_peer)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -errno;
	*ret_peer = peer;
	return 0;
}

static bool is_allowed_group(const struct sdd_config *config, gid_t gid)
{
	for (size_t i = 0; i < config->n_allowed_gids; i++)
		if (config->allowed_gids[i] == gid)
			return true;
	return false;
}

static bool has_allowed_group(const struct sdd_config *config, int fd)
{
	SDD_CLEANUP(sdd_freep) char *bytes = NULL;
	socklen_t length = 0;
	gid_t *groups;

	/* first how many, as ERANGE tells; none at all is a success */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &length) == 0 || errno != ERANGE)
		return false;
	bytes = malloc(length);
	if (!bytes || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, bytes, &length) < 0)
		return false;
	groups = (gid_t *)(void *)bytes;
	for (size_t i = 0; i < length / sizeof(*groups); i++)
		if (is_allowed_group(config, groups[i]))
			return true;
	return false;
}

bool sdd_peer_is_allowed(const struct sdd_config *config, int fd, const struct ucred *peer)
{
	if (peer->uid == geteuid() || peer->uid == 0)
		return true;
	for (size_t i = 0; i < config->n_allowed_uids; i++)
		if (config->allowed_uids[i] == peer->uid)
			return true;
	return config->n_allowed_gids > 0 &&
	       (is_allowed_group(config, peer->gid) || has_allowed_group(config, fd));
}
