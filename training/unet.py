"""Stages 2 and 3: the text encoder and the U-Net, on cached latents.

--channels 9 trains text encoder and inpaint U-Net together from nothing: FULL_MASK of the samples
have a full mask (which is text to image), the others a cached hole, whose caption names what the
hole hides. --channels 4 folds that U-Net into a text-to-image one and goes on with it, the text
encoder frozen. Epsilon prediction, min-SNR weights with a floor, caption dropout for classifier-free guidance,
AdamW with warm-up and cosine, EMA. A share of the steps is at half the side, if scenes of that side are encoded, so that
small drafts come out whole. A run is taken up where it stopped; with --since M it goes on
after its first M minutes with a schedule that begins anew there (a wider world, a larger picture).
--released begins with the weights below models/ instead of fresh ones."""

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
import device
import export
import grounding
import latents
import lessons
import state
import tokens
from device import DEVICE
from world.captions import MARKS

FULL_MASK = 0.5
DROP_CAPTION = 0.12
HALF_SIDE = 0.2
# What an error of the denoised picture counts: min(SNR, 5), and a quarter at least. In nearly pure noise, where
# place, light and first outlines are decided, the SNR alone would count it for nothing.
MIN_SNR, FLOOR = 5.0, 0.25
EMA = 0.999
WARM_UP = 0.02
RELOAD_SECONDS = 240


class Batches:
    """Random training batches from the latents of one side encoded so far, drawn where the tensors live."""

    def __init__(self, side, channels, vae, tokenizer):
        self.side, self.channels = side, channels
        self.grey = torch.from_numpy(latents.grey_latent(vae, side)).float().to(DEVICE)
        self.silence = tokens.encode(tokenizer, [""])[0].to(DEVICE)
        self.known = []
        self.reload()

    def reload(self):
        """Takes in what was encoded since."""
        self.loaded = time.monotonic()
        if (known := latents.shards(self.side)) == self.known:
            return
        self.known, tensors = known, {}
        for source, names in ((latents, ("z", "z_masked", "mask")), (lessons, ("ids", "owners", "boxes"))):
            parts = [source.load(k, self.side) for k in known]
            for name in names:
                whole = np.concatenate([p[name] for p in parts])
                tensors[name] = torch.from_numpy(whole.astype(np.int16) if name == "ids" else whole).to(DEVICE)
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors["z"])

    def draw(self, count):
        """Clean latents [n, 4, h, w], conditioning channels [n, 5 or 0, h, w], token ids [n, 77], whose words
        are which object's [n, objects, 77], and the objects' boxes [n, objects, h, w]."""
        if time.monotonic() - self.loaded > RELOAD_SECONDS:
            self.reload()
        of = self.tensors

        def chance(share):
            return torch.rand(count, device=DEVICE) < share
        k = torch.randint(len(self), (count,), device=DEVICE)
        whole = chance(FULL_MASK if self.channels == 9 else 1)
        asked = torch.where(whole, lessons.WHOLE, lessons.HOLE)
        form = torch.randint(lessons.FORMS, (count,), device=DEVICE)
        silent = chance(DROP_CAPTION)[:, None]
        ids = torch.where(silent, self.silence, of["ids"][k, asked, form].long())
        owners = of["owners"][k, asked, form].masked_fill(silent, 0)[:, None]
        owners = (owners == torch.arange(1, len(MARKS) + 1, device=DEVICE)[:, None]).float()
        z = of["z"][k].float()
        full = whole[:, None, None, None]
        mask = of["mask"][k][:, None] | full
        masked = torch.where(full, self.grey, of["z_masked"][k].float())
        extra = torch.cat([mask, masked], dim=1)[:, :self.channels - 4]
        return z, extra, ids, owners, grounding.grids(of["boxes"][k, asked], z.shape[-1])


