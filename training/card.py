"""Writes the model card, models/README.md, with its sheets and a plot of the training error, from what
the runs logged and what the evaluation found, so that no figure is copied by hand."""

import argparse
import json
import math
from pathlib import Path

from PIL import Image, ImageDraw

import card_parts
import export
import state
from generate import defaults
from world.captions import NOUNS
from world.palette import COLOURS, PLACES, TIMES

SHEETS = ("txt2img", "inpaint", "outpaint")
PLOT = (640, 300)

CARD = """# sdd-small and sdd-small-inpaint

Two Stable Diffusion 1.x models of {million:.1f} million parameters together ({bytes:.0f} MB in float16 with all that lies beside them), in the diffusers layout. They draw flat
illustrations of a small painted world, {side}x{side} pixels, so that `sdd`, its clients and every test give real pictures without any
download. They know nothing of photographs, people or anything else that is not listed here.

`sdd-small` makes pictures from words and restyles pictures (4 channels); `sdd-small-inpaint` repaints selections and grows pictures
(9 channels). The second shares the first one's tokenizer, autoencoder and text encoder through links. `sdd.json` holds what they
are used with: {sampler}, {steps} steps, guidance {guidance_scale:g}.

![pictures from words](sheets/txt2img.jpg)

## What they can draw

* Objects: {kinds}.
* Colours: {colours}.
* Places: {places}; light: {times}, rain.
* Drawn flat, in crayon, in ink (which has no colours) or in emoji (which has its own); small or big, on the left, in the middle, on the right.

Say it plainly: "a red house on the grass by day", "a yellow boat and a white whale at sea", "a pink tent on the left by a lake at night,
crayon drawing". Of two objects the first is painted on the left. The figures below tell how often one object comes out, and how often two.
Words that the world's captions never use are spelled out by the vocabulary and mean nothing.

## Inpainting and outpainting

![before and after](sheets/inpaint.jpg)
![grown to the right](sheets/outpaint.jpg)

{parts}
## Figures

{figures}
## How they were made

By `training/`, from scenes that a program paints together with their captions and holes. In the style emoji, one scene in ten, the
objects are glyphs of the font Noto Color Emoji (2013-2017 Google Inc., Arjen Nienhuis; SIL Open Font License 1.1), as Debian packages it;
no other picture, and no text or weight from elsewhere, went in. `training/ATTRIBUTION.md` has the licences, and what was not used for
its licence. The text encoder and both U-Nets went on from the first version's, which knew half as many objects; its minutes are counted.

| stage | steps | samples | samples/s | minutes | last logged |
|---|---|---|---|---|---|
{stages}

![error during training](sheets/error.png)

The figures above come from `training/evaluate.py`; its judge is trained on scenes of its own. Licence: that of the project.
"""


def entries(name):
    """A run's log, oldest first; empty if it was not run here."""
    file = state.path(f"{name}.log")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def last(log, key):
    """The newest value of a key, None if it was never logged."""
    return next((e[key] for e in reversed(log) if key in e), None)


def stage(name, log):
    """A row of the table of stages."""
    shown = {k: last(log, k) for k in ("psnr", "scaling_factor", "error", "all_right")}
    notes = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in shown.items() if v is not None)
    cells = [last(log, k) for k in ("step", "samples", "rate", "minutes")]
    return f"| {name} | {' | '.join('' if c is None else f'{c:,}' for c in cells)} | {notes} |"


def plot(logs):
    """The logged errors over the samples seen, a curve for each run, both axes logarithmic."""
    picture = Image.new("RGB", PLOT, "white")
    draw = ImageDraw.Draw(picture)
    curves = {n: [(math.log(e["samples"]), math.log(e["error"])) for e in log
                  if e.get("samples") and e.get("error")] for n, log in logs.items()}
    points = [p for curve in curves.values() for p in curve]
    if not points:
        return picture
    low, high = ([f(p[i] for p in points) for i in (0, 1)] for f in (min, max))

    def at(p):
        x, y = ((v - a) / max(b - a, 1e-9) for v, a, b in zip(p, low, high))
        return 60 + x * (PLOT[0] - 80), PLOT[1] - 40 - y * (PLOT[1] - 60)
    for colour, (name, curve) in zip(("#2050d0", "#d06020"), curves.items()):
        if len(curve) > 1:
            draw.line([at(p) for p in curve], fill=colour, width=2)
            draw.text(at(curve[-1]), name, fill=colour, anchor="rb")
    for k in range(2):
        edge = (low, high)[k]
        draw.text((60 if k == 0 else PLOT[0] - 20, PLOT[1] - 20), f"{math.exp(edge[0]):,.0f} samples",
                  fill="black", anchor="lm" if k == 0 else "rm")
        draw.text((54, at(edge)[1]), f"{math.exp(edge[1]):.3f}", fill="black", anchor="rm")
    return picture


def parameters(models):
    """Numbers in all weights of the two models, links not followed."""
    return sum(f.stat().st_size for name in export.FOLDERS.values()
               for f in (models / name).glob("*/*.safetensors") if not f.parent.is_symlink()) / 2


def write(models, evaluation):
    """Writes README.md and sheets/ below `models`."""
    (models / "sheets").mkdir(exist_ok=True)
    for name in SHEETS:
        with Image.open(evaluation / f"{name}.png") as sheet:
            sheet.convert("RGB").save(models / "sheets" / f"{name}.jpg", quality=88)
    logs = {"4 channels": entries("unet4"), "9 channels": entries("unet9")}
    plot(logs).save(models / "sheets" / "error.png", optimize=True)
    stages = {"autoencoder": entries("vae"), "its decoder alone": entries("decoder"),
              "its decoder, all losses": entries("refined"), "preview decoder": entries("taesd"),
              "VQ twin": entries("vq"), "perceptual net": entries("perceptual"),
              "LoRA": entries("lora"), "ControlNet": entries("control"),
              **{f"U-Net, {name}": log for name, log in logs.items()}}
    rows = [stage(name, log) for name, log in stages.items() if log]
    used = defaults(models / export.FOLDERS[4])
    (models / "README.md").write_text(CARD.format(
        million=parameters(models) / 1e6, bytes=export.size(models) / 1e6,
        side=used["native_size"], kinds=", ".join(NOUNS), colours=", ".join(COLOURS),
        places=", ".join(PLACES), times=", ".join(TIMES),
        parts=card_parts.text(entries, models), figures=(evaluation / "figures.md").read_text(),
        stages="\n".join(rows), **used))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=export.MODELS)
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluate.py's --out")
    options = parser.parse_args()
    write(options.models, options.evaluation)
