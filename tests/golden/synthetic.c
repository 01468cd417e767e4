/*
 * The generator of synthetic checkpoints: see synthetic.h. SplitMix64 on the element's index gives 24 bits, so that u in [-1, 1) is
 * exact in float32 and the value is bit-exact on every machine (offset and scale of norms are powers of two, so a fused
 * multiply-add changes nothing; matrices have no offset).
 */
#include "tests/golden/synthetic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/json.h"

#define OPEN_MAX	   2
#define MANIFEST_BYTES_MAX ((size_t)32 << 20)

uint64_t golden_synthetic_seed(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
	return hash;
}

/* To nearest, ties to even; subnormals kept. Values are far below f16's largest. */
static inline uint16_t to_f16(float value)
{
	const float denormal_magic = 0.5f; /* its ulp is f16's smallest subnormal */
	uint32_t bits, sign, small;
	float shifted;

	memcpy(&bits, &value, sizeof(bits));
	sign = bits & 0x80000000;
	bits ^= sign;
	memcpy(&shifted, &bits, sizeof(shifted));
	shifted += denormal_magic;
	memcpy(&small, &shifted, sizeof(small));
	small -= 0x3f000000;
	bits = (bits + ((uint32_t)(15 - 127) << 23) + 0xfff + (bits >> 13 & 1)) >> 13;
	memcpy(&shifted, &value, sizeof(shifted));
	shifted = shifted < 0 ? -shifted : shifted;
	return (uint16_t)(sign >> 16 | (shifted < 0x1p-14f ? small : bits));
}

/* Twice, for a processor with wide integers and one without: a billion values are made for one checkpoint. */
__attribute__((target_clones("default", "avx2", "arch=skylake-avx512"))) static void
values_from(uint64_t seed, float scale, float offset, size_t n, uint16_t *ret_values)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t z = seed + i * 0x9E3779B97F4A7C15;

		z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
		z = (z ^ z >> 27) * 0x94D049BB133111EB;
		z ^= z >> 31;
		ret_values[i] =
			to_f16((float)((int32_t)(z >> 40) - (1 << 23)) * 0x1p-23f * scale + offset);
	}
}

void golden_synthetic_values(const char *name, float scale, float offset, uint64_t first, size_t n,
			     uint16_t *ret_values)
{
	values_from(golden_synthetic_seed(name) + first * 0x9E3779B97F4A7C15, scale, offset, n,
		    ret_values);
}

static int read_manifest(const char *path, json_t **ret_manifest, struct sde_error *error)
{
	_cleanup_free_ char *text = malloc(MANIFEST_BYTES_MAX);
	gzFile file = gzopen(path, "rb");
	int n;

	if (!text || !file) {
		if (file)
			gzclose(file);
		return sde_error_set(error, -ENOENT, "%s: cannot be opened", path);
	}
	n = gzread(file, text, MANIFEST_BYTES_MAX);
	gzclose(file);
	if (n < 0)
		return sde_error_set(error, -EBADMSG, "%s: not gzip", path);
	return sde_json_parse(text, (size_t)n, path, ret_manifest, error);
}

static size_t count_of(const json_t *tensor)
{
	const json_t *value;
	size_t i, n = 1;

	json_array_foreach (json_object_get(tensor, "shape"), i, value)
		n *= (size_t)json_integer_value(value);
	return n;
}

static bool is_arange(const json_t *tensor)
{
	return json_object_get(tensor, "fill");
}

