/*
 * The scanner's claims: bombs are refused at their header, each limit holds to the byte, a message cut anywhere waits for
 * its rest, and what it lets through msgpack-c can parse.
 */
#include "wire.h"

static int scan(const void *bytes, size_t length, size_t *ret_used)
{
	struct sdp_scanner s;
	struct sdp_error error = {0};
	size_t used = 0;

	sdp_scanner_init(&s, SDP_INLINE_MAX, true);
	int r = sdp_scanner_feed(&s, bytes, length, &used, &error);
	if (r < 0) {
		assert_int_equal(r, -EPROTO);
		assert_int_equal(error.code, SDP_CODE_BAD_MESSAGE);
		assert_true(error.message[0]);
	}
	if (ret_used)
		*ret_used = used;
	return r;
}

#define SCAN(text) scan(text, sizeof(text) - 1, NULL)

static void test_bombs(void **state)
{
	static const char ping[] = "\x94\x00\x01\xa4ping\x91";

	assert_int_equal(SCAN("\xdd\x03\x00\x00\x00"), -EPROTO);
	assert_int_equal(SCAN("\xdf\x03\x00\x00\x00"), -EPROTO);
	assert_int_equal(SCAN("\xc9\xff\xff\xff\xff\x01"), -EPROTO);
	/* the same where a value may stand */
	static const char *const values[] = {"\xdd\x03\x00\x00\x00", "\xdd\xff\xff\xff\xff",
					     "\xdf\x03\x00\x00\x00", "\xdf\xff\xff\xff\xff",
					     "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff"};
	for (size_t i = 0; i < 6; i++) {
		char bytes[64];
		size_t n = sizeof(ping) - 1;

		memcpy(bytes, ping, n);
		memcpy(bytes + n, "\x81\xa1x", 3);
		memcpy(bytes + n + 3, values[i], 5);
		assert_int_equal(scan(bytes, n + 8, NULL), -EPROTO);
		assert_int_equal(scan(bytes, n + 7, NULL), SDP_SCAN_MORE);
	}
	assert_int_equal(SCAN("\xc1"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x81\xa1x\xc7\x08\x01"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x81\xa1x\xd4\x02"), -EPROTO);
}

