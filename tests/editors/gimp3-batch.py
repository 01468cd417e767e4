#!/usr/bin/env python3
"""GIMP 3, the real program in a Debian 13 tree, without a display: jobs on every kind of document, judged by pixels."""
import sys

import gimp_jobs
import picture
from gimp3 import Gimp
from jobs import SELECT
from server import Server, Table


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
        output = gimp_jobs.run(gimp, folder, table)
        for name, problems in [*repeats(gimp, folder), *errors(gimp)]:
            table.note(name, "u8", problems)
        if table.failures:
            print(output[-3000:])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
