"""Stages 2 and 3: the text encoder and the U-Net, on cached latents.

--channels 9 trains text encoder and inpaint U-Net together from nothing: FULL_MASK of the samples
have a full mask (which is text to image), the others a cached hole, whose caption names what the
hole hides. --channels 4 folds that U-Net into a text-to-image one and goes on with it, the text
encoder frozen. Epsilon prediction, min-SNR weights with a floor, caption dropout for classifier-free guidance,
AdamW with warm-up and cosine, EMA. A run is taken up where it stopped; with --since M it goes on
after its first M minutes with a schedule that begins anew there (a wider world, a larger picture).
--released begins with the weights below models/ instead of fresh ones, on latents of the released
autoencoder."""

import argparse
import math
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

import denoiser
import export
import grounding
import latents
import state
import tokens
from world.captions import caption

FULL_MASK = 0.5
DROP_CAPTION = 0.12
# What an error of the denoised picture counts: min(SNR, 5), and a quarter at least. In nearly pure noise, where
# place, light and first outlines are decided, the SNR alone would count it for nothing.
MIN_SNR, FLOOR = 5.0, 0.25
EMA = 0.999
WARM_UP = 0.02
RELOAD_SECONDS = 240


class Batches:
    """Random training batches from the latents encoded so far."""

    def __init__(self, channels, grey, tokenizer, seed):
        self.channels, self.grey, self.tokenizer = channels, torch.from_numpy(grey).float(), tokenizer
        self.rng = random.Random(seed)
        self.reload()

    def reload(self):
        self.arrays, self.notes = latents.load_all()
        self.loaded = time.monotonic()

    def draw(self, count):
        """Clean latents [n, 4, h, w], conditioning channels [n, 5 or 0, h, w], token ids, whose words
        are which object's [n, objects, 77], and the objects' boxes [n, objects, h, w]."""
        if time.monotonic() - self.loaded > RELOAD_SECONDS:
            self.reload()
        rng, z, extra, words, boxes = self.rng, [], [], [], []
        for _ in range(count):
            k, hole = rng.randrange(len(self.notes)), rng.randrange(latents.MASKS)
            note = self.notes[k]
            full = self.channels == 4 or rng.random() < FULL_MASK
            z.append(torch.from_numpy(self.arrays["z"][k]).float())
            if full:
                mask, masked = torch.ones(1, *z[-1].shape[1:]), self.grey
            else:
                mask = torch.from_numpy(self.arrays["mask"][k, hole]).float()[None]
                masked = torch.from_numpy(self.arrays["z_masked"][k, hole]).float()
            extra.append(torch.cat([mask, masked])[:self.channels - 4])
            shown = note["record"]["objects"] if full else note["hidden"][hole]
            boxes.append(grounding.boxes(note["record"], shown, z[-1].shape[-1]))
            words.append("" if rng.random() < DROP_CAPTION else
                         caption(rng, note["record"], shown, 0.85 if full else 0.5, marked=True))
        return (torch.stack(z), torch.stack(extra), *tokens.encode_marked(self.tokenizer, words),
                torch.stack(boxes))


