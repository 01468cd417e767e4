/*
 * The oracle: every op written down as its formula, one loop per index, float32 in the natural order. Slow on purpose; the
 * other backends are compared with it, and a new op is first right here.
 */
#pragma once

#include "kernels/plan-private.h"

/* What prepare leaves for run: weights widened to float32, owned. */
struct sdk_ref_state {
	float *weight, *bias; /* NULL where the op has none */
};

typedef int (*sdk_ref_function)(const struct sdk_op *op, const struct sdk_ref_state *state,
				void *const *in, void *out);

int sdk_ref_conv2d(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out);
int sdk_ref_linear(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out);
int sdk_ref_group_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		       void *out);
int sdk_ref_layer_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		       void *out);
int sdk_ref_rms_norm(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out);
int sdk_ref_ada_layer_norm(const struct sdk_op *op, const struct sdk_ref_state *state,
			   void *const *in, void *out);
int sdk_ref_rope(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		 void *out);
int sdk_ref_activate(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out);
int sdk_ref_binary(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out);
int sdk_ref_affine(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out);
int sdk_ref_geglu(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		  void *out);
int sdk_ref_attention(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		      void *out);
int sdk_ref_resize_nearest(const struct sdk_op *op, const struct sdk_ref_state *state,
			   void *const *in, void *out);
int sdk_ref_concat(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		   void *out);
int sdk_ref_slice(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		  void *out);
int sdk_ref_embedding(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		      void *out);
int sdk_ref_add_rows(const struct sdk_op *op, const struct sdk_ref_state *state, void *const *in,
		     void *out);
/* One number through an activation, in float32 of the C library; see enum sdk_activation. */
float sdk_ref_activation(enum sdk_activation activation, float x);
