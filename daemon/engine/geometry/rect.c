/* Rectangle arithmetic: see rect.h. Spans are handled one axis at a time. */
#include "daemon/engine/geometry/rect.h"

static void intersect_span(int64_t a, int64_t a_size, int64_t b, int64_t b_size, int32_t *ret_pos,
			   int32_t *ret_size)
{
	const int64_t from = a > b ? a : b;
	const int64_t to = a + a_size < b + b_size ? a + a_size : b + b_size;

	*ret_pos = (int32_t)from;
	*ret_size = to > from ? (int32_t)(to - from) : 0;
}

struct sde_rect sde_rect_intersect(struct sde_rect a, struct sde_rect b)
{
	struct sde_rect rect;

	intersect_span(a.x, a.width, b.x, b.width, &rect.x, &rect.width);
	intersect_span(a.y, a.height, b.y, b.height, &rect.y, &rect.height);
	return rect;
}

bool sde_rect_contains(struct sde_rect outer, struct sde_rect inner)
{
	return inner.x >= outer.x && inner.y >= outer.y &&
	       (int64_t)inner.x + inner.width <= (int64_t)outer.x + outer.width &&
	       (int64_t)inner.y + inner.height <= (int64_t)outer.y + outer.height;
}

static void pad_span(int32_t *pos, int32_t *size, int32_t pad, int32_t min_side, int32_t multiple)
{
	int32_t padded = *size + 2 * pad;

	if (padded < min_side)
		padded = min_side;
	padded = (padded + multiple - 1) / multiple * multiple;
	*pos -= (padded - *size) / 2;
	*size = padded;
}

struct sde_rect sde_rect_pad(struct sde_rect rect, int32_t pad_x, int32_t pad_y, int32_t min_side,
			     int32_t multiple)
{
	pad_span(&rect.x, &rect.width, pad_x, min_side, multiple);
	pad_span(&rect.y, &rect.height, pad_y, min_side, multiple);
	return rect;
}

static void clamp_span(int32_t *pos, int32_t *size, int32_t limit)
{
	if (*size > limit)
		*size = limit;
	if (*pos > limit - *size)
		*pos = limit - *size;
	if (*pos < 0)
		*pos = 0;
}

struct sde_rect sde_rect_clamp(struct sde_rect rect, uint32_t width, uint32_t height)
{
	clamp_span(&rect.x, &rect.width, (int32_t)width);
	clamp_span(&rect.y, &rect.height, (int32_t)height);
	return rect;
}
