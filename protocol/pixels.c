/*
 * Sealed memfds: making them, and refusing everything that could change or shrink under a reader's feet.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/pixels.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

size_t sdp_sample_size(enum sdp_sample_type type)
{
	static const size_t sizes[SDP_SAMPLE_TYPE_COUNT] = {1, 2, 2, 4};

	return sizes[type];
}

int sdp_pixels_bytes(int width, int height, int channels, enum sdp_sample_type type,
		     uint64_t *ret_bytes)
{
	uint64_t bytes;

	if (__builtin_mul_overflow((uint64_t)width, (uint64_t)height, &bytes) ||
	    __builtin_mul_overflow(bytes, (uint64_t)channels * sdp_sample_size(type), &bytes))
		return -EOVERFLOW;
	*ret_bytes = bytes;
	return 0;
}

static int check_seals(struct sdp_pixels *p, const char *field, struct sdp_error *error)
{
	struct stat st;
	int seals = fcntl(p->fd, F_GET_SEALS);

	if (seals < 0)
		return sdp_error_field(
			error, SDP_CODE_BAD_PIXELS, field,
			"%s: the descriptor is no memfd; make one with memfd_create and "
			"MFD_ALLOW_SEALING",
			field);
	if ((seals & SEALS) != SEALS)
		return sdp_error_field(
			error, SDP_CODE_BAD_PIXELS, field,
			"%s: the memfd lacks seals; add F_SEAL_SHRINK, F_SEAL_GROW and "
			"F_SEAL_WRITE",
			field);
	if (fstat(p->fd, &st) < 0 || st.st_size < 0)
		return sdp_error_field(error, SDP_CODE_BAD_PIXELS, field,
				       "%s: the memfd's size cannot be read", field);
	p->size = (uint64_t)st.st_size;
	return 0;
}

int sdp_pixels_check(struct sdp_pixels *p, const char *field, struct sdp_error *error)
{
	size_t sample = sdp_sample_size(p->type);
	uint64_t row = (uint64_t)p->width * (uint64_t)p->channels * sample, end;

	if (p->fd >= 0) {
		int r = check_seals(p, field, error);
		if (r < 0)
			return r;
	}
	if (p->stride == 0)
		p->stride = row;
	if (p->stride < row || p->stride % sample)
		return sdp_error_field(
			error, SDP_CODE_BAD_PIXELS, field,
			"%s: a stride of %llu bytes; a row has %llu and samples have %zu", field,
			(unsigned long long)p->stride, (unsigned long long)row, sample);
	if (p->offset % sample)
		return sdp_error_field(
			error, SDP_CODE_BAD_PIXELS, field,
			"%s: an offset of %llu is no multiple of the sample's %zu bytes", field,
			(unsigned long long)p->offset, sample);
	if (__builtin_mul_overflow(p->stride, (uint64_t)p->height - 1, &end) ||
	    __builtin_add_overflow(end, row, &end) ||
	    __builtin_add_overflow(end, p->offset, &end) || end > p->size)
		return sdp_error_field(
			error, SDP_CODE_BAD_PIXELS, field,
			"%s: %d x %d pixels of %d %s channels do not fit the %llu bytes sent",
			field, p->width, p->height, p->channels,
			sdp_enum_sample_type.values[p->type], (unsigned long long)p->size);
	return 0;
}

/* Bytes inside a message lie at any address; samples of two and four bytes need an aligned one. */
static int map_inline(const struct sdp_pixels *p, struct sdp_mapping *ret_mapping,
		      struct sdp_error *error)
{
	const uint8_t *data = (const uint8_t *)p->data + p->offset;
	size_t length = (size_t)(p->size - p->offset);

	*ret_mapping = (struct sdp_mapping){.data = data};
	if ((uintptr_t)data % sdp_sample_size(p->type) == 0)
		return 0;
	void *base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return sdp_error_set(error, SDP_CODE_NO_MEMORY,
				     "no memory for a picture of %zu bytes", length);
	memcpy(base, data, length);
	*ret_mapping = (struct sdp_mapping){.data = base, .base = base, .length = length};
	return 0;
}

int sdp_pixels_map(const struct sdp_pixels *p, struct sdp_mapping *ret_mapping,
		   struct sdp_error *error)
{
	if (p->fd < 0)
		return map_inline(p, ret_mapping, error);
	if (p->size > PTRDIFF_MAX)
		return sdp_error_set(error, SDP_CODE_NO_MEMORY, "a picture of %llu bytes",
				     (unsigned long long)p->size);
	/* private: older kernels refuse shared mappings of write-sealed files even for reading */
	void *base = mmap(NULL, (size_t)p->size, PROT_READ, MAP_PRIVATE, p->fd, 0);
	if (base == MAP_FAILED) {
		int e = errno;

		sdp_error_set(error, SDP_CODE_NO_MEMORY, "cannot map a picture of %llu bytes: %s",
			      (unsigned long long)p->size, strerror(e));
		return -e;
	}
	*ret_mapping = (struct sdp_mapping){
		.data = (const uint8_t *)base + p->offset,
		.base = base,
		.length = (size_t)p->size,
	};
	return 0;
}

void sdp_mapping_clear(struct sdp_mapping *mapping)
{
	if (mapping->base)
		munmap(mapping->base, mapping->length);
	*mapping = (struct sdp_mapping){0};
}

int sdp_buffer_new(const char *name, uint64_t size, struct sdp_buffer *ret_buffer)
{
	if (size == 0 || size > PTRDIFF_MAX)
		return -EINVAL;

	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	void *data = MAP_FAILED;
	if (ftruncate(fd, (off_t)size) == 0)
		data = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		int e = errno;

		close(fd);
		return -e;
	}
	*ret_buffer = (struct sdp_buffer){.fd = fd, .data = data, .size = (size_t)size};
	return 0;
}

int sdp_buffer_seal(struct sdp_buffer *buffer)
{
	if (buffer->data)
		munmap(buffer->data, buffer->size);
	buffer->data = NULL;
	return fcntl(buffer->fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 ? -errno : 0;
}

void sdp_buffer_clear(struct sdp_buffer *buffer)
{
	if (buffer->data)
		munmap(buffer->data, buffer->size);
	if (buffer->fd >= 0)
		close(buffer->fd);
	*buffer = SDP_BUFFER_INIT;
}
