/*
 * A selection as text and back; see selection.h.
 */
#include "plugins/common/selection.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned value_at(const void *pixels, int type, size_t i)
{
	const float value = type == SDC_U8 ? 0 : ((const float *)pixels)[i];

	if (type == SDC_U8)
		return ((const uint8_t *)pixels)[i];
	return value >= 1 ? 255 : value > 0 ? (unsigned)lrintf(value * 255) : 0;
}

static struct sdh_rect find_bounds(const void *pixels, int width, int height, int type)
{
	int left = width, right = -1, top = height, bottom = -1;

	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++) {
			if (!value_at(pixels, type, (size_t)y * (size_t)width + (size_t)x))
				continue;
			left = x < left ? x : left;
			right = x > right ? x : right;
			top = y < top ? y : top;
			bottom = y;
		}
	return (struct sdh_rect){left, top, right - left + 1, bottom - top + 1};
}

/* Runs over the rows of the bounds; false when there are too many. *hard: all is selected fully. */
static bool write_runs(FILE *out, const void *pixels, int width, int type, struct sdh_rect bounds,
		       bool *hard)
{
	unsigned long count = 0;
	unsigned before = 0;

	*hard = true;
	for (int y = bounds.y; y < bounds.y + bounds.height; y++)
		for (int x = bounds.x; x < bounds.x + bounds.width; x++) {
			const unsigned value =
				value_at(pixels, type, (size_t)y * (size_t)width + (size_t)x);

			if (count && value != before) {
				fprintf(out, "%lx*%x,", count, before);
				count = 0;
				if (ftell(out) > SDH_SELECTION_MAX - 64)
					return false;
			}
			before = value;
			count++;
			*hard &= value == 255;
		}
	fprintf(out, "%lx*%x", count, before);
	return true;
}

char *sdh_selection_text(const void *pixels, int width, int height, int type)
{
	const struct sdh_rect bounds = find_bounds(pixels, width, height, type);
	bool hard = false, complete = false;
	char *text = NULL;
	size_t size;
	FILE *out;

	if (bounds.width <= 0)
		return NULL;
	out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	fprintf(out, "%d,%d,%d,%d:", bounds.x, bounds.y, bounds.width, bounds.height);
	complete = write_runs(out, pixels, width, type, bounds, &hard);
	if (fclose(out) != 0 || !complete) {
		free(text);
		return NULL;
	}
	if (hard)
		*strchr(text, ':') = '\0';
	return text;
}

bool sdh_selection_bounds(const char *text, struct sdh_rect *ret_bounds)
{
	struct sdh_rect r;
	int end = 0;

	if (strlen(text) > SDH_SELECTION_MAX ||
	    sscanf(text, "%9d,%9d,%9d,%9d%n", &r.x, &r.y, &r.width, &r.height, &end) != 4 ||
	    (text[end] != '\0' && text[end] != ':') || r.width <= 0 || r.height <= 0)
		return false;
	if (text[end] == ':' &&
	    strspn(text + end + 1, "0123456789abcdef*,") != strlen(text + end + 1))
		return false;
	*ret_bounds = r;
	return true;
}

static void put(void *pixels, int type, size_t i, unsigned value)
{
	if (type == SDC_U8)
		((uint8_t *)pixels)[i] = (uint8_t)value;
	else
		((float *)pixels)[i] = (float)value / 255;
}

void sdh_selection_paint(const char *text, int width, int height, int type, void *ret_pixels)
{
	const char *runs = strchr(text, ':');
	unsigned long count = 0, value = 255;
	struct sdh_rect r;

	memset(ret_pixels, 0,
	       (size_t)width * (size_t)height * (type == SDC_U8 ? 1 : sizeof(float)));
	if (!sdh_selection_bounds(text, &r))
		return;
	runs = runs ? runs + 1 : NULL;
	for (int y = r.y; y < r.y + r.height && y < height; y++)
		for (int x = r.x; x < r.x + r.width; x++) {
			if (runs && count == 0) {
				char *end;

				count = strtoul(runs, &end, 16);
				if (*end != '*' || count == 0)
					return; /* broken or cut off: the rest stays unselected */
				value = strtoul(end + 1, &end, 16);
				runs = *end == ',' ? end + 1 : end;
			}
			count -= runs != NULL;
			if (x >= 0 && y >= 0 && x < width)
				put(ret_pixels, type, (size_t)y * (size_t)width + (size_t)x,
				    value > 255 ? 255 : (unsigned)value);
		}
}
