/*
 * Anonymous mappings; see pages.h.
 */
#include "kernels/pages.h"

#include <sys/mman.h>

void *sdk_pages_new(size_t bytes)
{
	void *pages = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

void *sdk_pages_free(void *pages, size_t bytes)
{
	if (pages)
		munmap(pages, bytes ? bytes : 1);
	return NULL;
}
