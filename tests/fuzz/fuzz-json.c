/*
 * JSON of any bytes: it parses or is refused with a reason, and what parsed can be written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/formats/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *value = NULL, *again = NULL;
	struct sde_error error = {0};
	char *text;

	if (sde_json_parse((const char *)data, size, "fuzz", &value, &error) < 0) {
		if (!error.message[0])
			abort();
		return 0;
	}
	text = json_dumps(value, JSON_COMPACT);
	if (text && (sde_json_parse(text, strlen(text), "again", &again, &error) < 0 ||
		     !json_equal(value, again)))
		abort();
	free(text);
	json_decref(value);
	json_decref(again);
	return 0;
}
