/*
 * What the header of a weight file says about its tensors: enough to know what they take, without reading one of them. The front process
 * never maps a weight file; whether the engine can use it, the worker judges.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* A safetensors file's header, owned by the caller: an object with an entry a tensor. NULL: no such file; *ret_gguf: it is a GGUF. */
json_t *sdd_weight_header_read(const char *path, struct stat *ret_st, bool *ret_gguf);

/* Of two files of one component the smaller sort, which is used where there is no other: model.fp16.safetensors. */
bool sdd_weight_is_variant(const char *name);

struct sdd_weight_tensor {
	const char *dtype; /* "F16" */
	uint64_t numbers;  /* at most 2^40 */
	uint64_t bytes;	   /* in the file */
	uint64_t rows;	   /* first side */
	size_t rank;
};
/* One of its entries; false for what is no tensor of at least one number. */
bool sdd_weight_tensor_read(const json_t *entry, struct sdd_weight_tensor *ret_tensor);
