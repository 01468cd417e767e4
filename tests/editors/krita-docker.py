#!/usr/bin/env python3
"""Krita with a window: the docker, driven from inside by QTest. With a folder as argument it leaves pictures there."""
import os
import sys
import tempfile

import picture
from display import Display
from krita_home import Krita
from server import Server, Table


def main():
    table = Table("Krita UI")
    os.environ["SDD_TEST_PICTURES"] = sys.argv[1] if len(sys.argv) > 1 else ""
    with Server() as server, tempfile.TemporaryDirectory(prefix="sdd-krita-") as folder, Display(1400, 1000) as display:
        picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
        for job, document, problems in Krita(folder, server.socket).window(display, "krita_drive", f"{folder}/in.png"):
            table.note(job, document, problems)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
