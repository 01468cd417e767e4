"""Encodes the painted scenes once: latents-SIDE/latents-NNN.npz holds, scaled as the U-Net sees them,
z [n, 4, h, w], and for MASKS random holes a scene z_masked [n, MASKS, 4, h, w] (the picture with
the hole mid-grey) and mask [n, MASKS, h, w]; latents-NNN.json holds for each scene its record and
for each hole the objects it hides. Full masks are not stored: their latent is always the same."""

import argparse
import json
import random

import numpy as np
import torch
from diffusers import AutoencoderKL

import render
import state
from measures import to_tensor
from world.masks import hidden_objects, make_mask

MASKS = 1
FOLDER = f"latents-{state.SIDE}"
BATCH = 25


@torch.no_grad()
def encode(vae, pictures):
    """Scaled mean latents as f16 [n, 4, h, w] of float pictures in -1..1."""
    with torch.autocast("cpu", torch.bfloat16):
        mean = vae.encode(pictures).latent_dist.mean.float()
    return (mean * vae.config.scaling_factor).numpy().astype(np.float16)


def encode_shard(vae, number):
    """Encodes one shard unless it is done."""
    target = state.path(FOLDER, f"latents-{number:03}.npz")
    if target.exists():
        return
    pixels, records = render.load(number)
    rng = random.Random(f"masks {number}")
    z, z_masked, masks, notes = [], [], [], []
    for first in range(0, len(records), BATCH):
        x = to_tensor(pixels[first:first + BATCH])
        z.append(encode(vae, x))
        group = [[make_mask(rng, r, state.SIDE) for _ in range(MASKS)]
                 for r in records[first:first + BATCH]]
        for r, pair in zip(records[first:first + BATCH], group):
            notes.append({"record": r, "hidden": [hidden_objects(r, m) for m in pair]})
        holes = torch.from_numpy(np.array([[np.asarray(m) for m in p] for p in group]) >= 128)
        masks.append(holes[:, :, ::8, ::8].numpy())
        z_masked.append(np.stack([encode(vae, x * ~holes[:, k:k + 1]) for k in range(MASKS)], 1))
    target.with_suffix(".json").write_text(json.dumps(notes))

    def write(temporary):
        with open(temporary, "wb") as f:
            np.savez(f, z=np.concatenate(z), z_masked=np.concatenate(z_masked),
                     mask=np.concatenate(masks))
    state.save(target, write)
    print(target, flush=True)


def load(number):
    """The arrays of one shard, by name; each is read when it is asked for."""
    return np.load(state.path(FOLDER, f"latents-{number:03}.npz"))


def load_all():
    """All encoded shards as one set of arrays, and their notes."""
    files = sorted(state.path(FOLDER, "x").parent.glob("latents-*.npz"))
    parts = [np.load(f) for f in files]
    notes = [n for f in files for n in json.loads(f.with_suffix(".json").read_text())]
    return {k: np.concatenate([p[k] for p in parts]) for k in ("z", "z_masked", "mask")}, notes


def grey_latent(vae):
    """The scaled latent [4, h, w] of an all-masked picture."""
    return encode(vae, torch.zeros(1, 3, state.SIDE, state.SIDE))[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--part", default="1/1", help="K/N: the Kth of N processes that share the work")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = AutoencoderKL.from_pretrained(state.path("vae"))
    part, parts = map(int, options.part.split("/"))
    for shard in render.shards()[part - 1:options.shards:parts]:
        encode_shard(model, shard)
