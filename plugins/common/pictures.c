/*
 * Pictures of a job; see pictures.h.
 */
#include "plugins/common/pictures.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/selection.h"
#include "plugins/common/text.h"

#define ASK_TIMEOUT_MS 5000

static size_t sample_size(int type)
{
	return type == SDC_U8 ? 1 : type == SDC_F32 ? 4 : 2;
}

static struct sdh_rect canvas_of(const struct sdh_document *document)
{
	return (struct sdh_rect){0, 0, document->width, document->height};
}

static struct sdh_rect intersect(struct sdh_rect a, struct sdh_rect b)
{
	const int x = a.x > b.x ? a.x : b.x, y = a.y > b.y ? a.y : b.y;
	const int right = a.x + a.width < b.x + b.width ? a.x + a.width : b.x + b.width;
	const int bottom = a.y + a.height < b.y + b.height ? a.y + a.height : b.y + b.height;

	if (right <= x || bottom <= y)
		return (struct sdh_rect){0};
	return (struct sdh_rect){x, y, right - x, bottom - y};
}

static bool contains(struct sdh_rect outer, struct sdh_rect inner)
{
	return inner.width > 0 && inner.height > 0 && inner.x >= outer.x && inner.y >= outer.y &&
	       inner.width <= outer.width - (inner.x - outer.x) &&
	       inner.height <= outer.height - (inner.y - outer.y);
}

static void invert(void *pixels, size_t n, int type)
{
	if (type == SDC_U8)
		for (size_t i = 0; i < n; i++)
			((uint8_t *)pixels)[i] = (uint8_t)(255 - ((uint8_t *)pixels)[i]);
	else
		for (size_t i = 0; i < n; i++)
			((float *)pixels)[i] = 1 - ((float *)pixels)[i];
}

/* Where something may be selected: what is inverted may be anywhere. */
static struct sdh_rect hull(const struct sdh_plan *plan, const struct sdh_document *document)
{
	return plan->inverted ? canvas_of(document)
			      : intersect(document->selection, canvas_of(document));
}

static int read_selected(const struct sdh_host *host, struct sdh_settings *settings,
			 struct sdh_mask *mask, sdc_error *error)
{
	const char *stored = sdh_settings_get(settings, "selection");
	char *text;
	int r;

	if (*stored) {
		sdh_selection_paint(stored, mask->area, mask->type, mask->pixels);
		return 0;
	}
	r = host->read_selection(host->userdata, mask->area, mask->type, mask->pixels, error);
	if (r < 0)
		return r;
	text = sdh_selection_text(mask->pixels, mask->area, mask->type);
	sdh_settings_set(settings, "selection", text, NULL);
	free(text);
	return 0;
}

int sdh_mask_read(const struct sdh_plan *plan, const struct sdh_host *host,
		  const struct sdh_document *document, struct sdh_settings *settings,
		  struct sdh_mask *ret_mask, sdc_error *error)
{
	struct sdh_mask mask = {.area = hull(plan, document), .type = document->mask_type};
	const size_t n = (size_t)mask.area.width * (size_t)mask.area.height;
	int r;

	if (!plan->sends_selection) {
		*ret_mask = (struct sdh_mask){.type = SDC_U8};
		return 0;
	}
	mask.pixels = malloc(n * sample_size(mask.type) + 1);
	if (!mask.pixels)
		return sdh_fail(error, SDC_E_NO_MEMORY, _("Out of memory."));
	r = read_selected(host, settings, &mask, error);
	if (r >= 0 && plan->inverted)
		invert(mask.pixels, n, mask.type);
	mask.bounds = sdh_selection_find(mask.pixels, mask.area, mask.type);
	if (r >= 0 && mask.bounds.width == 0)
		r = plan->inverted
			    ? sdh_fail(error, SDC_E_BAD_REQUEST,
				       _("Everything is selected: nothing would be repainted."))
			    : sdh_fail(error, SDC_E_BAD_REQUEST,
				       _("Nothing is selected: select the part to repaint first."));
	if (r < 0) {
		sdh_mask_clear(&mask);
		return r;
	}
	*ret_mask = mask;
	return 0;
}

void sdh_mask_clear(struct sdh_mask *mask)
{
	free(mask->pixels);
	mask->pixels = NULL;
}

static bool may_send_all(int code)
{
	return code == SDC_E_UNKNOWN_METHOD || code == SDC_E_TIMEOUT || code == SDC_E_BUSY ||
	       code == SDC_E_WORKER_LOST;
}

