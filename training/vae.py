"""Stage 1: the KL autoencoder (f = 8, 4 latent channels) of Stable Diffusion 1.x, small.

Loss: L1 + perceptual distance + PatchGAN with adaptive weight (losses.py) + 1e-6 KL. Trained on random crops, an eighth of them as
chalk drawings (chalk.py); takes up a run where it stopped. It logs PSNR, SSIM and perceptual distance on unseen scenes, and at the end
measures scaling_factor = 1 / std of the latents.

--decoder goes on with the decoder of the state folder's vae/ alone, so that latents encoded before stay as they are: it can run
while, or after, a U-Net learns them."""

import argparse
import copy
import multiprocessing
import random
import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

import chalk
import device
import export
import perceptual
import render
import state
from device import DEVICE
from losses import PatchDiscriminator, discern, pull
from measures import psnr, ssim, to_pixels, to_tensor
from world.scene import compose

KL_WEIGHT = 1e-6
HELD_OUT, SHARDS = 64, 8
CHALK_SHARE = 0.125
EVALUATE_STEPS = 1000
KEEP = 0.998  # of the running average, which is what ships


def build():
    """The autoencoder with fresh weights."""
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1,
        block_out_channels=(32, 32, 64, 128), norm_num_groups=8, sample_size=state.SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def chalked(picture):
    """A picture as a chalk drawing, both uint8 [h, w, 3]."""
    return np.asarray(chalk.draw(Image.fromarray(picture)))


class Crops:
    """Random crops of the scenes of `shards`, some of them as chalk drawings; the scenes lie where the tensors live."""

    def __init__(self, shards, processes):
        scenes = np.concatenate([render.load(k)[0] for k in shards])
        with multiprocessing.Pool(processes) as pool:
            drawn = pool.map(chalked, scenes[:round(CHALK_SHARE * len(scenes))], chunksize=50)
        self.scenes, self.drawn = torch.from_numpy(scenes).to(DEVICE), torch.from_numpy(np.stack(drawn)).to(DEVICE)

    def draw(self, count, size):
        """[count, 3, size, size] in -1..1."""
        parts, chalks = [], int((torch.rand(count) < CHALK_SHARE).sum())
        for source, part in ((self.scenes, count - chalks), (self.drawn, chalks)):
            reach = torch.arange(size, device=DEVICE)
            y, x = (torch.randint(state.SIDE - size + 1, (part, 1), device=DEVICE) + reach for _ in range(2))
            k = torch.randint(len(source), (part, 1, 1), device=DEVICE)
            parts.append(source[k, y[:, :, None], x[:, None, :]])
        return to_tensor(torch.cat(parts))


def held_out():
    """Scenes no cache holds."""
    rng = random.Random("held out")
    return to_tensor(np.stack([np.asarray(compose(rng, state.SIDE)[0]) for _ in range(HELD_OUT)]))


@torch.no_grad()
def evaluate(vae, net):
    """Figures on the held-out scenes, and a sheet of originals over reconstructions: eight scenes, eight chalk drawings."""
    x = held_out()
    chalks = to_tensor(np.stack([chalked(p) for p in to_pixels(x[:8])]))
    with device.autocast():
        latents = vae.encode(x).latent_dist.mean
        y = vae.decode(latents).sample.float().clamp(-1, 1)
        drawn = vae.decode(vae.encode(chalks).latent_dist.mean).sample.float().clamp(-1, 1)
    rows = [np.concatenate(list(to_pixels(t[:8])), axis=1) for t in (x, y, chalks, drawn)]
    Image.fromarray(np.concatenate(rows)).save(state.path("sheets", "vae.png"))
    scale = vae.config.scaling_factor
    return {"psnr": round(psnr(y, x), 2), "ssim": round(ssim(y, x), 4),
            "perceptual_distance": round(float(net.distance(y, x)), 4), "chalk_psnr": round(psnr(drawn, chalks), 2),
            "latent_std": round(float(latents.float().std()) * scale, 3)}


@torch.no_grad()
def measure_scale(vae, pixels):
    """1 / std of sampled latents."""
    with device.autocast():
        z = [vae.encode(to_tensor(part)).latent_dist.sample().float() for part in pixels.split(32)]
    return float(1 / torch.cat(z).std())


