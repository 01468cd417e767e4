"""The judge of generated pictures: a network that finds the world's objects and their colours. It
learns (teach_judge.py) from scenes that no training step of the model saw, shares nothing with the
perceptual net, and is trusted only as far as it names real scenes rightly.

For each cell of a grid it says which kinds of object have their middle there, and in which colour
what is there is painted; so it can also say whether something is in a hole. Of the whole picture it says
the place, the light (time of day or rain) and the style."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import state
from device import DEVICE
from measures import to_tensor
from world.objects import KINDS
from world.palette import COLOURS, PLACES, TIMES
from world.styles import CHANCES

SIDE, GRID = 128, 16
KIND_NAMES, COLOUR_NAMES = list(KINDS), list(COLOURS)
SETTINGS = {"place": list(PLACES), "light": [*TIMES, "rain"], "style": list(CHANCES)}
SURE = 0.5


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    def __init__(self, before, after, stride=1, dilation=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, dilation, dilation, bias=False),
            nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, dilation, dilation, bias=False), nn.BatchNorm2d(after))
        self.short = nn.Identity() if (before, stride) == (after, 1) else nn.Sequential(
            nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        return F.relu(self.body(x) + self.short(x))


class Judge(nn.Module):
    """Pictures [n, 3, SIDE, SIDE] in -1..1 to features [n, WIDTH, GRID, GRID], and those to logits of
    kinds [n, kinds, GRID, GRID], of colours [n, colours, GRID, GRID] and, a tuple in the order of
    SETTINGS, of each setting's answers [n, answers]."""

    WIDTH = 96

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            Residual(32, 48, 2), Residual(48, self.WIDTH, 2),
            Residual(self.WIDTH, self.WIDTH, dilation=2),
            Residual(self.WIDTH, self.WIDTH, dilation=3))
        self.kinds = nn.Conv2d(self.WIDTH, len(KIND_NAMES), 1)
        self.colours = nn.Conv2d(self.WIDTH, len(COLOUR_NAMES), 1)
        self.settings = nn.Sequential(
            nn.AvgPool2d(4), nn.Flatten(), nn.Linear(self.WIDTH * (GRID // 4) ** 2, 128), nn.ReLU(),
            nn.Linear(128, sum(map(len, SETTINGS.values()))))
        nn.init.constant_(self.kinds.bias, -5)

    def answer(self, features):
        """The logits that follow from features."""
        settings = self.settings(features).split([len(v) for v in SETTINGS.values()], dim=1)
        return self.kinds(features), self.colours(features), settings

    def forward(self, x):
        return self.answer(self.body(x))


def setting_of(record):
    """A scene's answers to SETTINGS."""
    return {"place": record["place"], "light": "rain" if record["rain"] else record["time"],
            "style": record["style"]}


def shrink(picture):
    """A picture of any size as uint8 [SIDE, SIDE, 3]."""
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.BOX))


class Seen:
    """What the judge sees in one picture: a list of (kind, colour, sureness, (column, row) in 0..1)
    for each peak of a kind's map, the colour without regard to whether the kind has any; and the
    setting, an answer for each of SETTINGS."""

    def __init__(self, kind_logits, colour_logits, setting_logits):
        self.setting = {name: SETTINGS[name][int(logits.argmax())]
                        for name, logits in zip(SETTINGS, setting_logits)}
        sure = kind_logits.sigmoid()
        peaks = (sure == F.max_pool2d(sure[None], 3, 1, 1)[0]) & (sure > SURE)
        shades = colour_logits.argmax(dim=0)
        self.objects = [(KIND_NAMES[k], COLOUR_NAMES[shades[y, x]], float(sure[k, y, x]),
                         ((x + 0.5) / GRID, (y + 0.5) / GRID))
                        for k, y, x in peaks.nonzero().tolist()]

    def has(self, item, box=None):
        """Whether an object of the kind, then whether one of kind and colour, is there (in a box
        with edges in 0..1)."""
        found = [(colour, at) for kind, colour, _, at in self.objects if kind == item["kind"]]
        if box is not None:
            found = [(c, (x, y)) for c, (x, y) in found
                     if box[0] <= x <= box[2] and box[1] <= y <= box[3]]
        colours = {c for c, _ in found}
        return bool(found), bool(found) and (item["colour"] is None or item["colour"] in colours)


@torch.no_grad()
def look(judge, pixels):
    """What is seen in pictures uint8 [n, SIDE, SIDE, 3], and their mean features [n, WIDTH]."""
    seen, features = [], []
    for first in range(0, len(pixels), 64):
        maps = judge.body(to_tensor(pixels[first:first + 64]))
        features.append(maps.mean(dim=(2, 3)).cpu())
        kinds, colours, settings = judge.answer(maps)
        seen += [Seen(*each) for each in zip(kinds.cpu(), colours.cpu(),
                                             zip(*(logits.cpu() for logits in settings)))]
    return seen, torch.cat(features).double().numpy()


def world():
    """All that the judge knows words for; a judge of another world is worth nothing."""
    return [KIND_NAMES, COLOUR_NAMES, SETTINGS]


def load():
    """The trained judge."""
    where = state.path("judge.pt")
    if not where.exists():
        raise SystemExit(f"{where} is missing: run teach_judge.py first")
    kept = torch.load(where, map_location=DEVICE)
    if kept.get("world") != world():
        raise SystemExit(f"{where} was trained on another world: remove it and run teach_judge.py")
    judge = Judge().to(DEVICE)
    judge.load_state_dict(kept["judge"])
    return judge.eval()
