/*
 * GIMP 2.10's side of the host table; see plugins/common/host.h for the contract. New layers are made only when the result
 * is there, inside one undo group, so that a plug-in killed before leaves no trace.
 */
#include <libgimp/gimp.h>
#include <string.h>

#include "plugins/common/fail.h"
#include "plugins/common/results.h"
#include "plugins/common/text.h"
#include "plugins/gimp/pixels.h"
#include "plugins/gimp2/host.h"

void sdg_host_init(struct sdg_host *host, gint32 image, gint32 drawable)
{
	*host = (struct sdg_host){
		.image = image, .drawable = drawable, .repeated = -1, .result = -1};
}

/* A wide gamut goes through floats, which keep what lies outside sRGB. */
static gboolean is_srgb(gint32 image)
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

static int type_of(gint32 image)
{
	switch (gimp_image_get_precision(image)) {
	case GIMP_PRECISION_U8_GAMMA:
		return is_srgb(image) ? SDC_U8 : SDC_F32;
	case GIMP_PRECISION_U8_LINEAR:
	case GIMP_PRECISION_U16_LINEAR:
	case GIMP_PRECISION_U16_GAMMA:
		return is_srgb(image) ? SDC_U16 : SDC_F32;
	case GIMP_PRECISION_HALF_GAMMA:
		return SDC_F16;
	default:
		return SDC_F32;
	}
}

/* The layer that a drawable stands for, -1 for a channel. */
static gint32 layer_of(gint32 drawable)
{
	if (gimp_item_is_layer_mask(drawable))
		return gimp_layer_from_mask(drawable);
	return gimp_item_is_layer(drawable) ? drawable : -1;
}

static struct sdh_rect bounds_of(gint32 drawable)
{
	struct sdh_rect r = {.width = gimp_drawable_width(drawable),
			     .height = gimp_drawable_height(drawable)};

	gimp_drawable_offsets(drawable, &r.x, &r.y);
	return r;
}

static int describe(void *userdata, struct sdh_document *ret, sdc_error *error)
{
	struct sdg_host *host = userdata;
	gint x, y, right, bottom;
	gboolean selected;

	if (!gimp_image_is_valid(host->image))
		return sdh_fail(error, SDC_E_NOT_FOUND, _("The image was closed."));
	if (gimp_image_base_type(host->image) == GIMP_INDEXED)
		return sdh_fail(error, SDC_E_UNSUPPORTED,
				_("This image has indexed colours. Convert it first: Image, Mode, "
				  "RGB."));
	*ret = (struct sdh_document){.width = gimp_image_width(host->image),
				     .height = gimp_image_height(host->image),
				     .type = type_of(host->image)};
	ret->mask_type = ret->type == SDC_U8 ? SDC_U8 : SDC_F32;
	host->width = ret->width;
	host->height = ret->height;
	if (gimp_item_is_valid(host->drawable))
		ret->layer = bounds_of(host->drawable);
	if (!gimp_selection_bounds(host->image, &selected, &x, &y, &right, &bottom))
		return sdh_fail(error, SDC_E_SYSTEM, _("The selection cannot be read."));
	if (selected)
		ret->selection = (struct sdh_rect){x, y, right - x, bottom - y};
	return 0;
}

/* The layer of a duplicated image that lies where `layer` lies in its own; -1 when there is none. */
static gint32 counterpart(gint32 copy, gint32 image, gint32 layer)
{
	const gint32 parent = gimp_item_get_parent(layer);
	const gint place = gimp_image_get_item_position(image, layer);
	gint32 found = -1;
	gint n = 0, *items;

	if (parent < 0)
		items = gimp_image_get_layers(copy, &n);
	else
		items = gimp_item_get_children(counterpart(copy, image, parent), &n);
	if (items && place >= 0 && place < n)
		found = items[place];
	g_free(items);
	return found;
}

/* A copy of the image in which the layer that is made again cannot be seen; -1 on failure. */
static gint32 without_repeated(const struct sdg_host *host)
{
	const gint32 copy = gimp_image_duplicate(host->image);
	gint32 layer;

	if (copy < 0)
		return -1;
	layer = counterpart(copy, host->image, host->repeated);
	if (layer >= 0)
		gimp_item_set_visible(layer, FALSE);
	return copy;
}

