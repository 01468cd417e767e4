/*
 * sdd.conf of any bytes: refused with a reason that names the line, or its effective form, read again, says the same.
 */
#include "daemon/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *dump(const struct sdd_config *config)
{
	char *text = NULL;
	size_t length;
	FILE *file = open_memstream(&text, &length);

	if (!file)
		abort();
	sdd_config_dump(config, file);
	fclose(file);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sdd_config config, again;
	struct sdd_config_error error = {0};

	sdd_config_init(&config);
	sdd_config_init(&again);
	if (sdd_config_parse(&config, "fuzz", (const char *)data, size, &error) == 0) {
		char *one = dump(&config), *two;

		if (sdd_config_parse(&again, "again", one, strlen(one), &error) < 0)
			abort();
		two = dump(&again);
		if (strcmp(one, two) != 0)
			abort();
		free(one);
		free(two);
	} else if (strncmp(error.message, "fuzz", 4) != 0) {
		abort();
	}
	sdd_config_clear(&config);
	sdd_config_clear(&again);
	return 0;
}
