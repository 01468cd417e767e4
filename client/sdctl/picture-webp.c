/*
 * WebP in, by libwebp: RGB, or RGBA when the file has alpha. Profiles come from the container by libwebpdemux.
 */
#include "client/sdctl/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

static int read_profile(const uint8_t *bytes, size_t size, struct picture *picture)
{
	WebPData data = {bytes, size};
	WebPChunkIterator chunk;
	WebPDemuxer *demuxer = WebPDemux(&data);
	int r = 0;

	if (!demuxer)
		return 0;
	if (WebPDemuxGetChunk(demuxer, "ICCP", 1, &chunk)) {
		picture->icc = malloc(chunk.chunk.size);
		if (picture->icc) {
			memcpy(picture->icc, chunk.chunk.bytes, chunk.chunk.size);
			picture->icc_size = chunk.chunk.size;
		} else {
			r = -ENOMEM;
		}
		WebPDemuxReleaseChunkIterator(&chunk);
	}
	WebPDemuxDelete(demuxer);
	return r;
}

int picture_decode_webp(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size)
{
	WebPBitstreamFeatures features;
	struct picture picture = {0};
	size_t stride, total;
	uint8_t *decoded;
	int r;

	if (WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK) {
		snprintf(err, err_size, "WebP: the header is damaged");
		return -EBADMSG;
	}
	if (features.has_animation) {
		snprintf(err, err_size, "WebP: an animation; give a single picture");
		return -EBADMSG;
	}
	r = picture_new(features.width, features.height, features.has_alpha ? 4 : 3, PICTURE_U8,
			&picture);
	if (r < 0) {
		snprintf(err, err_size, "WebP: %s", strerror(-r));
		return r;
	}
	stride = (size_t)picture.width * (size_t)picture.channels;
	total = stride * (size_t)picture.height;
	decoded = features.has_alpha
			  ? WebPDecodeRGBAInto(bytes, size, picture.data, total, (int)stride)
			  : WebPDecodeRGBInto(bytes, size, picture.data, total, (int)stride);
	r = decoded ? read_profile(bytes, size, &picture) : -EBADMSG;
	if (r < 0) {
		snprintf(err, err_size, "WebP: %s",
			 r == -ENOMEM ? "out of memory" : "the data is damaged");
		picture_clear(&picture);
		return r;
	}
	*ret = picture;
	return 0;
}
