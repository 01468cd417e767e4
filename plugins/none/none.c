/*
 * The host without an editor; see none.h.
 */
#include "plugins/none/none.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"

static size_t sample_size(int type)
{
	return type == SDC_U8 ? 1 : type == SDC_F32 ? 4 : 2;
}

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static float sample_of(const void *pixels, int type, size_t i)
{
	if (type == SDC_U8)
		return (float)((const uint8_t *)pixels)[i] / 255;
	if (type == SDC_U16)
		return (float)((const uint16_t *)pixels)[i] / 65535;
	return ((const float *)pixels)[i];
}

static void set_sample(void *pixels, int type, size_t i, float value)
{
	if (type == SDC_U8)
		((uint8_t *)pixels)[i] = (uint8_t)rintf(value * 255);
	else if (type == SDC_U16)
		((uint16_t *)pixels)[i] = (uint16_t)rintf(value * 65535);
	else
		((float *)pixels)[i] = value;
}

void none_init(struct none *none, int width, int height, int type)
{
	const size_t n = (size_t)width * (size_t)height;

	*none = (struct none){.document = {.width = width, .height = height, .type = type}};
	none->document.mask_type = type == SDC_U8 ? SDC_U8 : SDC_F32;
	none->document.layer = (struct sdh_rect){0, 0, width, height};
	none->pixels = must(calloc(n * 4, sample_size(type)));
	for (size_t i = 0; i < n; i++) {
		const size_t x = i % (size_t)width, y = i / (size_t)width;

		set_sample(none->pixels, type, 4 * i, (float)(x % 256) / 255);
		set_sample(none->pixels, type, 4 * i + 1, (float)(y % 256) / 255);
		set_sample(none->pixels, type, 4 * i + 2, (float)((x ^ y) % 256) / 255);
		set_sample(none->pixels, type, 4 * i + 3, 1);
	}
}

void none_clear(struct none *none)
{
	for (size_t i = 0; i < none->n_layers; i++) {
		free(none->layers[i].name);
		free(none->layers[i].parameters);
		free(none->layers[i].pixels);
	}
	free(none->pixels);
	free(none->selection);
	*none = (struct none){0};
}

void none_select(struct none *none, int x, int y, int width, int height)
{
	const struct sdh_document *d = &none->document;

	free(none->selection);
	none->selection = must(calloc((size_t)d->width * (size_t)d->height, sizeof(float)));
	for (int row = y < 0 ? 0 : y; row < y + height && row < d->height; row++)
		for (int column = x < 0 ? 0 : x; column < x + width && column < d->width; column++)
			none->selection[(size_t)row * (size_t)d->width + (size_t)column] = 1;
	none->document.selection = (struct sdh_rect){x, y, width, height};
}

static int describe(void *userdata, struct sdh_document *ret_document, sdc_error *error)
{
	*ret_document = ((struct none *)userdata)->document;
	return 0;
}

static int read_canvas(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
		       sdc_error *error)
{
	const struct none *none = userdata;
	const size_t pixel = 4 * sample_size(type);

	if (type != none->document.type)
		return sdh_fail(error, SDC_E_BAD_REQUEST, "another type than the document's");
	for (int row = 0; row < area.height; row++)
		memcpy((char *)ret_pixels + (size_t)row * (size_t)area.width * pixel,
		       (const char *)none->pixels +
			       ((size_t)(area.y + row) * (size_t)none->document.width +
				(size_t)area.x) *
				       pixel,
		       (size_t)area.width * pixel);
	return 0;
}

static int read_selection(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			  sdc_error *error)
{
	const struct none *none = userdata;
	const struct sdh_document *d = &none->document;

	for (int row = 0; row < area.height; row++)
		for (int column = 0; column < area.width; column++) {
			const int x = area.x + column, y = area.y + row;
			const bool inside = x >= 0 && y >= 0 && x < d->width && y < d->height;

			set_sample(
				ret_pixels, type, (size_t)row * (size_t)area.width + (size_t)column,
				inside && none->selection
					? none->selection[(size_t)y * (size_t)d->width + (size_t)x]
					: 0);
		}
	return 0;
}

