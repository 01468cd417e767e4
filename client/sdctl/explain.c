/*
 * Heat maps over the picture, side by side; see explain.h. A map is drawn from its own lowest to its own highest value: which places a word
 * has is what one looks for, and how much it has is the figure beside it.
 */
#include "client/sdctl/explain.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/sdctl/layers.h"
#include "client/sdctl/letters.h"
#include "client/sdctl/picture.h"

#define TILE_MAX 320 /* pixels: larger pictures are shown smaller */
#define GAP	 8
#define CAPTION	 (LETTERS_HEIGHT + 6)
#define FAINT	 0.3f /* the picture below a map */

struct word {
	const char *text;
	double share, peak;
	int64_t tokens;
};

struct sheet {
	struct picture picture, page;
	sdc_image maps;
	size_t n; /* words */
	int map_height, shrink, width, height, columns;
};

static float map_at(const struct sheet *sheet, size_t word, int x, int y)
{
	const uint8_t *row = (const uint8_t *)sheet->maps.data +
			     sheet->maps.stride * (word * (size_t)sheet->map_height + (size_t)y);
	float value;

	memcpy(&value, row + (size_t)x * sizeof(value), sizeof(value));
	return value;
}

static int clamped(int at, int n)
{
	return at < 0 ? 0 : at >= n ? n - 1 : at;
}

/* Bilinear, pixel centres on pixel centres. u, v: 0..1 over the picture. */
static float map_between(const struct sheet *sheet, size_t word, float u, float v)
{
	const int w = sheet->maps.width, h = sheet->map_height;
	const float x = u * (float)w - 0.5f, y = v * (float)h - 0.5f;
	const int left = (int)floorf(x), top = (int)floorf(y);
	const float a = x - (float)left, b = y - (float)top;
	const int x0 = clamped(left, w), x1 = clamped(left + 1, w);
	const int y0 = clamped(top, h), y1 = clamped(top + 1, h);

	return (1 - b) * ((1 - a) * map_at(sheet, word, x0, y0) + a * map_at(sheet, word, x1, y0)) +
	       b * ((1 - a) * map_at(sheet, word, x0, y1) + a * map_at(sheet, word, x1, y1));
}

/* Black, red, yellow, white. */
static float heat(float value, int channel)
{
	const float part = 3 * value - (float)channel;

	return part < 0 ? 0 : part > 1 ? 1 : part;
}

static float grey_at(const struct sheet *sheet, size_t at)
{
	return (picture_sample(&sheet->picture, at) + picture_sample(&sheet->picture, at + 1) +
		picture_sample(&sheet->picture, at + 2)) /
	       3;
}

/* Tile 0 is the picture itself, tile 1 that of the first word. */
static void draw_tile(struct sheet *sheet, size_t tile, float low, float high)
{
	const int left = GAP + (int)(tile % (size_t)sheet->columns) * (sheet->width + GAP);
	const int top =
		GAP + (int)(tile / (size_t)sheet->columns) * (sheet->height + CAPTION + GAP);

	for (int y = 0; y < sheet->height; y++)
		for (int x = 0; x < sheet->width; x++) {
			const size_t at =
				((size_t)(y * sheet->shrink) * (size_t)sheet->picture.width +
				 (size_t)(x * sheet->shrink)) *
				(size_t)sheet->picture.channels;
			const size_t to = ((size_t)(top + y) * (size_t)sheet->page.width +
					   (size_t)(left + x)) *
					  3;
			float value = 0;

			if (tile > 0)
				value = (map_between(sheet, tile - 1,
						     ((float)x + 0.5f) / (float)sheet->width,
						     ((float)y + 0.5f) / (float)sheet->height) -
					 low) /
					fmaxf(high - low, 1e-9f);
			for (int c = 0; c < 3; c++)
				picture_set_sample(
					&sheet->page, to + (size_t)c,
					tile == 0 ? picture_sample(&sheet->picture, at + (size_t)c)
						  : FAINT * grey_at(sheet, at) +
							    (1 - FAINT) * heat(value, c));
		}
}

static void draw_caption(struct sheet *sheet, size_t tile, const char *text)
{
	letters_draw(&sheet->page,
		     GAP + (int)(tile % (size_t)sheet->columns) * (sheet->width + GAP),
		     GAP + (int)(tile / (size_t)sheet->columns) * (sheet->height + CAPTION + GAP) +
			     sheet->height + 3,
		     sheet->width, text);
}

static struct word word_of(const sdc_reply *reply, size_t i)
{
	struct word word = {.text = ""};
	char path[40];

	snprintf(path, sizeof(path), "words.%zu.word", i);
	sdc_reply_string(reply, path, &word.text);
	snprintf(path, sizeof(path), "words.%zu.share", i);
	sdc_reply_double(reply, path, &word.share);
	snprintf(path, sizeof(path), "words.%zu.peak", i);
	sdc_reply_double(reply, path, &word.peak);
	snprintf(path, sizeof(path), "words.%zu.tokens", i);
	sdc_reply_int(reply, path, &word.tokens);
	return word;
}

