"""Judges the exported models: does a picture show what was asked for?

Asks for --count pictures in all (shares below), through diffusers or, with --sdctl and --socket,
through a running sdd, and lets the judge (judge.py, teach_judge.py) say what it sees. Writes figures.json,
figures.md and sheets to the output folder; pictures that are there already are not made again."""

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import judge
import questions
import sheets
import teach_judge
from export import FOLDERS, MODELS
from generate import Diffusers, Job, Sdctl

SHARES = {"single": 0.35, "two": 0.2, "styled": 0.05, "no_guidance": 0.1, "swapped": 0.1,
          "hole": 0.2}
GROWN = 0.05
WANTED = {"single": 0.8, "two": 0.5, "hole": 0.7}
JUDGE_WANTED = 0.95
SEAM_WANTED = 1.0  # mean brightness step beyond that of real scenes, of 255
TITLES = {"single": "one object, kind and colour there",
          "two": "two objects, both kinds and colours there",
          "styled": "one object in crayon, ink or emoji",
          "no_guidance": "one object, without guidance",
          "swapped": "one object, guidance the wrong way round",
          "hole": "object fills the hole (inpainting)"}


def fingerprint(models):
    """Eight letters that change with the weights."""
    digest = hashlib.sha256()
    for name in FOLDERS.values():
        for file in sorted((models / name).glob("*/*.safetensors")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


class Album:
    """Pictures made so far, below a folder of their own for each set of weights and backend."""

    def __init__(self, folder, backend):
        self.folder, self.backend = folder, backend

    def fetch(self, name, asked, chunk=16):
        """The pictures for questions, made where missing."""
        paths = [self.folder / name / f"{k:03}.png" for k in range(len(asked))]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        missing = [k for k, p in enumerate(paths) if not p.exists()]
        for first in range(0, len(missing), chunk):
            part = missing[first:first + chunk]
            jobs = [asked[k].job for k in part]
            made = ([self.backend.outpaint(job, asked[k].real.width - job.picture.width)
                     for k, job in zip(part, jobs)] if name == "grown" else self.backend.make(jobs))
            for k, picture in zip(part, made):
                picture.save(paths[k])
            print(f"{name}: {min(first + chunk, len(missing))} of {len(missing)}", flush=True)
        return [Image.open(p).convert("RGB") for p in paths]


def ask(count):
    """All questions by set."""
    numbers = {name: max(2, round(count * share)) for name, share in SHARES.items()}
    asked = {"single": questions.of_words("single", numbers["single"], 1),
             "two": questions.of_words("two", numbers["two"], 2),
             "styled": questions.of_styles(numbers["styled"]),
             "hole": questions.of_holes(numbers["hole"]),
             "grown": questions.of_growth(max(2, round(count * GROWN))),
             "other": questions.of_words("single other", numbers["single"], 1)
             + questions.of_words("two other", numbers["two"], 2)}

    def again(number, change):
        return [dataclasses.replace(q, job=dataclasses.replace(q.job, **change(q.job)))
                for q in asked["single"][:number]]
    asked["no_guidance"] = again(numbers["no_guidance"], lambda job: {"guidance": 1.0})
    asked["swapped"] = again(numbers["swapped"], lambda job: {"prompt": "", "negative": job.prompt})
    return asked


def wilson(hits, n, z=1.96):
    """The 95 % interval of a rate."""
    rate, extra = hits / n, z * z / n
    middle = (rate + extra / 2) / (1 + extra)
    spread = z / (1 + extra) * np.sqrt(rate * (1 - rate) / n + extra / (4 * n))
    return [round(max(0, middle - spread), 3), round(min(1, middle + spread), 3)]


def score(asked, seen):
    """How many pictures show all kinds, and all kinds in their colours."""
    kinds, both = 0, 0
    for question, found in zip(asked, seen):
        answers = [found.has(item, question.box) for item in question.objects]
        kinds += all(kind for kind, _ in answers)
        both += all(colour for _, colour in answers)
    n = len(asked)
    return {"n": n, "kind": round(kinds / n, 3), "kind_and_colour": round(both / n, 3),
            "interval": wilson(both, n)}


def by_kind(asked, seen):
    """The rate of each kind asked for, worst first."""
    hits = {}
    for question, found in zip(asked, seen):
        for item in question.objects:
            hits.setdefault(item["kind"], []).append(found.has(item, question.box)[1])
    return {k: [sum(v), len(v)] for k, v in sorted(hits.items(), key=lambda e: np.mean(e[1]))}


def settings(asked, seen):
    """How often the place, the light and the style that a prompt names are seen."""
    right = {}
    for question, found in zip(asked, seen):
        for name, answer in question.said.items():
            right.setdefault(name, []).append(found.setting[name] == answer)
    return {name: {"n": len(v), "right": round(float(np.mean(v)), 3),
                   "interval": wilson(sum(v), len(v))} for name, v in right.items()}


def frechet(a, b):
    """The Fréchet distance of two sets of features [n, width] taken as normal distributions."""
    def root(m):
        values, vectors = np.linalg.eigh(m)
        return vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    half = root(ca)
    cross = np.sqrt(np.linalg.eigvalsh(half @ cb @ half).clip(min=0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * cross)


def compare_features(net, asked, pictures):
    """The distance of generated to real pictures with the same prompts, and for comparison that of
    the real ones to as many other real ones."""
    real, other = ([q.real for q in group]
                   for group in (asked["single"] + asked["two"], asked["other"]))
    made = pictures["single"] + pictures["two"]
    features = [judge.look(net, np.stack([judge.shrink(p) for p in group]))[1]
                for group in (made, real, other)]
    return {"n": len(made), "generated_to_real": round(frechet(features[0], features[1]), 3),
            "real_to_real": round(frechet(features[2], features[1]), 3)}


def _steps(made, real):
    """Mean and high percentiles of brightness steps in generated and in real pictures."""
    return {name: {"mean": round(float(steps.mean()), 2),
                   "p90": round(float(np.percentile(steps, 90)), 2),
                   "p99": round(float(np.percentile(steps, 99)), 2)}
            for name, steps in (("made", np.concatenate(made)), ("real", np.concatenate(real)))}


def compare_seams(asked, pictures):
    """Brightness steps across the holes' edges, and across the edge where pictures were grown."""
    return {"edge of a hole": _steps(
        [questions.seam(p, q.job.mask) for p, q in zip(pictures["hole"], asked["hole"])],
        [questions.seam(q.real, q.job.mask) for q in asked["hole"]]),
            "edge of growth": _steps([questions.growth_step(p) for p in pictures["grown"]],
                                     [questions.growth_step(q.real) for q in asked["grown"]])}


def verdicts(figures):
    """Each requirement and whether it is met."""
    rate = {name: figures[name]["kind_and_colour"] for name in SHARES}
    found = [(f"judge on real scenes: {key} >= {JUDGE_WANTED:.0%}",
              figures["judge"][key] >= JUDGE_WANTED) for key in ("recall", "precision", "colour")]
    found += [(f"{TITLES[name]} >= {wanted:.0%}", rate[name] >= wanted)
              for name, wanted in WANTED.items()]
    found += [(f"mean step across the {edge} <= real + {SEAM_WANTED:g}",
               both["made"]["mean"] <= both["real"]["mean"] + SEAM_WANTED)
              for edge, both in figures["seam"].items()]
    return found + [("lower without guidance", rate["no_guidance"] < rate["single"]),
                    ("collapses with guidance the wrong way round",
                     rate["swapped"] <= 0.25 * rate["single"])]


def markdown(figures):
    """The figures as the model card shows them."""
    lines = [f"{figures['pictures']} pictures made with {figures['backend']}, judged by a network that "
             f"finds {figures['judge']['recall']:.1%} of the objects in real scenes (of its finds "
             f"{figures['judge']['precision']:.1%} are right) and names {figures['judge']['colour']:.1%} "
             "of their colours rightly.", "",
             "| asked for | pictures | kind | kind and colour | 95 % interval |", "|---|---|---|---|---|"]
    for name in SHARES:
        f = figures[name]
        low, high = f["interval"]
        lines.append(f"| {TITLES[name]} | {f['n']} | {f['kind']:.0%} | {f['kind_and_colour']:.0%} | "
                     f"{low:.0%} to {high:.0%} |")
    for name, f in figures["settings"].items():
        low, high = f["interval"]
        lines.append(f"| {name} that the words name | {f['n']} | | {f['right']:.0%} | {low:.0%} to "
                     f"{high:.0%} |")
    frechet_ = figures["frechet"]
    lines += ["", f"Fréchet distance of the judge's features, {frechet_['n']} pictures: generated to real "
              f"{frechet_['generated_to_real']}, real to other real {frechet_['real_to_real']}.",
              "", "| brightness step across the | mean | 90th percentile | 99th |", "|---|---|---|---|"]
    lines += [f"| {edge}, {name} | {s['mean']} | {s['p90']} | {s['p99']} |"
              for edge, both in figures["seam"].items() for name, s in both.items()]
    lines += ["", "| required | met |", "|---|---|"]
    lines += [f"| {text} | {'yes' if met else 'NO'} |" for text, met in verdicts(figures)]
    return "\n".join(lines) + "\n"


def draw_sheets(out, asked, pictures):
    """Sheets of txt2img, inpainting before and after, and outpainting."""
    cells = [(p, q.job.prompt) for name, n in (("single", 16), ("two", 16), ("styled", 8))
             for p, q in list(zip(pictures[name], asked[name]))[:n]]
    sheets.grid(cells, 8).save(out / "txt2img.png")
    cells = []
    for picture, q in list(zip(pictures["hole"], asked["hole"]))[:12]:
        box = [round(v * q.real.width) for v in q.box]
        cells += [(sheets.outlined(q.real, box), "before"), (picture, q.job.prompt)]
    sheets.grid(cells, 6).save(out / "inpaint.png")
    cells = [cell for picture, q in list(zip(pictures["grown"], asked["grown"]))[:8]
             for cell in ((q.job.picture, "before"), (picture, q.job.prompt))]
    sheets.grid(cells, 4).save(out / "outpaint.png")


def run(options):
    asked = ask(options.count)
    net, models = judge.load(), options.models
    backend = Sdctl(models, options.sdctl, options.socket) if options.sdctl else Diffusers(models)
    options.out.mkdir(parents=True, exist_ok=True)
    album = Album(options.out / f"pictures-{backend.name}-{fingerprint(models)}", backend)
    pictures = {name: album.fetch(name, group) for name, group in asked.items() if name != "other"}
    seen = {name: judge.look(net, np.stack([judge.shrink(p) for p in pictures[name]]))[0]
            for name in SHARES}
    figures = {"backend": backend.name, "weights": fingerprint(models),
               "pictures": sum(len(asked[name]) for name in SHARES), "judge": teach_judge.accuracy(net)}
    figures |= {name: score(asked[name], seen[name]) for name in SHARES}
    figures["settings"] = settings(asked["single"] + asked["two"] + asked["styled"],
                                   seen["single"] + seen["two"] + seen["styled"])
    figures["by_kind"] = by_kind(asked["single"], seen["single"])
    figures["frechet"] = compare_features(net, asked, pictures)
    figures["seam"] = compare_seams(asked, pictures)
    figures["met"] = dict(verdicts(figures))
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (options.out / "figures.md").write_text(markdown(figures))
    draw_sheets(options.out, asked, pictures)
    print(markdown(figures), f"sheets in {options.out}", sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500, help="pictures in all; 20 is a quick look")
    parser.add_argument("--sdctl", type=Path, help="use a running sdd through this program")
    parser.add_argument("--socket", type=Path, help="that sdd's socket; it must serve --models")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    if (chosen.sdctl is None) != (chosen.socket is None):
        parser.error("--sdctl and --socket go together")
    torch.set_num_threads(chosen.threads)
    run(chosen)
