"""Stage 1: the KL autoencoder (f = 8, 4 latent channels) of Stable Diffusion 1.x, small.

Loss: L1 + L1 of the pictures' gradients at three scales (in place of a perceptual net, of which a
first version has none) + 1e-6 KL. Trained on random crops; takes up a run where it stopped.
At the end it measures scaling_factor = 1 / std of the latents, and PSNR on unseen scenes.

--decoder goes on with the decoder alone, so that latents encoded before stay as they are: it can
run while, or after, a U-Net learns them."""

import argparse
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

import render
import state
from world.scene import compose

KL_WEIGHT = 1e-6
HELD_OUT = 64


def build():
    """The autoencoder with fresh weights."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1,
        block_out_channels=(32, 32, 64, 128), norm_num_groups=8, sample_size=state.SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def to_tensor(pixels):
    """uint8 [n, h, w, 3] to float [n, 3, h, w] in -1..1."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return x.float().div(127.5).sub(1).contiguous()


def gradient_loss(a, b):
    """L1 between the horizontal and vertical differences of two pictures at three scales."""
    total = 0
    for _ in range(3):
        total = total + F.l1_loss(a.diff(dim=2), b.diff(dim=2)) + F.l1_loss(a.diff(dim=3),
                                                                            b.diff(dim=3))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def crops(rng, pixels, count, size):
    """A batch of random crops from an array of scenes."""
    out = np.empty((count, size, size, 3), np.uint8)
    for k in range(count):
        x, y = rng.integers(0, state.SIDE - size + 1, 2)
        out[k] = pixels[rng.integers(len(pixels)), y:y + size, x:x + size]
    return to_tensor(out)


def held_out():
    """Scenes no cache holds."""
    rng = random.Random("held out")
    return to_tensor(np.stack([np.asarray(compose(rng, state.SIDE)[0]) for _ in range(HELD_OUT)]))


@torch.no_grad()
def evaluate(vae):
    """PSNR in dB on the held-out scenes, and a sheet of originals over reconstructions."""
    x = held_out()
    with torch.autocast("cpu", torch.bfloat16):
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
    rows = [torch.cat(list(t[:8]), dim=2) for t in (x, y)]
    sheet = torch.cat(rows, dim=1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(sheet).save(state.path("sheets", "vae.png"))
    return float(10 * torch.log10(4 / F.mse_loss(x, y)))


@torch.no_grad()
def measure_scale(vae, pixels):
    """1 / std of sampled latents."""
    with torch.autocast("cpu", torch.bfloat16):
        z = vae.encode(to_tensor(pixels)).latent_dist.sample().float()
    return float(1 / z.std())


def train(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    vae = build()
    name = "decoder" if options.decoder else "vae"
    checkpoint, seconds, step = state.path(f"{name}.pt"), 0.0, 0
    if options.decoder:
        vae.load_state_dict(torch.load(state.path("vae.pt"))["model"])
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    learned = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=options.rate, weight_decay=1e-4, fused=True)
    if checkpoint.exists():
        kept = torch.load(checkpoint)
        vae.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        seconds, step = kept["seconds"], kept["step"]
    log = state.Log(f"{name}.log")
    pixels = np.concatenate([render.load(k)[0] for k in render.shards()[:8]])
    rng = np.random.default_rng(step)
    last_save = 0
    while seconds < options.minutes * 60:
        start = time.monotonic()
        done = seconds / (options.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * max(0.03, min(1, 2.2 * (1 - done)))
        x = crops(rng, pixels, options.batch, options.crop)
        with torch.autocast("cpu", torch.bfloat16):
            latent = vae.encode(x).latent_dist
            y = vae.decode(latent.sample()).sample
        y = y.float()
        l1 = F.l1_loss(y, x)
        loss = l1 + gradient_loss(y, x) + KL_WEIGHT * latent.kl().float().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step += 1
        seconds += time.monotonic() - start
        if step % 100 == 0:
            log.write(step=step, samples=step * options.batch, minutes=round(seconds / 60, 2),
                      rate=round(step * options.batch / seconds, 1), l1=round(l1.item(), 4),
                      loss=round(loss.item(), 4), kl=round(latent.kl().mean().item()))
        if time.monotonic() - last_save > 150 or seconds >= options.minutes * 60:
            last_save = time.monotonic()
            state.save(checkpoint, lambda p: torch.save(
                {"model": vae.state_dict(), "optimizer": optimizer.state_dict(),
                 "seconds": seconds, "step": step}, p))
            log.write(psnr=round(evaluate(vae), 2))
    scale = (AutoencoderKL.load_config(state.path("vae"))["scaling_factor"] if options.decoder
             else measure_scale(vae, pixels[:512]))
    vae.register_to_config(scaling_factor=scale)
    vae.save_pretrained(state.path("vae"))
    log.write(scaling_factor=scale)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--decoder", action="store_true", help="the decoder alone")
    train(parser.parse_args())