static int read_rect(const sdc_reply *reply, const char *name, struct sdh_rect *ret_rect)
{
	int64_t sides[4];
	char path[32];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s.%d", name, i);
		if (sdc_reply_int(reply, path, &sides[i]) < 0 || sides[i] < 0 || sides[i] > INT_MAX)
			return SDC_E_PROTOCOL;
	}
	*ret_rect = (struct sdh_rect){(int)sides[0], (int)sides[1], (int)sides[2], (int)sides[3]};
	return 0;
}

int sdh_area_ask(sdc_client *client, const struct sdh_plan *plan,
		 const struct sdh_settings *settings, const struct sdh_document *document,
		 const struct sdh_mask *mask, struct sdh_rect *ret_area, sdc_error *error)
{
	struct sdh_rect needed = {0};
	sdc_reply *reply = NULL;
	sdc_request *request;
	sdc_error why = {0};
	int r;

	*ret_area = canvas_of(document);
	if (strcmp(plan->kind, "outpaint") != 0 &&
	    (strcmp(plan->kind, "inpaint") != 0 || plan->everything))
		return 0;
	request = sdh_request_plan(plan, settings, document, mask->bounds, error);
	if (!request)
		return error->code;
	r = sdc_call(client, request, ASK_TIMEOUT_MS, &reply, &why);
	sdc_request_free(request);
	if (r < 0 && may_send_all(r))
		return 0;
	if (r < 0) {
		*error = why;
		return r;
	}
	r = read_rect(reply, "needed", &needed);
	sdc_reply_free(reply);
	if (r < 0 || !contains(canvas_of(document), needed))
		return sdh_fail(error, SDC_E_PROTOCOL,
				_("sdd asks for a part that the picture does not have."));
	*ret_area = needed;
	return 0;
}

/* The mask's rows into those of the area; around them nothing is selected. */
static void place(const struct sdh_mask *mask, struct sdh_rect area, char *to)
{
	const struct sdh_rect both = intersect(mask->area, area);
	const size_t sample = sample_size(mask->type);

	memset(to, 0, (size_t)area.width * (size_t)area.height * sample);
	for (int y = both.y; y < both.y + both.height; y++)
		memcpy(to + ((size_t)(y - area.y) * (size_t)area.width +
			     (size_t)(both.x - area.x)) *
				       sample,
		       (const char *)mask->pixels +
			       ((size_t)(y - mask->area.y) * (size_t)mask->area.width +
				(size_t)(both.x - mask->area.x)) *
				       sample,
		       (size_t)both.width * sample);
}

static int attach_mask(sdc_request *request, const struct sdh_mask *mask, struct sdh_rect area,
		       size_t *ret_bytes, sdc_error *error)
{
	const size_t n = (size_t)area.width * (size_t)area.height;
	sdc_pixels *pixels = sdc_pixels_new(area.width, area.height, 1, mask->type, error);
	int r;

	if (!pixels)
		return error->code;
	if (mask->pixels)
		place(mask, area, sdc_pixels_data(pixels));
	else
		memset(sdc_pixels_data(pixels), 255, n);
	r = sdc_request_set_pixels(request, "mask", pixels, error);
	sdc_pixels_free(pixels);
	*ret_bytes += n * sample_size(mask->type);
	return r;
}

int sdh_pictures_attach(sdc_request *request, const struct sdh_plan *plan,
			const struct sdh_host *host, const struct sdh_document *document,
			const struct sdh_mask *mask, struct sdh_rect area, size_t *ret_bytes,
			sdc_error *error)
{
	sdc_pixels *image;
	int r = 0;

	*ret_bytes = 0;
	if (!plan->sends_canvas)
		return 0;
	if (area.width != document->width || area.height != document->height)
		r = sdc_request_set_rect(request, "canvas", area.x, area.y, document->width,
					 document->height, error);
	if (r < 0)
		return r;
	image = sdc_pixels_new(area.width, area.height, 4, document->type, error);
	if (!image)
		return error->code;
	r = host->read_canvas(host->userdata, area, document->type, sdc_pixels_data(image), error);
	if (r >= 0)
		r = sdc_request_set_pixels(request, "image", image, error);
	sdc_pixels_free(image);
	*ret_bytes = (size_t)area.width * (size_t)area.height * 4 * sample_size(document->type);
	if (r >= 0 && (plan->sends_selection || plan->everything))
		r = attach_mask(request, mask, area, ret_bytes, error);
	return r;
}
