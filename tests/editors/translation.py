#!/usr/bin/env python3
"""The translations: complete, well-formed, and shown by the library that all plug-ins share."""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PO = ROOT / "plugins/po"

SHOW = """
import ctypes, locale, sys
locale.setlocale(locale.LC_ALL, "")
lib = ctypes.CDLL(sys.argv[1])
lib.sdh_translate(sys.argv[2].encode())
lib.sdh_text.restype = ctypes.c_char_p
sys.stdout.buffer.write(lib.sdh_text(b"Nothing is selected: select the part to repaint first."))
"""


def main():
    with tempfile.TemporaryDirectory() as folder:
        files = (PO / "POTFILES").read_text().split()
        marked = {str(p.relative_to(ROOT)) for suffix in ("*.c", "*.py") for p in (ROOT / "plugins").rglob(suffix)
                  if any(mark in p.read_text() for mark in ('_("', 'N_("', 'P_("')) and "/none/" not in str(p)}
        assert marked == set(files), f"POTFILES and the files with texts differ in {marked ^ set(files)}"
        subprocess.run(["xgettext", "--from-code=UTF-8", "-k_", "-kN_", "-kP_:1,2", "-o", f"{folder}/sdd.pot", *files], cwd=ROOT,
                       check=True)
        for language in (PO / "LINGUAS").read_text().split():
            subprocess.run(["msgcmp", f"{PO}/{language}.po", f"{folder}/sdd.pot"], check=True)
            target = pathlib.Path(folder) / language / "LC_MESSAGES"
            target.mkdir(parents=True)
            subprocess.run(["msgfmt", "--check-format", "-o", target / "sdd.mo", f"{PO}/{language}.po"], check=True)
        said = subprocess.run([sys.executable, "-c", SHOW, os.environ["SDD_TEST_PLUGIN_LIBRARY"], folder], capture_output=True,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "de",
                                   "LD_LIBRARY_PATH": os.environ["SDD_TEST_LIBRARIES"]}, check=True).stdout.decode()
        assert said.startswith("Nichts ist ausgewählt"), said
    print("complete and shown")


if __name__ == "__main__":
    main()
