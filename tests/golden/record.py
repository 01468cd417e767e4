#!/usr/bin/env python3
"""Record a pipeline case of tests/golden/data on another model folder, with diffusers (0.42 when the data were made).

    record.py CASE.json MODEL-FOLDER NEW-CASE.json

CASE gives the call, the scheduler, the seed and the pictures; the new case has the outputs that diffusers computes for
them with the other model. Needs torch, diffusers, transformers and safetensors; nothing that sdd is built or run with.
"""
import json
import pathlib
import sys

import diffusers
import numpy
import PIL.Image
import safetensors.numpy
import torch


class Vq(diffusers.VQModel):
    """diffusers' pipelines hand decode() a generator, which VQModel does not take."""

    def decode(self, h, generator=None, **rest):
        return super().decode(h, **rest)


def load(pipeline, folder):
    if json.loads((folder / "vae/config.json").read_text())["_class_name"] == "VQModel":
        return pipeline.from_pretrained(folder, vae=Vq.from_pretrained(folder / "vae"))
    return pipeline.from_pretrained(folder)


def main(source, folder, target):
    case = json.loads(source.read_text())
    tensors = safetensors.numpy.load_file(source.with_suffix(".safetensors"))
    params = case["params"]
    pipe = load(getattr(diffusers, params["pipeline"]), folder)
    pipe.scheduler = getattr(diffusers, params["scheduler"]["_class_name"]).from_config(params["scheduler"])
    pipe.set_progress_bar_config(disable=True)
    call = dict(params["call"], generator=torch.Generator().manual_seed(params["seed"]))
    new = {name: tensors[name] for name in ("image", "mask_image") if name in tensors}
    call.update({name: PIL.Image.fromarray(value) for name, value in new.items()})
    steps, latents = [], []

    def keep(pipe, step, t, values):
        steps.append(float(t))
        latents.append(values["latents"].clone())
        return values

    images = pipe(**call, output_type="np", callback_on_step_end=keep).images
    new |= {"timesteps": numpy.array(steps, numpy.float32), "latents": latents[-1].numpy(),
            "images": (images * 255).round().astype(numpy.uint8)}
    case["model"] = "models/" + folder.name
    case["inputs"] = [name for name in ("image", "mask_image") if name in new]
    case["outputs"] = [o for o in case["outputs"] if o["name"] in new]
    case["params"].pop("draws", None)
    target.write_text(json.dumps(case, indent=1) + "\n")
    new = {name: numpy.ascontiguousarray(value) for name, value in new.items()}  # save_file writes memory as it lies
    safetensors.numpy.save_file(new, target.with_suffix(".safetensors"))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]))
