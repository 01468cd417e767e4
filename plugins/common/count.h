/*
 * The count of tokens while somebody types: asynchronous, and the latest wins. A host asks with every change, watches the
 * descriptor as long as there is one, and shows what it is told.
 */
#pragma once

#include "plugins/common/settings.h"

struct sdh_counter;

/* A line each for prompt and negative prompt, translated: "12 of 75 tokens", what is not read, what is wrong; "" when nothing is known. */
typedef void (*sdh_counted_fn)(void *watcher, const char *prompt, const char *negative);

/* socket NULL: the client library's default. NULL without memory. */
SDH_API struct sdh_counter *sdh_counter_new(const char *socket, sdh_counted_fn counted,
					    void *watcher);
SDH_API struct sdh_counter *sdh_counter_free(struct sdh_counter *counter);
/*
 * Count what these settings (copied) would send, style and all. While an answer is awaited only the latest are kept. Connects, which takes
 * a moment; without a daemon the lines become "".
 */
SDH_API void sdh_counter_ask(struct sdh_counter *counter, const struct sdh_settings *settings);
/* -1: nothing is awaited. Else the same until dispatch says 1. */
SDH_API int sdh_counter_fd(const struct sdh_counter *counter);
/* POLLIN, or POLLIN | POLLOUT. */
SDH_API int sdh_counter_events(const struct sdh_counter *counter);
/* Handle what has come, without blocking; may tell. 1 when nothing is awaited any more: stop watching. */
SDH_API int sdh_counter_dispatch(struct sdh_counter *counter);
