/*
 * Linked into sdd-vanishing (--wrap=access): a model's folder that goes just before sdd looks whether it is there for the n-th time, which
 * by chance alone happens once in a blue moon. $SDD_TEST_VANISH is the folder, $SDD_TEST_VANISH_TO where it goes, $SDD_TEST_VANISH_AT n.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

int __wrap_access(const char *path, int mode)
{
	static atomic_int looks;
	const char *folder = getenv("SDD_TEST_VANISH"), *to = getenv("SDD_TEST_VANISH_TO");
	const char *at = getenv("SDD_TEST_VANISH_AT");

	if (folder && to && at && strcmp(path, folder) == 0 &&
	    atomic_fetch_add(&looks, 1) + 1 == atoi(at) && rename(folder, to) < 0)
		abort();
	return __real_access(path, mode);
}
