/*
 * Plans: forward code records ops on values of fixed shape, compile lays all values into one arena by liveness, and run
 * replays them without allocating. Recording latches the first error, so that model code reads like the paper.
 *
 * A value is (n, h, w, c), channels last; a sequence is (n, 1, tokens, c). Host code gives and takes float32 in the same
 * order; sdk_nchw_to_nhwc and its inverse convert from the order of files and papers. Weights are borrowed from the caller
 * and must outlive the plan; backends keep their packed forms per tensor pointer, shared by all plans of a backend.
 *
 * Not thread safe: one thread records and runs the plans of a backend.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "kernels/tensor.h"

struct sdk_plan;
typedef int sdk_value; /* index of a value; negative once recording failed */

struct sdk_shape {
	int n, h, w, c;
};

enum sdk_activation {
	SDK_SILU,
	SDK_GELU,
	SDK_GELU_TANH,
	SDK_QUICK_GELU,
	SDK_RELU,
	SDK_TANH,
	SDK_SIGMOID
};

/* Owned by the caller; holds no reference to backend beyond its pointer. NULL when out of memory. */
struct sdk_plan *sdk_plan_new(struct sdk_backend *backend);
struct sdk_plan *sdk_plan_free(struct sdk_plan *plan);

/* 0, or the negative errno of the first recording that failed; the text names op and shapes. */
int sdk_plan_error(const struct sdk_plan *plan);
const char *sdk_plan_error_text(const struct sdk_plan *plan);
struct sdk_shape sdk_plan_shape(const struct sdk_plan *plan, sdk_value value);

/* ------------------------------------------------------------------ recording */

/* Along which sides convolutions continue what they see with the other end of it, in place of zeros ("circular" padding). */
enum sdk_wrap { SDK_WRAP_NONE, SDK_WRAP_X = 1, SDK_WRAP_Y = 2, SDK_WRAP_BOTH = 3 };
/* For the convolutions recorded from now on. */
void sdk_plan_set_wrap(struct sdk_plan *plan, enum sdk_wrap wrap);

/* A float input that the host sets before each run. */
sdk_value sdk_input(struct sdk_plan *plan, int n, int h, int w, int c);
/* Token ids, int32 (n, tokens). */
sdk_value sdk_input_ids(struct sdk_plan *plan, int n, int tokens);
/* Keep value readable by the host after a run. Returns it. */
sdk_value sdk_output(struct sdk_plan *plan, sdk_value x);

/*
 * weight (out, in, k, k) as torch stores it, bias (out) or NULL; zero padding, or as the plan wraps. Output side = (side + pads - k) / stride + 1.
 */
sdk_value sdk_conv2d(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		     const struct sdk_tensor *bias, int stride, int pad_top, int pad_left,
		     int pad_bottom, int pad_right);
/* y = x W^T + b over channels; weight (out, in), or (out, in, 1, 1); bias (out) or NULL. */
sdk_value sdk_linear(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		     const struct sdk_tensor *bias);
/* Statistics over (h, w, channels of a group); weight, bias (c). silu: activation fused behind it. */
sdk_value sdk_group_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
			 const struct sdk_tensor *bias, int groups, float eps, bool silu);
sdk_value sdk_layer_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
			 const struct sdk_tensor *bias, float eps);
/* x / sqrt(mean(x^2) + eps) * weight over channels; no mean, no bias (T5, qk norm). */
sdk_value sdk_rms_norm(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *weight,
		       float eps);
/*
 * Layer norm without weights of its own, then * (1 + scale) + shift (adaLN, Peebles & Xie 2023); scale and shift (n, 1, 1, c).
 */
sdk_value sdk_ada_layer_norm(struct sdk_plan *plan, sdk_value x, sdk_value scale, sdk_value shift,
			     float eps);
/*
 * Rotary positions (Su et al. 2021) on x (n, 1, tokens, heads * d): each pair of adjacent channels of a head is turned by an
 * angle of its token. table (tokens, 2 * d), float32: d cosines, then d sines, each written twice as a pair has two channels.
 */
