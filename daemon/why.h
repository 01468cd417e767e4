/*
 * Why a job is where it is, in a sentence for people.
 */
#pragma once

#include "daemon/job.h"
#include "daemon/server.h"

/* What it waits for, does, or ended with. Never longer than size, always ended by NUL. */
void sdd_job_why(struct sdd_server *server, const struct sdd_job *job, char *text, size_t size);
