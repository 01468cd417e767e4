/*
 * When a waiting job steps together with those that run, instead of behind them: jobs of one model, class and shape, without
 * adapters, of small pictures (sdd.conf's batch-pixels), and as long as it was not found that this is no faster. The worker finds
 * that out, by trying both ways at the first steps in company, and tells (worker.batched); it also sees to it that each picture is
 * the one that the job alone would get. What it told is forgotten after a while: machines are busy now and idle then.
 */
#pragma once

#include "daemon/server.h"

/* Whether this job, whose turn is next, may begin beside those that run. */
bool sdd_batch_joins(struct sdd_server *server, const struct sdd_job *job);
/* It does. */
void sdd_batch_note_join(struct sdd_server *server, const struct sdd_job *job);
/* So many jobs shaped like this one were speedup times as fast together; 0: they cannot be. */
void sdd_batch_learn(struct sdd_server *server, const struct sdd_job *job, int jobs,
		     double speedup);
