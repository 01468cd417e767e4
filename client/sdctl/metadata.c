/*
 * The A1111 text line and source fingerprints; see metadata.h.
 */
#include "client/sdctl/metadata.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *request, const char *key)
{
	const char *text = json_string_value(json_object_get(request, key));

	return text ? text : "";
}

/* As if they had been typed into the prompt: other programs know no list. */
static void write_loras(const json_t *loras, FILE *out)
{
	for (size_t i = 0; i < json_array_size(loras); i++) {
		const json_t *lora = json_array_get(loras, i);

		fprintf(out, " <lora:%s:%g>", text_of(lora, "name"),
			json_number_value(json_object_get(lora, "weight")));
	}
}

/* In the words of A1111's ControlNet extension. */
static void write_controls(const json_t *controls, FILE *out)
{
	for (size_t i = 0; i < json_array_size(controls); i++) {
		const json_t *control = json_array_get(controls, i);

		fprintf(out,
			", ControlNet %zu: \"Module: %s, Weight: %g, Guidance Start: %g, Guidance "
			"End: %g\"",
			i, text_of(control, "kind"),
			json_number_value(json_object_get(control, "scale")),
			json_number_value(json_object_get(control, "start")),
			json_number_value(json_object_get(control, "end")));
	}
}

char *metadata_a1111(const json_t *request, uint64_t seed, const struct picture *picture)
{
	const char *negative = text_of(request, "negative_prompt");
	const json_t *strength = json_object_get(request, "strength");
	const json_t *clip_skip = json_object_get(request, "clip_skip");
	char *text = NULL;
	size_t size;
	FILE *out;

	out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	fprintf(out, "%s", text_of(request, "prompt"));
	write_loras(json_object_get(request, "loras"), out);
	fputc('\n', out);
	if (*negative)
		fprintf(out, "Negative prompt: %s\n", negative);
	fprintf(out, "Steps: %lld, Sampler: %s, CFG scale: %g, Seed: %" PRIu64,
		(long long)json_integer_value(json_object_get(request, "steps")),
		text_of(request, "sampler"),
		json_number_value(json_object_get(request, "guidance_scale")), seed);
	fprintf(out, ", Size: %dx%d, Model: %s", picture->width, picture->height,
		text_of(request, "model"));
	if (json_is_number(strength) && strcmp(text_of(request, "kind"), "txt2img") != 0)
		fprintf(out, ", Denoising strength: %g", json_number_value(strength));
	if (json_number_value(json_object_get(request, "hires_scale")) > 1)
		fprintf(out, ", Denoising strength: %g, Hires upscale: %g, Hires upscaler: Lanczos",
			json_number_value(json_object_get(request, "hires_strength")),
			json_number_value(json_object_get(request, "hires_scale")));
	if (strcmp(text_of(request, "tiling"), "both") == 0)
		fprintf(out, ", Tiling: True");
	if (*text_of(request, "rng")) /* as A1111 calls them */
		fprintf(out, ", RNG: %s",
			strcmp(text_of(request, "rng"), "philox") == 0 ? "NV" : "CPU");
	if (json_integer_value(clip_skip) > 0) /* A1111 counts one more than diffusers */
		fprintf(out, ", Clip skip: %lld", (long long)json_integer_value(clip_skip) + 1);
	write_controls(json_object_get(request, "controls"), out);
	fprintf(out, ", Version: sdd %s", SDD_VERSION);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

json_t *metadata_parse(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	return value ? value : json_loads(text, JSON_DECODE_INT_AS_REAL, NULL);
}

static uint64_t fnv1a64(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return hash;
}

uint64_t metadata_fingerprint(const struct picture *picture)
{
	const int32_t shape[4] = {picture->width, picture->height, picture->channels,
				  (int32_t)picture->type};
	const size_t size = (size_t)picture->width * (size_t)picture->height *
			    (size_t)picture->channels * picture_type_size(picture->type);

	return fnv1a64(fnv1a64(0xcbf29ce484222325u, shape, sizeof(shape)), picture->data, size);
}

/* Lists, which have setters of their own, and what a replay decides itself. */
static bool is_no_option(const char *field)
{
	static const char *const fields[] = {"kind",	 "seed",      "count",	      "loras",
					     "controls", "regions",   "word_weights", "local_blend",
					     "explain",	 "waypoints", "positions",    "directions"};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strcmp(field, fields[i]) == 0)
			return true;
	return false;
}

void metadata_spell(const char *field, const json_t *value, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	if (is_no_option(field))
		return;
	if (json_is_string(value))
		snprintf(text, size, "%s", json_string_value(value));
	else if (json_is_boolean(value))
		snprintf(text, size, "%s", json_is_true(value) ? "true" : "false");
	else if (json_is_integer(value))
		snprintf(text, size, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, size, "%.17g", json_real_value(value));
	for (size_t i = 0; json_is_array(value) && i < json_array_size(value) && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "," : "",
					 (long long)json_integer_value(json_array_get(value, i)));
}
