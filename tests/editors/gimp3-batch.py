#!/usr/bin/env python3
"""GIMP 3, the real program in a Debian 13 tree, without a display: jobs on every kind of document, judged by pixels."""
import json
import re
import sys

import picture
from gimp3 import Gimp
from server import Server, Table

SELECT = (32, 24, 28, 24)
FAST = '#:prompt "a red fox" #:steps "2" #:seed "7" #:guidance "1"'
DOCUMENTS = {
    "u8": ("", "png"),
    "u16": ("(gimp-image-convert-precision image PRECISION-U16-NON-LINEAR)", "png"),
    "half": ("(gimp-image-convert-precision image PRECISION-HALF-NON-LINEAR)", "tif"),
    "float": ("(gimp-image-convert-precision image PRECISION-FLOAT-LINEAR)", "tif"),
    "grey": ("(gimp-image-convert-grayscale image)", "png"),
    "alpha": ("(gimp-layer-add-alpha drw)(gimp-layer-set-opacity drw 60)", "png"),
    "icc": ('(gimp-image-convert-color-profile-from-file image "/shared/wide.icc" 1 TRUE)', "png"),
    "offset": ("(gimp-image-resize image 120 100 11 9)", "png"),
    "group": ("""(let ((group (car (gimp-group-layer-new image "g"))))
                   (gimp-image-insert-layer image group 0 0)
                   (gimp-image-reorder-item image drw group 0)
                   (gimp-image-set-selected-layers image (vector drw)))""", "png"),
}
JOBS = {
    # job: (settings, is there a selection, changes inside, changes outside)
    "generate": ('#:exact "yes"', True, True, False),
    "refine": ('#:exact "yes" #:strength "0.7"', True, True, False),
    "fill": ('#:exact "yes"', True, True, False),
    "expand": ('#:exact "yes"', True, True, False),
    "add": ('#:exact "yes"', True, True, False),
    "remove": ('#:exact "yes"', True, True, False),
    "background": ('#:exact "yes"', True, False, True),
    "whole": ('#:action "generate"', False, True, True),
    "outpaint": ('#:left "16" #:bottom "24"', False, None, None),
}


def case(document, jobs):
    prepare, suffix = DOCUMENTS[document]
    script = f"""
(define master (load "/shared/in.png"))
(let* ((image master) (drw (current image))) {prepare} #t)
(save master "/shared/{document}-before.{suffix}")
"""
    for job in jobs:
        settings, select, _, _ = JOBS[job]
        procedure = "plug-in-sdd" if job == "whole" else f"plug-in-sdd-{job}"
        rectangle = f"(gimp-image-select-rectangle image CHANNEL-OP-REPLACE {' '.join(map(str, SELECT))})" if select else ""
        script += f"""
(say "case" "{job}-{document}")
(let* ((image (car (gimp-image-duplicate master))) (drw (current image)))
  {rectangle}
  (let* ((result ({procedure} #:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector drw) {FAST} {settings}))
         (layer (car result)))
    (describe image layer)
    (say "report" (cadr result))
    (say "parameters" (parameters layer))
    (save image "/shared/{job}-{document}-after.{suffix}"))
  (gimp-image-delete image))
"""
    return script + "(gimp-image-delete master)"


def judge(folder, job, document, said):
    _, _, inside_wanted, outside_wanted = JOBS[job]
    suffix = DOCUMENTS[document][1]
    if "layers" not in said:
        return ["no layer came"]
    problems = []
    if said["name"][0] != '"a red fox (7)"' or said["position"][0] != "0":
        problems.append(f"the layer is called {said['name'][0]} and lies at {said['position'][0]}")
    if '\\"prompt\\":\\"a red fox\\"' not in said["parameters"][0]:
        problems.append(f"its parameters are {said['parameters'][0][:200]}")
    if (document == "group") == (said["parent"][0] == "-1"):
        problems.append(f"its parent is {said['parent'][0]}")
    before = picture.read(f"{folder}/{document}-before.{suffix}")
    after = picture.read(f"{folder}/{job}-{document}-after.{suffix}")
    if job == "outpaint":
        if (after.width, after.height) != (before.width + 16, before.height + 24):
            problems.append(f"the canvas is {after.width} x {after.height}")
        return problems
    inside, outside = after.changes(before, SELECT)
    if bool(inside) != inside_wanted or bool(outside) != outside_wanted:
        problems.append(f"{inside} pixels changed inside, {outside} outside")
    return problems


