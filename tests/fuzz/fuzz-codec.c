/*
 * Any message that the scanner lets through, decoded as any struct, strictly and leniently; what decodes strictly must
 * survive being written and decoded again, and must make JSON. The first byte picks the struct.
 */
#include <stdlib.h>
#include <string.h>

#include "protocol/codec.h"
#include "protocol/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sdp_message *parse(const uint8_t *bytes, size_t length)
{
	struct sdp_message *message = NULL;
	struct sdp_scanner scanner;
	size_t used;

	sdp_scanner_init(&scanner, SDP_INLINE_MAX, true);
	if (sdp_scanner_feed(&scanner, bytes, length, &used, NULL) != SDP_SCAN_COMPLETE)
		return NULL;
	uint8_t *copy = malloc(used);
	memcpy(copy, bytes, used);
	return sdp_message_new(&scanner, copy, used, NULL, 0, &message, NULL) == 0 ? message : NULL;
}

/* Written as a response: those may carry bytes whatever the struct. */
static void again(const struct sdp_record *record)
{
	struct sdp_writer w = SDP_WRITER_INIT;
	struct sdp_record *second;
	struct sdp_error error;

	sdp_writer_response(&w, 1);
	sdp_writer_record(&w, record, NULL, 0);
	if (sdp_writer_finish(&w) == 0) {
		struct sdp_message *message = parse(w.bytes, w.length);

		if (!message ||
		    sdp_record_decode(message, record->type, SDP_STRICT, &second, &error) < 0)
			abort();
		char *one = sdp_json_record(record), *two = sdp_json_record(second);
		if ((one && two && strcmp(one, two)) || !one != !two)
			abort();
		free(one);
		free(two);
		sdp_message_free(message);
	}
	sdp_writer_clear(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sdp_record *record;
	struct sdp_error error;

	if (size < 1)
		return 0;
	const struct sdp_struct *type = sdp_structs[data[0] % SDP_STRUCT_COUNT];
	struct sdp_message *message = parse(data + 1, size - 1);
	if (!message)
		return 0;
	free(sdp_json_object(&message->params));
	if (!message->failed) {
		sdp_record_decode(message, type, SDP_LENIENT, &record, &error);
		if (sdp_record_decode(message, type, SDP_STRICT, &record, &error) == 0) {
			again(record);
			if (type == &sdp_struct_job_submit)
				sdp_job_check(record, &error);
		} else if (!error.message[0]) {
			abort();
		}
	}
	sdp_message_free(message);
	return 0;
}
