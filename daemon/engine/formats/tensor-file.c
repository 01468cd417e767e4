/*
 * One index over every container: see tensor-file.h. A sorted array and binary search: no hash to flood, and the order makes prefixes
 * a range. Open files are listed, so that one that is asked for again, through a link or as a copy, is mapped once; what backends make of its
 * weights is then made once too.
 */
#include "daemon/engine/formats/tensor-file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/file.h"
#include "daemon/engine/formats/gguf.h"
#include "daemon/engine/formats/torch-file.h"
#include "daemon/util/hash.h"

#define READ_AHEAD_PIECE ((size_t)8 << 20)

/* Which file in which state: of times people can set one (mtime) but not the other (ctime). */
struct identity {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec modified, changed;
};

struct sde_tensor_file {
	unsigned int references;
	char *path;
	uint64_t state;
	struct sde_tensor_file *next; /* in the list of open files */
	struct identity identity;
	bool shared;			     /* in the list */
	struct sde_safetensors *safetensors; /* one of these, the others NULL */
	struct sde_gguf *gguf;
	struct sde_torch_file *torch;
	const struct sde_tensor **sorted;
	size_t count;
};

static int by_name(const void *a, const void *b)
{
	const struct sde_tensor *const *left = a, *const *right = b;

	return strcmp((*left)->name, (*right)->name);
}

static size_t container_count(const struct sde_tensor_file *file)
{
	if (file->gguf)
		return sde_gguf_count(file->gguf);
	return file->torch ? sde_torch_file_count(file->torch)
			   : sde_safetensors_count(file->safetensors);
}

static const struct sde_tensor *container_at(const struct sde_tensor_file *file, size_t i)
{
	if (file->gguf)
		return sde_gguf_at(file->gguf, i);
	return file->torch ? sde_torch_file_at(file->torch, i)
			   : sde_safetensors_at(file->safetensors, i);
}

static int index_tensors(struct sde_tensor_file *file, struct sde_error *error)
{
	const size_t count = container_count(file);

	file->sorted = calloc(count + 1, sizeof(*file->sorted));
	if (!file->sorted)
		return sde_error_set(error, -ENOMEM, "%s: no memory for %zu tensors", file->path,
				     count);
	for (size_t i = 0; i < count; i++)
		file->sorted[file->count++] = container_at(file, i);
	qsort(file->sorted, file->count, sizeof(*file->sorted), by_name);
	for (size_t i = 1; i < file->count; i++)
		if (!by_name(&file->sorted[i - 1], &file->sorted[i]))
			return sde_error_set(error, -EBADMSG, "%s: tensor '%s' is there twice",
					     file->path, file->sorted[i]->name);
	return 0;
}

/* By its first bytes. What cannot be read is told by the reader. */
static int open_container(struct sde_tensor_file *file, bool pickles, struct sde_error *error)
{
	_cleanup_close_ int fd = -EBADF;
	unsigned char head[4] = {0};
	size_t size = 0;

	if (sde_file_open(file->path, &fd, &size, NULL) < 0 ||
	    sde_file_read_at(fd, 0, head, sizeof(head)) < 0)
		size = 0;
	if (size > 4 && !memcmp(head, "GGUF", 4))
		return sde_gguf_open(file->path, &file->gguf, error);
	if (pickles && sde_torch_file_looks_like(head, size < 4 ? size : 4))
		return sde_torch_file_open(file->path, &file->torch, error);
	return sde_safetensors_open(file->path, &file->safetensors, error);
}

/* All files that are open, and their counts: one thread loads models, another may count a prompt's tokens and read an embedding for it. */
static struct sde_tensor_file *open_files;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static bool identify(const char *path, struct identity *ret_identity)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	*ret_identity = (struct identity){st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
	return true;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same(const struct identity *a, const struct identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       same_time(&a->modified, &b->modified) && same_time(&a->changed, &b->changed);
}

/* Still what was mapped: a file that was written to meanwhile is no longer what its hash says. */
static bool is_unchanged(const struct sde_tensor_file *file)
{
	struct identity now;

	return identify(file->path, &now) && same(&file->identity, &now);
}

/* What differs does so in its first tensors, as a rule, so that little is read of it. */
static bool same_bytes(const struct sde_tensor_file *a, const struct sde_tensor_file *b)
{
	const struct sde_tensor *left = a->count > 0 ? a->sorted[0] : NULL;
	const struct sde_tensor *right = b->count > 0 ? b->sorted[0] : NULL;

	if (!left || !right || !left->map || !right->map || left->map_bytes != right->map_bytes ||
	    memcmp(left->map, right->map, left->map_bytes) != 0)
		return false;
	sde_tensor_file_release(b);
	return true;
}

static struct sde_tensor_file *find_same(const struct identity *identity)
{
	for (struct sde_tensor_file *file = open_files; file; file = file->next)
		if (same(&file->identity, identity)) {
			file->references++;
			return file;
		}
	return NULL;
}

/* The next open file of that size behind one that is held (NULL: the first), which is let go; held. */
static struct sde_tensor_file *next_of_size(struct sde_tensor_file *held, off_t size)
{
	struct sde_tensor_file *next;

	pthread_mutex_lock(&open_lock);
	next = held ? held->next : open_files;
	while (next && next->identity.size != size)
		next = next->next;
	if (next)
		next->references++;
	pthread_mutex_unlock(&open_lock);
	sde_tensor_file_unref(held);
	return next;
}

/* An open file of the same bytes, held. Files are compared without the lock: others open and close theirs meanwhile. */
static struct sde_tensor_file *find_copy(const struct sde_tensor_file *file)
{
	struct sde_tensor_file *other = NULL;

