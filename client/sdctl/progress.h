/*
 * The progress line of sdctl: a bar with step counts and the time left on a terminal, nothing in a pipe; and what is said at the end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/sdctl/sdctl.h"

struct progress {
	bool visible;	/* standard error is a terminal and nobody asked for silence */
	bool drawn;	/* a line is on the screen and must be cleared */
	char label[24]; /* what is going on: "queued", "loading", "steps", ... */
};

void progress_init(struct progress *progress, bool quiet);
/* position in the queue, 0 = next */
void progress_queued(struct progress *progress, int position);
/* step of total in this stage; eta_ms < 0 = not known yet */
void progress_step(struct progress *progress, const char *stage, int step, int total,
		   int64_t eta_ms);
/* Remove the line, before anything else is printed. */
void progress_clear(struct progress *progress);

/* Of a job's result: what the artist should know, and where the time went, for people; --json has both. */
void progress_warnings(const sdc_reply *reply);
void progress_timings(const sdc_reply *reply);
