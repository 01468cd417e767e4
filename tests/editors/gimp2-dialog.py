#!/usr/bin/env python3
"""GIMP 2.10's dialog on a screen: opened, typed into, generated, cancelled, undone; a killed plug-in drops its job.

With a folder as argument it leaves pictures of what it saw there: `make screenshots`.
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import dialogs
from display import Display
from gimp2 import Gimp
from scriptfu import ScriptFu, free_port, wait_for
from server import Server, Table


KEYS = {"plug-in-sdd-fill": ("ctrl+alt+f", "<Primary><Alt>f"), "plug-in-sdd-generate": ("ctrl+alt+g", "<Primary><Alt>g"),
        "plug-in-sdd-outpaint": ("ctrl+alt+o", "<Primary><Alt>o")}


def plugin_pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and _is_plugin(p)]


def _is_plugin(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith("/plug-ins/sdd-gimp2/sdd-gimp2")
    except OSError:
        return False


class Session:
    def __init__(self, folder, server, display, pictures):
        self.display, self.pictures, self.server, self.folder = display, pictures, server, pathlib.Path(folder)
        self.config, self.log_path, self.plugin_pids = f"{folder}/config", f"{folder}/gimp.log", plugin_pids
        gimp = Gimp(folder, server.socket)
        # the script server runs one script at a time and would wait for the dialog: keys open it, as people do
        with open(f"{folder}/gimp/menurc", "w") as file:
            for procedure, key in KEYS.items():
                file.write(f'(gtk_accel_path "<Actions>/plug-in/{procedure}" "{key[1]}")\n')
        port = free_port()
        self.log = open(self.log_path, "wb")
        environment = {**gimp.environment, **display.environment, "G_MESSAGES_DEBUG": "sdd",
                       "PATH": f"{dialogs.stand_in_for_systemctl(self.folder)}:{os.environ['PATH']}"}
        self.process = subprocess.Popen(
            ["gimp", "-n", "--no-splash", "-b", f'(plug-in-script-fu-server RUN-NONINTERACTIVE "127.0.0.1" {port} "")',
             f"{folder}/in.png"], env=environment, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log)
        self.main = display.find(r"^\[in\]", alive=self.process)
        display.place(self.main, 0, 0, 900, 860)
        self.scripts = ScriptFu(port)
        wait_for(self._listens, "the script server does not answer")
        self.image = self.scripts.number("(vector-ref (cadr (gimp-image-list)) 0)")

    def _listens(self):
        try:
            return self.scripts.number("(car (gimp-image-list))") == 1
        except OSError:
            return False

    def layers(self):
        return self.scripts.number(f"(car (gimp-image-get-layers {self.image}))")

    def current_name(self):
        return self.scripts.call(f"(car (gimp-item-get-name (car (gimp-image-get-active-layer {self.image}))))")

    def undo(self):
        self.display.keys(self.main, "ctrl+z")

    def select(self, *rectangle):
        self.scripts.call(f"(gimp-image-select-rectangle {self.image} CHANNEL-OP-REPLACE {' '.join(map(str, rectangle))})")

    def open(self, procedure="plug-in-sdd-generate"):
        self.display.keys(self.main, KEYS[procedure][0])
        return self.display.find("^Generate with sdd$", alive=self.process)

    def shoot(self, name, window="root"):
        if self.pictures:
            self.display.picture(f"{self.pictures}/gimp2-{name}.png", window)
            self.display.do("mogrify", "-resize", "1000x>", "-colors", "128", f"{self.pictures}/gimp2-{name}.png")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def generate(session):
    """Type a prompt, Ctrl+Return: a layer with that name. Undone by one Ctrl+Z."""
    session.select(32, 24, 28, 24)
    window = session.open("plug-in-sdd-fill")
    session.display.type(window, "a red fox")
    session.shoot("dialog", window)
    before = session.layers()
    before_picture, after_picture = (f"{tempfile.gettempdir()}/sdd-screen-{os.getpid()}-{when}.png" for when in ("before", "after"))
    session.display.place(window, 920, 10)
    session.display.picture(before_picture)
    session.display.keys(window, "ctrl+Return")
    wait_for(lambda: session.layers() == before + 1, "no layer came")
    name = session.current_name()
    time.sleep(1)
    session.shoot("done")
    session.display.picture(after_picture)
    shown = session.display.changed(before_picture, after_picture, 250, 150, 400, 600)  # where the canvas is, without the docks
    for path in (before_picture, after_picture):
        os.unlink(path)
    assert shown > 500, f"only {shown} pixels of the canvas on the screen changed"
    session.display.keys(window, "Escape")
    wait_for(lambda: not plugin_pids(), "Escape does not close the dialog")
    session.display.keys(session.main, "ctrl+z")
    wait_for(lambda: session.layers() == before, "one Ctrl+Z does not take the layer away")
    return [] if name.strip('"').startswith("a red fox (") else [f"the layer is called {name}"]


def long_job(session):
    """The dialog with a job of many steps at work; the window."""
    dialogs.remember(session, steps="1000", prompt="a long job", model="sketched")
    window = session.open("plug-in-sdd-generate")
    session.display.keys(window, "ctrl+Return")
    session.server.await_status(lambda s: s["jobs"]["running"] == 1, "the job does not run")
    return window


def cancelled(session):
    before, cancelled_before = session.layers(), session.server.status()["jobs"]["cancelled"]
    window = long_job(session)
    session.display.keys(window, "Escape")
    session.server.await_status(lambda s: s["jobs"]["running"] == 0 and s["jobs"]["cancelled"] == cancelled_before + 1,
                                "Escape does not cancel the job", 10)
    assert plugin_pids(), "the dialog went away with its job"
    session.display.keys(window, "Escape")
    wait_for(lambda: not plugin_pids(), "Escape does not close the dialog")
    return [] if session.layers() == before else ["a layer came"]


def killed(session):
    before, cancelled_before = session.layers(), session.server.status()["jobs"]["cancelled"]
    long_job(session)
    for pid in plugin_pids():
        os.kill(pid, signal.SIGKILL)
    session.server.await_status(lambda s: s["jobs"]["running"] == 0 and s["jobs"]["cancelled"] == cancelled_before + 1,
                                "the daemon keeps the job of a killed plug-in", 10)
    return [] if session.layers() == before else ["a layer came"]


def main():
    table = Table("GIMP 2.10 UI")
    pictures = sys.argv[1] if len(sys.argv) > 1 else None
    with Server() as server, tempfile.TemporaryDirectory(prefix="sdd-gimp2-") as folder, Display() as display:
        server.picture(f"{folder}/in.png", bool(pictures))
        session = Session(folder, server, display, pictures)
        try:
            dialogs.run(session, table, dialogs.SHOWN if pictures else (("generate+undo", generate), ("cancel", cancelled),
                                                                        ("kill -9", killed), *dialogs.TESTS))
        finally:
            session.close()
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
