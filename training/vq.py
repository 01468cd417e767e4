"""The VQ-regularised twin of stage 1 (diffusers' VQModel; van den Oord et al. 2017), so that the path of quantised latents runs on a
real codebook. It keeps the released encoder, whose noise is left away, so the U-Net's latents are its latents too, as in latent
diffusion's VQ models: only what decodes them looks each one up first. The codebook begins with k-means of the encoder's latents;
codebook and decoder then learn together from L1, perceptual distance and the codebook loss. Takes up a run where it stopped."""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from PIL import Image

import device
import perceptual
import render
import state
from device import DEVICE
from losses import reconstruction
from measures import psnr, ssim, to_pixels
from vae import Crops, SHARDS, held_out

CODES, KMEANS_ROUNDS, KMEANS_PICTURES = 2048, 12, 400
CODEBOOK_WEIGHT = 0.05


def nearest(z, codes):
    """The index [n] of the nearest code [k, c] for each of z [n, c]."""
    parts = [(codes.square().sum(1) - 2 * part @ codes.T).argmin(1) for part in z.split(8192)]
    return torch.cat(parts)


@torch.no_grad()
def kmeans(z, count):
    """Codes [count, c] for vectors z [n, c]; codes that nobody chose move to random vectors."""
    codes = z[torch.randperm(len(z))[:count]].clone()
    for _ in range(KMEANS_ROUNDS):
        chosen = nearest(z, codes)
        members = torch.zeros(count, device=DEVICE).index_add_(0, chosen, torch.ones(len(z), device=DEVICE))
        sums = torch.zeros_like(codes).index_add_(0, chosen, z)
        codes = torch.where(members[:, None] > 0, sums / members.clamp(min=1)[:, None],
                            z[torch.randint(len(z), (count,), device=DEVICE)])
    return codes


@torch.no_grad()
def twin(kl, scenes):
    """A VQModel with the weights of an AutoencoderKL: its quant_conv's upper half, the mean, is folded into the encoder's last
    layer, and quant_conv does nothing."""
    c = kl.config
    vq = VQModel(latent_channels=c.latent_channels, vq_embed_dim=c.latent_channels, num_vq_embeddings=CODES,
                 scaling_factor=c.scaling_factor, **{k: c[k] for k in (
                     "block_out_channels", "layers_per_block", "norm_num_groups", "down_block_types",
                     "up_block_types", "sample_size")})
    weights = dict(kl.state_dict())
    mean = weights["quant_conv.weight"][:c.latent_channels, :, 0, 0]
    out = {k: weights[f"encoder.conv_out.{k}"] for k in ("weight", "bias")}
    weights["encoder.conv_out.weight"] = torch.einsum("om,mchw->ochw", mean, out["weight"])
    weights["encoder.conv_out.bias"] = mean @ out["bias"] + weights["quant_conv.bias"][:c.latent_channels]
    weights["quant_conv.weight"] = torch.eye(c.latent_channels, device=DEVICE)[:, :, None, None]
    weights["quant_conv.bias"] = torch.zeros(c.latent_channels, device=DEVICE)
    x = scenes.draw(KMEANS_PICTURES, state.SIDE)
    z = torch.cat([kl.encode(part).latent_dist.mean for part in x.split(20)])
    weights["quantize.embedding.weight"] = kmeans(z.permute(0, 2, 3, 1).flatten(0, 2), CODES)
    vq.load_state_dict(weights)
    device.place(vq)
    return vq


def quantized(vq, x):
    """Latents of pictures and the codes nearest to them, both [n, c, h, w]; gradients reach the codebook alone."""
    with torch.no_grad():
        z = vq.encode(x).latents.float()
        chosen = nearest(z.permute(0, 2, 3, 1).flatten(0, 2), vq.quantize.embedding.weight)
    codes = vq.quantize.embedding(chosen).view(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
    return z, codes, len(chosen.unique())


@torch.no_grad()
def evaluate(vq, net):
    """Figures on held-out scenes, and a sheet of originals over reconstructions."""
    x = held_out()
    _, codes, used = quantized(vq, x)
    with device.autocast():
        y = vq.decode(codes, force_not_quantize=True).sample.float().clamp(-1, 1)
    rows = [np.concatenate(list(to_pixels(t[:8])), axis=1) for t in (x, y)]
    Image.fromarray(np.concatenate(rows)).save(state.path("sheets", "vq.png"))
    return {"psnr": round(psnr(y, x), 2), "ssim": round(ssim(y, x), 4),
            "perceptual_distance": round(float(net.distance(y, x)), 4), "codes_used": used}


def train(options):
    device.prepare(options.threads)
    torch.manual_seed(4)
    scenes = Crops(render.shards()[:SHARDS], options.processes)
    net = perceptual.load()
    vq, seconds, step = twin(device.place(AutoencoderKL.from_pretrained(state.path("vae"))), scenes), 0.0, 0
    vq.encoder.requires_grad_(False)
    vq.quant_conv.requires_grad_(False)
    learned = [p for p in vq.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=options.rate, weight_decay=1e-4, fused=True)
    checkpoint, log = state.path("vq.pt"), state.Log("vq.log")
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=DEVICE)
        vq.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        seconds, step = kept["seconds"], kept["step"]
    last_save = time.monotonic()
    while seconds < options.minutes * 60:
        start = time.monotonic()
        done = seconds / (options.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 50) * max(0.03, min(1, 2 * (1 - done)))
        x = scenes.draw(options.batch, options.crop)
        with device.autocast():
            z, codes, _ = quantized(vq, x)
            y = vq.decode(codes, force_not_quantize=True).sample
            loss, figures = reconstruction(net, y.float(), x)
        optimizer.zero_grad()
        (loss + CODEBOOK_WEIGHT * F.mse_loss(codes, z)).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step += 1
        seconds += time.monotonic() - start
        if time.monotonic() - last_save > 120 or seconds >= options.minutes * 60:
            last_save = time.monotonic()
            state.save(checkpoint, lambda p: torch.save(
                {"model": vq.state_dict(), "optimizer": optimizer.state_dict(),
                 "seconds": seconds, "step": step}, p))
            log.write(step=step, samples=step * options.batch, minutes=round(seconds / 60, 2),
                      rate=round(step * options.batch / seconds, 1), **figures, **evaluate(vq, net))
    device.plain(vq).save_pretrained(state.path("vq"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--processes", type=int, default=2, help="that draw with chalk")
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())
