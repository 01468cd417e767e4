"""Two ways to make pictures with the exported models, with the same calls: diffusers, and a running
sdd through sdctl, which is the product.

A job is a prompt and a seed, and for inpainting a picture and a mask (L, 255 = repaint); steps,
sampler and guidance are those of the model's sdd.json unless a job says otherwise."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from PIL import Image

from device import DEVICE
from export import FOLDERS

SAMPLERS = {"DDIM": ("DDIMScheduler", {}),
            "Euler": ("EulerDiscreteScheduler", {}),
            "Euler a": ("EulerAncestralDiscreteScheduler", {}),
            "Heun": ("HeunDiscreteScheduler", {}),
            "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
            "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
            "UniPC": ("UniPCMultistepScheduler", {})}
BATCH = 8


@dataclass
class Job:
    """What to make. guidance None: the model's default."""
    prompt: str
    seed: int
    negative: str = ""
    guidance: float | None = None
    picture: Image.Image | None = None
    mask: Image.Image | None = None


def defaults(folder):
    """The sdd.json of a model folder."""
    return json.loads((Path(folder) / "sdd.json").read_text())


def scheduler(name, base):
    """The diffusers scheduler for a sampler's name, on the noise schedule of a model's own."""
    if name not in SAMPLERS:
        raise SystemExit(f"no diffusers scheduler is known here for the sampler '{name}'")
    class_name, keys = SAMPLERS[name]
    return getattr(diffusers, class_name).from_config(base, **keys)


def load_pipeline(pipeline, folder, device="cpu"):
    """A diffusers pipeline class in float32 with the model's default sampler, without progress."""
    made = pipeline.from_pretrained(folder, dtype=torch.float32).to(device)
    made.scheduler = scheduler(defaults(folder)["sampler"], made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


class Diffusers:
    """Makes pictures with diffusers; outside the mask they are the given ones."""

    name = "diffusers"

    def __init__(self, models):
        self.text = load_pipeline(diffusers.StableDiffusionPipeline, models / FOLDERS[4], DEVICE)
        self.repaint = load_pipeline(diffusers.StableDiffusionInpaintPipeline,
                                     models / FOLDERS[9], DEVICE)
        self.defaults = defaults(models / FOLDERS[4])
        self.side = self.defaults["native_size"]

    def make(self, jobs):
        """Pictures for jobs of one kind with one guidance, in their order."""
        made = []
        for first in range(0, len(jobs), BATCH):
            made += self._batch(jobs[first:first + BATCH])
        return made

    def _batch(self, jobs):
        guidance = jobs[0].guidance
        common = {"prompt": [j.prompt for j in jobs],
                  "negative_prompt": [j.negative for j in jobs],
                  "num_inference_steps": self.defaults["steps"],
                  "guidance_scale": self.defaults["guidance_scale"] if guidance is None else guidance,
                  "generator": [torch.Generator().manual_seed(j.seed) for j in jobs],
                  "height": self.side, "width": self.side}
        if jobs[0].mask is None:
            return self.text(**common).images
        painted = self.repaint(image=[j.picture for j in jobs], mask_image=[j.mask for j in jobs],
                               **common).images
        return [Image.composite(p, j.picture, j.mask) for p, j in zip(painted, jobs)]

    def outpaint(self, job, right):
        """The job's picture, as high as the model's side, grown by `right` pixels: one repaint of
        a window that holds as much of the picture as fits."""
        width, height = job.picture.size
        grown = Image.new("RGB", (width + right, height))
        grown.paste(job.picture)
        corner = width + right - self.side
        mask = Image.new("L", (self.side, self.side), 0)
        mask.paste(255, (self.side - right, 0, self.side, self.side))
        window = grown.crop((corner, 0, width + right, self.side))
        made = self.make([Job(job.prompt, job.seed, picture=window, mask=mask)])[0]
        grown.paste(made, (corner, 0))
        return grown


class Sdctl:
    """Makes pictures through a running sdd that serves the models' folder."""

    name = "sdd"

    def __init__(self, models, program, socket):
        self.command = [str(program), "--socket", str(socket), "--quiet"]
        self.side = defaults(models / FOLDERS[4])["native_size"]

    def _run(self, verb, channels, job, more=()):
        with tempfile.TemporaryDirectory() as folder:
            paths = {n: str(Path(folder) / f"{n}.png") for n in ("picture", "mask", "out")}
            options = ["--model", FOLDERS[channels], "--seed", job.seed, "-o", paths["out"], *more]
            if job.guidance is not None:
                options += ["--guidance", job.guidance]
            if job.negative:
                options += ["--negative", job.negative]
            if job.picture is not None:
                job.picture.save(paths["picture"])
                options += ["-i", paths["picture"]]
            if job.mask is not None:
                job.mask.save(paths["mask"])
                options += ["-m", paths["mask"]]
            subprocess.run([*self.command, verb, *map(str, options), "--", job.prompt], check=True)
            with Image.open(paths["out"]) as picture:
                return picture.convert("RGB")

    def make(self, jobs):
        """Pictures for the jobs in their order."""
        return [self._run("txt2img" if j.mask is None else "inpaint", 4 if j.mask is None else 9, j)
                for j in jobs]

    def outpaint(self, job, right):
        """The job's picture grown by `right` pixels."""
        return self._run("outpaint", 9, job, ["--right", right])
