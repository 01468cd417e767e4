"""Teaches the judge on freshly painted scenes with seeds of their own, and measures how far it can be
trusted on scenes held out from it. A run is taken up where it stopped."""

import argparse
import json
import multiprocessing
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import state
from device import DEVICE
from judge import COLOUR_NAMES, GRID, KIND_NAMES, SETTINGS, Judge, look, setting_of, shrink, world
from measures import to_tensor
from world.scene import compose

SHARD = 500
HELD_OUT = "held out"
SAVE_SECONDS, LOG_STEPS = 60, 50


def paint_shard(name):
    """Paints a shard of scenes for the judge unless it is there."""
    target = state.path("judge", f"{name}.npy")
    if target.exists():
        return
    rng = random.Random(f"judge {name}")
    scenes = [compose(rng, state.SIDE) for _ in range(SHARD)]
    target.with_suffix(".json").write_text(json.dumps([record for _, record in scenes]))

    def write(temporary):
        with open(temporary, "wb") as f:
            np.save(f, np.stack([shrink(picture) for picture, _ in scenes]))
    state.save(target, write)


def load_shard(name):
    """Pictures uint8 [SHARD, SIDE, SIDE, 3] and records of a shard."""
    target = state.path("judge", f"{name}.npy")
    return np.load(target), json.loads(target.with_suffix(".json").read_text())


def targets(records):
    """What the judge should say: kinds [n, kinds, GRID, GRID] with 1 in the middle half of an
    object, -1 (do not care) in the rest of its box, else 0; colours [n, GRID, GRID], -1 where no
    object's colour is known; settings [n, questions]."""
    kinds = torch.zeros(len(records), len(KIND_NAMES), GRID, GRID)
    colours = torch.full((len(records), GRID, GRID), -1)
    for n, record in enumerate(records):
        for item in record["objects"]:
            k = KIND_NAMES.index(item["kind"])
            box = [v * GRID / state.SIDE for v in item["box"]]
            outer = cells(box)
            kinds[n, k][outer] = torch.where(kinds[n, k][outer] == 1, 1.0, -1.0)
            quarter = (box[2] - box[0]) / 4, (box[3] - box[1]) / 4
            inner = cells([box[0] + quarter[0], box[1] + quarter[1],
                           box[2] - quarter[0], box[3] - quarter[1]])
            kinds[n, k][inner] = 1
            colours[n][inner] = COLOUR_NAMES.index(item["colour"]) if item["colour"] else -1
    settings = torch.tensor([[names.index(setting_of(r)[question])
                              for question, names in SETTINGS.items()] for r in records])
    return kinds, colours, settings


def cells(box):
    """Slices of the grid's cells that a box in cell units touches, one at least."""
    x0, y0 = (min(GRID - 1, max(0, int(v))) for v in box[:2])
    x1, y1 = (min(GRID, max(low + 1, int(np.ceil(v)))) for v, low in zip(box[2:], (x0, y0)))
    return slice(y0, y1), slice(x0, x1)


def disturb(x, kinds, colours, settings):
    """Mirrored, blurred, noisy, brighter or darker: what generated pictures do to scenes."""
    if torch.rand(()) < 0.5:
        x, kinds, colours = x.flip(3), kinds.flip(3), colours.flip(2)
    if torch.rand(()) < 0.3:
        low = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = F.interpolate(low, size=x.shape[2:], mode="bilinear")
    gain, offset = 1 + 0.1 * torch.randn(len(x), 1, 1, 1), 0.05 * torch.randn(len(x), 3, 1, 1)
    x = x * gain.to(DEVICE) + offset.to(DEVICE)
    return x + 0.06 * torch.rand(()).item() * torch.randn_like(x), kinds, colours, settings


def loss_of(kind_logits, colour_logits, setting_logits, kinds, colours, settings):
    """Cells and whole pictures right in kinds, cells of objects right in colours, settings right."""
    cell = F.binary_cross_entropy_with_logits(kind_logits, kinds.clamp(min=0), reduction="none")
    cell = (cell * (kinds >= 0)).sum() / (kinds == 1).sum().clamp(min=1)
    whole = F.binary_cross_entropy_with_logits(kind_logits.amax(dim=(2, 3)),
                                               kinds.amax(dim=(2, 3)).clamp(min=0))
    asked = sum(F.cross_entropy(logits, settings[:, k]) for k, logits in enumerate(setting_logits))
    return cell + 5 * whole + F.cross_entropy(colour_logits, colours, ignore_index=-1) + 0.3 * asked


