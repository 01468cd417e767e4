#!/usr/bin/env python3
"""Krita, the real program, without a display: every job on every kind of document, judged by pixels."""
import sys
import tempfile

import picture
from krita_home import Krita
from server import Server, Table


def main():
    table = Table("Krita")
    with Server() as server, tempfile.TemporaryDirectory(prefix="sdd-krita-") as folder:
        picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
        for job, document, problems in Krita(folder, server.socket).batch("krita_jobs"):
            table.note(job, document, problems)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
