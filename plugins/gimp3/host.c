/*
 * GIMP 3's side of the host table; see plugins/common/host.h for the contract. The same as for GIMP 2.10, whose numbers are
 * objects here: new layers are made only when the result is there, inside one undo group.
 */
#include "plugins/gimp3/host.h"

#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/results.h"
#include "plugins/common/text.h"
#include "plugins/gimp/pixels.h"

/* A wide gamut goes through floats, which keep what lies outside sRGB. */
static gboolean is_srgb(GimpImage *image)
{
	GimpColorProfile *profile = gimp_image_get_color_profile(image);
	gboolean srgb = TRUE;

	if (profile) {
		GimpColorProfile *ours = gimp_color_profile_new_rgb_srgb();

		srgb = gimp_color_profile_is_equal(profile, ours) ||
		       gimp_color_profile_is_gray(profile);
		g_object_unref(ours);
		g_object_unref(profile);
	}
	return srgb;
}

static int type_of(GimpImage *image)
{
	switch (gimp_image_get_precision(image)) {
	case GIMP_PRECISION_U8_NON_LINEAR:
		return is_srgb(image) ? SDC_U8 : SDC_F32;
	case GIMP_PRECISION_U8_LINEAR:
	case GIMP_PRECISION_U16_LINEAR:
	case GIMP_PRECISION_U16_NON_LINEAR:
		return is_srgb(image) ? SDC_U16 : SDC_F32;
	case GIMP_PRECISION_HALF_NON_LINEAR:
		return SDC_F16;
	default:
		return SDC_F32;
	}
}

/* The layer that a drawable stands for, NULL for a channel or when it is gone. */
static GimpLayer *layer_of(GimpDrawable *drawable)
{
	if (!gimp_item_is_valid(GIMP_ITEM(drawable)))
		return NULL;
	if (GIMP_IS_LAYER_MASK(drawable))
		return gimp_layer_from_mask(GIMP_LAYER_MASK(drawable));
	return GIMP_IS_LAYER(drawable) ? GIMP_LAYER(drawable) : NULL;
}

static int describe(void *userdata, struct sdh_document *ret, sdc_error *error)
{
	struct sdg_host *host = userdata;
	gint x, y, right, bottom;
	gboolean selected;

	if (!gimp_image_is_valid(host->image))
		return sdh_fail(error, SDC_E_NOT_FOUND, _("The image was closed."));
	if (gimp_image_get_base_type(host->image) == GIMP_INDEXED)
		return sdh_fail(error, SDC_E_UNSUPPORTED,
				_("This image has indexed colours. Convert it first: Image, Mode, "
				  "RGB."));
	*ret = (struct sdh_document){.width = gimp_image_get_width(host->image),
				     .height = gimp_image_get_height(host->image),
				     .type = type_of(host->image)};
	ret->mask_type = ret->type == SDC_U8 ? SDC_U8 : SDC_F32;
	host->width = ret->width;
	host->height = ret->height;
	if (gimp_item_is_valid(GIMP_ITEM(host->drawable))) {
		ret->layer.width = gimp_drawable_get_width(host->drawable);
		ret->layer.height = gimp_drawable_get_height(host->drawable);
		gimp_drawable_get_offsets(host->drawable, &ret->layer.x, &ret->layer.y);
	}
	if (!gimp_selection_bounds(host->image, &selected, &x, &y, &right, &bottom))
		return sdh_fail(error, SDC_E_SYSTEM, _("The selection cannot be read."));
	if (selected)
		ret->selection = (struct sdh_rect){x, y, right - x, bottom - y};
	return 0;
}

/* The layer of a duplicated image that lies where `layer` lies in its own; NULL when there is none. */
static GimpItem *counterpart(GimpImage *copy, GimpImage *image, GimpItem *layer)
{
	GimpItem *parent = gimp_item_get_parent(layer), *found;
	GList *items = parent ? gimp_item_list_children(counterpart(copy, image, parent))
			      : gimp_image_list_layers(copy);

	found = g_list_nth_data(items, (guint)gimp_image_get_item_position(image, layer));
	g_list_free(items);
	return found;
}

/* A copy of the image in which the layer that is made again cannot be seen. */
static GimpImage *without_repeated(const struct sdg_host *host)
{
	GimpImage *copy = gimp_image_duplicate(host->image);
	GimpItem *layer = copy ? counterpart(copy, host->image, GIMP_ITEM(host->repeated)) : NULL;

	if (layer)
		gimp_item_set_visible(layer, FALSE);
	return copy;
}

static int read_canvas(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
		       sdc_error *error)
{
	const struct sdg_host *host = userdata;
	GimpImage *copy = host->repeated ? without_repeated(host) : NULL;
	GimpLayer *visible =
		gimp_layer_new_from_visible(copy ? copy : host->image, host->image, "sdd");
	GeglBuffer *buffer = visible ? gimp_drawable_get_buffer(GIMP_DRAWABLE(visible)) : NULL;

	if (buffer) {
		sdg_read_rgba(buffer, area, type, ret_pixels);
		g_object_unref(buffer);
	}
	if (visible)
		gimp_item_delete(GIMP_ITEM(visible));
	if (copy)
		gimp_image_delete(copy);
	return buffer ? 0 : sdh_fail(error, SDC_E_SYSTEM, _("The image cannot be read."));
}

