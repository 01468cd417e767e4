/*
 * From a job's answer to layers: names, stored parameters, places.
 */
#pragma once

#include "plugins/common/request.h"

#define SDH_PARASITE "sdd-parameters" /* what hosts that have named attachments call it */

/* Hand the answer's pictures to the host. Nothing was added when it fails. */
int sdh_results_deliver(const sdc_reply *reply, const struct sdh_host *host,
			const struct sdh_settings *settings, const struct sdh_plan *plan,
			const struct sdh_document *document, sdc_error *error);
