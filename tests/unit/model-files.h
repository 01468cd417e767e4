/*
 * Weight files for tests: a .safetensors with the tensors one names.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file_tensor {
	const char *name, *dtype;
	size_t element; /* bytes */
	int rank;
	int64_t shape[4];
};

/* Write tensors of some bytes to path; the header is padded until the data begins `skew` bytes behind a multiple of 8. */
static inline void write_safetensors(const char *path, const struct file_tensor *tensors, size_t n,
				     size_t skew)
{
	char header[8192] = "{";
	size_t at = 1, offset = 0;
	uint64_t length;
	FILE *file;

	for (size_t i = 0; i < n; i++) {
		size_t bytes = tensors[i].element;

		at += (size_t)snprintf(header + at, sizeof(header) - at,
				       "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "",
				       tensors[i].name, tensors[i].dtype);
		for (int d = 0; d < tensors[i].rank; d++) {
			at += (size_t)snprintf(header + at, sizeof(header) - at, "%s%lld",
					       d ? "," : "", (long long)tensors[i].shape[d]);
			bytes *= (size_t)tensors[i].shape[d];
		}
		at += (size_t)snprintf(header + at, sizeof(header) - at,
				       "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
		offset += bytes;
	}
	header[at++] = '}';
	while (at % 8 != skew)
		header[at++] = ' ';
	length = at;
	remove(path); /* what is still mapped stays as it was */
	file = fopen(path, "w");
	if (!file || fwrite(&length, 1, 8, file) != 8 || fwrite(header, 1, at, file) != at)
		abort();
	for (size_t i = 0; i < offset; i++)
		fputc((int)(i * 7 % 61),
		      file); /* as float or half: small numbers, none of them NaN */
	fclose(file);
}
