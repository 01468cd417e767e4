#!/usr/bin/env python3
"""GIMP 2.10, the real program, without a display: every job on every kind of document, judged by pixels."""
import json
import re
import sys
import tempfile
import time

import picture
from gimp2 import Gimp
from server import Server, Table

SELECT = (32, 24, 28, 24)
FAST = "steps=2 seed=7 guidance=1"

# name -> (script that prepares image and drw, suffix of saved pictures)
DOCUMENTS = {
    "u8": ("", "png"),
    "u16": ("(gimp-image-convert-precision image PRECISION-U16-GAMMA)", "png"),
    "half": ("(gimp-image-convert-precision image PRECISION-HALF-GAMMA)", "tif"),
    "float": ("(gimp-image-convert-precision image PRECISION-FLOAT-LINEAR)", "tif"),
    "grey": ("(gimp-image-convert-grayscale image)", "png"),
    "alpha": ("(gimp-layer-add-alpha drw)(gimp-layer-set-opacity drw 60)", "png"),
    "icc": ('(gimp-image-convert-color-profile-from-file image "FOLDER/wide.icc" 1 TRUE)', "png"),
    "offset": ("(gimp-image-resize image 120 100 11 9)", "png"),
    "group": ("""(let ((group (car (gimp-layer-group-new image))))
                   (gimp-image-insert-layer image group 0 0)
                   (gimp-image-reorder-item image drw group 0))""", "png"),
    "small-layer": ("(gimp-layer-resize drw 40 80 0 0)", "png"),
}
JOBS = {
    # job: (settings, is there a selection, changes inside, changes outside)
    "generate": ("exact=yes", True, True, False),
    "refine": ("exact=yes strength=0.7", True, True, False),
    "fill": ("exact=yes", True, True, False),
    "expand": ("exact=yes", True, True, False),
    "add": ("exact=yes", True, True, False),
    "remove": ("exact=yes", True, True, False),
    "background": ("exact=yes", True, False, True),
    "whole": ("action=generate", False, True, True),
    "outpaint": ("left=16 bottom=24", False, None, None),
}


def case(document, jobs):
    """A script: the document once, each job on a copy of it."""
    prepare, suffix = DOCUMENTS[document]
    script = f"""
(define master (load "in.png"))
(let* ((image master) (drw (current image))) {prepare})
(save master "{document}-before.{suffix}")
"""
    for job in jobs:
        settings, select, _, _ = JOBS[job]
        procedure = "plug-in-sdd" if job == "whole" else f"plug-in-sdd-{job}"
        rectangle = f"(gimp-image-select-rectangle image CHANNEL-OP-REPLACE {' '.join(map(str, SELECT))})" if select else ""
        script += f"""
(say "case" "{job}-{document}")
(let* ((image (car (gimp-image-duplicate master))) (drw (current image)))
  {rectangle}
  (let* ((result ({procedure} RUN-NONINTERACTIVE image drw "a red fox" "{FAST} {settings}")) (layer (car result)))
    (describe image layer)
    (say "report" (cadr result))
    (say "parameters" (parameters layer))
    (save image "{job}-{document}-after.{suffix}"))
  (gimp-image-delete image))
"""
    return script + "(gimp-image-delete master)"


