#!/usr/bin/env python3
"""Runs the demo's jobs (models/demo/demo.json) through sdctl and lays what came back out on one sheet: pictures from words, a
picture changed more and more, a selection repainted, a picture grown twice."""
import json
import pathlib
import subprocess
import sys

from PIL import Image, ImageDraw, ImageFont

SCALE, GAP, LINE = 2, 16, 20


class Demo:
    """Where the jobs' pictures are, how to run a job, and the rows of the sheet so far."""

    def __init__(self, jobs, folder, sdctl, socket, out):
        self.jobs, self.folder, self.out = jobs, folder, out
        self.command = [sdctl, "--socket", socket]
        self.rows = []

    def run(self, verb, prompt, output, *options, verbose=False):
        """Runs one job; returns the picture it wrote."""
        print(f'{verb} "{prompt}"', flush=True)
        command = [*self.command, *(["--verbose"] if verbose else []), verb, *map(str, options), "-o", self.out / output, "--", prompt]
        subprocess.run(command, check=True)
        return self.open(self.out / output)

    def open(self, path):
        with Image.open(path) as picture:
            return picture.convert("RGB")

    def source(self, job):
        return self.folder / job["picture"]

    def txt2img(self):
        cells = [(self.run("txt2img", job["prompt"], f"words-{k}.png", "--seed", job["seed"]), job["prompt"])
                 for k, job in enumerate(self.jobs["txt2img"], 1)]
        self.rows.append(("txt2img: from words alone", cells))

    def img2img(self):
        job = self.jobs["img2img"]
        cells = [(self.open(self.source(job)), "before")]
        for strength in job["strengths"]:
            made = self.run("img2img", job["prompt"], f"changed-{strength}.png", "-i", self.source(job), "--seed", job["seed"],
                            "--strength", strength)
            cells.append((made, f"strength {strength}"))
        self.rows.append((f'img2img: "{job["prompt"]}"', cells))

    def inpaint(self):
        job = self.jobs["inpaint"]
        x, y, w, h = (job["select"][key] for key in ("x", "y", "w", "h"))
        before = self.open(self.source(job))
        after = self.run("inpaint", job["prompt"], "inpainted.png", "-i", self.source(job), "--select", f"{x},{y},{w},{h}", "--seed",
                         job["seed"], "--sheet", self.out / "before-after.png", verbose=True)
        draw = ImageDraw.Draw(before)
        draw.rectangle((x, y, x + w - 1, y + h - 1), outline="white")
        draw.rectangle((x - 1, y - 1, x + w, y + h), outline="black")
        self.rows.append((f'inpaint: "{job["prompt"]}" in the selection', [(before, "before"), (after, "after")]))

    def outpaint(self):
        job = self.jobs["outpaint"]
        picture, cells = self.source(job), [(self.open(self.source(job)), "before")]
        for k, sides in enumerate(job["steps"], 1):
            options = [text for side, pixels in sides.items() for text in (f"--{side}", pixels)]
            cells.append((self.run("outpaint", job["prompt"], f"grown-{k}.png", "-i", picture, "--seed", job["seed"], *options),
                          ", ".join(f"{pixels} pixels to the {side}" for side, pixels in sides.items())))
            picture = self.out / f"grown-{k}.png"
        self.rows.append((f'outpaint: "{job["prompt"]}", twice', cells))


def wrapped(text, font, width):
    """The text in lines that are not wider than so many pixels, if its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def lay_out(rows):
    """One sheet of rows (title, [(picture, text)]), each picture SCALE times as large, over its text."""
    title_font, text_font = (ImageFont.truetype("DejaVuSans.ttf", size) for size in (17, 13))
    rows = [(title, [(p.resize((p.width * SCALE, p.height * SCALE), Image.BICUBIC), wrapped(text, text_font, p.width * SCALE))
                     for p, text in cells])
            for title, cells in rows]
    width = max(sum(p.width + GAP for p, _ in cells) for _, cells in rows) + GAP
    height = sum(max(p.height for p, _ in cells) + 3 * LINE + GAP for _, cells in rows) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, y = ImageDraw.Draw(sheet), GAP
    for title, cells in rows:
        draw.text((GAP, y), title, fill="black", font=title_font)
        x, y, tall = GAP, y + LINE + LINE // 2, max(p.height for p, _ in cells)
        for picture, text in cells:
            sheet.paste(picture, (x, y))
            draw.text((x, y + picture.height + 3), text, fill="black", font=text_font)
            x += picture.width + GAP
        y += tall + LINE + LINE // 2 + GAP
    return sheet


if __name__ == "__main__":
    job_file, sdctl, socket, out = map(pathlib.Path, sys.argv[1:])
    demo = Demo(json.loads(job_file.read_text()), job_file.parent, sdctl, socket, out)
    for step in (demo.txt2img, demo.img2img, demo.inpaint, demo.outpaint):
        step()
    lay_out(demo.rows).save(out / "sheet.png")
    print(f"look at {out / 'sheet.png'}, and at {out / 'before-after.png'}")
