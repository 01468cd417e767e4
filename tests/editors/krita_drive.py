"""Inside Krita with a window: a plug-in of the tests that plays the artist by QTest and writes found.json.

Each test is a generator that gives the main loop back while it waits: Krita puts off what a new layer brings (its place in
the list of layers) as long as an event loop runs inside another, so nothing here may wait in a loop of its own.
"""
import json
import os
import re
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


def shoot(name, *crop):
    if PICTURES:
        subprocess.run(["import", "-window", "root", *crop, f"{PICTURES}/{name}.png"], check=True)


def click(name):
    QTest.mouseClick(widget(name), Qt.LeftButton)


def type_into(name, text):
    widget(name).clear()
    QTest.keyClicks(widget(name), text)


def choose(name, value):
    combo = widget(f"sdd_{name}")
    combo.setCurrentIndex(max(0, combo.findData(value)))


def select(document):
    selection = Selection()
    selection.select(32, 24, 28, 24, 255)
    document.setSelection(selection)


def said():
    return widget("sdd_message").text()


def await_layer(document, before):
    yield from until(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {said()}")
    yield from until(lambda: widget("sdd_generate_button").isEnabled(), "the docker does not rest")


def activate(document, node):
    document.setActiveNode(node)
    yield from until(lambda: document.activeNode().uniqueId() == node.uniqueId(), f"{node.name()} does not become the current layer")


def undo_brings(document, before, size=None):
    Krita.instance().action("edit_undo").trigger()
    yield from until(lambda: layers(document) == before and size in (None, (document.width(), document.height())),
                     "one undo does not bring back what was there")


def generate(document):
    """Type, click, a layer is there; one undo takes it away. Tokens are counted meanwhile."""
    select(document)
    before = layers(document)
    choose("action", "fill")
    type_into("sdd_prompt", "a red fox")
    yield from until(lambda: re.fullmatch(r"[1-9][0-9]? of 75 tokens", widget("sdd_tokens").text()), "no tokens are counted")
    yield from pause(0.5)
    shoot("krita-docker")
    click("sdd_generate_button")
    yield from until(lambda: len(layers(document)) == len(before) + 1, f"no layer came: {widget('sdd_message').text()}")
    after = layers(document)
    yield from until(lambda: widget("listLayers").model().rowCount() == len(after), "the layer is not in Krita's list of layers")
    yield from pause(0.5)
    shoot("krita-done")
    with open(f"{FOLDER}/timings", "w") as file:
        print(*(f"{name} {value}" for name, value in timings().items()), sep=", ", file=file)
    yield from undo_brings(document, before)
    return [] if any(n.startswith("a red fox (") for n in after) else [f"the layers are {after}"]


def timings():
    """Of the docker's last job that came to an end, by part."""
    from sdd.docker import DOCKERS
    return {name.removesuffix("_ms"): round(value, 1) for name, value in DOCKERS[0].timings.items()}


def long_job():
    widget("sdd_steps").setText("1000")
    choose("action", "generate")
    choose("model", "sketched")
    click("sdd_generate_button")
    yield from until(lambda: jobs()["running"] == 1, "the job does not run")


def cancel(document):
    before = layers(document)
    widget("sdd_count").setValue(3)  # one may be over before a busy Krita shows its first preview
    yield from long_job()
    yield from until(lambda: widget("sdd_preview").pixmap() is not None, "no preview came")
    shoot("krita-progress")
    click("sdd_cancel_button")
    yield from until(lambda: jobs()["running"] == 0 and widget("sdd_generate_button").isEnabled(), "the job is not cancelled")
    widget("sdd_count").setValue(1)
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


def restart(document):
    """The daemon is killed in the middle of a job and started again by the button: the same job is offered, and paints."""
    select(document)
    before = layers(document)
    yield from long_job()
    os.kill(status()["pid"], 9)
    yield from until(lambda: widget("sdd_retry_button").isVisible(), f"no retry is offered: {said()}")
    if "restarted" not in said():
        return [said()]
    click("sdd_retry_button")
    yield from until(lambda: widget("sdd_start_button").isVisible(), f"no start is offered: {said()}")
    if "systemctl --user start sdd.socket" not in said() or layers(document) != before:
        return [said()]
    shoot("krita-absent")
    click("sdd_start_button")  # asks systemctl, then tries the job again
    yield from until(lambda: jobs()["running"] == 1, f"the job is not tried again: {said()}")
    click("sdd_cancel_button")
    yield from until(lambda: widget("sdd_generate_button").isEnabled(), "the job is not cancelled")
    return [] if layers(document) == before else [f"layers {layers(document)}"]


def queue(document):
    """Another program's job runs: the docker says its place in the queue, then paints."""
    select(document)
    before = layers(document)
    other = subprocess.Popen([os.environ["SDD_TEST_SDCTL"], "--socket", os.environ["SDD_SOCKET"], "--quiet", "txt2img", "--model", "sketched",
                              "--steps", "1000", "-o", f"{FOLDER}/other.png", "a boat"])
    yield from until(lambda: jobs()["running"] == 1, "the other job does not run")
    fast()
    click("sdd_generate_button")
    yield from until(lambda: "1 job is first" in said(), f"the docker says “{said()}”")
    shoot("krita-queue")
    other.send_signal(2)
    yield from await_layer(document, before)
    other.wait()
    return []


def fast():
    choose("action", "fill")
    choose("model", "")
    widget("sdd_steps").setText("2")
    widget("sdd_count").setValue(1)


def shortcuts(document):
    """By keys alone: to the prompt, type, paint. No other action of Krita has our keys."""
    select(document)
    before = layers(document)
    fast()
    actions = Krita.instance().actions()
    keys = {s.toString(): [] for a in actions if a.objectName().startswith("sdd_") for s in a.shortcuts()}
    for action in actions:
        for sequence in action.shortcuts():
            if sequence.toString() in keys:
                keys[sequence.toString()].append(action.objectName())
    doubled = {k: names for k, names in keys.items() if len(names) > 1}
    widget("sdd_prompt").clear()
    Krita.instance().action("sdd_focus").trigger()
    yield from until(lambda: QApplication.focusWidget() is widget("sdd_prompt"), "the prompt has not the focus")
    QTest.keyClicks(QApplication.focusWidget(), "a boat")
    QTest.keyClick(QApplication.focusWidget(), Qt.Key_Return, Qt.ControlModifier)
    yield from await_layer(document, before)
    once = layers(document)
    Krita.instance().action("sdd_generate").trigger()
    yield from await_layer(document, once)
    if len(keys) < 4 or doubled:
        return [f"shortcuts {keys}, more than once {doubled}"]
    return [] if sum(n.startswith("a boat (") for n in layers(document)) == 2 else [f"layers {layers(document)}"]


def several(document):
    """Three results are shown to choose from; nothing is in the document until one is kept, by keys alone, in one step."""
    select(document)
    before = layers(document)
    fast()
    widget("sdd_count").setValue(3)
    click("sdd_generate_button")
    pictures = widget("sdd_choice")
    yield from until(lambda: pictures.count() == 3 and pictures.isVisible(), f"{pictures.count()} pictures to choose from: {said()}")
    if layers(document) != before:
        return [f"the layers became {layers(document)}"]
    if any(pictures.item(i).icon().isNull() for i in range(3)):
        return ["an item without a picture"]
    shoot("krita-choice")
    pictures.setFocus()
    QTest.keyClick(pictures, Qt.Key_Right)
    seed = pictures.currentItem().text()
    QTest.keyClick(pictures, Qt.Key_Return)
    yield from until(lambda: len(layers(document)) == len(before) + 1, f"none is kept: {said()}")
    kept = [n for n in layers(document) if n not in before]
    problems = [] if kept and kept[0].endswith(f"({seed})") and not pictures.isVisible() else [f"kept {kept}, chosen {seed}"]
    yield from undo_brings(document, before)
    return problems


def vary(document):
    """The current layer again with another seed, from what is stored with it."""
    fast()
    before = layers(document)
    click("sdd_generate_button")
    yield from await_layer(document, before)
    made = layers(document)
    new = [n for n in document.rootNode().childNodes() if n.type() == "paintlayer" and n.name() not in before][0]
    yield from activate(document, new)
    Krita.instance().action("sdd_vary").trigger()
    yield from await_layer(document, made)
    other = [n for n in layers(document) if n not in made]
    return [] if other and other[0].split(" (")[0] == new.name().split(" (")[0] else [f"{made} became {layers(document)}"]


def outpaint(document):
    """The preview shows the frame; canvas and layer come in one step."""
    fast()
    choose("action", "outpaint")
    widget("sdd_left").setValue(16)
    widget("sdd_bottom").setValue(24)
    before, size = layers(document), (document.width(), document.height())
    frame = widget("sdd_sides_preview").frame()
    click("sdd_generate_button")
    yield from await_layer(document, before)
    grown = (document.width(), document.height())
    shoot("krita-outpaint")
    yield from undo_brings(document, before, size)
    if frame != ((16, 0, *size), (size[0] + 16, size[1] + 24)) or grown != (size[0] + 16, size[1] + 24):
        return [f"the preview shows {frame}, the canvas became {grown}"]
    return []


def closed(document):
    """The image is closed while pictures of it wait to be kept."""
    other = Krita.instance().openDocument(f"{FOLDER}/in.png")
    Krita.instance().activeWindow().addView(other)
    Krita.instance().setActiveDocument(other)
    yield from until(lambda: Krita.instance().activeDocument() == other, "the other image does not come to the front")
    fast()
    choose("action", "generate")
    widget("sdd_count").setValue(2)
    click("sdd_generate_button")
    pictures = widget("sdd_choice")
    yield from until(lambda: pictures.count() == 2, f"no pictures to choose from: {said()}")
    other.setModified(False)
    other.close()
    yield from until(lambda: Krita.instance().activeDocument() == document, "the first image does not come back")
    before = layers(document)
    click("sdd_keep_button")
    yield from pause(0.2)
    problems = [] if "closed" in said() and layers(document) == before else [f"it says “{said()}”"]
    click("sdd_discard_button")
    return problems if not pictures.isVisible() else [*problems, "pictures are still shown"]


def models(document):
    """The list says what is in memory."""
    yield
    widget("sdd_model").looked.emit()
    texts = [widget("sdd_model").itemText(i) for i in range(widget("sdd_model").count())]
    loaded = {m["name"] for m in status()["models"]}
    wrong = [t for t in texts[1:] if t.endswith(" loaded)") and "not loaded" not in t and t.split(" (")[0] not in loaded]
    return [] if len(texts) == 3 and loaded and not wrong and any(t.startswith(n) for n in loaded for t in texts) else [f"{texts}, {loaded}"]


def live(document):
    """A stroke brings a new picture into the preview layer; another stroke another one, into the same layer."""
    background = [n for n in document.rootNode().childNodes() if n.type() == "paintlayer"][0]
    document.setSelection(None)
    yield from activate(document, background)
    choose("model", "")
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


def pictures(document):
    """What README shows: the docker with results to choose from, and the canvas before and after."""
    with open(os.environ["SDD_TEST_DEMO"]) as file:
        demo = json.load(file)["inpaint"]
    window = Krita.instance().activeWindow().qwindow()
    docks = {d.objectName(): d for d in Krita.instance().dockers()}
    window.resizeDocks([docks["KisLayerBox"], docks["sdd_docker"]], [150, 950], Qt.Vertical)
    Krita.instance().action("KisToolSelectRectangular").trigger()
    Krita.instance().action("zoom_to_100pct").trigger()
    selection = Selection()
    selection.select(*(demo["select"][side] for side in "xywh"), 255)
    document.setSelection(selection)
    choose("action", "fill")
    type_into("sdd_prompt", demo["prompt"])
    widget("sdd_count").setValue(3)
    widget("sdd_seed").setText(str(demo["seed"]))
    widget("sdd_lock-seed").setChecked(True)
    yield from pause(3)  # Krita shows the zoom for a while
    canvas = window.centralWidget()
    corner = canvas.mapToGlobal(canvas.rect().center())
    crop = ("-crop", f"400x272+{corner.x() - 200}+{corner.y() - 136}")
    shoot("krita-before", *crop)
    before = layers(document)
    click("sdd_generate_button")
    choice = widget("sdd_choice")
    yield from until(lambda: choice.count() == 3, f"no results: {said()}", 300)
    widget("sdd_prompt").setFocus()
    yield from pause(1)
    shoot("krita-choice")
    click("sdd_keep_button")
    yield from await_layer(document, before)
    document.setSelection(None)
    yield from pause(2)
    shoot("krita-after", *crop)
    return []


TESTS = (("generate+undo", generate), ("keys", shortcuts), ("several", several), ("vary", vary), ("outpaint", outpaint), ("models", models),
         ("live", live), ("cancel", cancel), ("queue", queue), ("closed", closed), ("worker lost", lose_worker), ("restart", restart),
         ("pictures", pictures))


def drive():
    """All tests, one after the other; a step at a time."""
    found = []
    document = Krita.instance().activeDocument()
    for docker in Krita.instance().dockers():
        docker.setVisible(docker.objectName() in ("sdd_docker", "KisLayerBox"))
    Krita.instance().activeWindow().qwindow().showMaximized()
    yield from pause(1)
    for name, test in TESTS:
        if os.environ.get("SDD_TEST_ONLY", name) != name or (name == "pictures") != bool(PICTURES):
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