def judge(folder, job, document, said):
    """What is wrong with a case, as sentences."""
    _, select, inside_wanted, outside_wanted = JOBS[job]
    suffix = DOCUMENTS[document][1]
    problems = []
    if "layers" not in said:
        return ["no layer came: " + " ".join(said.get("error", []))]
    if said["name"][0] != '"a red fox (7)"':
        problems.append(f"the layer is called {said['name'][0]}")
    if '\\"prompt\\":\\"a red fox\\"' not in said["parameters"][0] or '\\"seed\\":\\"7\\"' not in said["parameters"][0]:
        problems.append(f"its parameters are {said['parameters'][0][:200]}")
    if said["position"][0] != "0":
        problems.append(f"it lies at position {said['position'][0]}")
    if document == "group" and said["parent"][0] == "-1":
        problems.append("it lies outside the group of the layer it belongs to")
    before = picture.read(f"{folder}/{document}-before.{suffix}")
    after = picture.read(f"{folder}/{job}-{document}-after.{suffix}")
    if job == "outpaint":
        if (after.width, after.height) != (before.width + 16, before.height + 24):
            return problems + [f"the canvas is {after.width} x {after.height}"]
        kept = sum(before.pixel(x, y) == after.pixel(x + 16, y) for x in range(30, 60) for y in range(20, 40))
        new = len({after.pixel(x, y) for x in range(16) for y in range(0, after.height, 4)})
        if kept != 600 or new < 10:
            problems.append(f"{kept} of 600 pixels kept, {new} colours in the new part")
        return problems
    inside, outside = after.changes(before, SELECT)
    if bool(inside) != inside_wanted or bool(outside) != outside_wanted:
        problems.append(f"{inside} pixels changed inside, {outside} outside")
    return problems


def errors(gimp):
    """Calls that must fail, what they must say; nothing may be added."""
    fails = {
        "empty-selection": ('(plug-in-sdd-fill RUN-NONINTERACTIVE image drw "fox" "")', "Nothing is selected"),
        "indexed": ("""(gimp-image-convert-indexed image CONVERT-DITHER-NONE CONVERT-PALETTE-GENERATE 16 FALSE FALSE "")
                       (plug-in-sdd-generate RUN-NONINTERACTIVE image drw "fox" "")""", "indexed"),
        "unknown-setting": ('(plug-in-sdd-generate RUN-NONINTERACTIVE image drw "fox" "stpes=3")', "stpes"),
        "bad-value": ('(plug-in-sdd-generate RUN-NONINTERACTIVE image drw "fox" "strength=7")', "strength"),
        "no-model": ('(plug-in-sdd-generate RUN-NONINTERACTIVE image drw "fox" "model=none-such")', "none-such"),
        "not-a-result": ("(plug-in-sdd-again RUN-NONINTERACTIVE image drw)", "stores no parameters"),
    }
    script = ""
    for name, (call, _) in fails.items():
        script += f"""
(define image (load "in.png")) (define drw (current image))
(say "case" "{name}")
{call}
(say "left" (layers image))
(gimp-image-delete image)
"""
    output = gimp.batch(script)
    for name, (_, words) in fails.items():
        part = output.split(f'SAY case "{name}"')[1].split("SAY case")[0]
        yield name, ([] if words in part else [f"it said {part.strip()[:300]}"]) + \
            ([] if "SAY left 1" in part else ["layers were added"])


def absent(gimp):
    gimp.environment["SDD_SOCKET"] += "-not-there"
    output = gimp.batch("""(define image (load "in.png"))
(plug-in-sdd-generate RUN-NONINTERACTIVE image (current image) "fox" "")""")
    gimp.environment["SDD_SOCKET"] = gimp.environment["SDD_SOCKET"][:-len("-not-there")]
    return [] if "systemctl --user start sdd.socket" in output else [f"it said {output[-400:]}"]


