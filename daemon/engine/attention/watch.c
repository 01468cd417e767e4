/*
 * The watcher's two moments: before a self-attention the twin gets the picture's queries and keys; behind a cross-attention the maps are
 * computed once more, and what an edit makes of them is added to the result as a difference: where it changes nothing, no bit changes.
 */
#include "daemon/engine/attention/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/attention/blend.h"
#include "daemon/engine/attention/edit.h"
#include "daemon/engine/attention/maps.h"
#include "daemon/engine/denoisers/unet.h"

static int before(void *userdata, const struct sdk_attention_site *site)
{
	const struct sde_watch *watch = userdata;

	if (watch->edit && !sde_unet_site_is_cross(site->site) &&
	    sde_edit_self_at(watch->edit, watch->step, watch->steps))
		sde_edit_self(site);
	return 0;
}

/* Maps of one head, means of all, and the working memory behind. */
struct desk {
	float *own, *source, *edited, *mean, *source_mean, *work;
	size_t n; /* floats of a map */
};

static int desk_for(struct sde_watch *watch, const struct sdk_attention_site *site,
		    struct desk *ret_desk)
{
	const size_t n = (size_t)site->queries * (size_t)site->keys;
	const size_t wanted = 5 * n + sdk_attention_work(site);

	if (watch->room < wanted) {
		free(watch->memory);
		watch->room = 0;
		watch->memory = calloc(wanted, sizeof(*watch->memory));
		if (!watch->memory)
			return -ENOMEM;
		watch->room = wanted;
	}
	*ret_desk = (struct desk){.own = watch->memory,
				  .source = watch->memory + n,
				  .edited = watch->memory + 2 * n,
				  .mean = watch->memory + 3 * n,
				  .source_mean = watch->memory + 4 * n,
				  .work = watch->memory + 5 * n,
				  .n = n};
	return 0;
}

/* What the twin's map becomes, into edited; the result of the attention follows it. */
static void edit_head(const struct sde_watch *watch, const struct sdk_attention_site *site,
		      int head, struct desk *desk)
{
	const bool aligned = sde_edit_cross_at(watch->edit, watch->step, watch->steps);

	sde_edit_map(watch->edit, aligned, (size_t)site->queries, desk->source, desk->own,
		     desk->edited);
	for (size_t i = 0; i < desk->n; i++)
		desk->own[i] = desk->edited[i] - desk->own[i];
	sdk_attention_add(site, site->rows - 1, head, desk->own, desk->work);
}

static bool wants(const struct sde_watch *watch, enum sde_blend_side side,
		  const struct sdk_attention_site *site)
{
	return watch->blend && sde_blend_wants(watch->blend, side, (size_t)site->queries);
}

static void add_part(float *to, const float *from, size_t n, int parts)
{
	for (size_t i = 0; i < n; i++)
		to[i] += from[i] / (float)parts;
}

/* The means go where they are wanted. */
static int hand_over(const struct sde_watch *watch, const struct sdk_attention_site *site,
		     const struct desk *desk)
{
	const size_t queries = (size_t)site->queries, keys = (size_t)site->keys;
	int r = watch->maps ? sde_maps_add(watch->maps, queries, keys, desk->mean) : 0;

	if (r >= 0 && wants(watch, SDE_BLEND_SOURCE, site))
		r = sde_blend_add(watch->blend, SDE_BLEND_SOURCE, queries, keys, desk->source_mean);
	if (r >= 0 && wants(watch, SDE_BLEND_EDIT, site))
		r = sde_blend_add(watch->blend, SDE_BLEND_EDIT, queries, keys, desk->mean);
	return r;
}

static int after(void *userdata, const struct sdk_attention_site *site)
{
	struct sde_watch *watch = userdata;
	const bool edits =
		watch->edit && site->rows >= 2 && (size_t)site->keys == watch->edit->alignment.rows;
	const bool shown = edits && wants(watch, SDE_BLEND_SOURCE, site);
	const bool sources =
		shown || (edits && sde_edit_cross_at(watch->edit, watch->step, watch->steps));
	struct desk desk;
	int r;

	if (!sde_unet_site_is_cross(site->site))
		return 0;
	r = desk_for(watch, site, &desk);
	if (r < 0)
		return r;
	memset(desk.mean, 0, 2 * desk.n * sizeof(*desk.mean));
	for (int head = 0; head < site->heads; head++) {
		const float *seen = edits ? desk.edited : desk.own;

		sdk_attention_map(site, site->rows - 1, head, desk.work, desk.own);
		if (sources)
			sdk_attention_map(site, site->rows - 2, head, desk.work, desk.source);
		if (edits)
			edit_head(watch, site, head, &desk);
		add_part(desk.mean, seen, desk.n, site->heads);
		if (shown)
			add_part(desk.source_mean, desk.source, desk.n, site->heads);
	}
	return hand_over(watch, site, &desk);
}

const struct sdk_attention_watch *sde_watch_call(struct sde_watch *watch, size_t step, size_t steps)
{
	watch->step = step;
	watch->steps = steps;
	watch->kernel =
		(struct sdk_attention_watch){.before = before, .after = after, .userdata = watch};
	return &watch->kernel;
}

void sde_watch_blend(const struct sde_watch *watch, size_t channels, float *latents)
{
	if (watch->blend && sde_blend_at(watch->blend, watch->step, watch->steps))
		sde_blend_apply(watch->blend, channels, latents);
}

void sde_watch_clear(struct sde_watch *watch)
{
	free(watch->memory);
	watch->memory = NULL;
	watch->room = 0;
}
