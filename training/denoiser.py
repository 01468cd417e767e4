"""The text encoder and the U-Net of the small model: Stable Diffusion 1.x's classes, fewer and
narrower blocks."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel

import state
from tokens import CONTEXT

TEXT_WIDTH = 128


def build_text_encoder(tokenizer):
    """A CLIP text model with fresh weights for this vocabulary."""
    size = len(tokenizer)
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=size, hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=CONTEXT,
        hidden_act="quick_gelu", projection_dim=TEXT_WIDTH,
        bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1))


def build_unet(channels):
    """A U-Net with 4 (text to image) or 9 (inpainting) input channels; the columns of the five
    extra channels start at zero. No attention at full resolution, and few heads: on a processor
    both cost a training run more samples than they are worth at this size. Attention is computed in
    plain steps, whose gradient is cheaper here than the fused kernel's (a quarter more samples/s)."""
    unet = UNet2DConditionModel(
        sample_size=state.SIDE // 8, in_channels=channels, out_channels=4, layers_per_block=1,
        block_out_channels=(64, 128, 192), norm_num_groups=16, cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2, flip_sin_to_cos=True, freq_shift=0,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
    unet.set_attn_processor(AttnProcessor())
    with torch.no_grad():
        unet.conv_in.weight[:, 4:] = 0
    return unet


def build_scheduler():
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
                         beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
                         steps_offset=1, timestep_spacing="leading", prediction_type="epsilon")


def grow_rows(old, like):
    """A per-token tensor [vocabulary, ...] of an older, smaller vocabulary, in the shape of `like`:
    rows of words stay, the last two (start and end) move to the end, new words have `like`'s."""
    if old.shape == like.shape:
        return old
    grown, words = like.detach().clone(), len(old) - 2
    grown[:words], grown[-2:] = old[:words], old[words:]
    return grown


@torch.no_grad()
def fold(inpaint_weights, grey):
    """4-channel weights that do what the 9-channel ones do under a full mask (but at the border,
    where padding differs): the constant inputs, a mask of ones and the latent `grey` [4, h, w] of
    an all-masked picture, go into conv_in's bias."""
    weights = dict(inpaint_weights)
    w = weights["conv_in.weight"]
    constant = torch.cat([torch.ones(1), grey.float().mean(dim=(1, 2))])
    weights["conv_in.bias"] = weights["conv_in.bias"] + torch.einsum("ockl,c->o", w[:, 4:], constant)
    weights["conv_in.weight"] = w[:, :4].clone()
    return weights
