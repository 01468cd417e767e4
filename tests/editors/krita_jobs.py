"""Inside Krita (kritarunner): every job on several kinds of documents, judged by pixels. Writes found.json."""
import json
import os
import traceback

from krita import InfoObject, Krita, Selection

SELECT = (32, 24, 28, 24)
FAST = "prompt='a red fox' steps=2 seed=7 guidance=1 "
FOLDER = os.environ["SDD_TEST_FOLDER"]
DOCUMENTS = {  # name: (model, depth, profile)
    "u8": ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"), "u16": ("RGBA", "U16", "sRGB-elle-V2-srgbtrc.icc"),
    "float": ("RGBA", "F32", "sRGB-elle-V2-g10.icc"), "half": ("RGBA", "F16", "sRGB-elle-V2-g10.icc"),
    "grey": ("GRAYA", "U8", "Gray-D50-elle-V2-srgbtrc.icc"), "icc": ("RGBA", "U8", "ClayRGB-elle-V2-g22.icc"),
    "group": ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc"), "offset": ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")}
JOBS = {  # job: (settings, is there a selection, changes inside, changes outside)
    "generate": ("action=generate exact=yes", True, True, False), "refine": ("action=refine exact=yes", True, True, False),
    "fill": ("action=fill exact=yes", True, True, False), "expand": ("action=expand exact=yes", True, True, False),
    "add": ("action=add exact=yes", True, True, False), "remove": ("action=remove exact=yes", True, True, False),
    "background": ("action=background exact=yes", True, False, True), "whole": ("action=generate", False, True, True),
    "outpaint": ("action=outpaint left=16 bottom=24", False, None, None)}


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
    document.waitForDone()
    return document, node


def select(document):
    selection = Selection()
    selection.select(*SELECT, 255)
    document.setSelection(selection)
    document.waitForDone()


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
    text, selected, inside_wanted, outside_wanted = JOBS[job]
    document, node = prepare(name)
    problems = []
    try:
        if selected:
            select(document)
        before = pixels(document)
        layer, _task = run(document, node, FAST + text)
        after = pixels(document)
        if layer.name() != "a red fox (7)":
            problems.append(f"the layer is called {layer.name()}")
        siblings = [n.name() for n in layer.parentNode().childNodes() if n.type() != "selectionmask"]
        if siblings[-1] != layer.name() or (name == "group") != (layer.parentNode().name() == "g"):
            problems.append(f"it lies among {siblings} in {layer.parentNode().name()}")
        if (layer.colorModel(), layer.colorDepth()) != (document.colorModel(), document.colorDepth()):
            problems.append(f"the layer is {layer.colorModel()} {layer.colorDepth()}")
        from sdd.host import parameters_of
        if b'"prompt":"a red fox"' not in parameters_of(document, layer):
            problems.append(f"its parameters are {parameters_of(document, layer)[:100]}")
        if job == "outpaint":
            if (document.width(), document.height()) != (96 + 16, 80 + 24):
                problems.append(f"the canvas is {document.width()} x {document.height()}")
        else:
            inside, outside = changes(before, after, document)
            if bool(inside) != inside_wanted or bool(outside) != outside_wanted:
                problems.append(f"{inside} pixels changed inside, {outside} outside")
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
                if name == "u8" or job in ("fill", "whole", "outpaint"):
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
