"""The tiny autoencoder (TAESD, diffusers' AutoencoderTiny) that sdd decodes previews with.

The decoder is distilled: it learns to make from a latent what the released autoencoder's decoder makes of it, not what the scene
was; the encoder learns the latents. Teacher pictures are decoded once and cached (teacher-NNN.npy); remove them, and taesd.pt, when
the decoder has changed, or give --again to go on from taesd.pt with new ones. Takes up a run where it stopped, ends with the
decoder's PSNR against its teacher on scenes no cache holds, a sheet (sheets/taesd.png: scene, teacher, pupil), and the folder taesd/."""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image

import device
import perceptual
import render
import state
from device import DEVICE
from losses import gradients
from measures import psnr, ssim, to_pixels, to_tensor
from vae import held_out

CROP, ENCODER_WEIGHT = 8, 0.2  # CROP: latents a side


def build():
    """The tiny autoencoder with fresh weights: a third of TAESD's size, most of it in the decoder."""
    return AutoencoderTiny(encoder_block_out_channels=(16,) * 4, num_encoder_blocks=(1, 1, 1, 1),
                           decoder_block_out_channels=(32,) * 4, num_decoder_blocks=(3, 3, 2, 1))


@torch.no_grad()
def teach(vae, pictures):
    """Scaled latents and what the teacher makes of them, for float pictures in -1..1."""
    with device.autocast():
        mean = vae.encode(pictures).latent_dist.mean
        decoded = vae.decode(mean).sample
    return mean.float() * vae.config.scaling_factor, decoded.float().clamp(-1, 1)


def lesson(vae, shard, count):
    """Scenes, latents (f16) and teacher pictures (u8) of the first scenes of a shard, from the cache."""
    scenes = render.load(shard)[0][:count]
    target = state.path("teacher", f"teacher-{shard:03}-{count}.npz")
    if not target.exists():
        pairs = [teach(vae, to_tensor(scenes[k:k + 16])) for k in range(0, count, 16)]
        decoded = to_pixels(torch.cat([d for _, d in pairs]))

        def write(temporary):
            with open(temporary, "wb") as f:
                np.savez(f, z=torch.cat([z for z, _ in pairs]).half().cpu().numpy(),
                         pictures=decoded)
        state.save(target, write)
    kept = np.load(target)
    return scenes, kept["z"], kept["pictures"]


def crops(rng, scenes, z, pictures, count):
    """A batch of random crops, at the same places: of scenes, latents and teacher pictures, as float tensors."""
    size, parts = 8 * CROP, ([], [], [])
    for k in rng.integers(len(z), size=count):
        u, v = rng.integers(0, z.shape[2] - CROP + 1, 2)
        part = np.s_[k, 8 * v:8 * v + size, 8 * u:8 * u + size]
        for kept, one in zip(parts, (scenes[part], z[k, :, v:v + CROP, u:u + CROP], pictures[part])):
            kept.append(one)
    x, latent, teacher = (np.stack(part) for part in parts)
    return to_tensor(x), torch.from_numpy(latent).float().to(DEVICE), to_tensor(teacher)


@torch.no_grad()
def evaluate(tiny, vae, net):
    """PSNR in dB of the pupil against the teacher, and of teacher and pupil against held-out scenes."""
    x = held_out()
    z, teacher = teach(vae, x)
    pupil = tiny.decode(z).sample.clamp(-1, 1)
    rows = [np.concatenate(list(to_pixels(t[:8])), axis=1) for t in (x, teacher, pupil)]
    Image.fromarray(np.concatenate(rows)).save(state.path("sheets", "taesd.png"))
    pairs = {"psnr_to_teacher": (pupil, teacher), "psnr": (pupil, x), "teacher_psnr": (teacher, x),
             "round_trip_psnr": (tiny.decode(tiny.encode(x).latents).sample.clamp(-1, 1), x)}
    return {k: round(psnr(*pair), 2) for k, pair in pairs.items()} | {
        "ssim": round(ssim(pupil, x), 4), "perceptual_distance": round(float(net.distance(pupil, x)), 4)}


def train(options):
    device.prepare(options.threads)
    torch.manual_seed(2)
    vae = device.place(AutoencoderKL.from_pretrained(state.path("vae"))).eval()
    net, tiny, seconds, step = perceptual.load(), device.place(build()), 0.0, 0
    checkpoint = state.path("taesd.pt")
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=options.rate, weight_decay=1e-4, fused=True)
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=DEVICE)
        tiny.load_state_dict(kept["model"])
        if not options.again:
            optimizer.load_state_dict(kept["optimizer"])
            seconds, step = kept["seconds"], kept["step"]
    log = state.Log("taesd.log")
    lessons = [lesson(vae, k, options.count) for k in render.shards()[:options.shards]]
    scenes, z, pictures = (np.concatenate(part) for part in zip(*lessons))
    rng = np.random.default_rng(step)
    last_save = time.monotonic()
    while seconds < options.minutes * 60:
        start = time.monotonic()
        done = seconds / (options.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * max(0.02, min(1, 2 * (1 - done)))
        x, latent, teacher = crops(rng, scenes, z, pictures, options.batch)
        with device.autocast():
            y, guess = tiny.decode(latent).sample.float(), tiny.encode(x).latents.float()
        l1 = F.l1_loss(y, teacher)
        loss = l1 + gradients(y, teacher) + ENCODER_WEIGHT * F.l1_loss(guess, latent)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tiny.parameters(), 1.0)
        optimizer.step()
        step += 1
        seconds += time.monotonic() - start
        if step % 100 == 0:
            log.write(step=step, samples=step * options.batch, minutes=round(seconds / 60, 2),
                      rate=round(step * options.batch / seconds, 1), l1=round(l1.item(), 4),
                      loss=round(loss.item(), 4))
        if time.monotonic() - last_save > 120 or seconds >= options.minutes * 60:
            last_save = time.monotonic()
            state.save(checkpoint, lambda p: torch.save(
                {"model": tiny.state_dict(), "optimizer": optimizer.state_dict(),
                 "seconds": seconds, "step": step}, p))
            log.write(**evaluate(tiny, vae, net))
    device.plain(tiny).save_pretrained(state.path("taesd"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--count", type=int, default=250, help="scenes of each shard")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="from taesd.pt's weights, with a new clock")
    train(parser.parse_args())
