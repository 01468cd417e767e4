/*
 * From settings and a document to a job.submit. Only the choice of job and fields is made here: every rectangle, margin
 * and scale is the daemon's, so that all hosts get the same bytes.
 */
#pragma once

#include "plugins/common/host.h"

struct sdh_plan {
	const char *kind;     /* of the job */
	bool sends_canvas;    /* an image goes along */
	bool sends_selection; /* a mask goes along */
	bool inverted;	      /* the mask is everything that is not selected */
	bool everything;      /* the mask is the whole canvas */
	bool clips;	      /* txt2img came out larger than the canvas: cut to it */
	bool scales;	      /* the result is the whole picture in another size */
	int left, right, top, bottom;
};

/* What the action means for this document. SDC_E_BAD_REQUEST when it cannot be done, with what to do instead. */
int sdh_plan_init(struct sdh_plan *ret_plan, const struct sdh_settings *settings,
		  const struct sdh_document *document, sdc_error *error);
/* The canvas after it, in coordinates of the one before. */
struct sdh_rect sdh_plan_canvas(const struct sdh_plan *plan, const struct sdh_document *document);
/* The canvas that the job will leave, in coordinates of the one there is: larger after outpainting. For a preview. */
SDH_API int sdh_canvas_after(const struct sdh_host *host, const struct sdh_settings *settings,
			     struct sdh_rect *ret_canvas, sdc_error *error);
/* The request with every field but the pictures. NULL on failure. */
sdc_request *sdh_request_new(const struct sdh_plan *plan, const struct sdh_settings *settings,
			     const struct sdh_document *document, sdc_error *error);
/*
 * job.plan for the same: what of the canvas is needed when the bounds of what is repainted are `selected`. kind must be inpaint or
 * outpaint. NULL on failure.
 */
sdc_request *sdh_request_plan(const struct sdh_plan *plan, const struct sdh_settings *settings,
			      const struct sdh_document *document, struct sdh_rect selected,
			      sdc_error *error);