/* The safetensors header of the chosen tensors, and what their data takes. NULL when out of memory. */
static char *make_header(const json_t *tensors, const char *prefix, size_t *ret_data)
{
	_cleanup_json_ json_t *header = json_object();
	const json_t *tensor;
	const char *bar;
	size_t at = 0, i;

	json_array_foreach (tensors, i, tensor) {
		const char *name = json_string_value(json_object_get(tensor, "name"));
		const size_t bytes = count_of(tensor) * (is_arange(tensor) ? 8 : 2);

		if (!name || strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		bar = strchr(name, '|');
		json_object_set_new(header, bar ? bar + 1 : name,
				    json_pack("{s:O, s:O, s:[I, I]}", "dtype",
					      json_object_get(tensor, "dtype"), "shape",
					      json_object_get(tensor, "shape"), "data_offsets",
					      (json_int_t)at, (json_int_t)(at + bytes)));
		at += bytes;
	}
	*ret_data = at;
	return header ? json_dumps(header, JSON_COMPACT) : NULL;
}

static void fill(const json_t *tensors, const char *prefix, char *to)
{
	const json_t *tensor;
	size_t i;

	json_array_foreach (tensors, i, tensor) {
		const char *name = json_string_value(json_object_get(tensor, "name"));
		const size_t n = count_of(tensor);

		if (!name || strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		for (size_t k = 0; is_arange(tensor) && k < n; k++)
			memcpy(to + 8 * k, &(int64_t){(int64_t)k}, 8);
		if (!is_arange(tensor))
			golden_synthetic_values(
				name, (float)json_number_value(json_object_get(tensor, "scale")),
				(float)json_number_value(json_object_get(tensor, "offset")), 0, n,
				(uint16_t *)(void *)to);
		to += n * (is_arange(tensor) ? 8 : 2);
	}
}

static int write_tensors(const json_t *tensors, const char *prefix, bool values, int fd)
{
	_cleanup_free_ char *header = NULL;
	size_t data, padded, total;
	char *map;
	int r;

	header = make_header(tensors, prefix, &data);
	if (!header)
		return -ENOMEM;
	padded = (strlen(header) + 63) / 64 * 64 + 56; /* data begins at a multiple of 64 */
	total = 8 + padded + data;
	r = values ? -posix_fallocate(fd, 0, (off_t)total) : ftruncate(fd, (off_t)total);
	if (r < 0)
		return values ? r : -errno;
	map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	memcpy(map, &(uint64_t){padded}, 8);
	memset(map + 8, ' ', padded);
	memcpy(map + 8, header, strlen(header));
	if (values)
		fill(tensors, prefix, map + 8 + padded);
	munmap(map, total);
	return 0;
}

int golden_synthetic_write(const char *manifest, const char *prefix, bool values, int fd,
			   struct sde_error *error)
{
	_cleanup_json_ json_t *object = NULL;
	int r;

	r = read_manifest(manifest, &object, error);
	if (r < 0)
		return r;
	r = write_tensors(json_object_get(object, "tensors"), prefix, values, fd);
	return r < 0 ? sde_error_set(error, r, "%s: cannot be written: %s", manifest, strerror(-r))
		     : 0;
}

int golden_synthetic_open(const char *manifest, const char *prefix, bool values,
			  const char **ret_path, struct sde_error *error)
{
	static struct {
		char manifest[4096], prefix[256], path[64];
		bool values;
		int fd;
	} slots[OPEN_MAX] = {{.fd = -EBADF}, {.fd = -EBADF}}, *slot = NULL;
	static size_t oldest;
	const char *folder = getenv("TMPDIR");
	int r;

	for (size_t i = 0; i < OPEN_MAX; i++)
		if (slots[i].fd >= 0 && slots[i].values == values &&
		    !strcmp(manifest, slots[i].manifest) && !strcmp(prefix, slots[i].prefix)) {
			*ret_path = slots[i].path;
			return 0;
		}
	slot = &slots[oldest++ % OPEN_MAX];
	if (slot->fd >= 0)
		close(slot->fd);
	folder = folder && *folder ? folder : "/var/tmp";
	slot->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (slot->fd < 0)
		return sde_error_set(error, -errno, "%s: no temporary file: %s", folder,
				     strerror(errno));
	r = golden_synthetic_write(manifest, prefix, values, slot->fd, error);
	if (r < 0) {
		close(slot->fd);
		slot->fd = -EBADF;
		return r;
	}
	snprintf(slot->manifest, sizeof(slot->manifest), "%s", manifest);
	snprintf(slot->prefix, sizeof(slot->prefix), "%s", prefix);
	slot->values = values;
	snprintf(slot->path, sizeof(slot->path), "/proc/self/fd/%d", slot->fd);
	*ret_path = slot->path;
	return 0;
}