class Trainer:
    """Models, their averages, the optimiser and the clock of one run."""

    def __init__(self, options):
        self.options, self.name = options, f"unet{options.channels}"
        self.tokenizer = tokens.load()
        self.vae = AutoencoderKL.from_pretrained(state.path("vae"))
        self.grey = latents.grey_latent(self.vae)
        self.text = denoiser.build_text_encoder(self.tokenizer)
        self.unet = denoiser.build_unet(options.channels)
        self.step, self.seconds = 0, 0.0
        kept = None
        if self.checkpoint().exists():
            kept = torch.load(self.checkpoint())
            self.unet.load_state_dict(kept["unet"])
            self.load_text(kept["text"])
            self.step, self.seconds = kept["step"], kept["seconds"]
        elif options.released:
            folder = export.MODELS / export.FOLDERS[options.channels]
            self.load_text(
                CLIPTextModel.from_pretrained(folder / "text_encoder").float().state_dict())
            self.unet.load_state_dict(
                UNet2DConditionModel.from_pretrained(folder / "unet").float().state_dict())
        elif options.channels == 4:
            inpaint = torch.load(state.path("unet9.pt"))
            self.load_text(inpaint["ema_text"])
            self.unet.load_state_dict(
                denoiser.fold(inpaint["ema_unet"], torch.from_numpy(self.grey)))
        self.parameters = list(self.unet.parameters())
        if options.channels == 9:
            self.parameters += list(self.text.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=options.rate, weight_decay=0.01,
                                           fused=True)
        self.average = [p.detach().clone() for p in self.parameters]
        if kept:
            self.optimizer.load_state_dict(kept["optimizer"])
            self.average = [denoiser.grow_rows(a, p) for a, p in zip(kept["average"], self.parameters)]
            for p, moments in self.optimizer.state.items():
                for name in ("exp_avg", "exp_avg_sq"):
                    moments[name] = denoiser.grow_rows(moments[name], torch.zeros_like(p))
        self.watched = grounding.watch(self.unet)
        self.alphas = denoiser.build_scheduler().alphas_cumprod

    def checkpoint(self):
        return state.path(f"{self.name}.pt")

    def load_text(self, weights):
        """Weights of the text encoder, which may know fewer words than the vocabulary has by now."""
        own = self.text.state_dict()
        self.text.load_state_dict({k: denoiser.grow_rows(v, own[k]) for k, v in weights.items()})

    def done(self):
        """The fraction of the schedule's time that is over."""
        since, until = self.options.since * 60, self.options.minutes * 60
        return (self.seconds - since) / (until - since)

    def averaged(self):
        """State dicts of U-Net and text encoder with the averaged weights."""
        own = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            for p, a in zip(self.parameters, self.average):
                p.copy_(a)
            both = [{k: v.clone() for k, v in m.state_dict().items()} for m in (self.unet, self.text)]
            for p, o in zip(self.parameters, own):
                p.copy_(o)
        return both

    def save(self):
        ema_unet, ema_text = self.averaged()
        state.save(self.checkpoint(), lambda p: torch.save(
            {"unet": self.unet.state_dict(), "text": self.text.state_dict(),
             "ema_unet": ema_unet, "ema_text": ema_text, "average": self.average,
             "optimizer": self.optimizer.state_dict(), "step": self.step,
             "seconds": self.seconds}, p))

    def learn(self, z, extra, ids, owners, boxes):
        """One step; returns the plain mean squared error and the attention's."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * min(1, 0.02 + self.done() / WARM_UP) * (
                0.02 + 0.49 * (1 + math.cos(math.pi * min(1, self.done()))))
        t = torch.randint(0, len(self.alphas), (len(z),))
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16):
            words = self.text(ids)[0]
            guess = self.unet(torch.cat([noisy, extra], dim=1), t, words).sample
        error = (guess.float() - noise).square()
        weight = 1 + (grounding.OBJECT_WEIGHT - 1) * boxes.amax(dim=1, keepdim=True)
        weighted = (error * weight).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))
        snr = self.alphas[t] / (1 - self.alphas[t])
        loss = (weighted * (snr.clamp(max=MIN_SNR) + FLOOR) / snr).mean()
        aside = grounding.attention_loss(self.watched, owners,
                                         F.max_pool2d(boxes, 2)) * self.alphas[t].sqrt()
        loss = loss + aside.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        keep = min(EMA, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
        self.step += 1
        return float(error.detach().mean()), float(aside.detach().mean())

    def run(self):
        log = state.Log(f"{self.name}.log")
        batches = Batches(self.options.channels, self.grey, self.tokenizer, f"batches {self.step}")
        torch.manual_seed(self.step)
        if self.options.channels == 4:
            self.text.requires_grad_(False)
        errors, spent, saved = [], 0.0, time.monotonic()
        while self.done() < 1:
            start = time.monotonic()
            errors.append(self.learn(*batches.draw(self.options.batch)))
            spent += time.monotonic() - start
            self.seconds += time.monotonic() - start
            if self.step % 200 == 0:
                log.write(step=self.step, samples=self.step * self.options.batch,
                          minutes=round(self.seconds / 60, 2), scenes=len(batches.notes),
                          side=state.SIDE, rate=round(len(errors) * self.options.batch / spent, 1),
                          error=round(float(np.mean(errors, axis=0)[0]), 4),
                          attention=round(float(np.mean(errors, axis=0)[1]), 4))
                errors, spent = [], 0.0
            if time.monotonic() - saved > 180:
                self.save()
                saved = time.monotonic()
        self.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, choices=(4, 9), default=9)
    parser.add_argument("--minutes", type=float, default=50, help="of learning in all")
    parser.add_argument("--since", type=float, default=0, help="minutes at which the schedule began")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--released", action="store_true", help="begin with the weights of models/")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    Trainer(chosen).run()
