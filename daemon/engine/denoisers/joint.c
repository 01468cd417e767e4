/*
 * The shared parts of SD3 and FLUX: their tensors by name, and their recorded forms.
 */
#include "daemon/engine/denoisers/joint.h"

enum {
	DIM_WIDTH,
	DIM_HEAD,
	DIM_FF,
	DIM_MODULATION,
	DIM_TEXT_MODULATION,
	DIM_SINUSOID,
	DIM_POOLED,
	DIM_OUT
};

#define LINEAR_FIELD(type, member, name, in, out) SDE_FIELD(type, member, name, LINEAR, in, out)
#define HEAD_NORM(type, member, name)                                                              \
	SDE_FIELD(type, member, name, NORM_NO_BIAS, DIM_HEAD, DIM_HEAD)

static const struct sde_field condition_fields[] = {
	LINEAR_FIELD(sde_joint_condition, time_1, "timestep_embedder.linear_1", DIM_SINUSOID,
		     DIM_WIDTH),
	LINEAR_FIELD(sde_joint_condition, time_2, "timestep_embedder.linear_2", DIM_WIDTH,
		     DIM_WIDTH),
	LINEAR_FIELD(sde_joint_condition, text_1, "text_embedder.linear_1", DIM_POOLED, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_condition, text_2, "text_embedder.linear_2", DIM_WIDTH, DIM_WIDTH),
};

static const struct sde_field guidance_fields[] = {
	LINEAR_FIELD(sde_joint_condition, guidance_1, "guidance_embedder.linear_1", DIM_SINUSOID,
		     DIM_WIDTH),
	LINEAR_FIELD(sde_joint_condition, guidance_2, "guidance_embedder.linear_2", DIM_WIDTH,
		     DIM_WIDTH),
};

static const struct sde_field image_fields[] = {
	LINEAR_FIELD(sde_joint_block, image.modulation, "norm1.linear", DIM_WIDTH, DIM_MODULATION),
	LINEAR_FIELD(sde_joint_block, image.attention.q, "attn.to_q", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, image.attention.k, "attn.to_k", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, image.attention.v, "attn.to_v", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, image.attention.out, "attn.to_out.0", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, image.ff_in, "ff.net.0.proj", DIM_WIDTH, DIM_FF),
	LINEAR_FIELD(sde_joint_block, image.ff_out, "ff.net.2", DIM_FF, DIM_WIDTH),
};

static const struct sde_field text_fields[] = {
	LINEAR_FIELD(sde_joint_block, text.modulation, "norm1_context.linear", DIM_WIDTH,
		     DIM_TEXT_MODULATION),
	LINEAR_FIELD(sde_joint_block, text.attention.q, "attn.add_q_proj", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, text.attention.k, "attn.add_k_proj", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, text.attention.v, "attn.add_v_proj", DIM_WIDTH, DIM_WIDTH),
};

static const struct sde_field text_rest_fields[] = {
	LINEAR_FIELD(sde_joint_block, text.attention.out, "attn.to_add_out", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, text.ff_in, "ff_context.net.0.proj", DIM_WIDTH, DIM_FF),
	LINEAR_FIELD(sde_joint_block, text.ff_out, "ff_context.net.2", DIM_FF, DIM_WIDTH),
};

static const struct sde_field norm_fields[] = {
	HEAD_NORM(sde_joint_block, image.attention.norm_q, "attn.norm_q"),
	HEAD_NORM(sde_joint_block, image.attention.norm_k, "attn.norm_k"),
	HEAD_NORM(sde_joint_block, text.attention.norm_q, "attn.norm_added_q"),
	HEAD_NORM(sde_joint_block, text.attention.norm_k, "attn.norm_added_k"),
};

static const struct sde_field second_fields[] = {
	LINEAR_FIELD(sde_joint_block, second.q, "attn2.to_q", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, second.k, "attn2.to_k", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, second.v, "attn2.to_v", DIM_WIDTH, DIM_WIDTH),
	LINEAR_FIELD(sde_joint_block, second.out, "attn2.to_out.0", DIM_WIDTH, DIM_WIDTH),
};

static const struct sde_field second_norm_fields[] = {
	HEAD_NORM(sde_joint_block, second.norm_q, "attn2.norm_q"),
	HEAD_NORM(sde_joint_block, second.norm_k, "attn2.norm_k"),
};

static const struct sde_field final_fields[] = {
	LINEAR_FIELD(sde_joint_final, modulation, "norm_out.linear", DIM_WIDTH, DIM_MODULATION),
	LINEAR_FIELD(sde_joint_final, proj_out, "proj_out", DIM_WIDTH, DIM_OUT),
};

