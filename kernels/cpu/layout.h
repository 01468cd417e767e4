/*
 * Where the elements of a matrix lie in a layout that oneDNN has chosen, and how stored numbers get there without a plain copy on the way.
 */
#pragma once

#include <dnnl.h>

#include "kernels/tensor.h"

struct sdk_cpu;
struct sdk_layout;

/*
 * For a weight (out, in) or (out, in, k, k), blocked in any way, of float32 or bfloat16. 0, -ENOTSUP for layouts that are
 * more than blocks, -ENOMEM. Owned by the caller.
 */
int sdk_layout_new(const dnnl_memory_desc_t *md, struct sdk_layout **ret_layout);
struct sdk_layout *sdk_layout_free(struct sdk_layout *layout);

/*
 * The matrix, stored in rows of whole blocks of type at data, times scale (0: as it is), into the layout's memory at out. Padding is zeroed.
 */
void sdk_layout_fill(const struct sdk_cpu *cpu, const struct sdk_layout *layout, enum sdk_type type,
		     const void *data, float scale, void *out);
