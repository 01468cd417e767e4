/*
 * JPEG in, by libjpeg. Grey stays grey, everything else becomes RGB; the profile is kept; EXIF orientation is not
 * applied, as in GIMP's and Krita's scripted loading.
 */
#include "client/sdctl/picture.h"

#include <errno.h>
#include <stdio.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

struct complaint {
	struct jpeg_error_mgr manager; /* first, so that libjpeg's pointer is ours */
	jmp_buf jump;
	char *err;
	size_t err_size;
};

static void on_exit_error(j_common_ptr common)
{
	struct complaint *complaint = (struct complaint *)common->err;
	char message[JMSG_LENGTH_MAX];

	common->err->format_message(common, message);
	snprintf(complaint->err, complaint->err_size, "JPEG: %s", message);
	longjmp(complaint->jump, 1);
}

static void on_message(j_common_ptr common, int level)
{
}

static int read_pixels(struct jpeg_decompress_struct *jpeg, struct picture *picture)
{
	JOCTET *profile;
	unsigned profile_size;
	size_t stride;
	int r;

	jpeg_save_markers(jpeg, JPEG_APP0 + 2, 0xffff);
	jpeg_read_header(jpeg, TRUE);
	if (jpeg->jpeg_color_space != JCS_GRAYSCALE)
		jpeg->out_color_space = JCS_RGB;
	jpeg_start_decompress(jpeg);
	r = picture_new((int)jpeg->output_width, (int)jpeg->output_height, jpeg->output_components,
			PICTURE_U8, picture);
	if (r < 0)
		return r;
	stride = (size_t)picture->width * (size_t)picture->channels;
	while (jpeg->output_scanline < jpeg->output_height) {
		JSAMPROW row = picture->data + stride * jpeg->output_scanline;

		jpeg_read_scanlines(jpeg, &row, 1);
	}
	if (jpeg_read_icc_profile(jpeg, &profile, &profile_size)) {
		picture->icc = profile;
		picture->icc_size = profile_size;
	}
	jpeg_finish_decompress(jpeg);
	return 0;
}

int picture_decode_jpeg(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size)
{
	struct complaint complaint = {.err = err, .err_size = err_size};
	struct jpeg_decompress_struct jpeg;
	struct picture picture = {0};
	volatile int r;

	memset(&jpeg, 0, sizeof(jpeg));
	jpeg.err = jpeg_std_error(&complaint.manager);
	complaint.manager.error_exit = on_exit_error;
	complaint.manager.emit_message = on_message;
	if (setjmp(complaint.jump) == 0) {
		jpeg_create_decompress(&jpeg);
		jpeg_mem_src(&jpeg, bytes, size);
		r = read_pixels(&jpeg, &picture);
		if (r < 0)
			snprintf(err, err_size, "JPEG: %s", strerror(-r));
	} else {
		r = -EBADMSG;
	}
	jpeg_destroy_decompress(&jpeg);
	if (r < 0)
		picture_clear(&picture);
	else
		*ret = picture;
	return r;
}