static void test_envelope(void **state)
{
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x80"), SDP_SCAN_COMPLETE);
	assert_int_equal(SCAN("\x93\x02\xa4ping\x91\x80"), SDP_SCAN_COMPLETE);
	assert_int_equal(SCAN("\x94\x01\xce\xff\xff\xff\xff\xc0\x80"), SDP_SCAN_COMPLETE);
	assert_int_equal(SCAN("\x94\x01\x01\x94\x01\xa1x\xa1y\x80\xc0"), SDP_SCAN_COMPLETE);
	assert_int_equal(SCAN("\x80"), -EPROTO);
	assert_int_equal(SCAN("\x90"), -EPROTO);
	assert_int_equal(SCAN("\x95"), -EPROTO);
	assert_int_equal(SCAN("\x94\x02"), -EPROTO);
	assert_int_equal(SCAN("\x93\x00"), -EPROTO);
	assert_int_equal(SCAN("\x94\x03"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\xff"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa0"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa1\x80"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xd9\x21"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x90"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x92"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\xc0"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x81\x01"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x81\xa0"), -EPROTO);
	assert_int_equal(SCAN("\x94\x01\x01\x93"), -EPROTO);
	assert_int_equal(SCAN("\x94\x01\x01\xc0\x01"), -EPROTO);
	assert_int_equal(SCAN("\x94\x00\x01\xa4ping\x91\x81\xa1x\xc4\x01"), -EPROTO);
}

/* ping with a value nested so that the message is `depth` levels deep. */
static int scan_nested(unsigned depth)
{
	uint8_t bytes[16384] = "\x94\x00\x01\xa4ping\x91\x81\xa1x";
	size_t n = 12;

	assert_int_equal(strlen((char *)bytes + 2), 10);
	for (unsigned i = 3; i < depth; i++)
		bytes[n++] = 0x91;
	bytes[n++] = 0xc0;
	return scan(bytes, n, NULL);
}

static void test_depth(void **state)
{
	assert_int_equal(scan_nested(SDP_DEPTH_MAX), SDP_SCAN_COMPLETE);
	assert_int_equal(scan_nested(SDP_DEPTH_MAX + 1), -EPROTO);
	assert_int_equal(scan_nested(33), -EPROTO);
	assert_int_equal(scan_nested(10000), -EPROTO);
}

static int scan_list(uint16_t count)
{
	static uint8_t bytes[70000];
	size_t n = 12;

	memcpy(bytes, "\x94\x00\x01\xa4ping\x91\x81\xa1x", n);
	bytes[n++] = 0xdc;
	bytes[n++] = (uint8_t)(count >> 8);
	bytes[n++] = (uint8_t)count;
	memset(bytes + n, 0xc0, count);
	return scan(bytes, n + count, NULL);
}

static void test_items(void **state)
{
	/* 4 in the envelope, 1 map, 2 in it */
	assert_int_equal(scan_list(SDP_ITEMS_MAX - 7), SDP_SCAN_COMPLETE);
	assert_int_equal(scan_list(SDP_ITEMS_MAX - 6), -EPROTO);
}

static int scan_string(uint32_t size)
{
	static uint8_t bytes[70000];
	size_t n = 12;

	memcpy(bytes, "\x94\x00\x01\xa4ping\x91\x81\xa1x", n);
	bytes[n++] = 0xdb;
	for (int shift = 24; shift >= 0; shift -= 8)
		bytes[n++] = (uint8_t)(size >> shift);
	memset(bytes + n, 'a', size);
	return scan(bytes, n + size, NULL);
}

static void test_bytes(void **state)
{
	assert_int_equal(scan_string(SDP_CONTROL_MAX - 17), SDP_SCAN_COMPLETE);
	assert_int_equal(scan_string(SDP_CONTROL_MAX - 16), -EPROTO);
}

/* job.submit with a bin of size bytes; only its header is fed. */
static int scan_bin(uint32_t size, size_t inline_max)
{
	uint8_t bytes[64] = "\x94\x00\x01\xaajob.submit\x91\x81\xa1x\xc6";
	struct sdp_scanner s;
	size_t n = 19, used;

	for (int shift = 24; shift >= 0; shift -= 8)
		bytes[n++] = (uint8_t)(size >> shift);
	sdp_scanner_init(&s, inline_max, false);
	return sdp_scanner_feed(&s, bytes, n, &used, NULL);
}

static void test_inline(void **state)
{
	assert_int_equal(scan_bin(1 << 20, 1 << 20), SDP_SCAN_MORE);
	assert_int_equal(scan_bin((1 << 20) + 1, 1 << 20), -EPROTO);
	assert_int_equal(scan_bin(1000, 0), SDP_SCAN_MORE); /* small ones count as control bytes */
	assert_int_equal(scan_bin(SDP_CONTROL_MAX, 0), -EPROTO);
}

static void test_inline_results(void **state)
{
	static const uint8_t reply[] = "\x94\x01\x01\xc0\x81\xa1x\xc4\x02xx";
	struct sdp_scanner s;
	size_t used;

	sdp_scanner_init(&s, 1024, true);
	assert_int_equal(sdp_scanner_feed(&s, reply, sizeof(reply) - 1, &used, NULL),
			 SDP_SCAN_COMPLETE);
	sdp_scanner_init(&s, 1024, false);
	assert_int_equal(sdp_scanner_feed(&s, reply, sizeof(reply) - 1, &used, NULL), -EPROTO);
}

static int scan_descriptors(unsigned count, uint8_t first)
{
	uint8_t bytes[128] = "\x94\x00\x01\xa4ping\x91\x81\xa1x";
	size_t n = 12;
	struct sdp_scanner s;
	size_t used;

	bytes[n++] = 0xdc;
	bytes[n++] = 0;
	bytes[n++] = (uint8_t)count;
	for (unsigned i = 0; i < count; i++) {
		bytes[n++] = 0xd4;
		bytes[n++] = SDP_EXT_FD;
		bytes[n++] = (uint8_t)(first + i);
	}
	sdp_scanner_init(&s, 0, false);
	int r = sdp_scanner_feed(&s, bytes, n, &used, NULL);
	if (r == SDP_SCAN_COMPLETE)
		assert_int_equal(s.n_fds, count);
	return r;
}

static void test_descriptors(void **state)
{
	assert_int_equal(scan_descriptors(1, 0), SDP_SCAN_COMPLETE);
	assert_int_equal(scan_descriptors(SDP_FDS_MAX, 0), SDP_SCAN_COMPLETE);
	assert_int_equal(scan_descriptors(SDP_FDS_MAX + 1, 0), -EPROTO);
	assert_int_equal(scan_descriptors(1, 1), -EPROTO);
}

static void write_sample(struct sdp_writer *w, int which)
{
	static const uint8_t icc[300] = {1};
	struct sdp_pixels pixels = {.width = 3,
				    .height = 2,
				    .channels = 4,
				    .fd = -EBADF,
				    .data = icc,
				    .size = 24,
				    .stride = 12,
				    .icc = icc,
				    .icc_size = 300};
	struct sdp_error error = {.code = SDP_CODE_BUSY, .retry_ms = 70000, .message = "busy"};

	switch (which) {
	case 0:
		sdp_writer_request(w, 70000, "job.submit");
		sdp_writer_string(w, "kind", "inpaint");
		sdp_writer_double(w, "strength", 0.5);
		sdp_writer_rect(w, "select", (struct sdp_rect){-1, -70000, 300, 1});
		sdp_writer_pixels(w, "image", &pixels);
		break;
	case 1:
		sdp_writer_failure(w, 3, &error);
		break;
	case 2:
		sdp_writer_event(w, "job.progress");
		sdp_writer_int(w, "job", 1LL << 40);
		sdp_writer_bool(w, "x", true);
		break;
	default:
		sdp_writer_response(w, 9);
		sdp_writer_list_begin(w, "images");
		sdp_writer_map_begin(w, NULL);
		sdp_writer_pixels(w, "pixels", &pixels);
		break;
	}
	assert_int_equal(sdp_writer_finish(w), 0);
}

/* Every message cut at every byte waits; fed byte by byte it completes exactly at its end, with trailing bytes untouched. */
static void test_cuts(void **state)
{
	for (int which = 0; which < 4; which++) {
		struct sdp_writer w = SDP_WRITER_INIT;
		struct sdp_scanner s;
		size_t used;

		write_sample(&w, which);
		for (size_t cut = 0; cut < w.length; cut++) {
			sdp_scanner_init(&s, SDP_INLINE_MAX, true);
			assert_int_equal(sdp_scanner_feed(&s, w.bytes, cut, &used, NULL),
					 SDP_SCAN_MORE);
			assert_int_equal(used, cut);
			assert_int_equal(
				sdp_scanner_feed(&s, w.bytes + cut, w.length - cut, &used, NULL),
				SDP_SCAN_COMPLETE);
			assert_int_equal(s.total, w.length);
		}
		sdp_scanner_reset(&s);
		for (size_t i = 0; i < w.length; i++)
			assert_int_equal(sdp_scanner_feed(&s, w.bytes + i, 1, &used, NULL),
					 i + 1 < w.length ? SDP_SCAN_MORE : SDP_SCAN_COMPLETE);
		uint8_t *twice = malloc(w.length * 2);
		memcpy(twice, w.bytes, w.length);
		memcpy(twice + w.length, w.bytes, w.length);
		assert_int_equal(scan(twice, w.length * 2, &used), SDP_SCAN_COMPLETE);
		assert_int_equal(used, w.length);
		free(twice);
		sdp_writer_clear(&w);
	}
}

static void test_refusal_sticks(void **state)
{
	struct sdp_scanner s;
	size_t used;

	sdp_scanner_init(&s, 0, false);
	assert_int_equal(sdp_scanner_feed(&s, (const uint8_t *)"\xc1", 1, &used, NULL), -EPROTO);
	assert_int_equal(sdp_scanner_feed(&s, (const uint8_t *)"\x94", 1, &used, NULL), -EPROTO);
	sdp_scanner_reset(&s);
	assert_int_equal(sdp_scanner_feed(&s, (const uint8_t *)"\x94", 1, &used, NULL),
			 SDP_SCAN_MORE);
}

/* A million random frames, begun like messages: nothing grows, nothing crashes, what passes is parsed. */
static void test_random(void **state)
{
	uint64_t x = 88172645463325252u;
	unsigned complete = 0;

	for (int i = 0; i < 1000000; i++) {
		uint8_t bytes[32] = "\x93\x02\xa4ping\x91\x81\xa1x";
		size_t used = 0;

		for (size_t k = i % 2 ? 11 : 0; k < sizeof(bytes); k += 8) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			memcpy(bytes + k, &x, sizeof(bytes) - k < 8 ? sizeof(bytes) - k : 8);
		}
		struct sdp_scanner s;
		sdp_scanner_init(&s, 0, false);
		if (sdp_scanner_feed(&s, bytes, sizeof(bytes), &used, NULL) != SDP_SCAN_COMPLETE)
			continue;
		complete++;
		if (complete % 100 == 0 && s.n_fds == 0) {
			struct sdp_message *m = NULL;
			uint8_t *copy = malloc(used);

			memcpy(copy, bytes, used);
			assert_int_equal(sdp_message_new(&s, copy, used, NULL, 0, &m, NULL), 0);
			sdp_message_free(m);
		}
	}
	assert_true(complete > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bombs),	       cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_depth),	       cmocka_unit_test(test_items),
		cmocka_unit_test(test_bytes),	       cmocka_unit_test(test_inline),
		cmocka_unit_test(test_inline_results), cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_cuts),	       cmocka_unit_test(test_refusal_sticks),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
