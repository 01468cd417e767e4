/*
 * Memory for what is large and comes and goes as a whole: packed weights, arenas. Whole mappings of their own, because what malloc()
 * has once given from its heap it does not give back to the system while a small neighbour lives.
 */
#pragma once

#include <stddef.h>

/* Zeroed, aligned to a page; NULL = no memory. bytes 0 is taken as 1. */
void *sdk_pages_new(size_t bytes);
/* bytes as it was given to new; NULL is fine. Returns NULL. */
void *sdk_pages_free(void *pages, size_t bytes);