static int read_canvas(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
		       sdc_error *error)
{
	const struct sdg_host *host = userdata;
	const gint32 copy = host->repeated >= 0 ? without_repeated(host) : -1;
	const gint32 visible =
		gimp_layer_new_from_visible(copy >= 0 ? copy : host->image, host->image, "sdd");
	GeglBuffer *buffer = visible >= 0 ? gimp_drawable_get_buffer(visible) : NULL;

	if (buffer) {
		sdg_read_rgba(buffer, area, type, ret_pixels);
		g_object_unref(buffer);
	}
	if (visible >= 0)
		gimp_item_delete(visible);
	if (copy >= 0)
		gimp_image_delete(copy);
	return buffer ? 0 : sdh_fail(error, SDC_E_SYSTEM, _("The image cannot be read."));
}

static int read_selection(void *userdata, struct sdh_rect area, int type, void *ret_pixels,
			  sdc_error *error)
{
	const struct sdg_host *host = userdata;
	const gint32 selection = gimp_image_get_selection(host->image);
	GeglBuffer *buffer = selection >= 0 ? gimp_drawable_get_buffer(selection) : NULL;

	if (!buffer)
		return sdh_fail(error, SDC_E_SYSTEM, _("The selection cannot be read."));
	sdg_read_mask(buffer, area, type, ret_pixels);
	g_object_unref(buffer);
	return 0;
}

static gint32 new_layer(gint32 image, const struct sdh_layer *layer)
{
	const gint32 id = gimp_layer_new(
		image, layer->name, layer->image.width, layer->image.height,
		gimp_image_base_type(image) == GIMP_GRAY ? GIMP_GRAYA_IMAGE : GIMP_RGBA_IMAGE, 100,
		gimp_image_get_default_new_layer_mode(image));
	GimpParasite *parasite;
	GeglBuffer *buffer;

	if (id < 0)
		return -1;
	buffer = gimp_drawable_get_buffer(id);
	sdg_write_rgba(buffer, &layer->image);
	g_object_unref(buffer);
	gimp_item_set_visible(id, layer->visible);
	parasite = gimp_parasite_new(SDH_PARASITE, GIMP_PARASITE_PERSISTENT,
				     (guint32)strlen(layer->parameters) + 1, layer->parameters);
	gimp_item_attach_parasite(id, parasite);
	gimp_parasite_free(parasite);
	return id;
}

/* Above the current layer; on top when that is a channel or gone. */
static gboolean insert(const struct sdg_host *host, gint32 layer, gint32 group, gint position)
{
	const gint32 current = gimp_item_is_valid(host->drawable) ? layer_of(host->drawable) : -1;

	if (group >= 0)
		return gimp_image_insert_layer(host->image, layer, group, position);
	if (current < 0)
		return gimp_image_insert_layer(host->image, layer, -1, 0);
	return gimp_image_insert_layer(host->image, layer, gimp_item_get_parent(current),
				       gimp_image_get_item_position(host->image, current));
}

static gboolean add_all(struct sdg_host *host, const struct sdh_results *results)
{
	gint32 group = -1;

	if (results->count > 1) {
		group = gimp_layer_group_new(host->image);
		if (group < 0 || !insert(host, group, -1, 0))
			return FALSE;
		gimp_item_set_name(group, results->name);
		host->result = group;
	}
	for (size_t i = 0; i < results->count; i++) {
		const struct sdh_layer *layer = &results->layers[i];
		const gint32 id = new_layer(host->image, layer);

		if (id < 0 || !insert(host, id, group, (gint)i))
			return FALSE;
		gimp_layer_set_offsets(id, layer->x - results->canvas.x,
				       layer->y - results->canvas.y);
		gimp_drawable_update(id, 0, 0, layer->image.width, layer->image.height);
		if (group < 0)
			host->result = id;
	}
	if (gimp_item_is_layer(host->result))
		gimp_image_set_active_layer(host->image, host->result);
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
			       gimp_get_pdb_error());
}

struct sdh_host sdg_host_table(struct sdg_host *host)
{
	return (struct sdh_host){.describe = describe,
				 .read_canvas = read_canvas,
				 .read_selection = read_selection,
				 .add_results = add_results,
				 .userdata = host};
}

gchar *sdg_host_parameters(gint32 layer)
{
	GimpParasite *parasite = gimp_item_get_parasite(layer, SDH_PARASITE);
	gchar *text = NULL;

	if (parasite)
		text = g_strndup(gimp_parasite_data(parasite),
				 (gsize)gimp_parasite_data_size(parasite));
	gimp_parasite_free(parasite);
	return text;
}
