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

static bool is_selected(const void *pixels, int type, size_t i)
{
	return type == SDC_U8 ? ((const uint8_t *)pixels)[i] > 0
			      : ((const float *)pixels)[i] > 1.0f / 512;
}

struct sdh_rect sdh_selection_find(const void *pixels, struct sdh_rect area, int type)
{
	const int width = area.width, height = area.height;
	int left = width, right = -1, top = height, bottom = -1;

	for (int y = 0; y < height; y++) {
		const size_t row = (size_t)y * (size_t)width;
		int first = 0, last = width - 1;

		while (first < width && !is_selected(pixels, type, row + (size_t)first))
			first++;
		if (first == width)
			continue;
		while (!is_selected(pixels, type, row + (size_t)last))
			last--;
		left = first < left ? first : left;
		right = last > right ? last : right;
		top = y < top ? y : top;
		bottom = y;
	}
	if (right < 0)
		return (struct sdh_rect){0};
	return (struct sdh_rect){area.x + left, area.y + top, right - left + 1, bottom - top + 1};
}

/* Runs over the rows of the bounds; false when there are too many. *hard: all is selected fully. */
static bool write_runs(FILE *out, const void *pixels, struct sdh_rect area, int type,
		       struct sdh_rect bounds, bool *hard)
{
	unsigned long count = 0;
	unsigned before = 0;

	*hard = true;
	for (int y = bounds.y - area.y; y < bounds.y - area.y + bounds.height; y++)
		for (int x = bounds.x - area.x; x < bounds.x - area.x + bounds.width; x++) {
			const unsigned value =
				value_at(pixels, type, (size_t)y * (size_t)area.width + (size_t)x);

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

char *sdh_selection_text(const void *pixels, struct sdh_rect area, int type)
{
	const struct sdh_rect bounds = sdh_selection_find(pixels, area, type);
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
	complete = write_runs(out, pixels, area, type, bounds, &hard);
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

void sdh_selection_paint(const char *text, struct sdh_rect area, int type, void *ret_pixels)
{
	const size_t width = (size_t)area.width, n = width * (size_t)area.height;

	const char *runs = strchr(text, ':');
	unsigned long count = 0, value = 255;
	struct sdh_rect r;

	memset(ret_pixels, 0, n * (type == SDC_U8 ? 1 : sizeof(float)));
	if (!sdh_selection_bounds(text, &r))
		return;
	runs = runs ? runs + 1 : NULL;
	for (int y = r.y - area.y; y < r.y - area.y + r.height && y < area.height; y++)
		for (int x = r.x - area.x; x < r.x - area.x + r.width; x++) {
			if (runs && count == 0) {
				char *end;

				count = strtoul(runs, &end, 16);
				if (*end != '*' || count == 0)
					return; /* broken or cut off: the rest stays unselected */
				value = strtoul(end + 1, &end, 16);
				runs = *end == ',' ? end + 1 : end;
			}
			count -= runs != NULL;
			if (x >= 0 && y >= 0 && x < area.width)
				put(ret_pixels, type, (size_t)y * width + (size_t)x,
				    value > 255 ? 255 : (unsigned)value);
		}
}
