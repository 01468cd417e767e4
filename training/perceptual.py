"""The perceptual net of stage 1: a small classifier in the manner of VGG (pairs of 3x3 convolutions and ReLU, halved by max
pooling) that learned to name this very world's scenes, since there are no public weights here. What it says of a picture is not
used; how its features differ between two pictures is (Zhang et al. 2018's LPIPS without the learned weights of channels).

`python perceptual.py` trains it on the painted scenes, takes up a run where it stopped, and logs how often it is right on scenes
of the last shard, which it does not see. The judge of the evaluation is another net, taught on other scenes."""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import device
import render
import state
from device import DEVICE
from measures import to_tensor

WIDTHS = (16, 32, 64, 96)


class Perceptual(nn.Module):
    """Pictures [n, 3, h, w] in -1..1 to a logit for each label; features() gives the maps behind each pair of convolutions."""

    def __init__(self, labels):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 1, 1), nn.ReLU(),
                          nn.Conv2d(after, after, 3, 1, 1), nn.ReLU())
            for before, after in zip((3,) + WIDTHS, WIDTHS))
        self.head = nn.Linear(WIDTHS[-1], labels)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def features(self, x):
        maps = []
        for k, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if k else x)
            maps.append(x)
        return maps

    def forward(self, x):
        return self.head(self.features(x)[-1].amax(dim=(2, 3)))

    def distance(self, a, b):
        """Mean over pictures, places and stages of the squared distance of the features, each of length one: 0 for equal
        pictures, at most 2."""
        total = 0
        for fa, fb in zip(self.features(a), self.features(b)):
            fa, fb = (f.float() / (f.float().square().sum(1, keepdim=True) + 1e-6).sqrt() for f in (fa, fb))
            total = total + (fa - fb).square().sum(1).mean()
        return total / len(self.stages)


def names(record):
    """All that can be said of a scene in single words: place, time, kinds and colours of what is there."""
    said = {v for v in record.values() if isinstance(v, str)}
    return said | {o[k] for o in record["objects"] for k in ("kind", "colour") if o[k]}


def rows(records, labels):
    """For each record a row of 0 and 1, one for each label."""
    return torch.tensor([[label in said for label in labels] for said in map(names, records)]).float().to(DEVICE)


def load():
    """The trained net, frozen."""
    where = state.path("perceptual.pt")
    if not where.exists():
        raise SystemExit(f"{where} is missing: run perceptual.py first")
    kept = torch.load(where, map_location=DEVICE)
    net = Perceptual(len(kept["labels"]))
    net.load_state_dict(kept["model"])
    return device.place(net).eval().requires_grad_(False)


@torch.no_grad()
def right(net, pixels, wanted):
    """The share of labels that are told rightly, and of pictures with every label right."""
    said = torch.cat([net(to_tensor(pixels[k:k + 50])) for k in range(0, len(pixels), 50)]) > 0
    good = said == (wanted > 0.5)
    return {"labels_right": round(float(good.float().mean()), 4),
            "pictures_right": round(float(good.all(1).float().mean()), 3)}


def train(options):
    device.prepare(options.threads)
    torch.manual_seed(3)
    *shards, last = [render.load(k) for k in render.shards()]
    labels = sorted(set().union(*(names(r) for _, records in shards for r in records)))
    wanted = [rows(records, labels) for _, records in shards]
    unseen = last[0][:400], rows(last[1][:400], labels)
    net, seconds, step = device.place(Perceptual(len(labels))), 0.0, 0
    checkpoint = state.path("perceptual.pt")
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=1e-3, fused=True)
    if checkpoint.exists():
        kept = torch.load(checkpoint, map_location=DEVICE)
        net.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        seconds, step = kept["seconds"], kept["step"]
    log, rng = state.Log("perceptual.log"), np.random.default_rng(step)
    last_save = time.monotonic()
    while seconds < options.minutes * 60:
        start = time.monotonic()
        done = seconds / (options.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 100) * max(0.02, min(1, 2 * (1 - done)))
        shard = rng.integers(len(shards))
        chosen = rng.integers(len(wanted[shard]), size=options.batch)
        x = to_tensor(shards[shard][0][chosen])
        if rng.random() < 0.5:
            x = x.flip(3)
        with device.autocast():
            logits = net(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), wanted[shard][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        seconds += time.monotonic() - start
        if time.monotonic() - last_save > 60 or seconds >= options.minutes * 60:
            last_save = time.monotonic()
            state.save(checkpoint, lambda p: torch.save(
                {"model": net.state_dict(), "labels": labels, "optimizer": optimizer.state_dict(),
                 "seconds": seconds, "step": step}, p))
            log.write(step=step, samples=step * options.batch, minutes=round(seconds / 60, 2),
                      rate=round(step * options.batch / seconds, 1), loss=round(loss.item(), 4),
                      **right(net, *unseen))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())