def errors(gimp):
    """Calls that must fail with these words; each ends the script, as errors do in GIMP 3."""
    call = "#:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector (current image))"
    for name, script, words in (
            ("empty-selection", f"(plug-in-sdd-fill {call})", "Nothing is selected"),
            ("bad-value", f'(plug-in-sdd-generate {call} #:strength "7")', "strength"),
            ("indexed", f"""(gimp-image-convert-indexed image CONVERT-DITHER-NONE CONVERT-PALETTE-GENERATE 16 FALSE FALSE "")
                           (plug-in-sdd-generate {call})""", "indexed"),
            ("no daemon", f"(plug-in-sdd-generate {call})", "systemctl --user start sdd.socket")):
        more = {"SDD_SOCKET": "/shared/none"} if name == "no daemon" else {}
        try:
            said = "nothing: " + gimp.batch(f'(define image (load "/shared/in.png"))\n{script}', **more)[-300:]
        except AssertionError as failure:
            said = str(failure)
        yield name, [] if words in said else [f"it said {said[-400:]}"]


def repeats(gimp, folder):
    call = "#:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector layer)"
    output = gimp.batch(f"""
(define image (load "/shared/in.png"))
(define layer (current image))
(gimp-image-select-ellipse image CHANNEL-OP-REPLACE {' '.join(map(str, SELECT))})
(define layer (car (plug-in-sdd-fill {call} #:prompt "a red fox" #:steps "2" #:seed "7")))
(save-layer image layer "/shared/first.png")
(gimp-selection-none image)
(gimp-file-save RUN-NONINTERACTIVE image "/shared/kept.xcf")
(gimp-image-delete image)
(define image (load "/shared/kept.xcf"))
(define layer (current image))
(define again (car (plug-in-sdd-again {call})))
(save-layer image again "/shared/again.png")
(define group (car (plug-in-sdd-generate {call} #:prompt "many" #:steps "2" #:seed "7" #:count "3")))
(say "children" (vector-length (car (gimp-item-get-children group))))
""")
    said = Gimp.said(output)
    first, again = picture.read(f"{folder}/first.png"), picture.read(f"{folder}/again.png")
    yield "again", [] if first.samples == again.samples else ["the pixels differ"]
    yield "several", [] if said.get("children") == ["3"] else [f"{said.get('children')} children"]


def main():
    table = Table("GIMP 3")
    with Server() as server:
        folder = str(server.folder)
        picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
        picture.write_wide_profile(f"{folder}/wide.icc")
        gimp = Gimp(folder, "s")
        wanted = [(j, d) for d in DOCUMENTS for j in JOBS if d == "u8" or j in ("fill", "whole", "outpaint")]
        output = gimp.batch("".join(case(d, [j for j, e in wanted if e == d]) for d in DOCUMENTS))
        parts = {re.match(r'"([^"]*)"', p).group(1): p for p in output.split("SAY case ")[1:]}
        for job, document in wanted:
            table.note(job, document, judge(folder, job, document, Gimp.said(parts.get(f"{job}-{document}", ""))))
        for report in Gimp.said(output).get("report", [])[:1]:
            print("one job:", json.loads(json.loads(report)))
        for name, problems in [*repeats(gimp, folder), *errors(gimp)]:
            table.note(name, "u8", problems)
        if table.failures:
            print(output[-3000:])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
