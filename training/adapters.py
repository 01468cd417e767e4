"""What the LoRA (lora.py) and the ControlNet (control.py) have in common: the text-to-image model they are trained on, which stays
as it is, and a run that learns their weights and can be taken up where it stopped.

The model is that of models/; with --running that of the state folder as far as its training has come, so that an adapter can learn
while the U-Net still does, and finish on the released one with --again."""

import argparse
import math
import time

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import denoiser
import device
import export
import latents
import state
import tokens
from device import DEVICE
from unet import MIN_SNR

LORA, LORA_RANK, CONTROL = "sdd-small-chalk", 4, "sdd-small-scribble"
WARM_UP_STEPS = 50
KEEP = 0.99  # of the running average, which is what ships


class Base:
    """The frozen text-to-image model in float32."""

    def __init__(self, running):
        folder = export.MODELS / export.FOLDERS[4]
        self.vae = device.place(AutoencoderKL.from_pretrained(state.path("vae") if running else folder / "vae").float())
        if running:
            self.tokenizer = tokens.load()
            unet, text = export.averaged(9)
            self.unet = denoiser.build_unet(4)
            self.unet.load_state_dict(denoiser.fold(unet, torch.from_numpy(latents.grey_latent(self.vae))))
            self.text = denoiser.build_text_encoder(self.tokenizer)
            self.text.load_state_dict(text)
        else:
            self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").float()
            self.text = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
        for part in (self.vae, self.unet, self.text):
            device.place(part).eval().requires_grad_(False)
        self.alphas = denoiser.build_scheduler().alphas_cumprod.to(DEVICE)

    @torch.no_grad()
    def words(self, captions):
        """The text encoder's output [n, 77, width] of captions."""
        return self.text(tokens.encode(self.tokenizer, captions).to(DEVICE))[0]

    def loss(self, z, predict):
        """The weighted error on latents z of predict(noisy, t), a guess of the noise, and the plain one as a number."""
        t = torch.randint(0, len(self.alphas), (len(z),), device=DEVICE)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        with device.autocast():
            guess = predict(alpha.sqrt() * z + (1 - alpha).sqrt() * noise, t)
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        snr = self.alphas[t] / (1 - self.alphas[t])
        return (error * snr.clamp(max=MIN_SNR) / snr).mean(), float(error.detach().mean())


def options(description, minutes, rate):
    """The command line that both share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--processes", type=int, default=2, help="that draw lines")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--running", action="store_true", help="on the model as far as it is trained")
    parser.add_argument("--again", action="store_true", help="from the kept weights, with a new clock")
    chosen = parser.parse_args()
    device.prepare(chosen.threads)
    return chosen


def learn(name, chosen, parameters, loss):
    """Learns `parameters`, a dict, by loss(rng), and leaves their running average in them. State is in NAME.pt, the log in
    NAME.log."""
    values = list(parameters.values())
    optimizer = torch.optim.AdamW(values, lr=chosen.rate, weight_decay=1e-4, fused=True)
    average, seconds, step = {}, 0.0, 0
    checkpoint, log = state.path(f"{name}.pt"), state.Log(f"{name}.log")
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=DEVICE)
        average = kept["average"]
        with torch.no_grad():
            for key, p in parameters.items():
                p.copy_((average if chosen.again and kept["seconds"] >= 60 else kept["values"])[key])
        if not chosen.again:
            optimizer.load_state_dict(kept["optimizer"])
            seconds, step = kept["seconds"], kept["step"]
    average = average or {k: p.detach().clone() for k, p in parameters.items()}
    torch.manual_seed(step)
    rng, errors, spent, saved = np.random.default_rng(step), [], 0.0, time.monotonic()

    def save():
        state.save(checkpoint, lambda p: torch.save(
            {"values": {k: v.detach() for k, v in parameters.items()}, "average": average,
             "optimizer": optimizer.state_dict(), "seconds": seconds, "step": step}, p))
    while seconds < chosen.minutes * 60:
        start = time.monotonic()
        done = seconds / (chosen.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = chosen.rate * min(1, (step + 1) / WARM_UP_STEPS) * (
                0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        weighted, error = loss(rng)
        optimizer.zero_grad()
        weighted.backward()
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()
        step += 1
        keep = min(KEEP, step / (step + 10))
        torch._foreach_lerp_([average[k] for k in parameters], [p.detach() for p in values], 1 - keep)
        errors.append(error)
        spent += time.monotonic() - start
        seconds += time.monotonic() - start
        if step % 100 == 0 or seconds >= chosen.minutes * 60:
            log.write(step=step, samples=step * chosen.batch, minutes=round(seconds / 60, 2),
                      rate=round(len(errors) * chosen.batch / spent, 1), error=round(float(np.mean(errors)), 4))
            errors, spent = [], 0.0
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            save()
    save()
    with torch.no_grad():
        for key, p in parameters.items():
            p.copy_(average[key])