class Trainer:
    """Models, their averages, the optimiser and the clock of one run."""

    def __init__(self, options):
        self.options, self.name = options, f"unet{options.channels}"
        self.tokenizer = tokens.load()
        self.vae = device.place(AutoencoderKL.from_pretrained(state.path("vae")))
        self.text = device.place(denoiser.build_text_encoder(self.tokenizer))
        self.unet = device.place(denoiser.build_unet(options.channels))
        self.step, self.seconds = 0, 0.0
        kept = None
        if self.checkpoint().exists():
            kept = torch.load(self.checkpoint(), map_location=DEVICE)
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
            inpaint = torch.load(state.path("unet9.pt"), map_location="cpu")
            self.load_text(inpaint["ema_text"])
            self.unet.load_state_dict(denoiser.fold(inpaint["ema_unet"],
                                                    torch.from_numpy(latents.grey_latent(self.vae))))
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
        self.alphas = denoiser.build_scheduler().alphas_cumprod.to(DEVICE)
        if options.compile:
            self.predict = torch.compile(self.predict, dynamic=False)

    def checkpoint(self):
        return state.path(f"{self.name}.pt")

    def load_text(self, weights):
        """Weights of the text encoder, which may know fewer words than the vocabulary has by now."""
        own = self.text.state_dict()
        self.text.load_state_dict({k: denoiser.grow_rows(v.to(DEVICE), own[k]) for k, v in weights.items()})

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
            both = [{k: v.clone(memory_format=torch.contiguous_format) for k, v in m.state_dict().items()} for m in (self.unet, self.text)]
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

    def predict(self, noisy, t, words, owners, cells):
        """A guess of the noise [n, 4, h, w], and how badly the attention lies [n]."""
        with device.autocast():
            guess = self.unet(noisy, t, words).sample
        return guess.float(), grounding.attention_loss(self.watched, owners, cells)

    def learn(self, z, extra, ids, owners, boxes):
        """One step; returns the plain mean squared error and the attention's, as tensors."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * min(1, 0.02 + self.done() / WARM_UP) * (
                0.02 + 0.49 * (1 + math.cos(math.pi * min(1, self.done()))))
        t = torch.randint(0, len(self.alphas), (len(z),), device=DEVICE)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        with device.autocast():
            words = self.text(ids)[0]
        guess, aside = self.predict(torch.cat([noisy, extra], dim=1), t, words.float(), owners,
                                    F.max_pool2d(boxes, 2))
        error = (guess - noise).square()
        weight = 1 + (grounding.OBJECT_WEIGHT - 1) * boxes.amax(dim=1, keepdim=True)
        weighted = (error * weight).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))
        snr = self.alphas[t] / (1 - self.alphas[t])
        loss = (weighted * (snr.clamp(max=MIN_SNR) + FLOOR) / snr).mean()
        aside = aside * self.alphas[t].sqrt()
        loss = loss + aside.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        keep = min(EMA, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
        self.step += 1
        return torch.stack([error.detach().mean(), aside.detach().mean()])

    def warm(self, z, extra, ids, owners, boxes):
        """Compiles for pictures of this size, before the clock runs."""
        start = time.monotonic()
        t = torch.zeros(len(z), dtype=torch.long, device=DEVICE)
        guess, aside = self.predict(torch.cat([z, extra], dim=1), t, self.text(ids)[0], owners, F.max_pool2d(boxes, 2))
        (guess.mean() + aside.mean()).backward()
        print(f"compiled for {list(z.shape)} in {time.monotonic() - start:.0f} s", flush=True)

    def run(self):
        log = state.Log(f"{self.name}.log")
        sides = [side for side in (state.SIDE, state.SIDE // 2) if latents.shards(side)]
        batches = [Batches(side, self.options.channels, self.vae, self.tokenizer) for side in sides]
        chooser = random.Random(self.step)
        torch.manual_seed(self.step)
        if self.options.channels == 4:
            self.text.requires_grad_(False)
        if self.options.compile:
            for source in batches:
                self.warm(*source.draw(self.options.batch))
        errors, spent, saved = [], 0.0, time.monotonic()
        while self.done() < 1:
            start = time.monotonic()
            half = chooser.random() < HALF_SIDE
            errors.append(self.learn(*batches[-1 if half else 0].draw(self.options.batch)))
            if self.step % 200 == 0:
                errors = torch.stack(errors).mean(dim=0).tolist()
            spent += time.monotonic() - start
            self.seconds += time.monotonic() - start
            if self.step % 200 == 0:
                log.write(step=self.step, samples=self.step * self.options.batch,
                          minutes=round(self.seconds / 60, 2), scenes=len(batches[0]),
                          side=state.SIDE, rate=round(200 * self.options.batch / spent, 1),
                          error=round(errors[0], 4), attention=round(errors[1], 4))
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
    parser.add_argument("--compile", action="store_true", help="with torch.compile: worth it on a GPU")
    chosen = parser.parse_args()
    device.prepare(chosen.threads)
    Trainer(chosen).run()
