/*
 * Pixel buffers: only fully sealed memfds pass, sizes that do not fit or overflow are refused, and both ways of sending
 * give the same pixels.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "wire.h"

static int check(struct sdp_pixels p, struct sdp_error *error)
{
	memset(error, 0, sizeof(*error));
	int r = sdp_pixels_check(&p, "image", error);
	if (r < 0) {
		assert_int_equal(r, -EINVAL);
		assert_int_equal(error->code, SDP_CODE_BAD_PIXELS);
		assert_string_equal(error->field, "image");
	}
	return r;
}

static void test_seals(void **state)
{
	static const int seals[] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE};
	struct sdp_error error;

	for (int missing = 0; missing < 4; missing++) {
		int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING), add = 0;

		assert_int_equal(ftruncate(fd, 64), 0);
		for (int i = 0; i < 3; i++)
			add |= i == missing ? 0 : seals[i];
		assert_int_equal(fcntl(fd, F_ADD_SEALS, add), 0);
		struct sdp_pixels p = {.width = 4, .height = 4, .channels = 4, .fd = fd};
		assert_int_equal(check(p, &error), missing == 3 ? 0 : -EINVAL);
		if (missing < 3)
			assert_non_null(strstr(error.message, "seals"));
		close(fd);
	}
	/* neither a file nor a socket can be sealed at all */
	FILE *file = tmpfile();
	struct sdp_pixels p = {.width = 1, .height = 1, .channels = 1, .fd = fileno(file)};
	assert_int_equal(check(p, &error), -EINVAL);
	fclose(file);
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	p.fd = pair[0];
	assert_int_equal(check(p, &error), -EINVAL);
	assert_non_null(strstr(error.message, "memfd_create"));
	close(pair[0]);
	close(pair[1]);
}

static void test_sizes(void **state)
{
	static const uint8_t bytes[1024];
	struct sdp_error error;
	struct sdp_pixels fits = {
		.width = 10, .height = 10, .channels = 3, .fd = -EBADF, .data = bytes, .size = 300};
	struct sdp_pixels p = fits;

	assert_int_equal(check(p, &error), 0);
	p.size = 299;
	assert_int_equal(check(p, &error), -EINVAL);
	p = fits;
	p.offset = 1;
	assert_int_equal(check(p, &error), -EINVAL);
	p.size = 301;
	assert_int_equal(check(p, &error), 0);
	p = fits;
	p.stride = 29;
	assert_int_equal(check(p, &error), -EINVAL);
	p.stride = 32;
	p.size = 32 * 9 + 30; /* the last row needs no padding */
	assert_int_equal(check(p, &error), 0);
	p.size--;
	assert_int_equal(check(p, &error), -EINVAL);
	p = fits;
	p.type = SDP_SAMPLE_TYPE_U16;
	assert_int_equal(check(p, &error), -EINVAL);
	p.size = 600;
	assert_int_equal(check(p, &error), 0);
	p.stride = 61;
	p.size = 1024;
	assert_int_equal(check(p, &error), -EINVAL);
	p = fits;
	p.type = SDP_SAMPLE_TYPE_F32;
	p.size = 1024;
	p.width = 5;
	p.offset = 2;
	assert_int_equal(check(p, &error), -EINVAL);
	p = fits;
	p.stride = UINT64_MAX / 4; /* times the height: overflow */
	p.size = UINT64_MAX;
	assert_int_equal(check(p, &error), -EINVAL);
	p.stride = UINT64_MAX / 9 / 2;
	p.offset = UINT64_MAX - 8;
	assert_int_equal(check(p, &error), -EINVAL);

	uint64_t size;
	assert_int_equal(sdp_pixels_bytes(65536, 65536, 4, SDP_SAMPLE_TYPE_F32, &size), 0);
	assert_true(size == 65536ULL * 65536 * 16);
	assert_int_equal(sdp_buffer_new("test", 0, NULL), -EINVAL);
	assert_int_equal(sdp_buffer_new("test", UINT64_MAX, NULL), -EINVAL);
}

/* A buffer sealed by us cannot be changed by anybody, not even by who made it. */
static void test_sealed_buffer(void **state)
{
	int before = count_fds();
	struct sdp_buffer b = SDP_BUFFER_INIT;
	struct sdp_pixels p = sealed_pixels(64, 64, 1, SDP_SAMPLE_TYPE_U8, 9, &b);
	struct sdp_mapping m;
	struct sdp_error error;

	assert_null(b.data);
	assert_int_equal(ftruncate(b.fd, 0), -1);
	assert_int_equal(ftruncate(b.fd, 8192), -1);
	assert_int_equal(write(b.fd, "x", 1), -1);
	assert_ptr_equal(mmap(NULL, 64, PROT_WRITE, MAP_SHARED, b.fd, 0), MAP_FAILED);
	assert_int_equal(sdp_pixels_check(&p, "image", &error), 0);
	assert_int_equal(p.stride, 64);
	assert_int_equal(sdp_pixels_map(&p, &m, &error), 0);
	sdp_buffer_clear(&b);
	assert_int_equal(m.data[64 * 64 - 1], 9); /* the mapping outlives the descriptor */
	sdp_mapping_clear(&m);
	assert_int_equal(count_fds(), before);
}

/* By descriptor or inline, with padding or without: the receiver sees the same rows. */
static void test_both_ways(void **state)
{
	struct sdp_buffer b = SDP_BUFFER_INIT;
	uint16_t rows[3][8];

	assert_int_equal(sdp_buffer_new("test", 16 + sizeof(rows), &b), 0);
	for (unsigned i = 0; i < 24; i++)
		rows[i / 8][i % 8] = (uint16_t)(i * 2570);
	memcpy(b.data + 16, rows, sizeof(rows));
	assert_int_equal(sdp_buffer_seal(&b), 0);
	struct sdp_pixels sent = {.width = 5,
				  .height = 3,
				  .channels = 1,
				  .type = SDP_SAMPLE_TYPE_U16,
				  .stride = 16,
				  .offset = 16,
				  .fd = b.fd};
	assert_int_equal(sdp_pixels_check(&sent, "image", NULL), 0);
	for (int way = 0; way < 4; way++) {
		struct sdp_writer w = {.inline_pixels = way & 1};
		struct sdp_record *r;
		struct sdp_mapping m;
		struct sdp_error error = {0};

		sdp_writer_request(&w, 1, "job.submit");
		sdp_writer_string(&w, "kind", "img2img");
		if (way & 2) /* shift the bytes, so that inline samples lie at odd addresses too */
			sdp_writer_string(&w, "prompt", "x");
		sdp_writer_pixels(&w, "image", &sent);
		struct sdp_message *message = message_of(&w);
		assert_int_equal(message->n_fds, !(way & 1));
		assert_int_equal(
			sdp_record_decode(message, &sdp_struct_job_submit, SDP_STRICT, &r, &error),
			0);
		const struct sdp_pixels *p = sdp_record_pixels(r, SDP_JOB_SUBMIT_IMAGE);
		assert_int_equal(p->type, SDP_SAMPLE_TYPE_U16);
		assert_int_equal(sdp_pixels_map(p, &m, &error), 0);
		for (int y = 0; y < 3; y++)
			assert_memory_equal(m.data + (size_t)y * p->stride, rows[y], 10);
		assert_int_equal((uintptr_t)m.data % 2, 0);
		sdp_mapping_clear(&m);
		sdp_message_free(message);
	}
	sdp_buffer_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seals),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_sealed_buffer),
		cmocka_unit_test(test_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
