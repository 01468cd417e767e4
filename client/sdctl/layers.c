/*
 * From a reply to files; see layers.h. Each file carries the text entries of metadata.h.
 */
#include "client/sdctl/layers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/sdctl/compose.h"
#include "client/sdctl/metadata.h"

int layers_copy_picture(const sdc_image *image, struct picture *ret)
{
	enum picture_type type;
	size_t row;

	if (image->type == SDC_F16) {
		complain("the daemon sent 16-bit floats, which sdctl did not ask for");
		return EXIT_FAILED;
	}
	type = image->type == SDC_U8	? PICTURE_U8
	       : image->type == SDC_U16 ? PICTURE_U16
					: PICTURE_F32;
	if (picture_new(image->width, image->height, image->channels, type, ret) < 0) {
		complain("cannot hold a picture of %dx%d", image->width, image->height);
		return EXIT_FAILED;
	}
	row = (size_t)image->width * (size_t)image->channels * picture_type_size(type);
	for (int y = 0; y < image->height; y++)
		memcpy(ret->data + row * (size_t)y,
		       (const uint8_t *)image->data +
			       (image->stride ? image->stride : row) * (size_t)y,
		       row);
	return EXIT_OK;
}

sdc_image layers_view(const struct picture *picture)
{
	const int type = picture->type == PICTURE_U8	? SDC_U8
			 : picture->type == PICTURE_U16 ? SDC_U16
							: SDC_F32;

	return (sdc_image){.width = picture->width,
			   .height = picture->height,
			   .channels = picture->channels,
			   .type = type,
			   .data = picture->data,
			   .icc = picture->icc,
			   .icc_size = picture->icc_size};
}

int layers_make_mask(struct picture *picture)
{
	const size_t n = (size_t)picture->width * (size_t)picture->height;
	const size_t channels = (size_t)picture->channels;
	struct picture mask;

	if (channels == 1)
		return EXIT_OK;
	if (picture_new(picture->width, picture->height, 1, picture->type, &mask) < 0) {
		complain("out of memory");
		return EXIT_FAILED;
	}
	for (size_t i = 0; i < n; i++) {
		const float first = picture_sample(picture, i * channels);
		const float alpha = channels % 2 == 0
					    ? picture_sample(picture, i * channels + channels - 1)
					    : 1.0f;
		float grey = first;

		if (channels >= 3)
			grey = 0.299f * first + 0.587f * picture_sample(picture, i * channels + 1) +
			       0.114f * picture_sample(picture, i * channels + 2);
		picture_set_sample(&mask, i, grey * alpha);
	}
	picture_clear(picture);
	*picture = mask;
	return EXIT_OK;
}

static int take_picture(const sdc_reply *reply, size_t index, struct picture *ret)
{
	sdc_error error = {0};
	sdc_image image;
	char path[48];

	snprintf(path, sizeof(path), "images.%zu.pixels", index);
	if (sdc_reply_image(reply, path, &image, &error) < 0)
		return fail(&error);
	return layers_copy_picture(&image, ret);
}

/* A picture without a source is opaque: its alpha says nothing, so it is dropped. */
static int drop_alpha(const struct picture *layer, struct picture *ret)
{
	const size_t size = picture_type_size(layer->type);
	const size_t n = (size_t)layer->width * (size_t)layer->height;

	if (picture_new(layer->width, layer->height, 3, layer->type, ret) < 0)
		return EXIT_FAILED;
	for (size_t i = 0; i < n; i++)
		memcpy(ret->data + i * 3 * size, layer->data + i * 4 * size, 3 * size);
	return EXIT_OK;
}

/* Nothing yet, of the layer's size and the source's kind: an upscaled picture does not lie over its source. */
static int blank_like(const struct picture *base, const struct picture *layer, struct picture *ret)
{
	if (picture_new(layer->width, layer->height, base->channels, base->type, ret) < 0)
		return EXIT_FAILED;
	if (base->icc) {
		ret->icc = malloc(base->icc_size);
		if (!ret->icc)
			return EXIT_FAILED;
		memcpy(ret->icc, base->icc, base->icc_size);
		ret->icc_size = base->icc_size;
	}
	return EXIT_OK;
}

