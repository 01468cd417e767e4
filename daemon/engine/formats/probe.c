/*
 * The table of parts and the tensors that give them away; see probe.h.
 */
#include "daemon/engine/formats/probe.h"

#include <string.h>

#define CLIP_G_WIDTH 1280

/* Names that several kinds of files have; is_there tells them apart. */
static const char CLIP_NARROW[] = "text_model.embeddings.token_embedding.weight";
static const char CLIP_WIDE[] = "text_model.embeddings.token_embedding.weight";
static const char TAESD_ENCODER[] = "0.weight";
static const char TAESD_DECODER[] = "1.weight";

static const struct sde_probe probes[] = {
	{"unet", "model.diffusion_model.", "input_blocks.0.0.weight", SDE_PART_UNET,
	 sde_map_ldm_unet},
	{"unet", "", "input_blocks.0.0.weight", SDE_PART_UNET, sde_map_ldm_unet},
	{"unet", "", "down_blocks.0.resnets.0.time_emb_proj.weight", SDE_PART_UNET, sde_map_same},
	{"transformer", "model.diffusion_model.", "joint_blocks.0.x_block.attn.qkv.weight",
	 SDE_PART_SD3, sde_map_sd3},
	{"transformer", "model.diffusion_model.", "double_blocks.0.img_attn.qkv.weight",
	 SDE_PART_FLUX, sde_map_flux},
	{"transformer", "", "joint_blocks.0.x_block.attn.qkv.weight", SDE_PART_SD3, sde_map_sd3},
	{"transformer", "", "double_blocks.0.img_attn.qkv.weight", SDE_PART_FLUX, sde_map_flux},
	{"vae", "first_stage_model.", "decoder.up.0.block.0.conv1.weight", SDE_PART_KL,
	 sde_map_ldm_vae},
	{"vae", "vae.", "decoder.up.0.block.0.conv1.weight", SDE_PART_KL, sde_map_ldm_vae},
	{"vae", "", "decoder.up.0.block.0.conv1.weight", SDE_PART_KL, sde_map_ldm_vae},
	{"vae", "", "decoder.up_blocks.0.resnets.0.conv1.weight", SDE_PART_KL, sde_map_same},
	{"vae", "", "decoder.layers.0.weight", SDE_PART_TINY, sde_map_same},
	{"text_encoder", "cond_stage_model.transformer.",
	 "text_model.embeddings.token_embedding.weight", SDE_PART_CLIP, sde_map_clip},
	{"text_encoder", "cond_stage_model.transformer.", "embeddings.token_embedding.weight",
	 SDE_PART_CLIP, sde_map_clip},
	{"text_encoder", "cond_stage_model.model.", "token_embedding.weight", SDE_PART_CLIP,
	 sde_map_openclip_sd2},
	{"text_encoder", "conditioner.embedders.0.transformer.",
	 "text_model.embeddings.token_embedding.weight", SDE_PART_CLIP, sde_map_clip},
	{"text_encoder_2", "conditioner.embedders.0.model.", "token_embedding.weight",
	 SDE_PART_CLIP, sde_map_openclip},
	{"text_encoder_2", "conditioner.embedders.1.model.", "token_embedding.weight",
	 SDE_PART_CLIP, sde_map_openclip},
	{"text_encoder", "text_encoders.clip_l.transformer.",
	 "text_model.embeddings.token_embedding.weight", SDE_PART_CLIP, sde_map_clip},
	{"text_encoder_2", "text_encoders.clip_g.transformer.",
	 "text_model.embeddings.token_embedding.weight", SDE_PART_CLIP, sde_map_clip},
	{"text_encoder", "", CLIP_NARROW, SDE_PART_CLIP, sde_map_clip},
	{"text_encoder_2", "", CLIP_WIDE, SDE_PART_CLIP, sde_map_clip},
	{"text_encoder_3", "text_encoders.t5xxl.transformer.",
	 "encoder.block.0.layer.0.SelfAttention.q.weight", SDE_PART_T5, sde_map_t5},
	{"text_encoder_3", "", "encoder.block.0.layer.0.SelfAttention.q.weight", SDE_PART_T5,
	 sde_map_t5},
	{"text_encoder_3", "", "enc.blk.0.attn_q.weight", SDE_PART_T5, sde_map_t5_llama},
	/* encoder: its first layer is numbered 0; decoder: 1, and 0 is the clamp */
	{"vae", "", TAESD_ENCODER, SDE_PART_TINY, sde_map_taesd_encoder},
	{"vae", "", TAESD_DECODER, SDE_PART_TINY, sde_map_taesd_decoder},
};

static bool is_there(const struct sde_probe *probe, struct sde_tensor_file *file)
{
	const struct sde_part part = {file, probe->prefix};
	const struct sde_tensor *tensor = sde_part_find(&part, "%s", probe->tensor);
	const bool wide = tensor && tensor->rank == 2 && tensor->shape[1] == CLIP_G_WIDTH;

	if (probe->tensor == CLIP_NARROW || probe->tensor == CLIP_WIDE)
		return tensor && wide == (probe->tensor == CLIP_WIDE);
	if (probe->tensor == TAESD_ENCODER)
		return tensor && sde_part_find(&part, "1.conv.0.weight");
	if (probe->tensor == TAESD_DECODER)
		return tensor && sde_part_find(&part, "3.conv.0.weight") &&
		       !sde_part_find(&part, "%s", TAESD_ENCODER);
	return tensor;
}

const struct sde_probe *sde_probe_next(struct sde_tensor_file *file, size_t *position)
{
	while (*position < sizeof(probes) / sizeof(probes[0])) {
		const struct sde_probe *probe = &probes[(*position)++];

		if (is_there(probe, file))
			return probe;
	}
	return NULL;
}

bool sde_probe_is_half(const struct sde_probe *probe)
{
	return probe->tensor == TAESD_ENCODER || probe->tensor == TAESD_DECODER;
}

int sde_probe_width(const struct sde_probe *probe, struct sde_tensor_file *file)
{
	const struct sde_part part = {file, probe->prefix};
	const bool vae = probe->kind == SDE_PART_KL;
	const struct sde_tensor *tensor =
		sde_part_find(&part, "%s", vae ? "decoder.conv_in.weight" : probe->tensor);

	if (!tensor || tensor->rank < 2 || tensor->shape[1] > INT32_MAX ||
	    (!vae && probe->kind != SDE_PART_CLIP && probe->kind != SDE_PART_T5))
		return 0;
	return (int)tensor->shape[1];
}
