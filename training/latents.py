"""Encodes the painted scenes once: latents-SIDE/latents-NNN.npz holds, scaled as the U-Net sees them,
z [n, 4, h, w], z_masked [n, 4, h, w] (the scene with its hole, which lessons.py chose, mid-grey) and
mask [n, h, w]. Full masks are not stored: their latent is always the same."""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL

import device
import lessons
import render
import state
from measures import to_tensor

BATCH = 25


def folder(side):
    return f"latents-{side}"


@torch.no_grad()
def encode(vae, pictures):
    """Scaled mean latents as f16 [n, 4, h, w] of float pictures in -1..1."""
    with device.autocast():
        mean = vae.encode(pictures).latent_dist.mean.float()
    return (mean * vae.config.scaling_factor).cpu().numpy().astype(np.float16)


def encode_shard(vae, number):
    """Encodes one shard unless it is done."""
    target = state.path(folder(state.SIDE), f"latents-{number:03}.npz")
    if target.exists():
        return
    pixels, records = render.load(number)
    bits = lessons.load(number)["mask"]
    z, z_masked, masks = [], [], []
    for first in range(0, len(records), BATCH):
        x = to_tensor(pixels[first:first + BATCH])
        holes = torch.from_numpy(np.unpackbits(bits[first:first + BATCH], axis=2)).bool()
        masks.append(holes[:, ::8, ::8].numpy())
        z.append(encode(vae, x))
        z_masked.append(encode(vae, x * ~holes[:, None].to(x.device)))

    def write(temporary):
        with open(temporary, "wb") as f:
            np.savez(f, z=np.concatenate(z), z_masked=np.concatenate(z_masked), mask=np.concatenate(masks))
    state.save(target, write)
    print(target, flush=True)


def load(number, side=state.SIDE):
    """The arrays of one shard, by name; each is read when it is asked for."""
    return np.load(state.path(folder(side), f"latents-{number:03}.npz"))


def shards(side=state.SIDE):
    """Numbers of the shards that are encoded."""
    return sorted(int(p.stem[8:]) for p in state.path(folder(side), "x").parent.glob("latents-*.npz"))


def grey_latent(vae, side=state.SIDE):
    """The scaled latent [4, h, w] of an all-masked picture."""
    return encode(vae, torch.zeros(1, 3, side, side, device=device.DEVICE))[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--part", default="1/1", help="K/N: the Kth of N processes that share the work")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    device.prepare(options.threads)
    model = device.place(AutoencoderKL.from_pretrained(state.path("vae")))
    part, parts = map(int, options.part.split("/"))
    for shard in render.shards()[part - 1:options.shards:parts]:
        encode_shard(model, shard)
