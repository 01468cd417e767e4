/*
 * TIFF in, by libtiff: 8 and 16 bit integers and 32 bit floats with 1-4 channels in strips are read as they are;
 * everything else that libtiff can show (palettes, tiles, CMYK, 1 bit) goes through its RGBA view at 8 bit.
 */
#include "client/sdctl/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

struct source {
	const uint8_t *bytes;
	toff_t size, at;
};

static tsize_t on_read(thandle_t handle, tdata_t out, tsize_t n)
{
	struct source *source = handle;

	if (source->at >= source->size || n < 0)
		return 0;
	if ((toff_t)n > source->size - source->at)
		n = (tsize_t)(source->size - source->at);
	memcpy(out, source->bytes + source->at, (size_t)n);
	source->at += (toff_t)n;
	return n;
}

static tsize_t on_write(thandle_t handle, tdata_t data, tsize_t n)
{
	return 0;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
	struct source *source = handle;

	source->at = whence == SEEK_SET	  ? offset
		     : whence == SEEK_CUR ? source->at + offset
					  : source->size + offset;
	return source->at;
}

static int on_close(thandle_t handle)
{
	return 0;
}

static toff_t on_size(thandle_t handle)
{
	return ((struct source *)handle)->size;
}

static int read_plain(TIFF *tiff, struct picture *picture)
{
	const size_t stride = (size_t)picture->width * (size_t)picture->channels *
			      picture_type_size(picture->type);

	for (int y = 0; y < picture->height; y++) {
		if (TIFFReadScanline(tiff, picture->data + stride * (size_t)y, (uint32_t)y, 0) < 0)
			return -EBADMSG;
	}
	return 0;
}

static int read_rgba(TIFF *tiff, struct picture *picture)
{
	return TIFFReadRGBAImageOriented(tiff, (uint32_t)picture->width, (uint32_t)picture->height,
					 (uint32_t *)picture->data, ORIENTATION_TOPLEFT, 1)
		       ? 0
		       : -EBADMSG;
}

int picture_decode_tiff(const uint8_t *bytes, size_t size, struct picture *ret, char *err,
			size_t err_size)
{
	uint16_t channels = 1, bits = 1, format = SAMPLEFORMAT_UINT, planar = PLANARCONFIG_CONTIG;
	uint16_t photometric = PHOTOMETRIC_MINISBLACK;
	struct source source = {bytes, size, 0};
	struct picture picture = {0};
	uint32_t width = 0, height = 0, profile_size = 0;
	enum picture_type type;
	void *profile;
	bool plain;
	TIFF *tiff;
	int r;

	TIFFSetWarningHandler(NULL);
	TIFFSetErrorHandler(NULL);
	tiff = TIFFClientOpen("picture", "rm", &source, on_read, on_write, on_seek, on_close,
			      on_size, NULL, NULL);
	if (!tiff) {
		snprintf(err, err_size, "TIFF: the header is damaged");
		return -EBADMSG;
	}
	TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
	TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &channels);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
	TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &photometric);
	plain = planar == PLANARCONFIG_CONTIG && channels >= 1 && channels <= 4 &&
		!TIFFIsTiled(tiff) &&
		(photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_RGB) &&
		((format == SAMPLEFORMAT_UINT && (bits == 8 || bits == 16)) ||
		 (format == SAMPLEFORMAT_IEEEFP && bits == 32));
	type = !plain || bits == 8 ? PICTURE_U8 : bits == 16 ? PICTURE_U16 : PICTURE_F32;
	r = width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE
		    ? -EINVAL
		    : picture_new((int)width, (int)height, plain ? channels : 4, type, &picture);
	if (r == 0)
		r = plain ? read_plain(tiff, &picture) : read_rgba(tiff, &picture);
	if (r == 0 && TIFFGetField(tiff, TIFFTAG_ICCPROFILE, &profile_size, &profile) &&
	    profile_size > 0) {
		picture.icc = malloc(profile_size);
		if (picture.icc) {
			memcpy(picture.icc, profile, profile_size);
			picture.icc_size = profile_size;
		} else {
			r = -ENOMEM;
		}
	}
	TIFFClose(tiff);
	if (r < 0) {
		snprintf(err, err_size, "TIFF: %s",
			 r == -EBADMSG ? "the data is damaged" : strerror(-r));
		picture_clear(&picture);
		return r;
	}
	*ret = picture;
	return 0;
}
