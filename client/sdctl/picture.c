/*
 * Allocation, recognition by content and reading of whole files for picture.h; the formats live in picture-*.c.
 */
#include "client/sdctl/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_LIMIT ((size_t)2 << 30)

size_t picture_type_size(enum picture_type type)
{
	switch (type) {
	case PICTURE_U8:
		return 1;
	case PICTURE_U16:
		return 2;
	case PICTURE_F32:
		return 4;
	}
	return 0;
}

const char *picture_type_name(enum picture_type type)
{
	switch (type) {
	case PICTURE_U8:
		return "u8";
	case PICTURE_U16:
		return "u16";
	case PICTURE_F32:
		return "f32";
	}
	return "?";
}

int picture_new(int width, int height, int channels, enum picture_type type, struct picture *ret)
{
	struct picture picture = {
		.width = width, .height = height, .channels = channels, .type = type};
	size_t bytes;

	if (width < 1 || height < 1 || width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE ||
	    channels < 1 || channels > 4)
		return -EINVAL;
	if (__builtin_mul_overflow((size_t)width, (size_t)height, &bytes) ||
	    __builtin_mul_overflow(bytes, (size_t)channels * picture_type_size(type), &bytes))
		return -EINVAL;
	picture.data = calloc(1, bytes);
	if (!picture.data)
		return -ENOMEM;
	*ret = picture;
	return 0;
}

void picture_clear(struct picture *picture)
{
	free(picture->data);
	free(picture->icc);
	*picture = (struct picture){0};
}

float picture_sample(const struct picture *picture, size_t index)
{
	switch (picture->type) {
	case PICTURE_U8:
		return (float)picture->data[index] / 255.0f;
	case PICTURE_U16:
		return (float)((const uint16_t *)picture->data)[index] / 65535.0f;
	case PICTURE_F32:
		return ((const float *)picture->data)[index];
	}
	return 0.0f;
}

void picture_set_sample(struct picture *picture, size_t index, float value)
{
	const float unit = value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f;

	switch (picture->type) {
	case PICTURE_U8:
		picture->data[index] = (uint8_t)lrintf(unit * 255.0f);
		break;
	case PICTURE_U16:
		((uint16_t *)picture->data)[index] = (uint16_t)lrintf(unit * 65535.0f);
		break;
	case PICTURE_F32:
		((float *)picture->data)[index] = value;
		break;
	}
}

int picture_slurp(const char *path, size_t limit, uint8_t **ret_bytes, size_t *ret_size, char *err,
		  size_t err_size)
{
	const bool standard = strcmp(path, "-") == 0;
	size_t capacity = 1 << 16, used = 0;
	uint8_t *bytes = NULL, *grown;
	int fd, r = 0;

	fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		snprintf(err, err_size, "%s: %s", path, strerror(-r));
		return r;
	}
	for (;;) {
		ssize_t n;

		if (!bytes || used == capacity) {
			capacity *= 2;
			grown = used >= limit ? NULL : realloc(bytes, capacity);
			if (!grown) {
				r = used >= limit ? -EFBIG : -ENOMEM;
				break;
			}
			bytes = grown;
		}
		n = read(fd, bytes + used, capacity - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (!standard)
		close(fd);
	if (r < 0) {
		snprintf(err, err_size, "%s: %s", standard ? "standard input" : path, strerror(-r));
		free(bytes);
		return r;
	}
	*ret_bytes = bytes;
	*ret_size = used;
	return 0;
}

int picture_decode(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
		   size_t err_size)
{
	if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
		return picture_decode_png(bytes, size, ret, err, err_size);
	if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
		return picture_decode_jpeg(bytes, size, ret, err, err_size);
	if (size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
		return picture_decode_webp(bytes, size, ret, err, err_size);
	if (size >= 4 && (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0))
		return picture_decode_tiff(bytes, size, ret, err, err_size);
	snprintf(err, err_size, "%s",
		 size == 0 ? "empty file" : "not a PNG, JPEG, WebP or TIFF picture");
	return -EBADMSG;
}

int picture_load(const char *path, struct picture *ret, char *err, size_t err_size)
{
	const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
	char reason[256] = "";
	uint8_t *bytes;
	size_t size;
	int r;

	r = picture_slurp(path, FILE_LIMIT, &bytes, &size, err, err_size);
	if (r < 0)
		return r;
	r = picture_decode(bytes, size, ret, reason, sizeof(reason));
	free(bytes);
	if (r < 0)
		snprintf(err, err_size, "%s: %s", name, reason);
	return r;
}