static void add_layer(struct none *none, const struct sdh_layer *layer)
{
	const sdc_image *image = &layer->image;
	const size_t row = (size_t)image->width * 4 * sample_size(image->type);
	const size_t stride = image->stride ? image->stride : row;
	struct none_layer *to = &none->layers[none->n_layers++];

	to->name = must(strdup(layer->name));
	to->parameters = must(strdup(layer->parameters));
	to->place = (struct sdh_rect){layer->x, layer->y, image->width, image->height};
	to->type = image->type;
	to->visible = layer->visible;
	to->pixels = must(malloc(row * (size_t)image->height));
	for (int y = 0; y < image->height; y++)
		memcpy((char *)to->pixels + (size_t)y * row,
		       (const char *)image->data + (size_t)y * stride, row);
}

static int add_results(void *userdata, const struct sdh_results *results, sdc_error *error)
{
	struct none *none = userdata;

	if (none->refuse_layers)
		return sdh_fail(error, SDC_E_NOT_FOUND, "the document is gone");
	if (none->n_layers + results->count > sizeof(none->layers) / sizeof(none->layers[0]))
		return sdh_fail(error, SDC_E_NO_MEMORY, "too many layers");
	for (size_t i = 0; i < results->count; i++)
		add_layer(none, &results->layers[i]);
	none->n_groups += results->count > 1;
	none->scaled_width = results->scaled_width;
	none->scaled_height = results->scaled_height;
	none->n_undo++;
	return 0;
}

static void progress(void *userdata, double fraction, const char *text)
{
	struct none *none = userdata;

	none->n_progress++;
	none->last_fraction = fraction;
	snprintf(none->last_progress, sizeof(none->last_progress), "%s", text);
}

static void preview(void *userdata, const sdc_image *image)
{
	((struct none *)userdata)->n_previews++;
}

static void done(void *userdata, const sdc_error *error)
{
	struct none *none = userdata;

	none->n_done++;
	none->failure = error ? *error : (sdc_error){0};
}

struct sdh_host none_host(struct none *none)
{
	return (struct sdh_host){.describe = describe,
				 .read_canvas = read_canvas,
				 .read_selection = read_selection,
				 .add_results = add_results,
				 .progress = progress,
				 .preview = preview,
				 .done = done,
				 .userdata = none,
				 .watcher = none};
}

static void lay(const struct none *none, const struct none_layer *layer, void *pixels)
{
	const struct sdh_document *d = &none->document;

	for (int row = 0; row < layer->place.height; row++)
		for (int column = 0; column < layer->place.width; column++) {
			const int x = layer->place.x + column, y = layer->place.y + row;
			const size_t from =
				4 * ((size_t)row * (size_t)layer->place.width + (size_t)column);
			const size_t to = 4 * ((size_t)y * (size_t)d->width + (size_t)x);
			float alpha;

			if (x < 0 || y < 0 || x >= d->width || y >= d->height)
				continue;
			alpha = sample_of(layer->pixels, layer->type, from + 3);
			for (size_t c = 0; c < 3 && alpha > 0; c++)
				set_sample(pixels, d->type, to + c,
					   alpha * sample_of(layer->pixels, layer->type, from + c) +
						   (1 - alpha) *
							   sample_of(pixels, d->type, to + c));
		}
}

void *none_flatten(const struct none *none)
{
	const size_t size = (size_t)none->document.width * (size_t)none->document.height * 4 *
			    sample_size(none->document.type);
	void *pixels = must(malloc(size));

	memcpy(pixels, none->pixels, size);
	for (size_t i = 0; i < none->n_layers; i++)
		if (none->layers[i].visible)
			lay(none, &none->layers[i], pixels);
	return pixels;
}
