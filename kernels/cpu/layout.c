/*
 * Widening into blocked layouts; see layout.h. In such a layout the place of an element is a sum of one number for each of its indices, so
 * two tables, of rows and of columns, say it all. bfloat16 layouts hold two columns side by side: those are written at once.
 */
#include "kernels/cpu/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define ROWS 16 /* of a task: what shares cache lines in the usual layouts */
#define PIECE                                                                                      \
	1152 /* columns at a time, at most: whole blocks of 32 and whole pairs of 3 x 3 columns */
#define PIECE_K	  2304 /* and of blocks of 256 */
#define PLACE_MAX UINT32_MAX

struct sdk_layout {
	size_t n_rows, n_columns;
	uint32_t *rows, *columns; /* elements from the beginning; in one allocation */
	size_t pair;		  /* columns so far apart are neighbours, 0: none are */
	size_t bytes;
	bool half, padded;
};

/* What index contributes to the place by being position in dimension d. */
static size_t place_of(const dnnl_memory_desc_t *md, int d, dnnl_dim_t position)
{
	const dnnl_blocking_desc_t *blocking = &md->format_desc.blocking;
	dnnl_dim_t place = 0, stride = 1;

	for (int i = blocking->inner_nblks - 1; i >= 0; i--) {
		if (blocking->inner_idxs[i] == d) {
			place += position % blocking->inner_blks[i] * stride;
			position /= blocking->inner_blks[i];
		}
		stride *= blocking->inner_blks[i];
	}
	return (size_t)(place + position * blocking->strides[d]);
}

/* Whether all pairs of columns `apart` are neighbours at even places. */
static bool has_pairs(const struct sdk_layout *layout, size_t apart)
{
	if (layout->n_columns % (2 * apart) != 0)
		return false;
	for (size_t k = 0; k < layout->n_columns; k++)
		if (k / apart % 2 == 0 && (layout->columns[k] % 2 != 0 ||
					   layout->columns[k + apart] != layout->columns[k] + 1))
			return false;
	for (size_t i = 0; i < layout->n_rows; i++)
		if (layout->rows[i] % 2 != 0)
			return false;
	return true;
}

static void fill_tables(struct sdk_layout *layout, const dnnl_memory_desc_t *md)
{
	const dnnl_dim_t h = md->ndims > 2 ? md->dims[2] : 1, w = md->ndims > 3 ? md->dims[3] : 1;
	size_t k = 0;

	for (size_t i = 0; i < layout->n_rows; i++)
		layout->rows[i] = (uint32_t)(place_of(md, 0, (dnnl_dim_t)i) + (size_t)md->offset0);
	for (dnnl_dim_t c = 0; c < md->dims[1]; c++)
		for (dnnl_dim_t y = 0; y < h; y++)
			for (dnnl_dim_t x = 0; x < w; x++) {
				size_t place = place_of(md, 1, c);

				if (md->ndims > 2)
					place += place_of(md, 2, y) + place_of(md, 3, x);
				layout->columns[k++] = (uint32_t)place;
			}
	if (layout->half && (h * w == 1 || h * w == 9) && has_pairs(layout, (size_t)(h * w)))
		layout->pair = (size_t)(h * w);
}

int sdk_layout_new(const dnnl_memory_desc_t *md, struct sdk_layout **ret_layout)
{
	struct sdk_layout *layout;

	if (md->format_kind != dnnl_blocked || md->extra.flags != 0 ||
	    (md->ndims != 2 && md->ndims != 4) ||
	    (md->data_type != dnnl_f32 && md->data_type != dnnl_bf16) ||
	    dnnl_memory_desc_get_size(md) / 2 > PLACE_MAX)
		return -ENOTSUP;
	layout = calloc(1, sizeof(*layout));
	if (!layout)
		return -ENOMEM;
	layout->half = md->data_type == dnnl_bf16;
	layout->bytes = dnnl_memory_desc_get_size(md);
	layout->n_rows = (size_t)md->dims[0];
	layout->n_columns = (size_t)md->dims[1];
	for (int d = 0; d < md->ndims; d++) {
		layout->padded |= md->padded_dims[d] != md->dims[d];
		if (d > 1)
			layout->n_columns *= (size_t)md->dims[d];
	}
	layout->rows = calloc(layout->n_rows + layout->n_columns, sizeof(*layout->rows));
	if (!layout->rows)
		return sdk_layout_free(layout), -ENOMEM;
	layout->columns = layout->rows + layout->n_rows;
	fill_tables(layout, md);
	*ret_layout = layout;
	return 0;
}

struct sdk_layout *sdk_layout_free(struct sdk_layout *layout)
{
	if (!layout)
		return NULL;
	free(layout->rows);
	free(layout);
	return NULL;
}

struct filling {
	const struct sdk_layout *layout;
	enum sdk_type type;
	const char *data;
	float scale;
	void *out;
	size_t piece;
};

static void place_floats(const struct sdk_layout *layout, size_t row, size_t first, size_t n,
			 const float *values, float *out)
{
	const uint32_t *columns = layout->columns + first;

	out += layout->rows[row];
	for (size_t k = 0; k < n; k++)
		out[columns[k]] = values[k];
}

static void place_halves(const struct sdk_layout *layout, size_t row, size_t first, size_t n,
			 const uint16_t *values, uint16_t *out)
{
	const uint32_t *columns = layout->columns + first;
	const size_t pair = layout->pair;

	out += layout->rows[row];
	for (size_t k = 0; pair == 0 && k < n; k++)
		out[columns[k]] = values[k];
	for (size_t k = 0; pair > 0 && k < n; k += 2 * pair)
		for (size_t i = k; i < k + pair; i++) {
			const uint16_t both[2] = {values[i], values[i + pair]};

			memcpy(out + columns[i], both, sizeof(both));
		}
}

/* A few rows, piece by piece so that what is written next to each other is written at about the same time. */
static void fill_rows(void *userdata, size_t task)
{
	const struct filling *filling = userdata;
	const struct sdk_layout *layout = filling->layout;
	const size_t begin = task * ROWS, columns = layout->n_columns;
	const size_t end = begin + ROWS < layout->n_rows ? begin + ROWS : layout->n_rows;
	const size_t row_bytes = sdk_type_bytes(filling->type, columns);
	float values[PIECE_K];
	uint16_t halves[PIECE_K];

	for (size_t first = 0; first < columns; first += filling->piece) {
		const size_t n =
			columns - first < filling->piece ? columns - first : filling->piece;

		for (size_t row = begin; row < end; row++) {
			sdk_widen(filling->type,
				  filling->data + row * row_bytes +
					  sdk_type_bytes(filling->type, first),
				  values, n);
			for (size_t k = 0; filling->scale != 0 && k < n; k++)
				values[k] *= filling->scale;
			if (!layout->half) {
				place_floats(layout, row, first, n, values, filling->out);
				continue;
			}
			sdk_narrow(SDK_BF16, values, halves, n);
			place_halves(layout, row, first, n, halves, filling->out);
		}
	}
}

void sdk_layout_fill(const struct sdk_cpu *cpu, const struct sdk_layout *layout, enum sdk_type type,
		     const void *data, float scale, void *out)
{
	struct filling filling = {
		.layout = layout, .type = type, .data = data, .scale = scale, .out = out};

	filling.piece = sdk_type_block(type).elements > 32 ? PIECE_K : PIECE;
	if (layout->padded)
		memset(out, 0, layout->bytes);
	sdk_cpu_parallel(cpu, (layout->n_rows + ROWS - 1) / ROWS, fill_rows, &filling);
}
