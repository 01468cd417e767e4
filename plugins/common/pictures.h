/*
 * What travels with a job: as much of canvas and selection as the daemon will look at, read from the host without a copy in
 * between. A selection's own bounds are read first, since the daemon must know them to say what it needs.
 */
#pragma once

#include "plugins/common/request.h"

/* The selection as a mask, inside `area` alone. */
struct sdh_mask {
	struct sdh_rect area;
	struct sdh_rect bounds; /* of what is repainted; width 0: nothing or not known */
	int type;		/* SDC_U8 or SDC_F32 */
	void *pixels;		/* malloc'd; NULL: everything, or no mask */
};

/*
 * Read what is selected. The selection that was used is noted in *settings; it is taken from there when the document has none.
 * SDC_E_BAD_REQUEST when nothing is.
 */
int sdh_mask_read(const struct sdh_plan *plan, const struct sdh_host *host,
		  const struct sdh_document *document, struct sdh_settings *settings,
		  struct sdh_mask *ret_mask, sdc_error *error);
void sdh_mask_clear(struct sdh_mask *mask);

/*
 * Ask the daemon which part of the canvas the job needs. It is all of it for kinds that need all, and when a daemon of an older
 * version or one without an engine just now does not say; other failures are those that the job itself would end with.
 */
int sdh_area_ask(sdc_client *client, const struct sdh_plan *plan,
		 const struct sdh_settings *settings, const struct sdh_document *document,
		 const struct sdh_mask *mask, struct sdh_rect *ret_area, sdc_error *error);

/* Put the canvas' area, and the mask's, into the request. *ret_bytes: how many travel. */
int sdh_pictures_attach(sdc_request *request, const struct sdh_plan *plan,
			const struct sdh_host *host, const struct sdh_document *document,
			const struct sdh_mask *mask, struct sdh_rect area, size_t *ret_bytes,
			sdc_error *error);