void sde_joint_condition_bind(struct sde_binder *binder, struct sde_joint_condition *condition,
			      int width, int pooled_width, bool guidance)
{
	const int dims[] = {[DIM_WIDTH] = width,
			    [DIM_SINUSOID] = SDE_JOINT_SINUSOID,
			    [DIM_POOLED] = pooled_width};

	SDE_BIND(binder, condition_fields, dims, condition, "time_text_embed.");
	if (guidance)
		SDE_BIND(binder, guidance_fields, dims, condition, "time_text_embed.");
}

void sde_joint_block_bind(struct sde_binder *binder, struct sde_joint_block *block,
			  const struct sde_joint_shape *shape, bool second, bool last,
			  const char *prefix)
{
	const int dims[] = {[DIM_WIDTH] = shape->width,
			    [DIM_HEAD] = shape->width / shape->heads,
			    [DIM_FF] = 4 * shape->width,
			    [DIM_MODULATION] = (second ? 9 : 6) * shape->width,
			    [DIM_TEXT_MODULATION] = (last ? 2 : 6) * shape->width};

	block->last = last;
	SDE_BIND(binder, image_fields, dims, block, "%s", prefix);
	SDE_BIND(binder, text_fields, dims, block, "%s", prefix);
	if (!last)
		SDE_BIND(binder, text_rest_fields, dims, block, "%s", prefix);
	if (shape->qk_norm)
		SDE_BIND(binder, norm_fields, dims, block, "%s", prefix);
	if (second)
		SDE_BIND(binder, second_fields, dims, block, "%s", prefix);
	if (second && shape->qk_norm)
		SDE_BIND(binder, second_norm_fields, dims, block, "%s", prefix);
}

void sde_joint_final_bind(struct sde_binder *binder, struct sde_joint_final *final, int width,
			  int out)
{
	const int dims[] = {[DIM_WIDTH] = width, [DIM_MODULATION] = 2 * width, [DIM_OUT] = out};

	SDE_BIND(binder, final_fields, dims, final, "%s", "");
}

static sdk_value two_layers(struct sdk_plan *plan, sdk_value x, const struct sde_linear *first,
			    const struct sde_linear *second)
{
	x = sdk_activate(plan, sde_record_linear(plan, x, first), SDK_SILU);
	return sde_record_linear(plan, x, second);
}

sdk_value sde_joint_condition_record(struct sdk_plan *plan,
				     const struct sde_joint_condition *condition, sdk_value time,
				     sdk_value guidance, sdk_value pooled)
{
	sdk_value sum = two_layers(plan, time, &condition->time_1, &condition->time_2);

	if (condition->guidance_1.weight.data)
		sum = sdk_add(
			plan, sum,
			two_layers(plan, guidance, &condition->guidance_1, &condition->guidance_2));
	sum = sdk_add(plan, sum, two_layers(plan, pooled, &condition->text_1, &condition->text_2));
	return sum;
}

struct sde_joint_qkv sde_joint_project(struct sdk_plan *plan,
				       const struct sde_joint_attention *attention, int heads,
				       sdk_value x)
{
	struct sde_joint_qkv qkv = {
		.q = sde_record_linear(plan, x, &attention->q),
		.k = sde_record_linear(plan, x, &attention->k),
		.v = sde_record_linear(plan, x, &attention->v),
	};

	qkv.q = sde_record_head_norm(plan, qkv.q, &attention->norm_q, heads, SDE_JOINT_EPS);
	qkv.k = sde_record_head_norm(plan, qkv.k, &attention->norm_k, heads, SDE_JOINT_EPS);
	return qkv;
}

/* Vectors first, first + 1 and first + 2 of a modulation. */
struct adaln {
	sdk_value shift, scale, gate;
};

static struct adaln adaln_of(struct sdk_plan *plan, sdk_value modulation, int width, int first)
{
	return (struct adaln){
		.shift = sde_joint_vector(plan, modulation, width, first),
		.scale = sde_joint_vector(plan, modulation, width, first + 1),
		.gate = sde_joint_vector(plan, modulation, width, first + 2),
	};
}

static sdk_value modulate(struct sdk_plan *plan, sdk_value x, const struct adaln *adaln)
{
	return sdk_ada_layer_norm(plan, x, adaln->scale, adaln->shift, SDE_JOINT_EPS);
}

static sdk_value add_gated(struct sdk_plan *plan, sdk_value x, sdk_value y,
			   const struct adaln *adaln)
{
	return sdk_add(plan, x, sdk_mul(plan, y, adaln->gate));
}