static void draw_word(struct sheet *sheet, const sdc_reply *reply, size_t i)
{
	const struct word word = word_of(reply, i);
	float low = INFINITY, high = -INFINITY;
	char caption[128];

	for (int y = 0; y < sheet->map_height; y++)
		for (int x = 0; x < sheet->maps.width; x++) {
			low = fminf(low, map_at(sheet, i, x, y));
			high = fmaxf(high, map_at(sheet, i, x, y));
		}
	draw_tile(sheet, i + 1, low, high);
	snprintf(caption, sizeof(caption), "%.100s %.1f%%", word.text, 100 * word.share);
	draw_caption(sheet, i + 1, caption);
}

static int draw(struct sheet *sheet, const sdc_reply *reply)
{
	const int longer = sheet->picture.width > sheet->picture.height ? sheet->picture.width
									: sheet->picture.height;
	int rows;

	sheet->shrink = (longer + TILE_MAX - 1) / TILE_MAX;
	sheet->width = sheet->picture.width / sheet->shrink;
	sheet->height = sheet->picture.height / sheet->shrink;
	sheet->columns = (int)ceil(sqrt((double)sheet->n + 1));
	rows = ((int)sheet->n + sheet->columns) / sheet->columns;
	if (picture_new(GAP + sheet->columns * (sheet->width + GAP),
			GAP + rows * (sheet->height + CAPTION + GAP), 3, PICTURE_U8,
			&sheet->page) < 0) {
		complain("cannot hold a sheet of %zu words", sheet->n);
		return EXIT_FAILED;
	}
	memset(sheet->page.data, 255, (size_t)sheet->page.width * (size_t)sheet->page.height * 3);
	draw_tile(sheet, 0, 0, 1);
	for (size_t i = 0; i < sheet->n; i++)
		draw_word(sheet, reply, i);
	return EXIT_OK;
}

static int read_maps(struct sheet *sheet, const sdc_reply *reply)
{
	sdc_error error = {0};
	sdc_image image;
	int r;

	if (sdc_reply_image(reply, "images.0.pixels", &image, &error) < 0)
		return fail(&error);
	r = layers_copy_picture(&image, &sheet->picture);
	if (r != EXIT_OK)
		return r;
	sheet->n = sdc_reply_count(reply, "words");
	if (sheet->n == 0) {
		complain("the prompt has no words to explain");
		return EXIT_FAILED;
	}
	if (sdc_reply_image(reply, "maps", &sheet->maps, &error) < 0)
		return fail(&error);
	if (sheet->maps.type != SDC_F32 || sheet->maps.channels != 1 ||
	    sheet->maps.height % (int)sheet->n != 0 || sheet->picture.channels < 3) {
		complain("the daemon sent maps that do not fit its words");
		return EXIT_FAILED;
	}
	if (sheet->maps.stride == 0)
		sheet->maps.stride = (size_t)sheet->maps.width * sizeof(float);
	sheet->map_height = sheet->maps.height / (int)sheet->n;
	return EXIT_OK;
}

static void list_words(FILE *file, const struct sheet *sheet, const sdc_reply *reply)
{
	for (size_t i = 0; i < sheet->n; i++) {
		const struct word word = word_of(reply, i);

		fprintf(file, "%-20s  %2" PRIi64 " token%s  share %5.2f%%  peak %5.2f%%\n",
			word.text, word.tokens, word.tokens == 1 ? " " : "s", 100 * word.share,
			100 * word.peak);
	}
}

int explain_save(const struct context *context, const sdc_reply *reply, const char *path)
{
	FILE *words = strcmp(path, "-") == 0 ? stderr : stdout;
	struct sheet sheet = {0};
	char message[512];
	uint64_t seed = 0;
	int r;

	r = read_maps(&sheet, reply);
	if (r == EXIT_OK)
		r = draw(&sheet, reply);
	if (r == EXIT_OK &&
	    picture_save_png(path, &sheet.page, NULL, 0, message, sizeof(message)) < 0) {
		complain("%s", message);
		r = EXIT_FAILED;
	}
	if (r == EXIT_OK && context->json) {
		char *json = sdc_reply_json(reply, "");

		fprintf(words, "%s\n", json ? json : "null");
		free(json);
	} else if (r == EXIT_OK && !context->quiet) {
		list_words(words, &sheet, reply);
		sdc_reply_uint(reply, "images.0.seed", &seed);
		fprintf(stderr, "wrote %s (seed %" PRIu64 ")\n", path, seed);
	}
	picture_clear(&sheet.picture);
	picture_clear(&sheet.page);
	return r;
}
