"""Records what diffusers makes of the parts beside the models in float32 as golden cases: one pass of the U-Net with the LoRA, one
with the ControlNet, and a piece of a scene through the VQ twin. tests/golden then holds sdd to the same numbers. Run it once after
lora.py, control.py and export.py; peft must be installed."""

import argparse
import json
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline, VQModel
from safetensors.numpy import save_file

import adapters
import control
import questions
import tokens
from export import FOLDERS, MODELS, VQ_FOLDER
from measures import to_tensor
from record_golden import CASES

LATENTS, PIECE, T = 8, 32, 501  # sides in latents and pixels, a time step
UNET_TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}
CODE_MARGIN_MIN = 2e-3


def write(cases, name, kind, model, params, inputs, outputs):
    """Writes <name>.json and <name>.safetensors; outputs: name to (tensor, tolerance)."""
    tensors = {k: np.ascontiguousarray(v) for k, v in (inputs | {k: v for k, (v, _) in outputs.items()}).items()}
    case = {"kind": kind, "model": f"models/{model}", "params": params, "inputs": list(inputs),
            "outputs": [{"name": k, **tolerance} for k, (_, tolerance) in outputs.items()],
            "note": f"diffusers {diffusers.__version__}, torch {torch.__version__}, float32"}
    (cases / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file(tensors, cases / f"{name}.safetensors")
    (cases / f"{name}.safetensors").chmod(0o644)
    print(cases / name, flush=True)


def from_case(path):
    """A path below models/ as a case names it."""
    return str(Path("../../../../..") / "models" / path)


@torch.no_grad()
def record_adapters(models, cases):
    """The LoRA and the ControlNet, each in one pass."""
    pipe = StableDiffusionPipeline.from_pretrained(models / FOLDERS[4], dtype=torch.float32)
    torch.manual_seed(7)
    sample, t = torch.randn(1, 4, LATENTS, LATENTS), torch.tensor([T])
    prompt = questions.of_words("parts", 1, 1)[0]
    ids = tokens.encode(pipe.tokenizer, [prompt.job.prompt])
    words = pipe.text_encoder(ids)[0]
    inputs = {"sample": sample.numpy(), "timestep": t.numpy().astype(np.int32)}
    net = ControlNetModel.from_pretrained(models / "controlnets" / adapters.CONTROL).float()
    piece = np.ascontiguousarray(np.asarray(prompt.real)[:8 * LATENTS, :8 * LATENTS])
    hint = control.hints(torch.from_numpy(control.scribbled(piece))[None]).cpu()
    down, middle = net(sample, t, words, hint, return_dict=False)
    out = pipe.unet(sample, t, words, down_block_additional_residuals=down,
                    mid_block_additional_residual=middle).sample
    file = from_case(f"controlnets/{adapters.CONTROL}/diffusion_pytorch_model.safetensors")
    write(cases / "adapters", "small_controlnet", "controlnet_sd15", FOLDERS[4],
          {"controlnets": [{"files": [file], "scale": 1.0, "guess_mode": False}]},
          inputs | {"encoder_hidden_states": words.numpy(),
                    "hint": hint.mul(255).round().byte().numpy()},
          {"unet_out": (out.numpy(), UNET_TOLERANCE), "mid_residual": (middle.numpy(), UNET_TOLERANCE)})
    pipe.load_lora_weights(models / "loras", weight_name=f"{adapters.LORA}.safetensors")
    out = pipe.unet(sample, t, words).sample
    write(cases / "adapters", "small_lora", "lora_sd15", FOLDERS[4],
          {"loras": [{"file": from_case(f"loras/{adapters.LORA}.safetensors"), "scale": 1.0}]},
          inputs | {"input_ids": ids.numpy().astype(np.int32)},
          {"last_hidden_state": (words.numpy(), UNET_TOLERANCE), "unet_out": (out.numpy(), UNET_TOLERANCE)})


@torch.no_grad()
def record_vq(models, cases):
    """A piece of a scene, whose codes are clearly the nearest, through the VQ twin and back."""
    vq = VQModel.from_pretrained(models / VQ_FOLDER / "vae").float()
    codes = vq.quantize.embedding.weight
    for asked in questions.of_words("codes", 40, 1):
        x = to_tensor(np.asarray(asked.real)[None, 48:48 + PIECE, 48:48 + PIECE])
        z = vq.encode(x).latents
        nearest = torch.cdist(z.permute(0, 2, 3, 1).flatten(0, 2), codes).topk(2, largest=False)
        margin = float((nearest.values[:, 1] - nearest.values[:, 0]).min())
        if margin > CODE_MARGIN_MIN:
            break
    else:
        raise SystemExit("no piece has codes that are clear enough")
    indices = nearest.indices[:, 0].view(1, *z.shape[2:]).numpy().astype(np.int32)
    quantized = codes[nearest.indices[:, 0]].view(1, *z.shape[2:], -1).permute(0, 3, 1, 2)
    decoded, plain = vq.decode(z).sample, vq.decode(z, force_not_quantize=True).sample
    tolerance, exact = {"rtol": 1e-3, "atol": 1e-3}, {"rtol": 0, "atol": 0}
    write(cases / "vae", "vq_small", "vae_vq", VQ_FOLDER, {"component": "vae", "min_code_margin": margin},
          {"image": x.numpy(), "latents_in": z.numpy()},
          {"z": (z.numpy(), tolerance), "indices": (indices, exact), "quantized": (quantized.numpy(), tolerance),
           "decoded": (decoded.numpy(), tolerance), "lat_indices": (indices, exact),
           "lat_decoded": (decoded.numpy(), tolerance), "lat_decoded_no_quant": (plain.numpy(), tolerance)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--cases", type=Path, default=CASES.parent)
    parser.add_argument("parts", nargs="*", default=["adapters", "vq"])
    options = parser.parse_args()
    for part in options.parts:
        {"adapters": record_adapters, "vq": record_vq}[part](options.models, options.cases)
