/*
 * Keeping ControlNets and T2I-Adapters; see controls.h.
 */
#include "daemon/engine/adapters/controls.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/engine/adapters/open.h"
#include "daemon/engine/error.h"
#include "daemon/engine/formats/content.h"
#include "daemon/engine/model.h"

#define KEPT  2 /* beyond the ones of the running job */
#define STALE 2 /* a key that none has: they are odd */

struct kept {
	uint64_t key, used; /* content of the file; number of the job that used it last */
	struct sde_controlnet *controlnet;
	struct sde_t2i_adapter *t2i;
	uint64_t content; /* of its weights */
};

struct sde_controls {
	struct kept kept[SDE_GUIDES_MAX + KEPT]; /* key 0: free */
	uint64_t job;
};

int sde_control_kind(const char *path, const char *name, enum sde_control_kind *ret_kind,
		     struct sde_error *error)
{
	static const struct {
		const char *prefix;
		enum sde_control_kind kind;
	} marks[] = {
		{"ip_adapter.", SDE_CONTROL_IP},
		{"adapter.", SDE_CONTROL_T2I},
		{"body.", SDE_CONTROL_T2I},
		{"control_model.", SDE_CONTROL_NET},
		{"input_hint_block.", SDE_CONTROL_NET},
		{"controlnet_cond_embedding.", SDE_CONTROL_NET},
	};
	struct sde_weights *weights;
	int r;

	r = sde_adapter_open(path, &weights, NULL, error);
	if (r < 0) {
		sde_error_prefix(error, "ControlNet %s", name);
		return r;
	}
	r = -EBADMSG;
	for (size_t i = 0; r < 0 && i < sizeof(marks) / sizeof(marks[0]); i++)
		if (sde_weights_has_prefix(weights, marks[i].prefix)) {
			*ret_kind = marks[i].kind;
			r = 0;
		}
	sde_weights_free(weights);
	return r < 0 ? sde_error_set(error, r,
				     "%s is neither a ControlNet nor a T2I-Adapter nor an "
				     "IP-Adapter of a known layout",
				     name)
		     : 0;
}

static uint64_t content_of(const struct kept *kept)
{
	return sde_weights_content(kept->t2i ? kept->t2i->weights : kept->controlnet->weights);
}

static void kept_clear(struct kept *kept, struct sde_runner *runner)
{
	sde_controlnet_free(kept->controlnet, runner);
	sde_t2i_adapter_free(kept->t2i, runner);
	*kept = (struct kept){0};
}

void sde_controls_begin(struct sde_model *model)
{
	struct sde_controls *controls = model->controls;

	if (!controls)
		return;
	controls->job++;
	/* the oldest go until as many are left as are kept beside a job */
	for (;;) {
		struct kept *oldest = NULL;
		int n = 0;

		for (size_t i = 0; i < sizeof(controls->kept) / sizeof(controls->kept[0]); i++) {
			struct kept *kept = &controls->kept[i];

			if (!kept->key)
				continue;
			n++;
			if (!oldest || kept->used < oldest->used)
				oldest = kept;
		}
		if (n <= KEPT)
			return;
		kept_clear(oldest, model->runner);
	}
}

int sde_controls_get(struct sde_model *model, enum sde_control_kind kind, const char *path,
		     const char *name, struct sde_guide *guide, struct sde_error *error)
{
	const struct sde_unet_config *unet = &model->denoiser.unet.config;
	struct sde_controls *controls = model->controls;
	struct kept *vacant = NULL;
	uint64_t key;
	int r;

	if (model->denoiser.class != &sde_denoiser_unet)
		return sde_error_set(error, -ENOTSUP, "models with a %s take no guiding pictures",
				     model->denoiser.class->name);
	r = sde_adapter_content(path, &key, error);
	if (r < 0) {
		sde_error_prefix(error, "ControlNet %s", name);
		return r;
	}
	key |= 1;
	if (!controls)
		controls = model->controls = calloc(1, sizeof(*controls));
	if (!controls)
		return sde_error_set(error, -ENOMEM, "no memory for ControlNets");
	for (size_t i = 0; i < sizeof(controls->kept) / sizeof(controls->kept[0]); i++) {
		struct kept *kept = &controls->kept[i];

		/* what was written over under it must not be read again; it goes when it is the oldest */
		if (kept->key == key && content_of(kept) != kept->content)
			kept->key = STALE;
		if (kept->key == key) {
			kept->used = controls->job;
			guide->controlnet = kept->controlnet;
			guide->t2i = kept->t2i;
			return 0;
		}
		if (!kept->key)
			vacant = kept;
	}
	if (!vacant)
		return sde_error_set(error, -EINVAL, "at most %d guiding pictures", SDE_GUIDES_MAX);
	r = kind == SDE_CONTROL_T2I ? sde_t2i_adapter_load(path, name, unet, &vacant->t2i, error)
				    : sde_controlnet_load(path, name, unet, model->info.family,
							  &vacant->controlnet, error);
	if (r < 0)
		return r;
	vacant->key = key;
	vacant->content = content_of(vacant);
	vacant->used = controls->job;
	guide->controlnet = vacant->controlnet;
	guide->t2i = vacant->t2i;
	return 0;
}

void sde_controls_forget(struct sde_model *model)
{
	struct sde_controls *controls = model->controls;

	for (size_t i = 0; controls && i < sizeof(controls->kept) / sizeof(controls->kept[0]); i++)
		kept_clear(&controls->kept[i], model->runner);
	free(controls);
	model->controls = NULL;
}