def repeats(gimp, folder):
    """Again after the file was closed and opened; vary; one of several kept; a soft selection."""
    output = gimp.batch(f"""
(define image (load "in.png"))
(gimp-image-select-rectangle image CHANNEL-OP-REPLACE {' '.join(map(str, SELECT))})
(define layer (car (plug-in-sdd-fill RUN-NONINTERACTIVE image (current image) "a red fox" "steps=2 seed=7")))
(save-layer image layer "first.png")
(gimp-xcf-save RUN-NONINTERACTIVE image layer "kept.xcf" "kept.xcf")
(gimp-image-delete image)
(define image (load "kept.xcf"))
(define layer (current image))
(define again (car (plug-in-sdd-again RUN-NONINTERACTIVE image layer)))
(save-layer image again "again.png")
(say "again" (car (gimp-item-get-name again)))
(define vary (car (plug-in-sdd-vary RUN-NONINTERACTIVE image layer)))
(say "vary" (car (gimp-item-get-name vary)))
(define group (car (plug-in-sdd-fill RUN-NONINTERACTIVE image layer "many" "steps=2 seed=7 count=3")))
(say "is-group" (car (gimp-item-is-group group)))
(say "children" (car (gimp-item-get-children group)))
(define before (layers image))
(define third (vector-ref (cadr (gimp-item-get-children group)) 2))
(plug-in-sdd-keep RUN-NONINTERACTIVE image third)
(say "kept" (list (- (layers image) before) (car (gimp-item-get-parent third)) (car (gimp-item-get-visible third))))
(gimp-image-delete image)
(define image (load "in.png"))
(gimp-context-set-feather TRUE) (gimp-context-set-feather-radius 8 8)
(gimp-image-select-ellipse image CHANNEL-OP-REPLACE 20 16 50 44)
(define layer (car (plug-in-sdd-fill RUN-NONINTERACTIVE image (current image) "soft" "{FAST} exact=yes")))
(save-layer image layer "soft.png")
(say "soft-at" (gimp-drawable-offsets layer))
(gimp-file-save RUN-NONINTERACTIVE image (car (gimp-image-get-selection image)) "selection.png" "selection.png")
""")
    said = Gimp.said(output)

    def same(name, wanted):
        got = said.get(name, ["nothing"])[0]
        return [] if got == wanted else [f"{name} is {got} instead of {wanted}"]
    first, again = picture.read(f"{folder}/first.png"), picture.read(f"{folder}/again.png")
    different = first.samples != again.samples
    named = said.get("again", [""])[0].startswith('"a red fox (7)')
    yield "again", ([] if named else [f"it is called {said.get('again')}"]) + (["the pixels differ"] if different else [])
    yield "vary", [] if re.fullmatch(r'"a red fox \(\d+\)"', said.get("vary", [""])[0]) and "(7)" not in said["vary"][0] \
        else [f"{said.get('vary')}"]
    yield "several", same("is-group", "1") + same("children", "3")
    yield "keep", same("kept", "(0 -1 1)")
    soft, x, y = picture.read(f"{folder}/soft.png"), *map(int, said["soft-at"][0].strip("()").split())
    alphas = {soft.pixel(i, j)[3] for i in range(soft.width) for j in range(soft.height)}
    yield "soft edge", [] if len(alphas) > 20 else [f"only {len(alphas)} steps of alpha at {x}, {y}"]


def main():
    table = Table("GIMP 2.10")
    with Server() as server, tempfile.TemporaryDirectory(prefix="sdd-gimp2-") as folder:
        picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
        picture.write_wide_profile(f"{folder}/wide.icc")
        gimp = Gimp(folder, server.socket)
        # every job on the plainest document, and on each kind of document the jobs that differ in how pixels travel
        wanted = [(j, d) for d in DOCUMENTS for j in JOBS if d == "u8" or j in ("fill", "whole", "outpaint")]
        began = time.monotonic()
        output = gimp.batch("".join(case(d, [j for j, e in wanted if e == d]) for d in DOCUMENTS).replace("FOLDER", folder), timeout=900)
        print(f"{len(wanted)} jobs in {time.monotonic() - began:.0f} s")
        parts = {re.match(r'"([^"]*)"', p).group(1): p for p in output.split("SAY case ")[1:]}
        for job, document in wanted:
            part = parts.get(f"{job}-{document}", "")
            said = Gimp.said(part)
            said["error"] = re.findall(r"rror: .*", part)
            table.note(job, document, judge(folder, job, document, said))
        for report in Gimp.said(output).get("report", [])[:1]:
            print("one job:", json.loads(json.loads(report)))
        for name, problems in [*errors(gimp), *repeats(gimp, folder), ("no daemon", absent(gimp))]:
            table.note(name, "u8", problems)
        if table.failures:
            print(output[-3000:])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
