/*
 * PNG in and out, by libpng. Text entries carry the job: "parameters" as A1111 writes them and "sdd" as JSON.
 */
#include "client/sdctl/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_LIMIT ((png_alloc_size_t)8 << 20)

struct source {
	const uint8_t *bytes;
	size_t size, at;
};

struct complaint {
	char *err;
	size_t err_size;
};

static void on_error(png_structp png, png_const_charp message)
{
	struct complaint *complaint = png_get_error_ptr(png);

	snprintf(complaint->err, complaint->err_size, "PNG: %s", message);
	longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
	struct source *source = png_get_io_ptr(png);

	if (n > source->size - source->at)
		png_error(png, "the file ends too early");
	memcpy(out, source->bytes + source->at, n);
	source->at += n;
}

static png_structp reader_new(struct source *source, struct complaint *complaint,
			      png_infop *ret_info)
{
	png_structp png =
		png_create_read_struct(PNG_LIBPNG_VER_STRING, complaint, on_error, on_warning);

	if (!png)
		return NULL;
	*ret_info = png_create_info_struct(png);
	if (!*ret_info) {
		png_destroy_read_struct(&png, NULL, NULL);
		return NULL;
	}
	png_set_read_fn(png, source, on_read);
	png_set_user_limits(png, PICTURE_MAX_SIDE, PICTURE_MAX_SIDE);
	png_set_chunk_malloc_max(png, TEXT_LIMIT);
	return png;
}

/* What a longjmp must leave reachable, so that it is freed after the jump. */
struct reading {
	struct picture picture;
	png_bytep *rows;
};

static int read_pixels(png_structp png, png_infop info, struct reading *reading)
{
	struct picture *picture = &reading->picture;
	png_charp name;
	png_bytep profile;
	png_uint_32 profile_size;
	int compression, r;
	size_t stride;

	png_read_info(png, info);
	png_set_expand(png);
	png_set_interlace_handling(png);
	if (png_get_bit_depth(png, info) == 16)
		png_set_swap(png);
	png_read_update_info(png, info);

	r = picture_new((int)png_get_image_width(png, info), (int)png_get_image_height(png, info),
			png_get_channels(png, info),
			png_get_bit_depth(png, info) == 16 ? PICTURE_U16 : PICTURE_U8, picture);
	if (r < 0)
		return r;
	reading->rows = calloc((size_t)picture->height, sizeof(*reading->rows));
	if (!reading->rows)
		return -ENOMEM;
	stride = png_get_rowbytes(png, info);
	for (int y = 0; y < picture->height; y++)
		reading->rows[y] = picture->data + stride * (size_t)y;
	png_read_image(png, reading->rows);
	if (png_get_iCCP(png, info, &name, &compression, &profile, &profile_size) &&
	    profile_size > 0) {
		picture->icc = malloc(profile_size);
		if (!picture->icc)
			return -ENOMEM;
		memcpy(picture->icc, profile, profile_size);
		picture->icc_size = profile_size;
	}
	return 0;
}

int picture_decode_png(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
		       size_t err_size)
{
	struct source source = {bytes, size, 0};
	struct complaint complaint = {err, err_size};
	struct reading reading = {0};
	png_infop info;
	png_structp png;
	volatile int r;

	png = reader_new(&source, &complaint, &info);
	if (!png)
		return -ENOMEM;
	if (setjmp(png_jmpbuf(png)) == 0) {
		r = read_pixels(png, info, &reading);
		if (r < 0)
			snprintf(err, err_size, "PNG: %s", strerror(-r));
	} else {
		r = -EBADMSG;
	}
	png_destroy_read_struct(&png, &info, NULL);
	free(reading.rows);
	if (r < 0)
		picture_clear(&reading.picture);
	else
		*ret = reading.picture;
	return r;
}

int picture_png_text(const char *path, const char *key, char **ret_value, char *err,
		     size_t err_size)
{
	struct complaint complaint = {err, err_size};
	struct source source = {0};
	png_textp texts = NULL;
	uint8_t *bytes = NULL;
	png_infop info;
	png_structp png;
	volatile int r;
	int n = 0;

	r = picture_slurp(path, (size_t)2 << 30, &bytes, &source.size, err, err_size);
	if (r < 0)
		return r;
	source.bytes = bytes;
	png = reader_new(&source, &complaint, &info);
	if (!png) {
		free(bytes);
		return -ENOMEM;
	}
	if (setjmp(png_jmpbuf(png)) == 0) {
		png_read_info(png, info);
		png_get_text(png, info, &texts, &n);
		r = -ENOENT;
		for (int i = 0; i < n && r == -ENOENT; i++) {
			if (strcmp(texts[i].key, key) != 0)
				continue;
			*ret_value = strdup(texts[i].text);
			r = *ret_value ? 0 : -ENOMEM;
		}
		if (r == -ENOENT)
			snprintf(err, err_size,
				 "%s: carries no \"%s\" entry; was it written by sdctl?", path,
				 key);
	} else {
		r = -EBADMSG;
	}
	png_destroy_read_struct(&png, &info, NULL);
	free(bytes);
	return r;
}

