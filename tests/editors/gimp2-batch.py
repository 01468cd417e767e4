#!/usr/bin/env python3
"""GIMP 2.10, the real program, without a display: every job on every kind of document, judged by pixels."""
import re
import sys
import tempfile

import gimp_jobs
import picture
from gimp2 import Gimp
from jobs import SELECT
from server import Server, Table


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
(define layer (car (plug-in-sdd-fill RUN-NONINTERACTIVE image (current image) "soft" "steps=2 seed=7 guidance=1 exact=yes")))
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
        output = gimp_jobs.run(gimp, folder, table)
        for name, problems in [*errors(gimp), *repeats(gimp, folder), ("no daemon", absent(gimp))]:
            table.note(name, "u8", problems)
        if table.failures:
            print(output[-3000:])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
