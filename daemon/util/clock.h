/*
 * The one clock of the daemon: monotonic microseconds, as sd-event's timers and the connection's figures use them.
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t sdd_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}