def accuracy(judge):
    """On held-out scenes: the fraction of objects found, of finds that are right, and of found
    objects whose colour is named rightly; of scenes whose place, light, style are; the worst kinds."""
    pixels, records = load_shard(HELD_OUT)
    seen, _ = look(judge, pixels)
    there, found, coloured, right, claims, true = {}, {}, 0, 0, 0, 0
    for s, record in zip(seen, records):
        kinds = {o["kind"] for o in record["objects"]}
        claimed = {kind for kind, *_ in s.objects}
        claims, true = claims + len(claimed), true + len(claimed & kinds)
        for item in record["objects"]:
            box = [v / state.SIDE for v in item["box"]]
            kind, colour = s.has(item, box)
            there[item["kind"]] = there.get(item["kind"], 0) + 1
            found[item["kind"]] = found.get(item["kind"], 0) + kind
            if kind and item["colour"]:
                coloured, right = coloured + 1, right + colour
    rates = sorted((found[k] / there[k], k) for k in there)
    answers = {question: float(np.mean([s.setting[question] == setting_of(r)[question]
                                        for s, r in zip(seen, records)])) for question in SETTINGS}
    return {"objects": sum(there.values()), **answers, "recall": sum(found.values()) / sum(there.values()),
            "precision": true / max(1, claims), "colour": right / max(1, coloured),
            "worst": {k: round(r, 3) for r, k in rates[:3]}}


class Teacher:
    """The judge, its optimiser and the clock of one run."""

    def __init__(self, options):
        self.options, self.step, self.seconds = options, 0, 0.0
        self.judge = Judge().to(DEVICE)
        self.optimizer = torch.optim.AdamW(self.judge.parameters(), lr=options.rate,
                                           weight_decay=1e-3)
        self.where, self.log = state.path("judge.pt"), state.Log("judge.log")
        if self.where.exists():
            kept = torch.load(self.where, map_location=DEVICE)
            if kept.get("world") != world():
                raise SystemExit(f"{self.where} is the judge of another world: remove it and judge/")
            self.judge.load_state_dict(kept["judge"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.step, self.seconds = kept["step"], kept["seconds"]
        torch.manual_seed(4 + self.step)

    def save(self):
        """Keeps the run, and logs how well the judge does."""
        state.save(self.where, lambda p: torch.save(
            {"judge": self.judge.state_dict(), "optimizer": self.optimizer.state_dict(),
             "step": self.step, "seconds": self.seconds, "world": world()},
            p))
        self.log.write(step=self.step, minutes=round(self.seconds / 60, 2),
                       **accuracy(self.judge.eval()))
        self.judge.train()

    def learn(self, x, *truth):
        """One step; returns the loss."""
        done = self.seconds / (self.options.minutes * 60)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * min(1, (self.step + 1) / 50, max(0.02, 1.02 - done))
        loss = loss_of(*self.judge(x), *truth)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.judge.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def run(self, pixels, truth):
        """Learns until the run's minutes are over."""
        saved = time.monotonic()
        self.judge.train()
        while self.seconds < self.options.minutes * 60:
            start = time.monotonic()
            pick = torch.randint(0, len(pixels), (self.options.batch,))
            loss = self.learn(*disturb(to_tensor(pixels[pick.numpy()]),
                                       *(t[pick].to(DEVICE) for t in truth)))
            self.seconds += time.monotonic() - start
            if self.step % LOG_STEPS == 0:
                self.log.write(step=self.step, minutes=round(self.seconds / 60, 2),
                               loss=round(loss, 4))
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()


def teach(options):
    """Paints what is missing, then trains for `minutes` in all."""
    names = [HELD_OUT] + [f"scenes {k:03}" for k in range(options.shards)]
    with multiprocessing.Pool(options.processes) as pool:
        pool.map(paint_shard, names, chunksize=1)
    parts = [load_shard(n) for n in names[1:]]
    truth = targets([r for _, records in parts for r in records])
    Teacher(options).run(np.concatenate([p for p, _ in parts]), truth)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--shards", type=int, default=16, help=f"of {SHARD} scenes")
    parser.add_argument("--processes", type=int, default=2, help="that paint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    teach(chosen)
