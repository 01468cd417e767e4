/*
 * The progress line of sdctl: a bar with step counts and the time left on a terminal, nothing in a pipe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

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
