/*
 * What SD3 and FLUX share (Esser et al. 2024, "Scaling Rectified Flow Transformers"; diffusers' JointTransformerBlock and
 * FluxTransformerBlock): a vector made of time, guidance and pooled text conditions every block through adaLN; image and
 * text tokens pass through weights of their own and meet in one attention.
 */
#pragma once

#include "daemon/engine/bind.h"
#include "daemon/engine/layers.h"
#include "daemon/engine/record.h"

#define SDE_JOINT_SINUSOID                                                                         \
	256 /* channels of the time's and the guidance's sinusoids, [cos | sin] */
#define SDE_JOINT_EPS 1e-6

/* Time, guidance (only networks distilled with it) and pooled text, each through two layers, summed. */
struct sde_joint_condition {
	struct sde_linear time_1, time_2;
	struct sde_linear guidance_1, guidance_2; /* weight.data NULL: none */
	struct sde_linear text_1, text_2;
};

struct sde_joint_attention {
	struct sde_linear q, k, v, out;
	struct sde_norm norm_q, norm_k; /* over the channels of a head; weight.data NULL: none */
};

/* The weights of one kind of tokens in a block. */
struct sde_joint_stream {
	/*
	 * Of the condition's SiLU, to so many vectors as wide as the tokens: shift, scale and gate of the attention, the same of
	 * the feed-forward, and with a second attention its three. The text of a last block gets scale and shift alone.
	 */
	struct sde_linear modulation;
	struct sde_joint_attention attention;
	struct sde_linear ff_in, ff_out; /* ff_out(gelu_tanh(ff_in x)) */
};

struct sde_joint_block {
	struct sde_joint_stream image, text;
	struct sde_joint_attention
		second; /* SD3.5: of the image with itself; q.weight.data NULL: none */
	bool last;	/* the text ends here: it gives keys and values, and is not carried on */
};

/* Scale and shift by the condition, then a linear layer. */
struct sde_joint_final {
	struct sde_linear modulation; /* scale, shift */
	struct sde_linear proj_out;
};

struct sde_joint_shape {
	int width, heads;
	bool qk_norm;
	bool text_first;	       /* order of the tokens in the attention */
	const struct sdk_tensor *rope; /* of all tokens in that order (sdk_rope), NULL: none */
};

/* prefixes like "transformer_blocks.3." and "time_text_embed." */
void sde_joint_condition_bind(struct sde_binder *binder, struct sde_joint_condition *condition,
			      int width, int pooled_width, bool guidance);
void sde_joint_block_bind(struct sde_binder *binder, struct sde_joint_block *block,
			  const struct sde_joint_shape *shape, bool second, bool last,
			  const char *prefix);
void sde_joint_final_bind(struct sde_binder *binder, struct sde_joint_final *final, int width,
			  int out);

/*
 * time and guidance: (n, 1, 1, SDE_JOINT_SINUSOID), guidance not read without its layers; pooled (n, 1, 1, pooled width). Returns the
 * condition, (n, 1, 1, width); blocks and the final layer take its SiLU.
 */
sdk_value sde_joint_condition_record(struct sdk_plan *plan,
				     const struct sde_joint_condition *condition, sdk_value time,
				     sdk_value guidance, sdk_value pooled);

/* q, k, v of one kind of tokens, normed by head. */
struct sde_joint_qkv {
	sdk_value q, k, v;
};
struct sde_joint_qkv sde_joint_project(struct sdk_plan *plan,
				       const struct sde_joint_attention *attention, int heads,
				       sdk_value x);

/* condition: the SiLU of it. *image and *text: (n, 1, tokens, width), replaced by what leaves the block (text not by a last one). */
void sde_joint_block_record(struct sdk_plan *plan, const struct sde_joint_shape *shape,
			    const struct sde_joint_block *block, sdk_value condition,
			    sdk_value *image, sdk_value *text);

sdk_value sde_joint_final_record(struct sdk_plan *plan, const struct sde_joint_final *final,
				 sdk_value condition, sdk_value x);

/* Vector i of those that a modulation gave, (n, 1, 1, width). */
static inline sdk_value sde_joint_vector(struct sdk_plan *plan, sdk_value modulation, int width,
					 int i)
{
	return sdk_slice(plan, modulation, i * width, width);
}
