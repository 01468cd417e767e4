/*
 * Digests of files that outlive the daemon, so that its next start does not read every model's gigabytes again: a small file of text in
 * the cache folder, keyed by the files' state. It is written as a whole and moved into place, and ends with its own digest: what is
 * damaged, or not ours alone to write, is as good as none.
 */
#pragma once

#include "daemon/model-hash.h"

/*
 * Where it lies: "hashes" in $CACHE_DIRECTORY (the units' CacheDirectory=), $XDG_CACHE_HOME/sdd or ~/.cache/sdd. -ENOENT when the environment
 * names none of them, -ENAMETOOLONG.
 */
int sdd_hash_store_path(char *ret_path, size_t size);
/* Adds what it holds to digests. 0 when there is none yet; -EBADMSG: damaged, -EPERM: others may write it; or another errno. Adds all or nothing. */
int sdd_hash_store_read(const char *path, struct sdd_memo *digests);
/* The folder is made if need be. 0 or a negative errno; the file is then as it was, and nothing lies beside it. */
int sdd_hash_store_write(const char *path, const struct sdd_memo *digests);
