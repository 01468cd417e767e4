#!/usr/bin/env python3
"""GIMP 3's dialog on a screen, GIMP in the Debian 13 tree: opened, typed into, generated; a killed plug-in drops its job.

With a folder as argument it leaves pictures of what it saw there: `make screenshots`.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

import dialogs
from display import Display
from gimp3 import HERE, Gimp
from scriptfu import ScriptFu, free_port, wait_for
from server import Server, Table


def plugin_pids():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe").endswith("/sdd-gimp3"):
                found.append(int(pid))
        except OSError:
            pass
    return found


class Session:
    hears = {"G_MESSAGES_DEBUG": "sdd", "PATH": "/shared/bin:/usr/local/bin:/usr/bin:/bin"}

    def __init__(self, gimp, server, display, pictures):
        self.display, self.pictures, self.server, self.gimp = display, pictures, server, gimp
        self.folder, self.config, self.log_path = gimp.shared, str(gimp.shared / "home/config"), gimp.shared / "gimp.log"
        self.plugin_pids = plugin_pids
        dialogs.stand_in_for_systemctl(gimp.shared)
        settings = gimp.shared / "home/gimp"
        (settings / "gimprc").write_text("(show-welcome-dialog no)\n(check-updates no)\n")
        port = free_port()
        self.log = open(self.log_path, "wb")
        server_call = f'(plug-in-script-fu-server #:run-mode RUN-NONINTERACTIVE #:ip "127.0.0.1" #:port {port} #:logfile "")'
        self.process = subprocess.Popen(
            [str(HERE / "trixie.sh"), "run", "env", *gimp.environment(**display.environment, **self.hears)[3:], "dbus-run-session", "gimp", "-n",
             "--no-splash", "--batch-interpreter=plug-in-script-fu-eval", "-b", server_call, "/shared/in.png"],
            env={**os.environ, "SDD_TRIXIE_SHARED": str(gimp.shared)}, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            start_new_session=True)
        self.main = display.find(r"^\[in\]", 120, alive=self.process)
        display.keys(display.find("^Welcome to GIMP", 60, alive=self.process), "Escape")
        display.place(self.main, 0, 0, 900, 860)
        self.scripts = ScriptFu(port)
        wait_for(self._listens, "the script server does not answer")

    def _listens(self):
        try:
            return self.scripts.number("(vector-length (car (gimp-get-images)))") == 1
        except OSError:
            return False

    def layers(self):
        return self.scripts.number("(vector-length (car (gimp-image-get-layers (vector-ref (car (gimp-get-images)) 0))))")

    def current_name(self):
        return self.scripts.call("(car (gimp-item-get-name (vector-ref (car (gimp-image-get-selected-layers "
                                 "(vector-ref (car (gimp-get-images)) 0))) 0)))")

    def undo(self):
        self.display.keys(self.main, "ctrl+z")

    def select(self, *rectangle):
        self.scripts.call("(gimp-image-select-rectangle (vector-ref (car (gimp-get-images)) 0) CHANNEL-OP-REPLACE "
                          f"{' '.join(map(str, rectangle))})")

    def open(self, procedure="plug-in-sdd-generate"):
        """By the script server, which then answers no more until the dialog is closed."""
        image = "(vector-ref (car (gimp-get-images)) 0)"
        self.scripts.call(f"({procedure} #:run-mode RUN-INTERACTIVE #:image {image} "
                          f"#:drawables (car (gimp-image-get-selected-drawables {image})))", wait=False)
        return self.display.find("^Generate with sdd$", alive=self.process)

    def shoot(self, name, window="root"):
        if self.pictures:
            self.display.picture(f"{self.pictures}/gimp3-{name}.png", window)
            self.display.do("mogrify", "-resize", "1000x>", "-colors", "128", f"{self.pictures}/gimp3-{name}.png")

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def generate(session):
    before, done = session.layers(), session.server.status()["jobs"]["done"]
    window = session.open()
    session.display.type(window, "a red fox")
    session.shoot("dialog", window)
    before_picture, after_picture = (f"{tempfile.gettempdir()}/sdd-screen-{os.getpid()}-{when}.png" for when in ("before", "after"))
    session.display.place(window, 920, 10)
    session.display.picture(before_picture)
    session.display.keys(window, "ctrl+Return")
    session.server.await_status(lambda s: s["jobs"]["done"] == done + 1, "the job is not done", 60)
    time.sleep(3)
    session.shoot("done")
    session.display.picture(after_picture)
    shown = session.display.changed(before_picture, after_picture, 250, 150, 400, 600)  # where the canvas is, without the docks
    for path in (before_picture, after_picture):
        os.unlink(path)
    assert shown > 500, f"only {shown} pixels of the canvas on the screen changed"
    session.display.keys(window, "Escape")
    wait_for(lambda: not plugin_pids(), "Escape does not close the dialog")
    wait_for(lambda: session.layers() == before + 1, "no layer came")
    session.display.keys(session.main, "ctrl+z")
    wait_for(lambda: session.layers() == before, "one Ctrl+Z does not take the layer away")
    return []


def killed(session):
    before, cancelled = session.layers(), session.server.status()["jobs"]["cancelled"]
    dialogs.remember(session, steps="1000", prompt="a long job")
    session.display.keys(session.open(), "ctrl+Return")
    session.server.await_status(lambda s: s["jobs"]["running"] == 1, "the job does not run")
    for pid in plugin_pids():
        os.kill(pid, signal.SIGKILL)
    session.server.await_status(lambda s: s["jobs"]["running"] == 0 and s["jobs"]["cancelled"] == cancelled + 1,
                                "the daemon keeps the job of a killed plug-in", 10)
    return [] if session.layers() == before else ["a layer came"]


def main():
    table = Table("GIMP 3 UI")
    pictures = sys.argv[1] if len(sys.argv) > 1 else None
    with Server() as server, Display() as display:
        server.picture(f"{server.folder}/in.png", bool(pictures))
        gimp = Gimp(server.folder, "s")
        session = None
        try:
            session = Session(gimp, server, display, pictures)
            dialogs.run(session, table, dialogs.SHOWN if pictures else (("generate+undo", generate), ("kill -9", killed),
                                                                        *dialogs.TESTS))
        except AssertionError as failure:
            if pictures:
                display.picture(f"{pictures}/gimp3-failed.png")
            table.note("start", "u8", [str(failure), (gimp.shared / "gimp.log").read_text()[-2000:]])
        finally:
            if session:
                session.close()
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