	while ((other = next_of_size(other, file->identity.size)))
		if (is_unchanged(other) && same_bytes(file, other) && is_unchanged(other))
			break;
	return other;
}

static void enlist(struct sde_tensor_file *file)
{
	pthread_mutex_lock(&open_lock);
	file->shared = true;
	file->next = open_files;
	open_files = file;
	pthread_mutex_unlock(&open_lock);
}

static void delist(struct sde_tensor_file *file)
{
	struct sde_tensor_file **link = &open_files;

	if (!file->shared)
		return;
	while (*link != file)
		link = &(*link)->next;
	*link = file->next;
}

static int open_file(const char *path, bool pickles, struct sde_tensor_file **ret_file,
		     struct sde_error *error)
{
	struct sde_tensor_file *file, *copy = NULL;
	struct identity before;
	const bool known = identify(path, &before);
	uint64_t states[2];
	int r;

	pthread_mutex_lock(&open_lock);
	file = known && !pickles ? find_same(&before) : NULL;
	pthread_mutex_unlock(&open_lock);
	if (file) {
		*ret_file = file;
		return 0;
	}
	file = calloc(1, sizeof(*file));
	if (!file || !(file->path = strdup(path))) {
		free(file);
		return sde_error_set(error, -ENOMEM, "%s: no memory", path);
	}
	file->references = 1;
	states[0] = sde_tensor_file_state_now(file);
	r = open_container(file, pickles, error);
	/* a file put in its place meanwhile gives a number that is neither's */
	states[1] = sde_tensor_file_state_now(file);
	file->state = states[0] == states[1] ? states[0] : sdd_hash_mix(states[0], states[1]);
	if (r >= 0)
		r = index_tensors(file, error);
	if (r < 0) {
		sde_tensor_file_unref(file);
		return r;
	}
	if (!pickles && known && identify(path, &file->identity) &&
	    same(&before, &file->identity)) {
		copy = find_copy(file);
		if (copy)
			sde_tensor_file_unref(file);
		else
			enlist(file);
	}
	*ret_file = copy ? copy : file;
	return 0;
}

int sde_tensor_file_open(const char *path, struct sde_tensor_file **ret_file,
			 struct sde_error *error)
{
	return open_file(path, false, ret_file, error);
}

int sde_tensor_file_open_pickled(const char *path, struct sde_tensor_file **ret_file,
				 struct sde_error *error)
{
	return open_file(path, true, ret_file, error);
}

struct sde_tensor_file *sde_tensor_file_ref(struct sde_tensor_file *file)
{
	pthread_mutex_lock(&open_lock);
	file->references++;
	pthread_mutex_unlock(&open_lock);
	return file;
}

struct sde_tensor_file *sde_tensor_file_unref(struct sde_tensor_file *file)
{
	bool last;

	if (!file)
		return NULL;
	pthread_mutex_lock(&open_lock);
	last = --file->references == 0;
	if (last)
		delist(file);
	pthread_mutex_unlock(&open_lock);
	if (!last)
		return NULL;
	sde_safetensors_free(file->safetensors);
	sde_gguf_free(file->gguf);
	sde_torch_file_free(file->torch);
	free(file->sorted);
	free(file->path);
	free(file);
	return NULL;
}

void sde_tensor_file_release(const struct sde_tensor_file *file)
{
	const struct sde_tensor *tensor = file->count > 0 ? file->sorted[0] : NULL;

	if (tensor && tensor->map)
		madvise((void *)(uintptr_t)tensor->map, tensor->map_bytes, MADV_DONTNEED);
}

void sde_tensor_file_read_ahead(const struct sde_tensor_file *file, bool (*wanted)(void *userdata),
				void *userdata)
{
	const struct sde_tensor *tensor = file->count > 0 ? file->sorted[0] : NULL;

	if (!tensor || !tensor->map)
		return;
	for (size_t at = 0; at < tensor->map_bytes && wanted(userdata); at += READ_AHEAD_PIECE) {
		const size_t left = tensor->map_bytes - at;

		madvise((char *)(uintptr_t)tensor->map + at,
			left < READ_AHEAD_PIECE ? left : READ_AHEAD_PIECE, MADV_WILLNEED);
	}
}

const char *sde_tensor_file_path(const struct sde_tensor_file *file)
{
	return file->path;
}

uint64_t sde_tensor_file_state(const struct sde_tensor_file *file)
{
	return file->state;
}

uint64_t sde_tensor_file_state_now(const struct sde_tensor_file *file)
{
	struct stat st;

	return stat(file->path, &st) < 0 ? 0 : sdd_hash_stat(1, &st);
}

size_t sde_tensor_file_count(const struct sde_tensor_file *file)
{
	return file->count;
}

const struct sde_tensor *sde_tensor_file_at(const struct sde_tensor_file *file, size_t index)
{
	return index < file->count ? file->sorted[index] : NULL;
}

size_t sde_tensor_file_lower_bound(const struct sde_tensor_file *file, const char *name)
{
	size_t low = 0, high = file->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(file->sorted[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct sde_tensor *sde_tensor_file_find(const struct sde_tensor_file *file, const char *name)
{
	const size_t i = sde_tensor_file_lower_bound(file, name);

	return i < file->count && !strcmp(file->sorted[i]->name, name) ? file->sorted[i] : NULL;
}
