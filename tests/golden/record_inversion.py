#!/usr/bin/env python3
"""Record a case of kind `ddim_inversion` with diffusers (0.42 when the data were made), of a model of the SD or SDXL family.

    record_inversion.py CASE.json MODEL-FOLDER NEW-CASE.json

CASE gives the picture, the prompt, the steps and the schedulers' configuration; the new case has the latents of the way to noise and back
with the other model, without guidance, all that SDXL is told beside the prompt included. Needs torch, diffusers and safetensors.
"""
import json
import pathlib
import sys

import diffusers
import numpy
import safetensors.numpy
import torch


def conditions(pipe, prompt, size):
    """The prompt's rows, and what SDXL's U-Net is told beside them."""
    if not isinstance(pipe, diffusers.StableDiffusionXLPipeline):
        return pipe.encode_prompt(prompt, "cpu", 1, False)[0], None
    embeds, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
    return embeds, {"text_embeds": pooled, "time_ids": torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32)}


def walk(pipe, scheduler, latents, told):
    embeds, added = told
    rows, timesteps = [], []
    for t in scheduler.timesteps:
        noise = pipe.unet(latents, t, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
        latents = scheduler.step(noise, t, latents).prev_sample
        rows.append(latents)
        timesteps.append(int(t))
    return torch.stack(rows), numpy.array(timesteps, numpy.int32)


@torch.no_grad()
def main(source, folder, target):
    case = json.loads(source.read_text())
    params = case["params"]
    image = safetensors.numpy.load_file(source.with_suffix(".safetensors"))["image"]
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
    told = conditions(pipe, params["prompt"], image.shape[:2])
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    there, back = (kind(**params["config"]) for kind in (diffusers.DDIMInverseScheduler, diffusers.DDIMScheduler))
    for scheduler in (there, back):
        scheduler.set_timesteps(params["steps"])
    inverted, inverse_timesteps = walk(pipe, there, latents, told)
    reconstructed, forward_timesteps = walk(pipe, back, inverted[-1], told)
    params.pop("reconstruction_rel_error", None)
    case["model"] = "models/" + folder.name
    target.write_text(json.dumps(case, indent=1) + "\n")
    new = {"image": image, "latents0": latents, "inverted": torch.cat([latents[None], inverted]), "reconstructed": reconstructed,
           "inverse_timesteps": inverse_timesteps, "forward_timesteps": forward_timesteps}
    new = {name: numpy.ascontiguousarray(value) for name, value in new.items()}
    safetensors.numpy.save_file(new, target.with_suffix(".safetensors"))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]))
