"""What the LoRA and the ControlNet do, through a running sdd: models/sheets/adapters.jpg to look at, and two figures in
adapters.log for the model card. The LoRA makes pictures darker, which is the blackboard; with the ControlNet the lines of a
scribble lie on lines of the picture much more often than without it (on which they lie by chance, and by the caption)."""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import chalk
import questions
import sheets
import state
from adapters import CONTROL, LORA
from export import FOLDERS, MODELS

SHOWN, COUNT, WEIGHTS = 3, 20, (0, 0.5, 1)


def paint(command, prompt, seed, *more):
    """One picture of the text-to-image model."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        subprocess.run([*command, "txt2img", "--model", FOLDERS[4], "--seed", str(seed), "-o", out, *more, "--", prompt],
                       check=True)
        return Image.open(out).convert("RGB")


def on_lines(picture, scribble):
    """The share of a scribble's pixels that have a line of the picture on or beside them."""
    lines = np.asarray(chalk.scribble(picture).convert("L").filter(ImageFilter.MaxFilter(3))) > 127
    return float(lines[np.asarray(scribble.convert("L")) > 127].mean())


def show(command, target):
    """Writes the sheet and logs the figures."""
    cells, light, agreement = [], [], []
    for k, asked in enumerate(questions.of_words("adapters", COUNT, 1)):
        prompt, drawn = asked.job.prompt, chalk.scribble(asked.real)
        plain, *styled = [paint(command, prompt, k, "--lora", f"{LORA}:{w}") for w in WEIGHTS]
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            drawn.save(file.name)
            # by its whole name: a scribble that is one already needs no preparation
            steered = paint(command, prompt, k, "--control", f"{CONTROL}={file.name}")
        light.append([float(np.asarray(p).mean()) for p in (plain, *styled)])
        agreement.append([on_lines(p, drawn) for p in (plain, steered)])
        if k < SHOWN:
            named = [(plain, prompt), *((p, f"chalk {w:g}") for p, w in zip(styled, WEIGHTS[1:])),
                     (drawn, "a scribble"), (steered, f"{prompt}, by the scribble")]
            cells += named
    target.parent.mkdir(exist_ok=True)
    sheets.grid(cells, 5).save(target, quality=88)
    light, agreement = np.mean(light, axis=0), np.mean(agreement, axis=0)
    state.Log("adapters.log").write(pictures=COUNT, light={str(w): round(v, 1) for w, v in zip(WEIGHTS, light)},
                                    on_lines_without=round(agreement[0], 3), on_lines=round(agreement[1], 3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--sdctl", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    options = parser.parse_args()
    show([str(options.sdctl), "--socket", str(options.socket), "--quiet"], options.models / "sheets" / "adapters.jpg")