static int color_type(int channels)
{
	static const int types[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA,
				    PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};

	return types[channels - 1];
}

static uint16_t f32_to_u16(float value)
{
	if (!(value > 0.0f))
		return 0;
	return value >= 1.0f ? 65535 : (uint16_t)(value * 65535.0f + 0.5f);
}

/* Rows one at a time through row (width * channels * 2 bytes), so that a big picture is never held twice. */
static void write_rows(png_structp png, const struct picture *picture, uint16_t *row)
{
	const size_t samples = (size_t)picture->width * (size_t)picture->channels;
	const size_t stride = samples * picture_type_size(picture->type);

	for (int y = 0; y < picture->height; y++) {
		const uint8_t *in = picture->data + stride * (size_t)y;

		if (picture->type == PICTURE_F32) {
			const float *values = (const float *)in;

			for (size_t i = 0; i < samples; i++)
				row[i] = f32_to_u16(values[i]);
			in = (const uint8_t *)row;
		}
		png_write_row(png, in);
	}
}

static void set_texts(png_structp png, png_infop info, const struct picture_text *texts,
		      size_t n_texts)
{
	for (size_t i = 0; i < n_texts; i++) {
		png_text text = {.compression = PNG_ITXT_COMPRESSION_NONE,
				 .key = (png_charp)texts[i].key,
				 .text = (png_charp)texts[i].value,
				 .itxt_length = strlen(texts[i].value)};
		bool ascii = true;

		for (const char *c = texts[i].value; *c; c++)
			ascii = ascii && (unsigned char)*c < 0x80;
		if (ascii) {
			text.compression = PNG_TEXT_COMPRESSION_NONE;
			text.text_length = text.itxt_length;
			text.itxt_length = 0;
		}
		png_set_text(png, info, &text, 1);
	}
}

static int write_png(FILE *file, const struct picture *picture, const struct picture_text *texts,
		     size_t n_texts, char *err, size_t err_size)
{
	struct complaint complaint = {err, err_size};
	const int depth = picture->type == PICTURE_U8 ? 8 : 16;
	png_infop info = NULL;
	uint16_t *row;
	png_structp png;
	volatile int r = 0;

	row = calloc((size_t)picture->width * (size_t)picture->channels, sizeof(*row));
	png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &complaint, on_error, on_warning);
	if (png)
		info = png_create_info_struct(png);
	if (!row || !info) {
		png_destroy_write_struct(&png, &info);
		free(row);
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	if (setjmp(png_jmpbuf(png)) == 0) {
		png_init_io(png, file);
		png_set_IHDR(png, info, (png_uint_32)picture->width, (png_uint_32)picture->height,
			     depth, color_type(picture->channels), PNG_INTERLACE_NONE,
			     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
		if (picture->icc)
			png_set_iCCP(png, info, "icc", PNG_COMPRESSION_TYPE_BASE, picture->icc,
				     (png_uint_32)picture->icc_size);
		set_texts(png, info, texts, n_texts);
		png_write_info(png, info);
		if (depth == 16)
			png_set_swap(png);
		write_rows(png, picture, row);
		png_write_end(png, info);
	} else {
		r = -EIO;
	}
	png_destroy_write_struct(&png, &info);
	free(row);
	return r;
}

int picture_save_png(const char *path, const struct picture *picture,
		     const struct picture_text *texts, size_t n_texts, char *err, size_t err_size)
{
	char temporary[4096];
	FILE *file;
	int fd, r;

	if (strcmp(path, "-") == 0) {
		r = write_png(stdout, picture, texts, n_texts, err, err_size);
		if (r == 0 && fflush(stdout) != 0) {
			r = -errno;
			snprintf(err, err_size, "standard output: %s", strerror(-r));
		}
		return r;
	}
	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >=
	    sizeof(temporary)) {
		snprintf(err, err_size, "%s: name too long", path);
		return -ENAMETOOLONG;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "wb");
	if (!file) {
		r = -errno;
		snprintf(err, err_size, "%s: %s", path, strerror(-r));
		return r;
	}
	r = write_png(file, picture, texts, n_texts, err, err_size);
	if (fchmod(fd, 0644) < 0 && r == 0)
		r = -errno;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temporary);
		if (r != -EIO)
			snprintf(err, err_size, "%s: %s", path, strerror(-r));
	}
	return r;
}