static int read_selection(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			  sdc_error *error)
{
	const struct sdg_host *host = userdata;
	GimpSelection *selection = gimp_image_get_selection(host->image);
	GeglBuffer *buffer = selection ? gimp_drawable_get_buffer(GIMP_DRAWABLE(selection)) : NULL;

	if (!buffer)
		return sdh_fail(error, SDC_E_SYSTEM, _("The selection cannot be read."));
	sdg_read_mask(buffer, area, type, ret_pixels);
	g_object_unref(buffer);
	return 0;
}

static GimpLayer *new_layer(GimpImage *image, const struct sdh_layer *from)
{
	const gboolean grey = gimp_image_get_base_type(image) == GIMP_GRAY;
	GimpLayer *layer = gimp_layer_new(image, from->name, from->image.width, from->image.height,
					  grey ? GIMP_GRAYA_IMAGE : GIMP_RGBA_IMAGE, 100,
					  gimp_image_get_default_new_layer_mode(image));
	GimpParasite *parasite;
	GeglBuffer *buffer;

	if (!layer)
		return NULL;
	buffer = gimp_drawable_get_buffer(GIMP_DRAWABLE(layer));
	sdg_write_rgba(buffer, &from->image);
	g_object_unref(buffer);
	gimp_item_set_visible(GIMP_ITEM(layer), from->visible);
	parasite = gimp_parasite_new(SDH_PARASITE, GIMP_PARASITE_PERSISTENT,
				     (guint32)strlen(from->parameters) + 1, from->parameters);
	gimp_item_attach_parasite(GIMP_ITEM(layer), parasite);
	gimp_parasite_free(parasite);
	return layer;
}

/* Into the group; else above the current layer, on top when that is a channel or gone. */
static gboolean insert(const struct sdg_host *host, GimpLayer *layer, GimpLayer *group,
		       gint position)
{
	GimpLayer *current = layer_of(host->drawable);

	if (!group && current) {
		group = GIMP_LAYER(gimp_item_get_parent(GIMP_ITEM(current)));
		position = gimp_image_get_item_position(host->image, GIMP_ITEM(current));
	}
	return gimp_image_insert_layer(host->image, layer, group, position);
}

static gboolean add_all(struct sdg_host *host, const struct sdh_results *results)
{
	GimpLayer *group = NULL;
	GList *selected;

	if (results->count > 1) {
		group = GIMP_LAYER(gimp_group_layer_new(host->image, results->name));
		if (!group || !insert(host, group, NULL, 0))
			return FALSE;
		host->result = group;
	}
	for (size_t i = 0; i < results->count; i++) {
		const struct sdh_layer *from = &results->layers[i];
		GimpLayer *layer = new_layer(host->image, from);

		if (!layer || !insert(host, layer, group, (gint)i))
			return FALSE;
		gimp_layer_set_offsets(layer, from->x - results->canvas.x,
				       from->y - results->canvas.y);
		gimp_drawable_update(GIMP_DRAWABLE(layer), 0, 0, from->image.width,
				     from->image.height);
		if (!group)
			host->result = layer;
	}
	selected = g_list_append(NULL, host->result);
	gimp_image_take_selected_layers(host->image, selected);
	return TRUE;
}

static int add_results(void *userdata, const struct sdh_results *results, sdc_error *error)
{
	struct sdg_host *host = userdata;
	const struct sdh_rect canvas = results->canvas;
	gboolean done;

	if (!gimp_image_is_valid(host->image))
		return sdh_fail(error, SDC_E_NOT_FOUND,
				_("The image was closed before the result came."));
	gimp_image_undo_group_start(host->image);
	if (results->scaled_width > 0)
		gimp_image_scale(host->image, results->scaled_width, results->scaled_height);
	else if (canvas.x < 0 || canvas.y < 0 || canvas.width != host->width ||
		 canvas.height != host->height)
		gimp_image_resize(host->image, canvas.width, canvas.height, -canvas.x, -canvas.y);
	done = add_all(host, results);
	gimp_image_undo_group_end(host->image);
	gimp_displays_flush(); /* the dialog stays open: nothing else would show it */
	return done ? 0
		    : sdh_fail(error, SDC_E_SYSTEM, _("GIMP could not add the new layer: %s"),
			       gimp_pdb_get_last_error(gimp_get_pdb()));
}

struct sdh_host sdg_host_table(struct sdg_host *host)
{
	return (struct sdh_host){.describe = describe,
				 .read_canvas = read_canvas,
				 .read_selection = read_selection,
				 .add_results = add_results,
				 .userdata = host};
}

gchar *sdg_host_parameters(GimpItem *layer)
{
	GimpParasite *parasite = gimp_item_get_parasite(layer, SDH_PARASITE);
	gchar *text = NULL;
	guint32 size;

	if (parasite) {
		const gchar *data = gimp_parasite_get_data(parasite, &size);

		text = g_strndup(data, size);
		gimp_parasite_free(parasite);
	}
	return text;
}
