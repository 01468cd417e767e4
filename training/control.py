"""A ControlNet (Zhang et al. 2023) for the released text-to-image model that follows a scribble: white lines on black. It begins as
the U-Net's own first half, but without its attention to words, which leaves it small; only the middle block listens.

Its scenes are those of the training without rain, whose drops are no outlines, and their scribbles (chalk.py)."""

import multiprocessing
import random

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

import adapters
import chalk
import device
import export
import latents
import render
from device import DEVICE
from world.captions import caption

HINT_WIDTHS = (8, 16, 32, 64)
DROP_CAPTION = 0.3
SHARDS = 6


def build(unet):
    """A ControlNet with the U-Net's weights where it has the same layers; the layers that join them give zero at first."""
    c = unet.config
    net = ControlNetModel(
        in_channels=4, down_block_types=("DownBlock2D",) * len(c.block_out_channels),
        conditioning_embedding_out_channels=HINT_WIDTHS, **{k: c[k] for k in (
            "block_out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim",
            "attention_head_dim", "flip_sin_to_cos", "freq_shift")})
    own, shared = net.state_dict(), unet.state_dict()
    net.load_state_dict({k: shared.get(k, v) for k, v in own.items()})
    return net


def scribbled(picture):
    """A picture's scribble, bool [h, w]."""
    return np.asarray(chalk.scribble(Image.fromarray(picture)))[..., 0] > 0


def hints(scribbles):
    """Scribbles, bool [n, h, w], as the ControlNet sees them: float [n, 3, h, w] of 0 and 1 on the device."""
    return scribbles.to(DEVICE)[:, None].float().repeat(1, 3, 1, 1)


def train(chosen):
    base = adapters.Base(chosen.running)
    torch.manual_seed(6)
    net = device.place(build(base.unet))
    scenes = []
    for shard in latents.shards()[:SHARDS]:
        pixels, records = render.load(shard)
        with multiprocessing.Pool(chosen.processes) as pool:
            drawn = np.stack(pool.map(scribbled, pixels, chunksize=50))
        dry = [i for i, r in enumerate(records) if not r["rain"]]
        scenes.append((torch.from_numpy(drawn), latents.load(shard)["z"], records, dry))

    def loss(rng):
        drawn, z, records, dry = scenes[rng.integers(len(scenes))]
        picked = rng.choice(dry, chosen.batch)
        speaker = random.Random(int(rng.integers(2 ** 32)))
        words = base.words(["" if speaker.random() < DROP_CAPTION else caption(speaker, records[k])
                            for k in picked])
        hint = hints(drawn[picked])

        def predict(noisy, t):
            down, middle = net(noisy, t, words, hint, return_dict=False)
            return base.unet(noisy, t, words, down_block_additional_residuals=down,
                             mid_block_additional_residual=middle).sample
        return base.loss(torch.from_numpy(z[picked]).float().to(DEVICE), predict)
    adapters.learn("control", chosen, dict(net.named_parameters()), loss)
    export.save(device.plain(net), None, export.MODELS / "controlnets" / adapters.CONTROL)


if __name__ == "__main__":
    train(adapters.options(__doc__, 12, 5e-4))
