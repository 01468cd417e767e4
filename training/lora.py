"""A LoRA (Hu et al. 2021) for the released text-to-image model: whatever is asked for is drawn with chalk on a blackboard. Rank 4
beside the attention's projections and the convolutions of the ResNet blocks, written in the format of peft and diffusers.

Its scenes are those of the training, drawn by chalk.py, with their own captions, which say nothing of chalk."""

import multiprocessing
import random

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict

import adapters
import device
import export
import latents
import render
import state
from device import DEVICE
from measures import to_tensor
from vae import chalked
from world.captions import caption

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]
SCENES, DROP_CAPTION = 2000, 0.1


def drawings(vae, processes):
    """Latents f16 of chalk drawings and the records of their scenes, from the cache."""
    pixels, records = (sum(parts, []) for parts in zip(*(
        (list(p), r) for p, r in map(render.load, render.shards()[:4]))))
    chosen = [k for k, r in enumerate(records) if not r["rain"] and r["style"] == "flat"][:SCENES]
    target = state.path(f"chalk-{state.SIDE}", "latents.npy")
    if not target.exists():
        with multiprocessing.Pool(processes) as pool:
            drawn = np.stack(pool.map(chalked, [pixels[k] for k in chosen], chunksize=50))
        z = np.concatenate([latents.encode(vae, to_tensor(drawn[k:k + 20])) for k in range(0, len(drawn), 20)])

        def write(temporary):
            with open(temporary, "wb") as f:
                np.save(f, z)
        state.save(target, write)
    return np.load(target), [records[k] for k in chosen]


def train(chosen):
    base = adapters.Base(chosen.running)
    z, records = drawings(base.vae, chosen.processes)
    torch.manual_seed(5)
    base.unet.add_adapter(LoraConfig(r=adapters.LORA_RANK, lora_alpha=adapters.LORA_RANK, init_lora_weights="gaussian",
                                     target_modules=TARGETS))
    parameters = {k: p for k, p in base.unet.named_parameters() if p.requires_grad}

    def loss(rng):
        picked = rng.integers(len(z), size=chosen.batch)
        speaker = random.Random(int(rng.integers(2 ** 32)))
        words = base.words(["" if speaker.random() < DROP_CAPTION else caption(speaker, records[k])
                            for k in picked])
        return base.loss(torch.from_numpy(z[picked]).float().to(DEVICE),
                         lambda noisy, t: base.unet(noisy, t, words).sample)
    adapters.learn("lora", chosen, parameters, loss)
    folder = export.MODELS / "loras"
    folder.mkdir(exist_ok=True)
    weights = {k: v.half().cpu().contiguous() for k, v in get_peft_model_state_dict(base.unet).items()}
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=weights,
                                              weight_name=f"{adapters.LORA}.safetensors")
    (folder / f"{adapters.LORA}.safetensors").chmod(0o644)


if __name__ == "__main__":
    train(adapters.options(__doc__, 8, 2e-3))
