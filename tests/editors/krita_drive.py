"""Inside Krita with a window: a plug-in of the tests that plays the artist by QTest and writes found.json."""
import json
import os
import subprocess
import traceback

from krita import Extension, Krita, Selection
from PyQt5.QtCore import QByteArray, Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

FOLDER = os.environ.get("SDD_TEST_FOLDER", "")
PICTURES = os.environ.get("SDD_TEST_PICTURES", "")


def widget(name):
    return [w for w in QApplication.instance().allWidgets() if w.objectName() == name][0]


def wait_for(test, what, seconds=60):
    for _ in range(int(seconds * 10)):
        if test():
            return
        QTest.qWait(100)
    raise AssertionError(what)


def layers(document):
    return [n.name() for n in document.rootNode().childNodes() if n.type() != "selectionmask"]


def jobs():
    out = subprocess.run([os.environ["SDD_TEST_SDCTL"], "--socket", os.environ["SDD_SOCKET"], "--json", "status"],
                         capture_output=True, text=True, check=True).stdout
    return json.loads(out)["jobs"]


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
    QTest.qWait(500)
    shoot("krita-docker")
    click("sdd_generate_button")
    wait_for(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {widget('sdd_message').text()}")
    after = layers(document)
    wait_for(lambda: widget("listLayers").model().rowCount() == len(after), "the layer is not in Krita's list of layers")
    QTest.qWait(500)
    shoot("krita-done")
    Krita.instance().action("edit_undo").trigger()
    wait_for(lambda: layers(document) == before, "one undo does not take the layer away")
    return [] if any(n.startswith("a red fox (") for n in after) else [f"the layers are {after}"]


def long_job():
    widget("sdd_steps").setText("1000")
    combo = widget("sdd_model")
    combo.setCurrentIndex(max(0, combo.findData("sketched")))
    click("sdd_generate_button")
    wait_for(lambda: jobs()["running"] == 1, "the job does not run")


def cancel(document):
    before = layers(document)
    long_job()
    wait_for(lambda: widget("sdd_preview").pixmap() is not None, "no preview came")
    shoot("krita-progress")
    click("sdd_cancel_button")
    wait_for(lambda: jobs()["running"] == 0 and widget("sdd_generate_button").isEnabled(), "the job is not cancelled", 10)
    return [] if "ancel" in widget("sdd_message").text() and layers(document) == before else [widget("sdd_message").text()]


def lose_worker(document):
    long_job()
    out = subprocess.run([os.environ["SDD_TEST_SDCTL"], "--socket", os.environ["SDD_SOCKET"], "--json", "status"],
                         capture_output=True, text=True, check=True).stdout
    os.kill(json.loads(out)["worker"]["pid"], 9)
    wait_for(lambda: widget("sdd_generate_button").isEnabled(), "the docker waits for a dead engine", 20)
    return [] if "try again" in widget("sdd_message").text() else [widget("sdd_message").text()]


def shortcut(document):
    """The action, as a shortcut triggers it."""
    before = layers(document)
    widget("sdd_steps").setText("2")
    Krita.instance().action("sdd_generate").trigger()
    wait_for(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {widget('sdd_message').text()}")
    return []


def live(document):
    """A stroke brings a new picture into the preview layer; another stroke another one, into the same layer."""
    background = [n for n in document.rootNode().childNodes() if n.type() == "paintlayer"][0]
    document.setActiveNode(background)
    document.setSelection(None)
    QTest.qWait(200)
    widget("sdd_steps").setText("4")
    widget("sdd_live").setChecked(True)
    wait_for(lambda: "sdd live" in layers(document), f"no preview layer: {widget('sdd_message').text()}")

    def shown():
        node = document.nodeByName("sdd live")
        return bytes(node.pixelData(0, 0, 96, 80))
    first, before = shown(), layers(document)
    background.setPixelData(QByteArray(b"\x10\x20\xf0\xff" * 40 * 40), 10, 10, 40, 40)
    document.refreshProjection()
    wait_for(lambda: shown() != first, "a stroke changes nothing")
    widget("sdd_live").setChecked(False)
    shoot("krita-live")
    return [] if layers(document) == before else [f"{before} became {layers(document)}"]


def drive():
    found = []
    try:
        document = Krita.instance().activeDocument()
        for docker in Krita.instance().dockers():
            docker.setVisible(docker.objectName() in ("sdd_docker", "KisLayerBox"))
        Krita.instance().activeWindow().qwindow().showMaximized()
        for name, test in (("generate+undo", generate), ("shortcut", shortcut), ("live", live), ("cancel", cancel),
                           ("worker lost", lose_worker)):
            print("driving:", name, found[-1:], flush=True)
            try:
                found.append((name, "u8", test(document)))
            except Exception:  # pylint: disable=broad-except
                found.append((name, "u8", [traceback.format_exc()]))
    except BaseException:  # pylint: disable=broad-except
        found.append(("script", "u8", [traceback.format_exc()]))
    with open(f"{FOLDER}/found.json", "w") as file:
        json.dump(found, file)
    os._exit(0)


class Driver(Extension):
    def setup(self):
        """Krita requires it."""

    def createActions(self, window):  # pylint: disable=invalid-name
        self.timer = QTimer()
        self.timer.timeout.connect(self.look)
        self.timer.start(500)

    def look(self):
        """Krita opens the document of its command line when it comes to rest: never wait for it in here."""
        document = Krita.instance().activeDocument()
        if document and document.activeNode():
            self.timer.stop()
            drive()


Krita.instance().addExtension(Driver(Krita.instance()))
