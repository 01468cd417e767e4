/*
 * Reading sdd.json and unet/config.json; see model-facts.h.
 */
#include "daemon/model-facts.h"
#include "daemon/util/cleanup.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	FILE_BYTES_MAX = 256 * 1024,
	NATIVE_SIZE_MAX = 1 << 14,
	STEPS_MAX = 1000,
	CHANNELS_MAX = 4096,
};

static const double guidance_max = 100.0;

/* An object, or NULL: no such file, too large, no JSON. */
static json_t *read_object(int dir_fd, const char *name)
{
	SDD_CLEANUP(sdd_closep)
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	SDD_CLEANUP(sdd_freep) char *text = NULL;
	size_t size = 0;
	struct stat st;
	json_t *value;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
		return NULL;
	text = malloc(FILE_BYTES_MAX);
	if (!text)
		return NULL;
	while (size < FILE_BYTES_MAX && (n = read(fd, text + size, FILE_BYTES_MAX - size)) > 0)
		size += (size_t)n;
	value = json_loadb(text, size, 0, NULL);
	if (value && !json_is_object(value)) {
		json_decref(value);
		value = NULL;
	}
	return value;
}

static int int_of(const json_t *object, const char *key, int max)
{
	const json_int_t value = json_integer_value(json_object_get(object, key));

	return value >= 1 && value <= max ? (int)value : 0;
}

static void text_of(const json_t *object, const char *key, char *text, size_t size)
{
	const char *value = json_string_value(json_object_get(object, key));

	if (value && strlen(value) < size)
		strcpy(text, value);
}

void sdd_model_facts_read_settings(int dir_fd, const char *name, struct sdd_model_facts *ret_facts)
{
	SDD_CLEANUP(json_decrefp) json_t *defaults = read_object(dir_fd, name);
	const json_t *guidance = json_object_get(defaults, "guidance_scale");
	const double value = json_number_value(guidance);

	*ret_facts = (struct sdd_model_facts){.default_guidance = -1.0};
	ret_facts->native_size = int_of(defaults, "native_size", NATIVE_SIZE_MAX);
	ret_facts->default_steps = int_of(defaults, "steps", STEPS_MAX);
	if (json_is_number(guidance) && value >= 0.0 && value <= guidance_max)
		ret_facts->default_guidance = value;
	ret_facts->lists_parts = json_is_array(json_object_get(defaults, "parts"));
	text_of(defaults, "sampler", ret_facts->sampler, sizeof(ret_facts->sampler));
	text_of(defaults, "inpaint", ret_facts->inpaint, sizeof(ret_facts->inpaint));
}

/* Of latents, as the engine counts them: four of FLUX's are packed into a token. */
static int channels_of(int dir_fd)
{
	SDD_CLEANUP(json_decrefp) json_t *unet = read_object(dir_fd, "unet/config.json");
	SDD_CLEANUP(json_decrefp) json_t *transformer = NULL;
	const char *class_name;
	int channels;

	if (unet)
		return int_of(unet, "in_channels", CHANNELS_MAX);
	transformer = read_object(dir_fd, "transformer/config.json");
	channels = int_of(transformer, "in_channels", CHANNELS_MAX);
	class_name = json_string_value(json_object_get(transformer, "_class_name"));
	return class_name && strcmp(class_name, "FluxTransformer2DModel") == 0 ? channels / 4
									       : channels;
}

void sdd_model_facts_read(int dir_fd, struct sdd_model_facts *ret_facts)
{
	sdd_model_facts_read_settings(dir_fd, "sdd.json", ret_facts);
	ret_facts->in_channels = channels_of(dir_fd);
}
