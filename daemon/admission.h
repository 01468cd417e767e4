/*
 * Whether a job's memory fits, decided before it is accepted and again when it starts: everything at once, or, where the budget asks for it, one
 * part of the model after the other. What fits in neither way is refused with what would fit.
 */
#pragma once

#include "daemon/server.h"

struct sdd_admission {
	uint64_t needed_bytes;
	bool staged;
};

/*
 * job: the record of job_parameters (or job_submit, worker_run), NULL for loading alone. form: of the weights, NULL = what was chosen for the model, else what it
 * or sdd.conf says. 0, or -ENOMEM with *ret_error: no_memory with
 * needed_bytes, free_bytes and the remedy. Looks into the model's files when they have changed since they were last read.
 */
int sdd_admission_check(struct sdd_server *server, struct sdd_model *model,
			const struct sdp_record *job, const enum sdp_weights_form *form,
			struct sdd_admission *ret_admission, struct sdp_error *ret_error);

/* Whether so many jobs of this one's shape fit as one batch, whole, beside what is in memory now. Also for a model that is not known. */
bool sdd_admission_fits_batch(struct sdd_server *server, const struct sdd_model *model,
			      const struct sdp_record *job, int jobs);
