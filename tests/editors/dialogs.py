"""What both GIMPs' dialog must do besides painting, driven by keys and judged by what it says it shows (G_MESSAGES_DEBUG=sdd).

A session has: display, server, folder, config, log_path, open(procedure) -> window, plugin_pids(), and while no dialog is open layers(),
current_name(), select(), undo().
"""
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from scriptfu import wait_for


def remember(session, **settings):
    """The values of last time, which the dialog opens with."""
    os.makedirs(f"{session.config}/sdd", exist_ok=True)
    with open(f"{session.config}/sdd/plugins.json", "w") as file:
        json.dump({"steps": "2", **settings}, file)


class Heard:
    """What the dialog has said since it was opened."""

    def __init__(self, session):
        self.session, self.begin = session, os.path.getsize(session.log_path)

    def text(self):
        with open(self.session.log_path, errors="replace") as file:
            file.seek(self.begin)
            return file.read()

    def wait(self, pattern, seconds=60):
        wait_for(lambda: re.search(pattern, self.text()), f"the dialog does not say {pattern}; it said {self.text()[-600:]}", seconds)


def close(session, window):
    session.display.keys(window, "Escape")
    wait_for(lambda: not session.plugin_pids(), "Escape does not close the dialog")


def tokens(session):
    """The count of tokens follows what is typed, and a style's words count."""
    remember(session)
    heard, window = Heard(session), session.open()
    session.display.type(window, "a red fox")
    heard.wait(r"tokens: [1-9]\d* of 75 tokens")
    before = re.findall(r"tokens: (\d+) of", heard.text())[-1]
    session.display.keys(window, "alt+y", "Down")
    heard.wait(rf"tokens: (?!{before} )\d+ of 75 tokens")
    close(session, window)
    return []


def preview(session):
    """While it paints a sketch is shown, and the steps are told."""
    remember(session, steps="1000", prompt="a long job", model="sketched")
    heard, window = Heard(session), session.open()
    session.display.keys(window, "ctrl+Return")
    heard.wait(r"preview: \d+ x \d+")
    heard.wait(r"progress: Step [1-9]\d* of \d+")
    session.shoot("progress", window)
    session.display.keys(window, "Escape")
    heard.wait("message: Cancelled")
    close(session, window)
    return []


def outpaint(session):
    """The canvas to be is shown: with no side given a step on each, as the job will do it, then with the sides typed."""
    remember(session)
    heard, window = Heard(session), session.open("plug-in-sdd-outpaint")
    heard.wait(r"outpaint: -128,-128 352 x 336")
    session.display.keys(window, "alt+8", "ctrl+a")
    session.display.type(window, "16\t")
    heard.wait(r"outpaint: -16,0 112 x 80")
    close(session, window)
    return []


def choice(session):
    """Three results as thumbnails: nothing is added before the second is chosen, then that one alone."""
    remember(session, count="3", prompt="a red house", seed="40", steps="16" if session.pictures else "2", **{"lock-seed": "yes"})
    before = session.layers()
    heard, window = Heard(session), session.open()
    session.display.keys(window, "ctrl+Return")
    heard.wait("choice: 3", 300)
    heard.wait("message: Done in")
    session.display.keys(window, "Right")
    session.shoot("choice", window)
    session.display.keys(window, "alt+k")
    heard.wait("message: It is in the picture")
    close(session, window)
    wait_for(lambda: session.layers() == before + 1, f"{session.layers()} layers instead of {before + 1}")
    name = session.current_name()
    session.undo()
    wait_for(lambda: session.layers() == before, "one Ctrl+Z does not take the layer away")
    return [] if "(41)" in name else [f"the layer is called {name}, not the second's name"]


def retry(session):
    """The daemon is stopped while it paints: the dialog says so, and one key paints the same again."""
    remember(session, steps="1000", prompt="a long job", seed="77", **{"lock-seed": "yes"})
    heard, window = Heard(session), session.open()
    session.display.keys(window, "ctrl+Return")
    heard.wait("progress: Step")
    session.server.stop()
    heard.wait("message: sdd was stopped or restarted")
    session.server.start()
    session.display.keys(window, "alt+i")
    session.server.await_status(lambda s: s["jobs"]["running"] == 1, "the job is not tried again", 60)
    session.display.keys(window, "Escape")
    heard.wait("message: Cancelled")
    close(session, window)
    return []


def absent(session):
    """No daemon: the dialog names the command, offers it, and goes on when it has worked."""
    remember(session, prompt="a fox")
    before = session.layers()
    session.server.stop()
    heard, window = Heard(session), session.open()
    heard.wait("message: sdd is not running. Start it with: systemctl --user start sdd.socket")
    session.shoot("absent", window)
    session.server.start()  # what the unit's start, a stand-in here, would do
    session.display.keys(window, "alt+r")
    heard.wait("message: sdd runs")
    assert (session.folder / "systemctl-called").read_text().strip() == "--user start sdd.socket"
    session.display.keys(window, "ctrl+Return")
    heard.wait("message: Done in")
    close(session, window)
    wait_for(lambda: session.layers() == before + 1, "no layer came")
    session.undo()
    return []


def queue(session):
    """Somebody else's job is first: the dialog tells the place."""
    remember(session, prompt="a fox")
    other = subprocess.Popen([os.environ["SDD_TEST_SDCTL"], "--socket", session.server.socket, "txt2img", "x", "--steps", "1000", "-o",
                              str(session.folder / "other.png")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        session.server.await_status(lambda s: s["jobs"]["running"] == 1, "the other job does not run", 60)
        heard, window = Heard(session), session.open()
        session.display.keys(window, "ctrl+Return")
        heard.wait("progress: Waiting: 1 job is first")
        session.display.keys(window, "Escape")
        heard.wait("message: Cancelled")
        close(session, window)
    finally:
        other.kill()
        other.wait()
    return []


def show(session):
    """For README: a selection on a picture, and what a click makes of it."""
    remember(session, action="fill", prompt="a red house", seed="8", steps="20", **{"lock-seed": "yes"})
    session.select(136, 112, 112, 104)
    heard, window = Heard(session), session.open("plug-in-sdd-fill")
    session.display.place(window, 905, 20)
    heard.wait("tokens: [1-9]")
    session.shoot("before")
    session.display.keys(window, "ctrl+Return")
    heard.wait("message: Done in", 120)
    time.sleep(2)  # GIMP draws when it likes
    session.shoot("after")
    session.shoot("dialog", window)
    close(session, window)
    return []


def run(session, table, tests):
    for name, test in tests:
        try:
            table.note(name, "u8", test(session))
        except AssertionError as failure:
            session.display.picture(f"{tempfile.gettempdir()}/sdd-dialog-{name.replace(' ', '-')}.png")
            table.note(name, "u8", [str(failure)])
            for pid in session.plugin_pids():  # the next test shall not talk to this one's window
                os.kill(pid, signal.SIGKILL)


def stand_in_for_systemctl(folder):
    """A folder for PATH: no user manager runs in a test, so its command only notes how it was called."""
    binaries = folder / "bin"
    binaries.mkdir()
    script = binaries / "systemctl"
    script.write_text('#!/bin/sh\necho "$*" > "$(dirname "$0")/../systemctl-called"\n')
    script.chmod(0o755)
    return binaries


# what `make screenshots` takes pictures of, and what is tested
SHOWN = (("before and after", show), ("preview", preview), ("choose one", choice), ("no daemon", absent))
TESTS = (("tokens", tokens), ("preview", preview), ("outpaint", outpaint), ("choose one", choice), ("restarted", retry), ("no daemon", absent), ("queue", queue))
