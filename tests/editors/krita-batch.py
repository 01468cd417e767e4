#!/usr/bin/env python3
"""Krita, the real program, without a display: every job on every kind of document, judged by pixels."""
import sys
import tempfile

import picture
from krita_home import Krita
from server import Server, Table


def kill(krita, server):
    """Krita dies in the middle of a job: the daemon drops it."""
    dropped = server.status()["jobs"]["cancelled"]
    process = krita.begin("krita_long")
    server.await_status(lambda s: s["jobs"]["running"] == 1, "the job does not run", 120)
    process.kill()
    process.wait()
    server.await_status(lambda s: s["jobs"]["running"] == 0, "the job goes on without Krita")
    return [] if server.status()["jobs"]["cancelled"] == dropped + 1 else ["the job was not cancelled"]


def main():
    table = Table("Krita")
    with Server() as server, tempfile.TemporaryDirectory(prefix="sdd-krita-") as folder:
        picture.write_png(f"{folder}/in.png", 96, 80, picture.pattern)
        krita = Krita(folder, server.socket)
        for job, document, problems in krita.batch("krita_jobs"):
            table.note(job, document, problems)
        table.note("kill -9", "u8", kill(krita, server))
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
