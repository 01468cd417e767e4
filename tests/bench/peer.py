"""The same network in diffusers, with weights of no meaning: prints the line of JSON that sdd-bench prints.

usage: peer.py WHAT DTYPE SIZE RUNS THREADS
"""
import json
import resource
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def build(make, dtype):
    with torch.device("meta"):
        model = make()
    model = model.to(dtype).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in list(model.parameters()) + [b for b in model.buffers() if b.is_floating_point()]:
            tensor.normal_(0, 0.02)
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return model


def unet(dtype, size):
    model = build(lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8), dtype)
    sample, context = torch.randn(2, 4, size // 8, size // 8, dtype=dtype), torch.randn(2, 77, 768, dtype=dtype)
    return lambda: model(sample, 501, context)


def unet_sdxl(dtype, size):
    model = build(lambda: UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816), dtype)
    sample, context = torch.randn(2, 4, size // 8, size // 8, dtype=dtype), torch.randn(2, 77, 2048, dtype=dtype)
    added = {"text_embeds": torch.randn(2, 1280, dtype=dtype), "time_ids": torch.tensor([[size, size, 0, 0, size, size]] * 2, dtype=dtype)}
    return lambda: model(sample, 501, context, added_cond_kwargs=added)


def clip(dtype, kind, width, layers, heads):
    model = build(lambda: kind(CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        projection_dim=width)), dtype)
    ids = torch.arange(2 * 77).reshape(2, 77) * 977 % 49408
    return lambda: model(ids)


def text(dtype, size):
    return clip(dtype, CLIPTextModel, 768, 12, 12)


def text_sdxl(dtype, size):
    calls = [text(dtype, size), clip(dtype, CLIPTextModelWithProjection, 1280, 32, 20)]
    return lambda: [call() for call in calls]


def vae(dtype):
    return build(lambda: AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4), dtype)


def decode(dtype, size):
    model, z = vae(dtype), torch.randn(1, 4, size // 8, size // 8, dtype=dtype)
    return lambda: model.decode(z)


def encode(dtype, size):
    model, image = vae(dtype), torch.randn(1, 3, size, size, dtype=dtype)
    return lambda: model.encode(image)


def job(dtype, size, parts=(text, unet, decode)):
    """All parts of Stable Diffusion 1.5 in memory as a pipeline has them: two prompts, one step with guidance, the decoder."""
    calls = [make(dtype, size) for make in parts]
    return lambda: [call() for call in calls]


def job_sdxl(dtype, size):
    return job(dtype, size, (text_sdxl, unet_sdxl, decode))


def main():
    what, dtype, size, runs, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    torch.set_num_threads(threads)
    with torch.inference_mode():
        call = {"unet": unet, "text": text, "decode": decode, "encode": encode, "job": job, "job-sdxl": job_sdxl}[what](
            {"f32": torch.float32, "bf16": torch.bfloat16}[dtype], size)
        times = []
        for _ in range(runs + 1):
            start = time.monotonic()
            call()
            times.append(time.monotonic() - start)
    print(json.dumps({
        "what": what, "backend": f"torch {torch.__version__}, {dtype}, {threads} threads", "size": size,
        "first_s": round(times[0], 3), "best_s": round(min(times[1:] or times), 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


if __name__ == "__main__":
    main()
