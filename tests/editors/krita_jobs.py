"""Inside Krita (kritarunner): every job on several kinds of documents, judged by pixels. Writes found.json."""
import json
import os
import traceback

from jobs import GROWN, JOBS, PROMPT, SELECT, written
from krita import Krita, Selection

FAST = f"prompt='{PROMPT}' {written({})} "
FOLDER = os.environ["SDD_TEST_FOLDER"]
SRGB = "sRGB-elle-V2-srgbtrc.icc"
DOCUMENTS = {  # name: (model, depth, profile)
    "u8": ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"), "u16": ("RGBA", "U16", "sRGB-elle-V2-srgbtrc.icc"),
    "float": ("RGBA", "F32", "sRGB-elle-V2-g10.icc"), "half": ("RGBA", "F16", "sRGB-elle-V2-g10.icc"),
    "grey": ("GRAYA", "U8", "Gray-D50-elle-V2-srgbtrc.icc"), "icc": ("RGBA", "U8", "ClayRGB-elle-V2-g22.icc"),
    "cmyk": ("CMYKA", "U8", "Chemical proof"), "lab": ("LABA", "U16", "Lab identity built-in"), "group": ("RGBA", "U8", SRGB),
    "offset": ("RGBA", "U8", SRGB),  # part of the canvas is transparent
    "partly": ("RGBA", "U8", SRGB), "beside": ("RGBA", "U8", SRGB)}  # the selection lies partly or wholly outside the current layer
PATCHES = {"partly": (24, 16), "beside": (4, 4)}  # where that layer lies, 20 x 20


def pixels(document):
    document.refreshProjection()
    document.waitForDone()
    return bytes(document.pixelData(0, 0, document.width(), document.height()))


def changes(before, after, document):
    size = len(before) // (document.width() * document.height())
    count = [0, 0]
    for i in range(document.width() * document.height()):
        x, y = i % document.width(), i // document.width()
        inside = SELECT[0] <= x < SELECT[0] + SELECT[2] and SELECT[1] <= y < SELECT[1] + SELECT[3]
        count[0 if inside else 1] += before[i * size:(i + 1) * size] != after[i * size:(i + 1) * size]
    return count


def prepare(name):
    document = Krita.instance().openDocument(f"{FOLDER}/in.png")
    document.setBatchmode(True)
    model, depth, profile = DOCUMENTS[name]
    if (model, depth) != ("RGBA", "U8") or name == "icc":
        assert document.setColorSpace(model, depth, profile), f"no {model} {depth} {profile}"
    node = document.topLevelNodes()[0]
    if name == "group":
        group = document.createGroupLayer("g")
        document.rootNode().addChildNode(group, None)
        document.rootNode().removeChildNode(node)
        group.addChildNode(node, None)
    if name == "offset":
        node.move(11, 9)
    if name in PATCHES:
        node = document.createNode(name, "paintlayer")
        node.setPixelData(b"\x20\x60\xa0\xff" * 400, *PATCHES[name], 20, 20)
        document.rootNode().addChildNode(node, None)
    document.waitForDone()
    return document, node


def select(document):
    selection = Selection()
    selection.select(*SELECT, 255)
    document.setSelection(selection)
    document.waitForDone()


class Steps:
    """The undo stack of a document."""

    def __init__(self, document):
        from PyQt5 import sip
        from PyQt5.QtCore import QObject
        from sdd.undo import MACROS
        self.document = document
        self.stack = sip.wrapinstance(MACROS.stack_of(document), QObject)
        self.moves = []
        self.stack.indexChanged.connect(self.moves.append)

    def undo(self):
        from PyQt5.QtCore import QMetaObject
        QMetaObject.invokeMethod(self.stack, "undo")
        self.document.waitForDone()


def structure(document):
    """Names and places of all layers, and the canvas."""
    def walk(node):
        return [(n.name(), n.bounds().getRect(), walk(n)) for n in node.childNodes() if n.type() != "selectionmask"]
    return document.width(), document.height(), walk(document.rootNode())


def run(document, node, text, repeated=None):
    from sdd.host import DocumentHost
    from sdd.library import Settings, Task
    settings = Settings()
    settings.parse(text)
    host = DocumentHost(document, node, repeated)
    task = Task(host, settings)
    try:
        task.run()
    finally:
        task.free()
    document.waitForDone()
    return host.result, task