static json_t *source_entry(const struct picture *picture, const char *path)
{
	char hash[17], *absolute = strcmp(path, "-") == 0 ? NULL : realpath(path, NULL);
	json_t *entry;

	snprintf(hash, sizeof(hash), "%016" PRIx64, metadata_fingerprint(picture));
	entry = json_pack("{s:s, s:s}", "path", absolute ? absolute : path, "fnv1a64", hash);
	free(absolute);
	return entry;
}

int layers_check_unchanged(const json_t *source, const char *field, const struct picture *picture,
			   const char *path)
{
	const char *wanted = json_string_value(json_object_get(source, "fnv1a64"));
	char hash[17];

	if (!wanted)
		return EXIT_OK;
	snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)metadata_fingerprint(picture));
	if (strcmp(hash, wanted) == 0)
		return EXIT_OK;
	complain("%s is not the %s this was made from any more (its pixels changed); give the old "
		 "one",
		 path, field);
	return EXIT_FAILED;
}

/* In the regions' order; null for one that is a rectangle. NULL when no mask is among them. */
static json_t *mask_sources(const struct regions *regions)
{
	json_t *sources = json_array();
	bool any = false;

	for (size_t i = 0; regions && i < regions->n; i++) {
		const struct region *region = &regions->items[i];

		json_array_append_new(sources, region->path
						       ? source_entry(&region->mask, region->path)
						       : json_null());
		any |= region->path != NULL;
	}
	if (any)
		return sources;
	json_decref(sources);
	return NULL;
}

/* Of a sequence's request, what makes picture i alone; a new reference. */
static json_t *request_of_one(json_t *request, size_t i)
{
	json_t *position = json_array_get(json_object_get(request, "positions"), i), *copy;

	if (!position)
		return json_incref(request);
	copy = json_copy(request);
	json_object_set_new(copy, "positions", json_pack("[O]", position));
	return copy;
}

static json_t *replay_entry(const struct layers_target *target, json_t *request, uint64_t seed)
{
	char text[24];
	json_t *entry, *masks;

	snprintf(text, sizeof(text), "%" PRIu64, seed);
	entry = json_pack("{s:i, s:O, s:s, s:s}", METADATA_KEY, METADATA_VERSION, "request",
			  request, "seed", text, "output", target->as_layer ? "layer" : "picture");
	if (entry && target->base)
		json_object_set_new(entry, "image", source_entry(target->base, target->base_path));
	if (entry && target->mask)
		json_object_set_new(entry, "mask", source_entry(target->mask, target->mask_path));
	if (entry && target->guides && target->guides->n > 0) {
		json_t *sources = json_array();

		for (size_t i = 0; i < target->guides->n; i++)
			json_array_append_new(sources,
					      source_entry(&target->guides->items[i].picture,
							   target->guides->items[i].path));
		json_object_set_new(entry, "controls", sources);
	}
	masks = entry ? mask_sources(target->regions) : NULL;
	if (masks)
		json_object_set_new(entry, "regions", masks);
	return entry;
}

/* "out.png" -> "out-2.png" for the second of several. */
static void numbered_name(char *buffer, size_t size, const char *name, size_t index, size_t count)
{
	const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');

	if (count == 1)
		snprintf(buffer, size, "%s", name);
	else if (dot && (!slash || dot > slash))
		snprintf(buffer, size, "%.*s-%zu%s", (int)(dot - name), name, index + 1, dot);
	else
		snprintf(buffer, size, "%s-%zu", name, index + 1);
}

