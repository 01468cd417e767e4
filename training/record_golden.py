"""Records what diffusers makes of the exported models in float32 as golden cases: text to image,
image to image at strength 0.6 and inpainting, with the models' default sampler and guidance.
tests/golden then holds sdd to the same pictures. Run it once after export.py."""

import argparse
import json
import math
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.numpy import save_file

import questions
from export import FOLDERS, MODELS
from generate import defaults, load_pipeline

CASES = MODELS.parent / "tests" / "golden" / "data" / "cases" / "sdd_small"
STEPS = 10
MIN_PSNR = 40.0
TOLERANCE = {"rtol": 2e-3, "atol": 1e-2}


def effective(scheduler):
    """A scheduler's config as JSON can hold it."""
    return {k: v for k, v in scheduler.config.items() if k != "_use_default_values"
            and not (isinstance(v, float) and not math.isfinite(v))} | {
                "_class_name": type(scheduler).__name__}


def record(where, name, folder, pipeline, prompt, inputs, **call):
    """Runs one call and writes <name>.json and <name>.safetensors; where = (models, cases)."""
    models, cases = where
    model = defaults(models / folder)
    pipe = load_pipeline(pipeline, models / folder)
    seed, kept = 20 + len(name), {}
    call |= {"prompt": prompt, "num_inference_steps": STEPS,
             "guidance_scale": model["guidance_scale"]}

    def keep(_pipe, _step, t, values):
        kept.setdefault("timesteps", []).append(float(t))
        kept["latents"] = values["latents"]
        return {}
    result = pipe(**call, **inputs, generator=torch.Generator().manual_seed(seed),
                  callback_on_step_end=keep)
    tensors = {k: np.asarray(v) for k, v in inputs.items()}
    tensors |= {"images": np.stack([np.asarray(p) for p in result.images]),
                "latents": kept["latents"].numpy(),
                "timesteps": np.asarray(kept["timesteps"], np.float32)}
    case = {"kind": "pipeline", "model": f"models/{folder}",
            "params": {"pipeline": pipeline.__name__, "seed": seed, "seeds": None, "call": call,
                       "scheduler": effective(pipe.scheduler)},
            "inputs": list(inputs),
            "outputs": [{"name": "timesteps", "rtol": 0, "atol": 2e-3},
                        {"name": "latents", **TOLERANCE}, {"name": "images", "min_psnr": MIN_PSNR}],
            "note": f"diffusers {diffusers.__version__}, torch {torch.__version__}, float32"}
    cases.mkdir(parents=True, exist_ok=True)
    (cases / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()},
              cases / f"{name}.safetensors")
    print(cases / name, "latents' std", round(float(tensors["latents"].std()), 3), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--cases", type=Path, default=CASES,
                        help="the models must be in models/ beside a folder above this one")
    options = parser.parse_args()
    words, hole = questions.of_words("golden", 1, 1)[0], questions.of_holes(1)[0]
    side = {"height": words.real.height, "width": words.real.width}
    place = (options.models, options.cases)
    record(place, "txt2img", FOLDERS[4], diffusers.StableDiffusionPipeline, words.job.prompt, {},
           **side)
    record(place, "img2img", FOLDERS[4], diffusers.StableDiffusionImg2ImgPipeline,
           hole.job.prompt, {"image": words.real}, strength=0.6)
    record(place, "inpaint", FOLDERS[9], diffusers.StableDiffusionInpaintPipeline,
           hole.job.prompt, {"image": hole.real, "mask_image": hole.job.mask}, **side, strength=1.0)
