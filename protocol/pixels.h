/*
 * Pictures without copying: a sealed memfd crosses the socket, and the receiver maps it knowing that nobody can shrink,
 * grow or write it any more. Peers without descriptor passing send the bytes inline; both look the same from here.
 * A buffer is first described (struct sdp_pixels, cheap, nothing mapped), checked once, and mapped only by who reads it:
 * the front process never maps a picture.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/error.h"

/* A description. Owns nothing: the fd or the bytes belong to the message (or to the caller) that it came from. */
struct sdp_pixels {
	int width, height; /* pixels, 1..65536 */
	int channels;	   /* 1..4 */
	enum sdp_sample_type type;
	uint64_t stride;  /* bytes from row to row; never 0 after sdp_pixels_check */
	uint64_t offset;  /* bytes before the first row, into fd or data */
	int fd;		  /* -EBADF when inline */
	const void *data; /* inline bytes, NULL with an fd */
	uint64_t size;	  /* bytes of data; with an fd: of the file, set by sdp_pixels_check */
	const void *icc;  /* NULL = sRGB */
	size_t icc_size;
};

#define SDP_PIXELS_INIT ((struct sdp_pixels){.fd = -EBADF})

/* Bytes of a sample: 1, 2, 2, 4. */
size_t sdp_sample_size(enum sdp_sample_type type);
/* Bytes of a packed picture, checked: -EOVERFLOW, else 0. Sides and channels must be positive. */
int sdp_pixels_bytes(int width, int height, int channels, enum sdp_sample_type type,
		     uint64_t *ret_bytes);

/*
 * Geometry, size and seals. Fills in stride and size. Refuses (SDP_CODE_BAD_PIXELS, returns -EINVAL) an fd that is no
 * memfd with F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE, a buffer too small for its rows, a stride below a row or not a
 * multiple of the sample size, a misaligned offset. field prefixes the error's field name.
 */
int sdp_pixels_check(struct sdp_pixels *pixels, const char *field, struct sdp_error *ret_error);

/* A mapping for reading: rows start at data, stride bytes apart. Keeps its own pages: the fd may be closed. */
struct sdp_mapping {
	const uint8_t *data; /* first row */
	void *base;	     /* NULL when inline */
	size_t length;
};

/* Map checked pixels (inline: point to the bytes, which must outlive the mapping). 0, or a negative errno. */
int sdp_pixels_map(const struct sdp_pixels *pixels, struct sdp_mapping *ret_mapping,
		   struct sdp_error *ret_error);
void sdp_mapping_clear(struct sdp_mapping *mapping);

/*
 * The sender's side: a memfd of size bytes to write into, sealed when it is full.
 *   sdp_buffer_new(size, &b); write b.data; sdp_buffer_seal(&b); send b.fd; sdp_buffer_clear(&b)
 */
struct sdp_buffer {
	int fd;
	uint8_t *data; /* writable until sealed, then NULL */
	size_t size;
};

#define SDP_BUFFER_INIT ((struct sdp_buffer){.fd = -EBADF})

/* name shows in /proc/PID/maps. Zero-filled. 0, -ENOMEM, -EMFILE, -EINVAL (size 0 or above PTRDIFF_MAX). */
int sdp_buffer_new(const char *name, uint64_t size, struct sdp_buffer *ret_buffer);
/* Unmap for writing (F_SEAL_WRITE needs that) and seal. 0 or a negative errno. */
int sdp_buffer_seal(struct sdp_buffer *buffer);
void sdp_buffer_clear(struct sdp_buffer *buffer);
