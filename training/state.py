"""Where a training run keeps its state, and how it keeps it safe.

SDD_TRAIN_STATE names the folder (default training/work). Every file is written under another name
and renamed when complete, so that a run can be killed at any moment and taken up again."""

import json
import os
import time
from pathlib import Path

ROOT = Path(os.environ.get("SDD_TRAIN_STATE", Path(__file__).parent / "work"))
SIDE = int(os.environ.get("SDD_TRAIN_SIDE", "128"))


def path(*parts):
    """A path in the state folder; its parent exists afterwards."""
    p = ROOT.joinpath(*parts)
    p.parent.mkdir(parents=True, exist_ok=True)
    return p


def save(where, write):
    """Calls write(temporary path) and renames the result to `where`."""
    temporary = where.with_name(where.name + ".new")
    write(temporary)
    os.replace(temporary, where)


class Log:
    """Appends JSON lines to a log in the state folder and prints them."""

    def __init__(self, name):
        self.file = open(path(name), "a", buffering=1)

    def write(self, **values):
        line = json.dumps({"utc": time.strftime("%H:%M:%S", time.gmtime()), **values})
        self.file.write(line + "\n")
        print(line, flush=True)
