"""Writes the trained model as two diffusers folders, models/sdd-small (text to image) and
models/sdd-small-inpaint (9 channels), in float16 safetensors, with sdd.json: what sdd uses when a
job asks for nothing else. The second folder links to the first one's tokenizer, autoencoder and,
where equal, text encoder."""

import argparse
import json
import os
import shutil
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel

import denoiser
import state
import tokens

BYTES_MAX = 64 << 20
FOLDERS = {4: "sdd-small", 9: "sdd-small-inpaint"}
VQ_FOLDER = "sdd-small-vq"
SHIPPED = (*FOLDERS.values(), VQ_FOLDER, "loras", "controlnets")
PIPELINES = {4: "StableDiffusionPipeline", 9: "StableDiffusionInpaintPipeline"}
CLASSES = {"scheduler": ("diffusers", "DDIMScheduler"),
           "text_encoder": ("transformers", "CLIPTextModel"),
           "tokenizer": ("transformers", "CLIPTokenizer"),
           "unet": ("diffusers", "UNet2DConditionModel"),
           "vae": ("diffusers", "AutoencoderKL"),
           "feature_extractor": (None, None), "safety_checker": (None, None)}
MODELS = Path(__file__).resolve().parent.parent / "models"


def averaged(channels):
    """The averaged weights of U-Net and text encoder of a run."""
    kept = torch.load(state.path(f"unet{channels}.pt"), map_location="cpu", weights_only=True)
    return kept["ema_unet"], kept["ema_text"]


def equal(a, b):
    """Two state dicts hold the same numbers."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def save(module, weights, folder):
    """Writes a module with these weights (None: its own) in float16."""
    if weights is not None:
        module.load_state_dict(weights)
    for name, value in module.state_dict().items():
        if not torch.isfinite(value.half()).all():
            raise ValueError(f"{folder.name}: {name} holds numbers that float16 cannot")
    module.half().save_pretrained(folder, safe_serialization=True)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)  # a path of the training machine
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_index(folder, channels):
    index = {"_class_name": PIPELINES[channels], "_diffusers_version": diffusers.__version__,
             "requires_safety_checker": False, **{k: list(v) for k, v in CLASSES.items()}}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def export_autoencoders(folder):
    """Writes vae/ and the tiny autoencoder of the previews below a model's folder."""
    save(AutoencoderKL.from_pretrained(state.path("vae")), None, folder / "vae")
    save(AutoencoderTiny.from_pretrained(state.path("taesd")), None, folder / "taesd")


def export_vq(models):
    """Writes the folder of the VQ twin: the first model with another autoencoder, all else by links."""
    first, folder = models / FOLDERS[4], models / VQ_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in sorted(p.name for p in first.iterdir() if p.name not in ("vae", "model_index.json", "sdd.json")):
        (folder / part).symlink_to(Path("..") / first.name / part)
    save(VQModel.from_pretrained(state.path("vq")), None, folder / "vae")
    index = json.loads((first / "model_index.json").read_text()) | {"vae": ["diffusers", "VQModel"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    used = json.loads((first / "sdd.json").read_text())
    used.pop("inpaint", None)
    (folder / "sdd.json").write_text(json.dumps(used, indent=2) + "\n")


def export(models, defaults):
    """Writes both folders below `models`, replacing what they held."""
    vocabulary = tokens.load()
    first = models / FOLDERS[4]
    weights = {channels: averaged(channels) for channels in FOLDERS}
    for channels, name in FOLDERS.items():
        folder, (unet, text) = models / name, weights[channels]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shared = [] if folder == first else ["tokenizer", "vae", "taesd"]
        if folder != first and equal(text, weights[4][1]):
            shared.append("text_encoder")
        for part in shared:
            (folder / part).symlink_to(Path("..") / first.name / part)
        if "tokenizer" not in shared:
            shutil.copytree(state.path("tokenizer"), folder / "tokenizer")
            export_autoencoders(folder)
        if "text_encoder" not in shared:
            save(denoiser.build_text_encoder(vocabulary), text, folder / "text_encoder")
        save(denoiser.build_unet(channels), unet, folder / "unet")
        denoiser.build_scheduler().save_pretrained(folder / "scheduler")
        write_index(folder, channels)
        companion = {"inpaint": FOLDERS[9]} if channels == 4 else {}
        (folder / "sdd.json").write_text(json.dumps({**defaults, **companion}, indent=2) + "\n")


def size(models):
    """Bytes of all exported files, links not followed."""
    return sum((Path(top) / name).lstat().st_size for folder in SHIPPED
               for top, _, names in os.walk(models / folder) for name in names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="default: models/ of the tree")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--sampler", default="DPM++ 2M Karras", help="a name that sdctl knows")
    parser.add_argument("--autoencoders", action="store_true", help="vae/ and taesd/ alone")
    parser.add_argument("--vq", action="store_true", help="the VQ twin alone")
    options = parser.parse_args()
    if options.autoencoders:
        export_autoencoders(options.models / FOLDERS[4])
    elif options.vq:
        export_vq(options.models)
    else:
        export(options.models, {"steps": options.steps, "guidance_scale": options.guidance,
                            "sampler": options.sampler, "native_size": state.SIDE})
    total = size(options.models)
    print(f"{total / 1e6:.1f} MB in {options.models}")
    if total > BYTES_MAX:
        raise SystemExit(f"more than the {BYTES_MAX >> 20} MiB that the models may have together")
