/*
 * Load and unload the client library a hundred times, as hosts of plug-ins do: no descriptor stays, and memory does not
 * grow. usage: dlopen PATH-OF-LIBRARY
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static int count(const char *path)
{
	DIR *dir = opendir(path);
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int lines(const char *path)
{
	FILE *file = fopen(path, "r");
	int c, n = 0;

	while ((c = getc(file)) != EOF)
		n += c == '\n';
	fclose(file);
	return n;
}

int main(int argc, char **argv)
{
	int fds = 0, maps = 0;

	for (int i = 0; i < 101; i++) {
		void *library = dlopen(argv[argc - 1], RTLD_NOW | RTLD_LOCAL);
		if (!library) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		const char *(*version)(void);
		*(void **)&version = dlsym(library, "sdc_version");
		if (!version || !version()[0])
			return 1;
		dlclose(library);
		if (i == 0) {
			fds = count("/proc/self/fd");
			maps = lines("/proc/self/maps");
		}
	}
	if (count("/proc/self/fd") != fds || lines("/proc/self/maps") > maps + 2) {
		fprintf(stderr, "100 loads left %d descriptors and %d mappings behind\n",
			count("/proc/self/fd") - fds, lines("/proc/self/maps") - maps);
		return 1;
	}
	return 0;
}
