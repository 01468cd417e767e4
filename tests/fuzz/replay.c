/*
 * Runs a fuzz target over files or folders of them, so that every input that once taught us something is a test in a
 * plain build. usage: TARGET PATH...; an empty input is always tried.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path, off_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc((size_t)size + 1);

	if (!file || !data || fread(data, 1, (size_t)size, file) != (size_t)size) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(2);
	}
	fclose(file);
	uint8_t *exact = realloc(data, size ? (size_t)size : 1); /* reads beyond the end show */
	LLVMFuzzerTestOneInput(exact ? exact : data, (size_t)size);
	free(exact ? exact : data);
	return 1;
}

static int replay(const char *path)
{
	struct dirent *entry;
	char below[4096];
	struct stat st;
	int n = 0;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "no %s\n", path);
		exit(2);
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path, st.st_size);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.') {
			snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
			n += replay(below);
		}
	if (dir)
		closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	int n = 0;

	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%d inputs\n", n);
	return 0;
}
