"""What the tests of both GIMPs share: jobs, documents, the scripts made of them, and the judge of what came out.

A dialect is what differs between the programs' scripts: a GIMP's class has call(procedure, settings, drawable, prompt), ROUND, which goes before
the names of rounded precisions, GROUP, which makes a group, and CHOOSE, which makes drw the current layer where moving it did not.
"""
import json
import re

import picture
from jobs import GROWN, JOBS, PROMPT, SELECT

DOCUMENTS = {  # name: (script that prepares image and drw, suffix of saved pictures)
    "u8": ("", "png"),
    "u16": ("(gimp-image-convert-precision image PRECISION-U16-{ROUND})", "png"),
    "half": ("(gimp-image-convert-precision image PRECISION-HALF-{ROUND})", "tif"),
    "float": ("(gimp-image-convert-precision image PRECISION-FLOAT-LINEAR)", "tif"),
    "grey": ("(gimp-image-convert-grayscale image)", "png"),
    "alpha": ("(gimp-layer-add-alpha drw)(gimp-layer-set-opacity drw 60)", "png"),
    "icc": ('(gimp-image-convert-color-profile-from-file image "{folder}wide.icc" 1 TRUE)', "png"),
    "offset": ("(gimp-image-resize image 120 100 11 9)", "png"),
    "group": ("""(let ((group (car {GROUP})))
                   (gimp-image-insert-layer image group 0 0)
                   (gimp-image-reorder-item image drw group 0)
                   {CHOOSE})""", "png"),
    "small-layer": ("(gimp-layer-resize drw 40 80 0 0)", "png"),
}
WANTED = [(job, document) for document in DOCUMENTS for job in JOBS]


def rectangle(rect):
    return f"(gimp-image-select-rectangle image CHANNEL-OP-REPLACE {' '.join(map(str, rect))})"


def _script(gimp, document):
    """The document once, each job on a copy of it."""
    prepare, suffix = DOCUMENTS[document]
    script = f"""
(define master (load "{gimp.PLACE}in.png"))
(let* ((image master) (drw (current image)))
  {prepare.format(ROUND=gimp.ROUND, GROUP=gimp.GROUP, CHOOSE=gimp.CHOOSE, folder=gimp.PLACE)}
  #t)
(save master "{gimp.PLACE}{document}-before.{suffix}")
"""
    for job, (settings, selected, _, _) in JOBS.items():
        # the procedure of all actions once, else the one that bears its action's name
        named = {name: value for name, value in settings.items() if name != "action" or job == "whole"}
        procedure = "plug-in-sdd" if job == "whole" else f"plug-in-sdd-{settings['action']}"
        script += f"""
(say "case" "{job}-{document}")
(let* ((image (car (gimp-image-duplicate master))) (drw (current image)))
  {rectangle(SELECT) if selected else ""}
  (let* ((result {gimp.call(procedure, named, "drw", PROMPT)}) (layer (car result)))
    (describe image layer)
    (say "report" (cadr result))
    (say "parameters" (parameters layer))
    (save image "{gimp.PLACE}{job}-{document}-after.{suffix}"))
  (gimp-image-delete image))
"""
    return script + "(gimp-image-delete master)"


def _judge(folder, job, document, said):
    """What is wrong with a case, as sentences."""
    _, _, inside_wanted, outside_wanted = JOBS[job]
    suffix = DOCUMENTS[document][1]
    if "layers" not in said:
        return ["no layer came: " + " ".join(said.get("error", []))]
    problems = []
    if said["name"][0] != f'"{PROMPT} (7)"' or said["position"][0] != "0":
        problems.append(f"the layer is called {said['name'][0]} and lies at {said['position'][0]}")
    if f'\\"prompt\\":\\"{PROMPT}\\"' not in said["parameters"][0] or '\\"seed\\":\\"7\\"' not in said["parameters"][0]:
        problems.append(f"its parameters are {said['parameters'][0][:200]}")
    if (document == "group") == (said["parent"][0] == "-1"):
        problems.append(f"its parent is {said['parent'][0]}")
    before = picture.read(f"{folder}/{document}-before.{suffix}")
    after = picture.read(f"{folder}/{job}-{document}-after.{suffix}")
    if job in GROWN:
        return problems + _judge_grown(job, before, after)
    inside, outside = after.changes(before, SELECT)
    if bool(inside) != inside_wanted or bool(outside) != outside_wanted:
        problems.append(f"{inside} pixels changed inside, {outside} outside")
    return problems


def _judge_grown(job, before, after):
    by, left, bottom = GROWN[job]
    size = (round(before.width * by) + left, round(before.height * by) + bottom)
    if (after.width, after.height) != size:
        return [f"the canvas is {after.width} x {after.height}, not {size}"]
    if by != 1:
        return []
    kept = sum(before.pixel(x, y) == after.pixel(x + left, y) for x in range(30, 60) for y in range(20, 40))
    new = len({after.pixel(x, y) for x in range(left) for y in range(0, after.height, 4)})
    return [] if kept == 600 and new >= 10 else [f"{kept} of 600 pixels kept, {new} colours in the new part"]


def run(gimp, folder, table):
    """Every job on every document, noted in the table; what GIMP printed."""
    output = gimp.batch("".join(_script(gimp, document) for document in DOCUMENTS))
    parts = {re.match(r'"([^"]*)"', p).group(1): p for p in output.split("SAY case ")[1:]}
    for job, document in WANTED:
        part = parts.get(f"{job}-{document}", "")
        said = gimp.said(part)
        said["error"] = re.findall(r"rror: .*", part)
        table.note(job, document, _judge(folder, job, document, said))
    for report in gimp.said(output).get("report", [])[:1]:
        print(f"{table.host}, from call to layer:", json.loads(json.loads(report)))
    return output
