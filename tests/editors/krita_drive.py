"""Inside Krita with a window: a plug-in of the tests that plays the artist by QTest and writes found.json.

Each test is a generator that gives the main loop back while it waits: Krita puts off what a new layer brings (its place in
the list of layers) as long as an event loop runs inside another, so nothing here may wait in a loop of its own.
"""
import json
import os
import subprocess
import time
import traceback

from krita import Extension, Krita, Selection
from PyQt5.QtCore import QByteArray, Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

FOLDER = os.environ.get("SDD_TEST_FOLDER", "")
PICTURES = os.environ.get("SDD_TEST_PICTURES", "")


def widget(name):
    return [w for w in QApplication.instance().allWidgets() if w.objectName() == name][0]


def until(test, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not test():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        yield


def pause(seconds):
    end = time.monotonic() + seconds
    yield from until(lambda: time.monotonic() > end, "", seconds + 60)


def layers(document):
    return [n.name() for n in document.rootNode().childNodes() if n.type() != "selectionmask"]


def jobs():
    return status()["jobs"]


def shoot(name):
    if PICTURES:
        subprocess.run(["import", "-window", "root", f"{PICTURES}/{name}.png"], check=True)


def click(name):
    QTest.mouseClick(widget(name), Qt.LeftButton)


def type_into(name, text):
    widget(name).clear()
    QTest.keyClicks(widget(name), text)


def generate(document):
    """Type, click, a layer is there; one undo takes it away."""
    selection = Selection()
    selection.select(32, 24, 28, 24, 255)
    document.setSelection(selection)
    before = layers(document)
    combo = widget("sdd_action")
    combo.setCurrentIndex(combo.findData("fill"))
    type_into("sdd_prompt", "a red fox")
    yield from pause(0.5)
    shoot("krita-docker")
    click("sdd_generate_button")
    yield from until(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {widget('sdd_message').text()}")
    after = layers(document)
    yield from until(lambda: widget("listLayers").model().rowCount() == len(after), "the layer is not in Krita's list of layers")
    yield from pause(0.5)
    shoot("krita-done")
    Krita.instance().action("edit_undo").trigger()
    yield from until(lambda: layers(document) == before, "one undo does not take the layer away")
    return [] if any(n.startswith("a red fox (") for n in after) else [f"the layers are {after}"]


def long_job():
    widget("sdd_steps").setText("1000")
    combo = widget("sdd_action")
    combo.setCurrentIndex(combo.findData("generate"))
    combo = widget("sdd_model")
    combo.setCurrentIndex(max(0, combo.findData("sketched")))
    click("sdd_generate_button")
    yield from until(lambda: jobs()["running"] == 1, "the job does not run")


def cancel(document):
    before = layers(document)
    yield from long_job()
    yield from until(lambda: widget("sdd_preview").pixmap() is not None, "no preview came")
    shoot("krita-progress")
    click("sdd_cancel_button")
    yield from until(lambda: jobs()["running"] == 0 and widget("sdd_generate_button").isEnabled(), "the job is not cancelled", 10)
    return [] if "ancel" in widget("sdd_message").text() and layers(document) == before else [widget("sdd_message").text()]


def status():
    out = subprocess.run([os.environ["SDD_TEST_SDCTL"], "--socket", os.environ["SDD_SOCKET"], "--json", "status"],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def lose_worker(document):
    """The daemon takes the job up again with another worker; the docker goes on showing it, and can still cancel it."""
    yield from long_job()
    before = status()["worker"]["pid"]
    os.kill(before, 9)
    yield from until(lambda: status()["worker"]["pid"] not in (0, before) and status()["jobs"]["running"] == 1,
                     f"the job does not go on: {widget('sdd_message').text()}")
    click("sdd_cancel_button")
    yield from until(lambda: widget("sdd_generate_button").isEnabled(), "the job is not cancelled", 30)
    return [] if "ancel" in widget("sdd_message").text() else [widget("sdd_message").text()]


def shortcut(document):
    """The action, as a shortcut triggers it."""
    before = layers(document)
    widget("sdd_steps").setText("2")
    Krita.instance().action("sdd_generate").trigger()
    yield from until(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {widget('sdd_message').text()}")
    return []


def live(document):
    """A stroke brings a new picture into the preview layer; another stroke another one, into the same layer."""
    background = [n for n in document.rootNode().childNodes() if n.type() == "paintlayer"][0]
    document.setActiveNode(background)
    document.setSelection(None)
    yield from pause(0.2)
    widget("sdd_steps").setText("4")
    widget("sdd_live").setChecked(True)
    yield from until(lambda: "sdd live" in layers(document), f"no preview layer: {widget('sdd_message').text()}")

    def shown():
        node = document.nodeByName("sdd live")
        return bytes(node.pixelData(0, 0, 96, 80))
    first, before = shown(), layers(document)
    background.setPixelData(QByteArray(b"\x10\x20\xf0\xff" * 40 * 40), 10, 10, 40, 40)
    document.refreshProjection()
    try:
        yield from until(lambda: shown() != first, "a stroke changes nothing")
    except AssertionError as failure:
        from sdd.docker import DOCKERS
        now = DOCKERS[0].live
        shoot("krita-failed")
        raise AssertionError(f"{failure}: {now.n_results} results, runner {now.runner}, dirty {now.dirty}, current layer "
                             f"{document.activeNode().name()}, on {now.box.isChecked()}, layers {layers(document)}, "
                             f"“{widget('sdd_message').text()}”") from failure
    widget("sdd_live").setChecked(False)
    shoot("krita-live")
    return [] if layers(document) == before else [f"{before} became {layers(document)}"]


TESTS = (("generate+undo", generate), ("shortcut", shortcut), ("live", live), ("cancel", cancel), ("worker lost", lose_worker))


def drive():
    """All tests, one after the other; a step at a time."""
    found = []
    document = Krita.instance().activeDocument()
    for docker in Krita.instance().dockers():
        docker.setVisible(docker.objectName() in ("sdd_docker", "KisLayerBox"))
    Krita.instance().activeWindow().qwindow().showMaximized()
    yield from pause(1)
    for name, test in TESTS:
        if os.environ.get("SDD_TEST_ONLY", name) != name:
            continue
        print("driving:", name, found[-1:], flush=True)
        try:
            problems = yield from test(document)
        except Exception:  # pylint: disable=broad-except
            problems = [traceback.format_exc()]
        found.append((name, "u8", problems))
    with open(f"{FOLDER}/found.json", "w") as file:
        json.dump(found, file)
    os._exit(0)


class Driver(Extension):
    def setup(self):
        """Krita requires it."""

    def createActions(self, window):  # pylint: disable=invalid-name
        self.steps = None
        self.timer = QTimer()
        self.timer.timeout.connect(self.look)
        self.timer.start(200)

    def look(self):
        """Krita opens the document of its command line when it comes to rest."""
        document = Krita.instance().activeDocument()
        if self.steps:
            next(self.steps)
        elif document and document.activeNode():
            self.steps = drive()


Krita.instance().addExtension(Driver(Krita.instance()))