static int save_one(const struct context *context, const sdc_reply *reply,
		    const struct layers_target *target, json_t *request, size_t index, size_t count)
{
	const char *kind = json_string_value(json_object_get(request, "kind"));
	const bool larger = kind && strcmp(kind, "upscale") == 0;
	struct picture layer = {0}, whole = {0}, sheet = {0}, blank = {0};
	char path[48], name[4096], message[512] = "";
	char *parameters, *replay = NULL;
	int64_t x = 0, y = 0;
	uint64_t seed = 0;
	json_t *entry, *one;
	int r;

	snprintf(path, sizeof(path), "images.%zu.x", index);
	sdc_reply_int(reply, path, &x);
	snprintf(path, sizeof(path), "images.%zu.y", index);
	sdc_reply_int(reply, path, &y);
	snprintf(path, sizeof(path), "images.%zu.seed", index);
	sdc_reply_uint(reply, path, &seed);
	r = take_picture(reply, index, &layer);
	if (r != EXIT_OK)
		return r;
	if (target->as_layer)
		r = EXIT_OK;
	else if (!target->base)
		r = drop_alpha(&layer, &whole);
	else if (larger && blank_like(target->base, &layer, &blank) != EXIT_OK)
		r = EXIT_FAILED;
	else
		r = compose_layer(larger ? &blank : target->base, &layer, (int)x, (int)y, &whole) <
				    0
			    ? EXIT_FAILED
			    : EXIT_OK;
	one = request_of_one(request, index);
	entry = replay_entry(target, one, seed);
	if (entry)
		replay = json_dumps(entry, JSON_COMPACT);
	json_decref(entry);
	json_decref(one);
	parameters = metadata_a1111(request, seed, target->as_layer ? &layer : &whole);
	numbered_name(name, sizeof(name), target->output, target->first + index, count);
	if (r == EXIT_OK && replay && parameters) {
		const struct picture_text texts[] = {{"parameters", parameters},
						     {METADATA_KEY, replay}};

		r = picture_save_png(name, target->as_layer ? &layer : &whole, texts, 2, message,
				     sizeof(message)) < 0
			    ? EXIT_FAILED
			    : EXIT_OK;
	} else if (r == EXIT_OK) {
		r = EXIT_FAILED;
	}
	if (r == EXIT_OK && target->sheet && target->first + index == 0 && target->base &&
	    !target->as_layer) {
		if (compose_side_by_side(target->base, &whole, 16, &sheet) < 0 ||
		    picture_save_png(target->sheet, &sheet, NULL, 0, message, sizeof(message)) < 0)
			r = EXIT_FAILED;
	}
	if (r != EXIT_OK)
		complain("%s", message[0] ? message : "out of memory while writing the picture");
	else if (!context->quiet && !context->json && strcmp(name, "-") != 0)
		fprintf(stderr, "wrote %s (seed %" PRIu64 ", at %" PRIi64 ",%" PRIi64 ")\n", name,
			seed, x, y);
	free(parameters);
	free(replay);
	picture_clear(&layer);
	picture_clear(&whole);
	picture_clear(&sheet);
	picture_clear(&blank);
	return r;
}

int layers_save_early(const struct layers_target *target, size_t i, const sdc_image *image)
{
	char name[4096], message[512];
	struct picture picture;
	int r;

	r = layers_copy_picture(image, &picture);
	if (r != EXIT_OK)
		return r;
	numbered_name(name, sizeof(name), target->output, target->first + i, target->total);
	if (picture_save_png(name, &picture, NULL, 0, message, sizeof(message)) < 0) {
		complain("%s", message);
		r = EXIT_FAILED;
	}
	picture_clear(&picture);
	return r;
}

static json_t *effective_request(const sdc_reply *reply)
{
	char *text = sdc_reply_json(reply, "parameters");
	json_t *request = text ? metadata_parse(text) : NULL;

	free(text);
	return request;
}

int layers_check_output(const char *output, size_t total)
{
	if (total <= 1 || strcmp(output, "-") != 0)
		return EXIT_OK;
	complain("%zu pictures cannot go to standard output; give -o FILE", total);
	return EXIT_USAGE;
}

int layers_save(const struct context *context, const sdc_reply *reply,
		const struct layers_target *target)
{
	const size_t count = sdc_reply_count(reply, "images");
	const size_t total = target->total > 0 ? target->total : count;
	json_t *request;
	int r = EXIT_OK;

	if (layers_check_output(target->output, total) != EXIT_OK)
		return EXIT_USAGE;
	request = effective_request(reply);
	if (!request) {
		complain("the daemon's reply carries no parameters");
		return EXIT_FAILED;
	}
	for (size_t i = 0; i < count && r == EXIT_OK; i++)
		r = save_one(context, reply, target, request, i, total);
	json_decref(request);
	if (r == EXIT_OK && context->json) {
		char *json = sdc_reply_json(reply, "");

		fprintf(strcmp(target->output, "-") == 0 ? stderr : stdout, "%s\n",
			json ? json : "null");
		free(json);
	}
	return r;
}
