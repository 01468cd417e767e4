/*
 * Scaling: see resample.h. One table of weights serves both versions; Pillow's u8 path (as of Pillow 12) turns it to fixed point with 22
 * bits and rounds to u8 after each pass, horizontal first, and skips a pass that would not change a size.
 */
#include "daemon/engine/pixels/resample.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIXED_BITS (32 - 8 - 2) /* Pillow's PRECISION_BITS */

static double filter_box(double x)
{
	return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double filter_bilinear(double x)
{
	x = fabs(x);
	return x < 1.0 ? 1.0 - x : 0.0;
}

static double filter_bicubic(double x)
{
	const double a = -0.5;

	x = fabs(x);
	if (x < 1.0)
		return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
	if (x < 2.0)
		return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
	return 0.0;
}

static double sinc(double x)
{
	if (x == 0.0)
		return 1.0;
	x *= M_PI;
	return sin(x) / x;
}

static double filter_lanczos(double x)
{
	return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

static const struct {
	double (*function)(double x);
	double support;
} filters[] = {
	[SDE_FILTER_BOX] = {filter_box, 0.5},
	[SDE_FILTER_BILINEAR] = {filter_bilinear, 1.0},
	[SDE_FILTER_BICUBIC] = {filter_bicubic, 2.0},
	[SDE_FILTER_LANCZOS] = {filter_lanczos, 3.0},
};

/* For each output place: which source places count, and how much. */
struct taps {
	uint32_t *first, *count;
	double *weights; /* out x most */
	size_t most;
};

static void taps_clear(struct taps *taps)
{
	free(taps->first);
	free(taps->count);
	free(taps->weights);
	*taps = (struct taps){0};
}

static int taps_init(struct taps *ret_taps, uint32_t in, double from, double to, uint32_t out,
		     enum sde_filter filter, struct sde_error *ret_error)
{
	const double scale = (to - from) / out, stretch = scale < 1.0 ? 1.0 : scale;
	const double support = filters[filter].support * stretch, narrow = 1.0 / stretch;
	struct taps taps = {.most = (size_t)ceil(support) * 2 + 1};
	size_t cells;

	if (__builtin_mul_overflow(taps.most, (size_t)out, &cells))
		return sde_error_set(ret_error, -EOVERFLOW,
				     "scaling to %u pixels does not fit in memory", out);
	taps.first = calloc(out, sizeof(*taps.first));
	taps.count = calloc(out, sizeof(*taps.count));
	taps.weights = calloc(cells, sizeof(*taps.weights));
	if (!taps.first || !taps.count || !taps.weights) {
		taps_clear(&taps);
		return sde_error_set(ret_error, -ENOMEM, "no memory to scale %u pixels to %u", in,
				     out);
	}
	for (uint32_t i = 0; i < out; i++) {
		const double center = from + (i + 0.5) * scale;
		double *w = taps.weights + i * taps.most, sum = 0.0;
		int64_t first = (int64_t)(center - support + 0.5);
		int64_t last = (int64_t)(center + support + 0.5);

		if (first < 0)
			first = 0;
		if (last > in)
			last = in;
		for (int64_t x = first; x < last; x++) {
			w[x - first] = filters[filter].function((x - center + 0.5) * narrow);
			sum += w[x - first];
		}
		for (int64_t x = first; sum != 0.0 && x < last; x++)
			w[x - first] /= sum;
		taps.first[i] = (uint32_t)first;
		taps.count[i] = (uint32_t)(last - first);
	}
	*ret_taps = taps;
	return 0;
}

static int check_sizes(uint32_t width, uint32_t height, uint32_t channels,
		       const struct sde_box *box, uint32_t out_width, uint32_t out_height,
		       struct sde_error *ret_error)
{
	if (width == 0 || height == 0 || out_width == 0 || out_height == 0 || channels == 0 ||
	    out_width > SDE_IMAGE_MAX_SIDE || out_height > SDE_IMAGE_MAX_SIDE)
		return sde_error_set(
			ret_error, -EINVAL,
			"cannot scale %u x %u pixels to %u x %u: sides must be 1 to %u", width,
			height, out_width, out_height, SDE_IMAGE_MAX_SIDE);
	if (!(box->x0 >= 0 && box->y0 >= 0 && box->x1 >= box->x0 && box->y1 >= box->y0 &&
	      box->x1 <= width && box->y1 <= height))
		return sde_error_set(
			ret_error, -EINVAL,
			"the part to scale, %g,%g to %g,%g, does not lie inside %u x %u", box->x0,
			box->y0, box->x1, box->y1, width, height);
	return 0;
}

static uint8_t clip_fixed(int64_t sum)
{
	const int64_t value = sum >> FIXED_BITS;

	return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value;
}

static int32_t *fixed_weights(const struct taps *taps, uint32_t out)
{
	const size_t cells = taps->most * out;
	int32_t *fixed = calloc(cells, sizeof(*fixed));

	for (size_t i = 0; fixed && i < cells; i++) {
		const double scaled = taps->weights[i] * (1 << FIXED_BITS);

		fixed[i] = (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
	}
	return fixed;
}

/* Along a row: out[i] from in; step is the distance in bytes between neighbours, in both. */
static void line_u8(const struct taps *taps, const int32_t *fixed, uint32_t out_count,
		    const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step)
{
	for (uint32_t i = 0; i < out_count; i++) {
		const int32_t *w = fixed + i * taps->most;
		const uint8_t *from = in + taps->first[i] * in_step;
		int64_t sum = 1 << (FIXED_BITS - 1);

		for (uint32_t k = 0; k < taps->count[i]; k++)
			sum += (int64_t)w[k] * from[k * in_step];
		out[i * out_step] = clip_fixed(sum);
	}
}

/* One pass over all rows or all columns. */
static int pass_u8(const struct sde_image *image, bool horizontal, double from, double to,
		   uint32_t out, enum sde_filter filter, struct sde_image *ret_image,
		   struct sde_error *ret_error)
{
	const uint32_t in = horizontal ? image->width : image->height;
	const uint32_t lines = horizontal ? image->height : image->width;
	struct taps taps;
	struct sde_image result;
	int32_t *fixed;
	int r;

	r = taps_init(&taps, in, from, to, out, filter, ret_error);
	if (r < 0)
		return r;
	fixed = fixed_weights(&taps, out);
	if (!fixed) {
		taps_clear(&taps);
		return sde_error_set(ret_error, -ENOMEM, "no memory to scale %u pixels to %u", in,
				     out);
	}
	r = sde_image_new(horizontal ? out : image->width, horizontal ? image->height : out,
			  image->channels, SDE_PIXEL_U8, &result, ret_error);
	if (r == 0) {
		result.linear = image->linear;
		for (uint32_t i = 0; i < lines; i++)
			for (uint32_t c = 0; c < image->channels; c++) {
				const size_t offset = horizontal ? 0 : (size_t)i * image->channels;
				const uint32_t row = horizontal ? i : 0;

				line_u8(&taps, fixed, out,
					(const uint8_t *)sde_image_row(image, row) + offset + c,
					horizontal ? image->channels : image->stride,
					(uint8_t *)sde_image_row(&result, row) + offset + c,
					horizontal ? result.channels : result.stride);
			}
		*ret_image = result;
	}
	free(fixed);
	taps_clear(&taps);
	return r;
}

int sde_resize_u8(const struct sde_image *image, uint32_t width, uint32_t height,
		  enum sde_filter filter, const struct sde_box *box, struct sde_image *ret_image,
		  struct sde_error *ret_error)
{
	const struct sde_box whole = {0, 0, image->width, image->height};
	struct sde_image across = {0}, down = {0};
	const struct sde_image *from = image;
	int r;

	if (!box)
		box = &whole;
	if (image->type != SDE_PIXEL_U8)
		return sde_error_set(ret_error, -EINVAL, "byte-exact scaling needs 8-bit channels");
	r = check_sizes(image->width, image->height, image->channels, box, width, height,
			ret_error);
	if (r < 0)
		return r;
	if (width != image->width || box->x0 != 0 || box->x1 != image->width) {
		r = pass_u8(image, true, box->x0, box->x1, width, filter, &across, ret_error);
		if (r < 0)
			return r;
		from = &across;
	}
	if (height != image->height || box->y0 != 0 || box->y1 != image->height) {
		r = pass_u8(from, false, box->y0, box->y1, height, filter, &down, ret_error);
		sde_image_clear(&across);
		if (r < 0)
			return r;
		*ret_image = down;
		return 0;
	}
	if (from == &across) {
		*ret_image = across;
		return 0;
	}
	return sde_image_copy(image, ret_image, ret_error);
}

/* Both passes of the float version; the rows needed are kept at output width. */
static int resize_with_taps(sde_row_reader reader, void *userdata, uint32_t width,
			    uint32_t channels, const struct taps *across, const struct taps *down,
			    uint32_t out_width, uint32_t out_height, float *ret_values)
{
	const size_t out_row = (size_t)out_width * channels;
	uint32_t top = UINT32_MAX, bottom = 0;
	float *source, *kept;
	size_t cells;

	for (uint32_t y = 0; y < out_height; y++) {
		if (down->first[y] < top)
			top = down->first[y];
		if (down->first[y] + down->count[y] > bottom)
			bottom = down->first[y] + down->count[y];
	}
	if (bottom <= top || __builtin_mul_overflow(out_row, (size_t)(bottom - top), &cells))
		return -EOVERFLOW;
	source = calloc((size_t)width * channels, sizeof(*source));
	kept = calloc(cells, sizeof(*kept));
	if (!source || !kept) {
		free(source);
		free(kept);
		return -ENOMEM;
	}
	for (uint32_t y = top; y < bottom; y++) {
		float *to = kept + (size_t)(y - top) * out_row;

		reader(userdata, y, source);
		for (uint32_t x = 0; x < out_width; x++) {
			const double *w = across->weights + x * across->most;
			const float *from = source + (size_t)across->first[x] * channels;

			for (uint32_t k = 0; k < across->count[x]; k++, from += channels)
				for (uint32_t c = 0; c < channels; c++)
					to[(size_t)x * channels + c] += (float)w[k] * from[c];
		}
	}
	memset(ret_values, 0, out_row * out_height * sizeof(*ret_values));
	for (uint32_t y = 0; y < out_height; y++) {
		const double *w = down->weights + y * down->most;
		float *to = ret_values + y * out_row;

		for (uint32_t k = 0; k < down->count[y]; k++) {
			const float *from = kept + (size_t)(down->first[y] - top + k) * out_row;

			for (size_t i = 0; i < out_row; i++)
				to[i] += (float)w[k] * from[i];
		}
	}
	free(source);
	free(kept);
	return 0;
}

int sde_resize_rows(sde_row_reader reader, void *userdata, uint32_t width, uint32_t height,
		    uint32_t channels, const struct sde_box *box, uint32_t out_width,
		    uint32_t out_height, enum sde_filter filter, float *ret_values,
		    struct sde_error *ret_error)
{
	const struct sde_box whole = {0, 0, width, height};
	struct taps across, down;
	int r;

	if (!box)
		box = &whole;
	r = check_sizes(width, height, channels, box, out_width, out_height, ret_error);
	if (r < 0)
		return r;
	r = taps_init(&across, width, box->x0, box->x1, out_width, filter, ret_error);
	if (r < 0)
		return r;
	r = taps_init(&down, height, box->y0, box->y1, out_height, filter, ret_error);
	if (r < 0) {
		taps_clear(&across);
		return r;
	}
	r = resize_with_taps(reader, userdata, width, channels, &across, &down, out_width,
			     out_height, ret_values);
	taps_clear(&across);
	taps_clear(&down);
	if (r < 0)
		return sde_error_set(ret_error, r, "no memory to scale %u x %u pixels to %u x %u",
				     width, height, out_width, out_height);
	return 0;
}

struct memory_rows {
	const float *values;
	size_t row;
};

static void read_memory_row(void *userdata, uint32_t y, float *ret_row)
{
	const struct memory_rows *rows = userdata;

	memcpy(ret_row, rows->values + y * rows->row, rows->row * sizeof(*ret_row));
}

int sde_resize_float(const float *values, uint32_t width, uint32_t height, uint32_t channels,
		     const struct sde_box *box, uint32_t out_width, uint32_t out_height,
		     enum sde_filter filter, float *ret_values, struct sde_error *ret_error)
{
	struct memory_rows rows = {values, (size_t)width * channels};

	return sde_resize_rows(read_memory_row, &rows, width, height, channels, box, out_width,
			       out_height, filter, ret_values, ret_error);
}

void sde_resize_nearest(const float *values, uint32_t planes, uint32_t width, uint32_t height,
			uint32_t out_width, uint32_t out_height, float *ret_values)
{
	for (uint32_t p = 0; p < planes; p++, values += (size_t)width * height)
		for (uint32_t y = 0; y < out_height; y++) {
			const float *from =
				values + (size_t)((uint64_t)y * height / out_height) * width;

			for (uint32_t x = 0; x < out_width; x++)
				*ret_values++ = from[(uint64_t)x * width / out_width];
		}
}
