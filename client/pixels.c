/*
 * Picture buffers: memory files filled by the program and sealed when a request takes them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

#define SIDE_MAX 65536
#define ICC_MAX	 (4 * 1024 * 1024)

static int check_geometry(int width, int height, int channels, int type, sdc_error *error)
{
	if (width < 1 || width > SIDE_MAX || height < 1 || height > SIDE_MAX)
		return sdc_fail(error, SDC_E_BAD_PIXELS, "%d x %d pixels; sides go from 1 to %d",
				width, height, SIDE_MAX);
	if (channels < 1 || channels > 4)
		return sdc_fail(error, SDC_E_BAD_PIXELS, "%d channels; there may be 1 to 4",
				channels);
	if (type < 0 || type >= SDP_SAMPLE_TYPE_COUNT)
		return sdc_fail(error, SDC_E_BAD_PIXELS, "sample type %d is none of enum sdc_type",
				type);
	return 0;
}

static sdc_pixels *new_pixels(int width, int height, int channels, int type, sdc_error *error)
{
	if (check_geometry(width, height, channels, type, error) < 0)
		return NULL;
	sdc_pixels *p = calloc(1, sizeof(*p));
	if (!p) {
		sdc_fail(error, SDC_E_NO_MEMORY, "out of memory");
		return NULL;
	}
	p->refs = 1;
	p->buffer = SDP_BUFFER_INIT;
	p->description = (struct sdp_pixels){
		.width = width,
		.height = height,
		.channels = channels,
		.type = (enum sdp_sample_type)type,
		.fd = -EBADF,
	};
	return p;
}

SDC_API sdc_pixels *sdc_pixels_new(int width, int height, int channels, int type,
				   sdc_error *ret_error)
{
	sdc_pixels *p = new_pixels(width, height, channels, type, ret_error);
	uint64_t size = 0;

	if (!p)
		return NULL;
	int r = sdp_pixels_bytes(width, height, channels, p->description.type, &size);
	if (r == 0)
		r = sdp_buffer_new("sdd-picture", size, &p->buffer);
	if (r < 0) {
		sdc_fail(ret_error, r == -ENOMEM ? SDC_E_NO_MEMORY : SDC_E_SYSTEM,
			 "cannot make a buffer of %llu bytes for a picture: %s",
			 (unsigned long long)size, strerror(-r));
		return sdc_pixels_free(p);
	}
	p->description.fd = p->buffer.fd;
	return p;
}

SDC_API void *sdc_pixels_data(sdc_pixels *pixels)
{
	return pixels->buffer.data;
}

SDC_API int sdc_pixels_set_icc(sdc_pixels *pixels, const void *icc, size_t size,
			       sdc_error *ret_error)
{
	if (pixels->sealed)
		return sdc_fail(ret_error, SDC_E_BAD_REQUEST,
				"the picture belongs to a request already");
	if (size == 0 || size > ICC_MAX)
		return sdc_fail(ret_error, SDC_E_BAD_PIXELS,
				"an ICC profile of %zu bytes; it may have 1 to %d", size, ICC_MAX);
	void *copy = malloc(size);
	if (!copy)
		return sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
	memcpy(copy, icc, size);
	free(pixels->icc);
	pixels->icc = copy;
	pixels->description.icc = copy;
	pixels->description.icc_size = size;
	return 0;
}

sdc_pixels *sdc_pixels_ref(sdc_pixels *pixels)
{
	pixels->refs++;
	return pixels;
}

SDC_API sdc_pixels *sdc_pixels_free(sdc_pixels *pixels)
{
	if (!pixels || --pixels->refs > 0)
		return NULL;
	sdp_buffer_clear(&pixels->buffer);
	free(pixels->icc);
	free(pixels);
	return NULL;
}

static int pixels_field(const sdc_request *request, const char *field, sdc_error *error)
{
	int index = sdp_struct_index(request->record->type, field, strlen(field));

	if (index < 0 || request->record->type->fields[index].type != SDP_TYPE_PIXELS) {
		sdc_fail(error, SDC_E_UNKNOWN_FIELD, "%s is no picture of %s", field,
			 request->method->name);
		return SDC_E_UNKNOWN_FIELD;
	}
	return index;
}

/* Put a picture into a record's field, sealed; it must outlive the record. */
static int put_pixels(struct sdp_record *record, int index, const char *field, sdc_pixels *pixels,
		      sdc_error *ret_error)
{
	struct sdp_error why;

	if (!pixels->sealed) {
		int r = sdp_buffer_seal(&pixels->buffer);

		if (r < 0)
			return sdc_fail(ret_error, SDC_E_SYSTEM, "cannot seal the picture: %s",
					strerror(-r));
		pixels->sealed = true;
	}
	if (sdp_pixels_check(&pixels->description, field, &why) < 0)
		return sdc_fail_with(ret_error, &why);
	if (sdp_record_set_pixels(record, index, &pixels->description) < 0)
		return sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
	return 0;
}

SDC_API int sdc_request_set_pixels(sdc_request *request, const char *field, sdc_pixels *pixels,
				   sdc_error *ret_error)
{
	int index = pixels_field(request, field, ret_error);
	int r;

	if (index < 0)
		return index;
	r = put_pixels(request->record, index, field, pixels, ret_error);
	if (r < 0)
		return r;
	sdc_pixels_ref(pixels);
	sdc_pixels_free(request->pixels[index]);
	request->pixels[index] = pixels;
	return 0;
}