static sdk_value feed_forward(struct sdk_plan *plan, const struct sde_joint_stream *stream,
			      sdk_value x, const struct adaln *adaln)
{
	sdk_value h;

	h = sde_record_linear(plan, modulate(plan, x, adaln), &stream->ff_in);
	h = sde_record_linear(plan, sdk_activate(plan, h, SDK_GELU_TANH), &stream->ff_out);
	return add_gated(plan, x, h, adaln);
}

/* All tokens attend to all: the answer is joined like its inputs. */
static sdk_value attend_jointly(struct sdk_plan *plan, const struct sde_joint_shape *shape,
				const struct sde_joint_qkv *image, const struct sde_joint_qkv *text)
{
	const struct sde_joint_qkv *first = shape->text_first ? text : image;
	const struct sde_joint_qkv *then = shape->text_first ? image : text;
	sdk_value q = sde_record_join_tokens(plan, first->q, then->q);
	sdk_value k = sde_record_join_tokens(plan, first->k, then->k);
	sdk_value v = sde_record_join_tokens(plan, first->v, then->v);

	if (shape->rope) {
		q = sdk_rope(plan, q, shape->heads, shape->rope);
		k = sdk_rope(plan, k, shape->heads, shape->rope);
	}
	return sde_record_attention(plan, q, k, v, shape->heads, false);
}

void sde_joint_block_record(struct sdk_plan *plan, const struct sde_joint_shape *shape,
			    const struct sde_joint_block *block, sdk_value condition,
			    sdk_value *image, sdk_value *text)
{
	const int width = shape->width, heads = shape->heads;
	const int n_image = sdk_plan_shape(plan, *image).w, n_text = sdk_plan_shape(plan, *text).w;
	const sdk_value of_image = sde_record_linear(plan, condition, &block->image.modulation);
	const sdk_value of_text = sde_record_linear(plan, condition, &block->text.modulation);
	const struct adaln attention = adaln_of(plan, of_image, width, 0);
	const struct adaln ff = adaln_of(plan, of_image, width, 3);
	struct adaln text_attention, text_ff, second;
	struct sde_joint_qkv image_qkv, text_qkv, second_qkv = {0};
	sdk_value x = *image, answer, part;

	if (block->last) {
		text_attention = (struct adaln){
			.scale = sde_joint_vector(plan, of_text, width, 0),
			.shift = sde_joint_vector(plan, of_text, width, 1),
		};
	} else {
		text_attention = adaln_of(plan, of_text, width, 0);
		text_ff = adaln_of(plan, of_text, width, 3);
	}
	image_qkv = sde_joint_project(plan, &block->image.attention, heads,
				      modulate(plan, x, &attention));
	text_qkv = sde_joint_project(plan, &block->text.attention, heads,
				     modulate(plan, *text, &text_attention));
	if (block->second.q.weight.data) {
		second = adaln_of(plan, of_image, width, 6);
		second_qkv =
			sde_joint_project(plan, &block->second, heads, modulate(plan, x, &second));
	}
	answer = attend_jointly(plan, shape, &image_qkv, &text_qkv);
	part = sde_record_cut_tokens(plan, answer, shape->text_first ? n_text : 0, n_image);
	x = add_gated(plan, x, sde_record_linear(plan, part, &block->image.attention.out),
		      &attention);
	if (block->second.q.weight.data) {
		part = sde_record_attention(plan, second_qkv.q, second_qkv.k, second_qkv.v, heads,
					    false);
		x = add_gated(plan, x, sde_record_linear(plan, part, &block->second.out), &second);
	}
	*image = feed_forward(plan, &block->image, x, &ff);
	if (block->last)
		return;
	part = sde_record_cut_tokens(plan, answer, shape->text_first ? 0 : n_image, n_text);
	x = add_gated(plan, *text, sde_record_linear(plan, part, &block->text.attention.out),
		      &text_attention);
	*text = feed_forward(plan, &block->text, x, &text_ff);
}

sdk_value sde_joint_final_record(struct sdk_plan *plan, const struct sde_joint_final *final,
				 sdk_value condition, sdk_value x)
{
	const int width = sdk_plan_shape(plan, x).c;
	const sdk_value modulation = sde_record_linear(plan, condition, &final->modulation);

	x = sdk_ada_layer_norm(plan, x, sde_joint_vector(plan, modulation, width, 0),
			       sde_joint_vector(plan, modulation, width, 1), SDE_JOINT_EPS);
	return sde_record_linear(plan, x, &final->proj_out);
}