def one(job, name):
    settings, selected, inside_wanted, outside_wanted = JOBS[job]
    document, node = prepare(name)
    problems = []
    try:
        if selected:
            select(document)
        before, built = pixels(document), structure(document)
        steps = Steps(document)
        layer, _task = run(document, node, f"prompt='{PROMPT}' {written(settings)}")
        after = pixels(document)
        if layer.name() != "a red fox (7)":
            problems.append(f"the layer is called {layer.name()}")
        siblings = [n.name() for n in layer.parentNode().childNodes() if n.type() != "selectionmask"]
        if siblings[siblings.index(node.name()) + 1] != layer.name() or (name == "group") != (layer.parentNode().name() == "g"):
            problems.append(f"it lies among {siblings} in {layer.parentNode().name()}")
        if (layer.colorModel(), layer.colorDepth()) != (document.colorModel(), document.colorDepth()):
            problems.append(f"the layer is {layer.colorModel()} {layer.colorDepth()}")
        from sdd.host import parameters_of
        if b'"prompt":"a red fox"' not in parameters_of(document, layer):
            problems.append(f"its parameters are {parameters_of(document, layer)[:100]}")
        by, left, bottom = GROWN.get(job, (1, 0, 0))
        if (document.width(), document.height()) != (round(96 * by) + left, round(80 * by) + bottom):
            problems.append(f"the canvas is {document.width()} x {document.height()}")
        elif job not in GROWN:
            inside, outside = changes(before, after, document)
            if bool(inside) != inside_wanted or bool(outside) != outside_wanted:
                problems.append(f"{inside} pixels changed inside, {outside} outside")
        steps.undo()
        if structure(document) != built or pixels(document) != before:
            problems.append(f"one undo leaves {structure(document)}, it was {built}, steps {steps.moves}")
    finally:
        document.close()
    return problems


def repeats():
    """A group of several; saved, opened, made again with the same bytes; a selection beyond the canvas."""
    from sdd.host import parameters_of
    document, node = prepare("u8")
    select(document)
    group, _task = run(document, node, "prompt=many steps=2 seed=7 count=3 action=fill")
    names = [n.name() for n in group.childNodes()]
    yield "several", [] if sorted(names) == ["many (7)", "many (8)", "many (9)"] and group.type() == "grouplayer" else [str(names)]
    seen = [n.visible() for n in group.childNodes()]
    yield "one-visible", [] if sum(seen) == 1 else [f"{seen}"]
    document.close()

    document, node = prepare("u8")
    select(document)
    first, _task = run(document, node, FAST + "action=fill")
    kept = bytes(first.pixelData(0, 0, 96, 80))
    document.saveAs(f"{FOLDER}/kept.kra")
    document.close()
    document = Krita.instance().openDocument(f"{FOLDER}/kept.kra")
    document.setBatchmode(True)
    first = [n for n in document.topLevelNodes() if n.name() == "a red fox (7)"][0]
    from sdd.library import Settings, Task
    from sdd.host import DocumentHost
    settings = Settings()
    settings.from_json(parameters_of(document, first))
    host = DocumentHost(document, first, first)
    document.setSelection(None)
    task = Task(host, settings)
    task.run()
    task.free()
    again = bytes(host.result.pixelData(0, 0, 96, 80))
    yield "again", [] if again == kept and kept.count(0) < len(kept) else ["the pixels differ"]
    document.close()

    document, node = prepare("u8")
    selection = Selection()
    selection.select(60, 20, 60, 30, 255)
    document.setSelection(selection)
    run(document, node, FAST + "action=outpaint")
    size = (document.width(), document.height())
    yield "selection-beyond", [] if size == (96 + 128, 80) else [f"the canvas is {size}"]
    document.close()


def errors():
    from sdd.library import Failure
    document, node = prepare("u8")
    for name, text, words in (("empty-selection", "action=fill", "Nothing is selected"),
                              ("bad-value", "strength=7", "strength"), ("no-model", "model=none-such", "none-such")):
        try:
            run(document, node, text)
            said = "nothing"
        except Failure as failure:
            said = str(failure)
        layers = len(document.topLevelNodes())
        yield name, ([] if words in said else [f"it said {said}"]) + ([] if layers == 1 else [f"{layers} layers"])
    socket = os.environ["SDD_SOCKET"]
    os.environ["SDD_SOCKET"] = socket + "-not-there"
    try:
        run(document, node, "action=generate")
        said = "nothing"
    except Failure as failure:
        said = str(failure)
    os.environ["SDD_SOCKET"] = socket
    yield "no daemon", [] if "systemctl --user start sdd.socket" in said else [f"it said {said}"]
    document.close()


def main(*_arguments):
    found = []
    try:
        Krita.instance().setBatchmode(True)
        for name in DOCUMENTS:
            for job in JOBS:
                try:
                    found.append((job, name, one(job, name)))
                except Exception:  # pylint: disable=broad-except
                    found.append((job, name, [traceback.format_exc()]))
        for name, problems in [*repeats(), *errors()]:
            found.append((name, "u8", problems))
    except BaseException:  # pylint: disable=broad-except
        found.append(("script", "u8", [traceback.format_exc()]))
    with open(f"{FOLDER}/found.json.part", "w") as file:
        json.dump(found, file)
    os.rename(f"{FOLDER}/found.json.part", f"{FOLDER}/found.json")