class Trainer:
    """The autoencoder, its running average, its adversary, their optimisers and the clock of one run."""

    def __init__(self, options):
        self.options, self.name = options, "refined" if options.decoder else "vae"
        if options.decoder:
            self.vae = device.place(AutoencoderKL.from_pretrained(state.path("vae"))).train()
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        elif options.released:
            self.vae = device.place(AutoencoderKL.from_pretrained(export.MODELS / export.FOLDERS[4] / "vae").float()).train()
        else:
            self.vae = device.place(build())
        self.smooth = copy.deepcopy(self.vae).requires_grad_(False)
        self.net, self.adversary = perceptual.load(), device.place(PatchDiscriminator())
        self.learned = [p for p in self.vae.parameters() if p.requires_grad]
        self.optimizers = [
            torch.optim.AdamW(self.learned, lr=options.rate, weight_decay=1e-4, fused=True),
            torch.optim.AdamW(self.adversary.parameters(), lr=options.rate, betas=(0.5, 0.9), fused=True)]
        self.seconds, self.step = 0.0, 0
        if self.checkpoint().exists():
            kept = torch.load(self.checkpoint(), map_location=DEVICE)
            self.vae.load_state_dict(kept["model"])
            self.adversary.load_state_dict(kept["adversary"])
            self.smooth.load_state_dict(kept["smooth"])
            for optimizer, own in zip(self.optimizers, kept["optimizers"]):
                optimizer.load_state_dict(own)
            self.seconds, self.step = kept["seconds"], kept["step"]

    def checkpoint(self):
        return state.path(f"{self.name}.pt")

    def done(self):
        """The fraction of the run's time that is over."""
        return self.seconds / (self.options.minutes * 60)

    def save(self):
        state.save(self.checkpoint(), lambda p: torch.save(
            {"model": self.vae.state_dict(), "smooth": self.smooth.state_dict(), "adversary": self.adversary.state_dict(),
             "optimizers": [o.state_dict() for o in self.optimizers],
             "seconds": self.seconds, "step": self.step}, p))

    def learn(self, x):
        """One step on pictures x; returns the losses."""
        slow = min(1, (self.step + 1) / 100) * max(0.03, min(1, 2.2 * (1 - self.done())))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.options.rate * slow
        against = self.adversary if self.done() >= self.options.adversary_after else None
        with device.autocast():
            latent = self.vae.encode(x).latent_dist
            y = self.vae.decode(latent.sample()).sample
        y, kl = y.float(), latent.kl().float().mean()
        with device.autocast():
            gradient, figures = pull(y, x, self.vae.decoder.conv_out.weight, self.net, against)
        self.optimizers[0].zero_grad()
        if self.options.decoder:
            y.backward(gradient)
        else:
            torch.autograd.backward([y, KL_WEIGHT * kl], [gradient, None])
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizers[0].step()
        if against:
            with device.autocast():
                loss = discern(against, y, x)
            self.optimizers[1].zero_grad()
            loss.backward()
            self.optimizers[1].step()
            figures["discerning"] = round(loss.item(), 4)
        self.step += 1
        keep = min(KEEP, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.smooth.parameters()), [p.detach() for p in self.vae.parameters()],
                             1 - keep)
        return figures | {"kl": round(kl.item())}

    def run(self):
        torch.manual_seed(self.step + 1)
        log, scenes = state.Log(f"{self.name}.log"), Crops(render.shards()[:SHARDS], self.options.processes)
        if not self.step:
            log.write(step=0, **evaluate(self.smooth, self.net))
        last_save = time.monotonic()
        while self.done() < 1:
            start = time.monotonic()
            figures = self.learn(scenes.draw(self.options.batch, self.options.crop))
            self.seconds += time.monotonic() - start
            if self.step % 100 == 0:
                samples = self.step * self.options.batch
                log.write(step=self.step, samples=samples, minutes=round(self.seconds / 60, 2),
                          rate=round(samples / self.seconds, 1), **figures)
            if self.step % EVALUATE_STEPS == 0 or self.done() >= 1:
                log.write(**evaluate(self.smooth, self.net))
            if time.monotonic() - last_save > 150 or self.done() >= 1:
                last_save = time.monotonic()
                self.save()
        if not self.options.decoder:
            self.smooth.register_to_config(scaling_factor=measure_scale(self.smooth, scenes.scenes[:512]))
        log.write(scaling_factor=self.smooth.config.scaling_factor, **evaluate(self.smooth, self.net))
        device.plain(self.smooth).save_pretrained(state.path(self.options.out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="that draw with chalk")
    parser.add_argument("--adversary-after", type=float, default=0.5, help="a fraction of the time")
    parser.add_argument("--decoder", action="store_true", help="the decoder alone")
    parser.add_argument("--released", action="store_true", help="begin with the weights of models/")
    parser.add_argument("--out", default="vae", help="the folder of the result")
    chosen = parser.parse_args()
    device.prepare(chosen.threads)
    Trainer(chosen).run()