static int take_icc(sdc_pixels *pixels, const sdc_image *image, sdc_error *error)
{
	return image->icc ? sdc_pixels_set_icc(pixels, image->icc, image->icc_size, error) : 0;
}

/* A copy of image, owned by the caller. */
static int copy_image(const sdc_image *image, sdc_pixels **ret_pixels, sdc_error *ret_error)
{
	sdc_pixels *p = sdc_pixels_new(image->width, image->height, image->channels, image->type,
				       ret_error);

	if (!p)
		return ret_error ? ret_error->code : SDC_E_BAD_PIXELS;
	size_t row = p->buffer.size / (size_t)image->height;
	size_t stride = image->stride ? image->stride : row;
	int r = stride < row ? sdc_fail(ret_error, SDC_E_BAD_PIXELS,
					"a stride of %zu bytes; a row has %zu", stride, row)
			     : take_icc(p, image, ret_error);
	if (r < 0) {
		sdc_pixels_free(p);
		return r;
	}
	for (size_t y = 0; y < (size_t)image->height; y++)
		memcpy(p->buffer.data + y * row, (const uint8_t *)image->data + y * stride, row);
	*ret_pixels = p;
	return 0;
}

SDC_API int sdc_request_set_image(sdc_request *request, const char *field, const sdc_image *image,
				  sdc_error *ret_error)
{
	sdc_pixels *p;
	int r = copy_image(image, &p, ret_error);

	if (r < 0)
		return r;
	r = sdc_request_set_pixels(request, field, p, ret_error);
	sdc_pixels_free(p);
	return r;
}

int sdc_request_hold_image(sdc_request *request, struct sdp_record *item, int index,
			   const char *list, const sdc_image *image, sdc_error *ret_error)
{
	sdc_pixels **grown, *p;
	int r;

	grown = realloc(request->held, (request->n_held + 1) * sizeof(*grown));
	if (!grown)
		return sdc_fail(ret_error, SDC_E_NO_MEMORY, "out of memory");
	request->held = grown;
	r = copy_image(image, &p, ret_error);
	if (r < 0)
		return r;
	grown[request->n_held++] = p;
	return put_pixels(item, index, list, p, ret_error);
}

SDC_API int sdc_request_add_control(sdc_request *request, const char *kind, const sdc_image *image,
				    double scale, double start, double end, sdc_error *ret_error)
{
	const double numbers[] = {scale, start, end};
	static const int fields[] = {SDP_CONTROL_SCALE, SDP_CONTROL_START, SDP_CONTROL_END};
	struct sdp_record *control;
	int r;

	r = sdc_request_append(request, "controls", &control, ret_error);
	if (r == 0)
		r = sdc_record_put_string(control, SDP_CONTROL_KIND, kind, ret_error);
	for (size_t i = 0; r == 0 && i < 3; i++)
		r = sdc_record_put_double(control, fields[i], numbers[i], ret_error);
	return r < 0 ? r
		     : sdc_request_hold_image(request, control, SDP_CONTROL_IMAGE, "controls",
					      image, ret_error);
}

SDC_API int sdc_request_add_region(sdc_request *request, const char *prompt, const sdc_image *mask,
				   int x, int y, int width, int height, double weight,
				   sdc_error *ret_error)
{
	const int sides[] = {x, y, width, height};
	struct sdp_record *region;
	int r;

	r = sdc_request_append(request, "regions", &region, ret_error);
	if (r == 0)
		r = sdc_record_put_string(region, SDP_REGION_PROMPT, prompt, ret_error);
	if (r == 0)
		r = sdc_record_put_double(region, SDP_REGION_WEIGHT, weight, ret_error);
	if (r < 0)
		return r;
	return mask ? sdc_request_hold_image(request, region, SDP_REGION_MASK, "regions", mask,
					     ret_error)
		    : sdc_record_put_rect(region, SDP_REGION_RECT, sides, ret_error);
}

SDC_API int sdc_request_add_word_weight(sdc_request *request, const char *word, double weight,
					sdc_error *ret_error)
{
	struct sdp_record *item;
	int r;

	r = sdc_request_append(request, "word_weights", &item, ret_error);
	if (r == 0)
		r = sdc_record_put_string(item, SDP_WORD_WEIGHT_WORD, word, ret_error);
	return r < 0 ? r : sdc_record_put_double(item, SDP_WORD_WEIGHT_WEIGHT, weight, ret_error);
}

SDC_API int sdc_request_set_image_fd(sdc_request *request, const char *field,
				     const sdc_image *image, int fd, uint64_t offset,
				     sdc_error *ret_error)
{
	sdc_pixels *p =
		new_pixels(image->width, image->height, image->channels, image->type, ret_error);

	if (!p)
		return ret_error ? ret_error->code : SDC_E_BAD_PIXELS;
	int r = take_icc(p, image, ret_error);
	p->buffer.fd = r == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -EBADF;
	if (r == 0 && p->buffer.fd < 0)
		r = sdc_fail(ret_error, SDC_E_SYSTEM,
			     "cannot duplicate the picture's descriptor: %s", strerror(errno));
	p->description.fd = p->buffer.fd;
	p->description.offset = offset;
	p->description.stride = image->stride;
	p->sealed = true; /* by its owner; the check refuses it otherwise */
	if (r == 0)
		r = sdc_request_set_pixels(request, field, p, ret_error);
	sdc_pixels_free(p);
	return r;
}
