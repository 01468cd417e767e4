/*
 * Pictures on disk and in pipes, for sdctl alone: PNG, JPEG, WebP and TIFF are recognised by content, decoded by their
 * own libraries into one packed buffer, and results are written as PNG. The daemon never opens a user's file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum picture_type { PICTURE_U8, PICTURE_U16, PICTURE_F32 };

#define PICTURE_MAX_SIDE 65535

/* width x height pixels of channels (1 grey, 2 grey+alpha, 3 RGB, 4 RGBA) samples, packed rows, native byte order. */
struct picture {
	int width, height, channels;
	enum picture_type type;
	uint8_t *data; /* owned; width * height * channels * picture_type_size(type) bytes */
	uint8_t *icc;  /* owned; colour profile or NULL */
	size_t icc_size;
};

/* One tEXt/iTXt entry of a PNG. Keys are 1..79 Latin-1 characters, values UTF-8. */
struct picture_text {
	const char *key;
	const char *value;
};

size_t picture_type_size(enum picture_type type);
const char *picture_type_name(enum picture_type type);

/*
 * Allocate zeroed pixels. Returns 0, -EINVAL for a size outside 1..PICTURE_MAX_SIDE, -ENOMEM; *ret untouched on failure.
 */
int picture_new(int width, int height, int channels, enum picture_type type, struct picture *ret);
void picture_clear(struct picture *picture);

/* One sample by its index, integers as 0..1; setting rounds and clamps integers, floats are stored as they are. */
float picture_sample(const struct picture *picture, size_t index);
void picture_set_sample(struct picture *picture, size_t index, float value);

/*
 * Read a picture from path ("-" = standard input). On failure prints nothing, returns a negative errno and puts a
 * sentence naming the file into err.
 */
int picture_load(const char *path, struct picture *ret, char *err, size_t err_size);
int picture_decode(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
		   size_t err_size);

/* Decoders by format; bytes are the whole file. Same contract as picture_decode(). */
int picture_decode_png(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
		       size_t err_size);
int picture_decode_jpeg(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size);
int picture_decode_webp(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size);
int picture_decode_tiff(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size);

/*
 * Write a PNG (8 or 16 bit; f32 is written as 16 bit) with its profile and text entries, to path ("-" = standard
 * output). A file appears whole or not at all (temporary file, then rename). 0 or a negative errno with err filled.
 */
int picture_save_png(const char *path, const struct picture *picture,
		     const struct picture_text *texts, size_t n_texts, char *err, size_t err_size);

/* The value of a PNG's text entry, malloc'ed, or -ENOENT when there is none, -EBADMSG when it is no PNG. */
int picture_png_text(const char *path, const char *key, char **ret_value, char *err,
		     size_t err_size);

/* Whole file or stream into memory, at most limit bytes. 0 or a negative errno with err filled. */
int picture_slurp(const char *path, size_t limit, uint8_t **ret_bytes, size_t *ret_size, char *err,
		  size_t err_size);