sdk_value sdk_rope(struct sdk_plan *plan, sdk_value x, int heads, const struct sdk_tensor *table);
sdk_value sdk_activate(struct sdk_plan *plan, sdk_value x, enum sdk_activation activation);
/* Elementwise; b has a's shape, or 1 in h and w (broadcast over the picture), or also in n. */
sdk_value sdk_add(struct sdk_plan *plan, sdk_value a, sdk_value b);
sdk_value sdk_mul(struct sdk_plan *plan, sdk_value a, sdk_value b);
/* scale * x + shift */
sdk_value sdk_affine(struct sdk_plan *plan, sdk_value x, float scale, float shift);
/* (n,h,w,2c) -> (n,h,w,c): first half * gelu_erf(second half). */
sdk_value sdk_geglu(struct sdk_plan *plan, sdk_value x);
/*
 * softmax(q k^T * scale [+ causal mask]) v by heads: q (n,1,tq,heads*d), k (n,1,tk,heads*d), v (n,1,tk,heads*d). Softmax in
 * float32. The whole score matrix is never formed by the cpu backend.
 */
sdk_value sdk_attention(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v, int heads,
			float scale, bool causal);
/*
 * The same without a mask, with a bias by relative position (T5): bias (1, 1, tq + tk - 1, heads) is added to the scaled scores,
 * row key - query + tq - 1 for each pair.
 */
sdk_value sdk_attention_relative(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v,
				 int heads, float scale, sdk_value bias);
/*
 * sdk_attention without a mask that can be watched while the plan runs (watch.h); site is its name there. What it computes without
 * a watcher, and what others see of the plan, is the same.
 */
sdk_value sdk_attention_watched(struct sdk_plan *plan, sdk_value q, sdk_value k, sdk_value v,
				int heads, float scale, int site);
/* Nearest neighbour to (h, w): source index = floor(i * in / out). */
sdk_value sdk_resize_nearest(struct sdk_plan *plan, sdk_value x, int h, int w);
/* Channels of a, then channels of b. */
sdk_value sdk_concat(struct sdk_plan *plan, sdk_value a, sdk_value b);
/* Channels [first, first + count). */
sdk_value sdk_slice(struct sdk_plan *plan, sdk_value x, int first, int count);
/* Rows of table (rows, c) by ids -> (n,1,tokens,c). Ids outside the table fail the run with -ERANGE. */
sdk_value sdk_embedding(struct sdk_plan *plan, sdk_value ids, const struct sdk_tensor *table);
/* Adds rows 0..tokens-1 of table (rows, c) to every sequence of x (position embeddings). */
sdk_value sdk_add_rows(struct sdk_plan *plan, sdk_value x, const struct sdk_tensor *table);
/* The same memory under another shape; the element count must be equal. Free. */
sdk_value sdk_reshape(struct sdk_plan *plan, sdk_value x, int n, int h, int w, int c);

/*
 * A float32 table of rank 2 that depends on the plan's shapes, for the ops that take a tensor: owned by the plan. values is malloc()ed
 * and taken over in any case; NULL for it latches -ENOMEM. NULL when recording has failed.
 */
const struct sdk_tensor *sdk_plan_table(struct sdk_plan *plan, int rows, int columns,
					float *values);

/* ------------------------------------------------------------------ running */

/* Lay out the arena and prepare every op. Returns the latched error if recording failed. */
int sdk_plan_compile(struct sdk_plan *plan);
/* Bytes of the arena that the plan needs (after compile). */
size_t sdk_plan_arena_bytes(const struct sdk_plan *plan);

struct sdk_attention_watch;
/* Who watches the plan's watched attentions from the next run on; NULL: nobody, as at first. Borrowed. */
void sdk_plan_watch(struct sdk_plan *plan, const struct sdk_attention_watch *watch);
int sdk_plan_set(struct sdk_plan *plan, sdk_value input, const float *data);
int sdk_plan_set_ids(struct sdk_plan *plan, sdk_value input, const int32_t *ids);
/*
 * Run all ops. cancel (NULL allowed) is polled between ops: non-zero returns -ECANCELED. Inputs keep their values between
 * runs, and outputs theirs, until another plan of the same backend is compiled, set or run: all share one arena.
 */
int sdk_plan_run(struct sdk_plan *plan, const atomic_int *cancel);
/* Copy an output (or input) to the host as float32. */
int sdk_plan_get(const struct sdk_plan *plan, sdk_value output, float *data);

/* Host-side transposes, float32. */
void sdk_nchw_to_nhwc(const float *in, float *out, int n, int c, int h, int w);
void sdk_nhwc_to_nchw(const float *in, float *out, int n, int h, int w, int c);
