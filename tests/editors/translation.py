#!/usr/bin/env python3
"""The translations: complete, well-formed, and shown by the library that all plug-ins share."""
import gettext
import os
import pathlib
import re
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


def mnemonics(translations):
    """Every letter that GIMP's dialog answers to stands for one thing, in each language."""
    texts = set()
    for name in ("choice.c", "dialog.c", "form.c"):
        texts |= set(re.findall(r'\b_\("([^"]*_\w[^"]*)"\)', (ROOT / "plugins/gimp" / name).read_text()))
    assert len(texts) > 20, texts
    letters = {}
    for text in texts:
        shown = translations.get(text, text)
        letter = re.search(r"_(\w)", shown)
        assert letter, f"{text!r} is translated without a mnemonic"
        letters.setdefault(letter.group(1).lower(), []).append(shown)
    twice = [t for t in letters.values() if len(t) > 1]
    assert not twice, f"the same mnemonic twice: {twice}"


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
            with open(target / "sdd.mo", "rb") as file:
                catalogue = gettext.GNUTranslations(file)
            mnemonics({k: v for k, v in catalogue._catalog.items() if isinstance(k, str)})
        mnemonics({})
        said = subprocess.run([sys.executable, "-c", SHOW, os.environ["SDD_TEST_PLUGIN_LIBRARY"], folder], capture_output=True,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "de",
                                   "LD_LIBRARY_PATH": os.environ["SDD_TEST_LIBRARIES"]}, check=True).stdout.decode()
        assert said.startswith("Nichts ist ausgewählt"), said
    print("complete and shown")


if __name__ == "__main__":
    main()
