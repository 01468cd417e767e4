"""Krita's side of the host table (plugins/common/host.h): a document, its selection, its current layer."""
import contextlib
import ctypes
import traceback

from krita import Krita
from PyQt5.QtCore import QRect

from .library import (ADD, BAD_REQUEST, DESCRIBE, DONE, F16, F32, NOT_FOUND, PREVIEW, PROGRESS, READ, SYSTEM, U8, U16,
                      SAMPLE_BYTES, Failure, Host, Rect, _, failure_of)
from .undo import one_step

TYPES = {"U8": U8, "U16": U16, "F16": F16, "F32": F32}
DEPTHS = {kind: depth for depth, kind in TYPES.items()}
SRGB = "sRGB-elle-V2-srgbtrc.icc"
ANNOTATION = "sdd-parameters"


def swap_red_and_blue(pixels, kind):
    """In place: Krita keeps integers as BGRA, floats as RGBA."""
    size = SAMPLE_BYTES[kind]
    for i in range(0 if kind in (F16, F32) else size):
        first, third = bytes(pixels[i::4 * size]), bytes(pixels[2 * size + i::4 * size])
        pixels[i::4 * size], pixels[2 * size + i::4 * size] = third, first
    return pixels


def find_node(document, unique_id):
    """A document's node by its id, None when it is gone. (Krita 5.1's own nodeByUniqueID gives an object that is no Node.)"""
    nodes = [document.rootNode()]
    while nodes:
        node = nodes.pop()
        if node.uniqueId() == unique_id:
            return node
        nodes += node.childNodes()
    return None


def is_open(document):
    return any(document == other for other in Krita.instance().documents())


class DocumentHost:
    """repeated: a layer to make again, which is not seen while the canvas is read. choose: a function that is given several
    results as Pictures; without one they become a group."""

    def __init__(self, document, node=None, repeated=None, watcher=None, choose=None):
        self.document, self.repeated, self.watcher, self.choose = document, repeated, watcher, choose
        self.node = node or document.activeNode()
        self.result = self.results = None
        self.fault = None

    def table(self):
        """The structure of C functions; it must be kept as long as it is used."""
        host = Host()
        host.describe = DESCRIBE(self._guard(self.describe))
        host.read_canvas = READ(self._guard(self.read_canvas))
        host.read_selection = READ(self._guard(self.read_selection))
        host.add_results = ADD(self._guard(self.add_results))
        if self.watcher:
            host.progress = PROGRESS(lambda _u, fraction, text: self.watcher.on_progress(fraction, text.decode()))
            host.preview = PREVIEW(lambda _u, image: self.watcher.on_preview(image[0]))
            host.done = DONE(lambda _u, error: self.watcher.on_done(error[0] if error else None))
        return host

    def _guard(self, function):
        """An exception must not be lost in C: it becomes the task's error."""
        def call(_userdata, *arguments):
            try:
                return function(*arguments)
            except Failure as failure:
                return arguments[-1][0].fill(failure.code, str(failure))
            except Exception:  # pylint: disable=broad-except
                self.fault = traceback.format_exc()
                return arguments[-1][0].fill(SYSTEM, self.fault.strip().splitlines()[-1])
        return call

    def _is_ours(self):
        """Whether the document's pixels are already what travels."""
        return self.document.colorModel() == "RGBA" and self.document.colorProfile() in (SRGB, "sRGB built-in", "sRGB")

    def describe(self, ret, error):
        document = self.document
        if document is None or not is_open(document):
            return error[0].fill(NOT_FOUND, _("The image was closed."))
        kind = TYPES.get(document.colorDepth())
        if kind is None:
            return error[0].fill(BAD_REQUEST, _("The image's depth is not known."))
        out = ret[0]
        out.width, out.height = document.width(), document.height()
        out.type = kind if self._is_ours() or kind in (F16, F32) else F32
        out.mask_type = U8
        selection = document.selection()
        if selection and selection.width() > 0:
            out.selection = Rect(selection.x(), selection.y(), selection.width(), selection.height())
        if self.node:
            out.layer = self._bounds(self.node)
        return 0

    @staticmethod
    def _bounds(node):
        bounds = node.bounds()
        return Rect(bounds.x(), bounds.y(), bounds.width(), bounds.height())

    def read_canvas(self, area, kind, pixels, error):
        document, copy = self.document, None
        if self.repeated or not self._is_ours() or TYPES[document.colorDepth()] != kind:
            copy = document.clone()
            copy.setBatchmode(True)
            if self.repeated:
                hidden = find_node(copy, self.repeated.uniqueId())
                if hidden:
                    hidden.setVisible(False)
            copy.setColorSpace("RGBA", DEPTHS[kind], SRGB)
            copy.refreshProjection()
            copy.waitForDone()
            document = copy
        data = bytearray(bytes(document.pixelData(area.x, area.y, area.width, area.height)))
        if copy:
            copy.close()
        if len(data) != area.width * area.height * 4 * SAMPLE_BYTES[kind]:
            return error[0].fill(SYSTEM, _("The image cannot be read."))
        swap_red_and_blue(data, kind)
        ctypes.memmove(pixels, bytes(data), len(data))
        return 0

    def read_selection(self, area, _kind, pixels, _error):
        data = bytes(self.document.selection().pixelData(area.x, area.y, area.width, area.height))
        ctypes.memmove(pixels, data, area.width * area.height)
        return 0

    def new_layer(self, layer, dx, dy):
        """A layer not yet in the document, with its pixels in the document's space."""
        document, kind = self.document, layer.image.type
        node = document.createNode(layer.name.decode(), "paintlayer")
        direct = self._is_ours() and TYPES[document.colorDepth()] == kind
        if not direct:
            node.setColorSpace("RGBA", DEPTHS[kind], SRGB)
        data = swap_red_and_blue(layer.image.packed(), kind)
        node.setPixelData(bytes(data), layer.x - dx, layer.y - dy, layer.image.width, layer.image.height)
        if not direct:
            node.setColorSpace(document.colorModel(), document.colorDepth(), document.colorProfile())
        node.setVisible(bool(layer.visible))
        return node

    def add_results(self, results, error):
        if not is_open(self.document):
            return error[0].fill(NOT_FOUND, _("The image was closed."))
        self.results = Pictures(self, results[0])
        if self.choose and len(self.results.nodes) > 1:
            self.choose(self.results)
        else:
            self.results.keep(range(len(self.results.nodes)))
        return 0


class Pictures:
    """A job's results as layers that are in no document yet."""

    def __init__(self, host, results):
        layers = [results.layers[i] for i in range(results.count)]
        self.host, self.document, self.group = host, host.document, results.name.decode()
        self.before = (self.document.width(), self.document.height())
        self.canvas = Rect(results.canvas.x, results.canvas.y, results.canvas.width, results.canvas.height)
        self.scaled = (results.scaled_width, results.scaled_height) if results.scaled_width else None
        self.names = [layer.name.decode() for layer in layers]
        self.seeds = [name[name.rfind("(") + 1:-1] for name in self.names]
        self.parameters = [bytes(layer.parameters) for layer in layers]
        self.nodes = [host.new_layer(layer, self.canvas.x, self.canvas.y) for layer in layers]

    def is_open(self):
        return is_open(self.document)

    def area(self):
        """The canvas to come, in its own coordinates, which are those of the nodes."""
        return QRect(0, 0, *self.after())

    def after(self):
        """Width and height of the canvas to come."""
        return self.scaled or (self.canvas.width, self.canvas.height)

    def surroundings(self, area):
        """What is visible there now, as a QImage."""
        if self.scaled:
            return self.document.thumbnail(area.width(), area.height())
        return self.document.projection(area.x() + self.canvas.x, area.y() + self.canvas.y, area.width(), area.height())

    def _grow(self):
        document, canvas = self.document, self.canvas
        if (document.width(), document.height()) != self.before:
            raise failure_of(BAD_REQUEST, _("The canvas has another size than when this was painted."))
        if self.scaled:
            # in Krita's terms the picture keeps its size on paper
            by = self.scaled[0] / self.before[0]
            document.scaleImage(*self.scaled, round(document.xRes() * by), round(document.yRes() * by), "Bicubic")
        else:
            document.resizeImage(canvas.x, canvas.y, canvas.width, canvas.height)
        document.waitForDone()

    def keep(self, chosen):
        """Add those of these numbers above the layer that was the current one, several as a group, in one undo step."""
        if not self.is_open():
            raise failure_of(NOT_FOUND, _("The image was closed."))
        document, nodes = self.document, [self.nodes[i] for i in chosen]
        grows = self.after() != (document.width(), document.height())
        with one_step(document, self.group) if grows else contextlib.nullcontext():
            if grows:
                self._grow()
            self._attach(nodes)
        for i in chosen:
            document.setAnnotation(f"{ANNOTATION}:{self.nodes[i].uniqueId().toString()}", "sdd parameters", self.parameters[i])
        document.refreshProjection()

    def _attach(self, nodes):
        document, above = self.document, self.host.node
        top = nodes[0]
        if len(nodes) == 1:
            top.setVisible(True)
        else:
            top = document.createGroupLayer(self.group)
            for node in reversed(nodes):
                top.addChildNode(node, None)
        if above and find_node(document, above.uniqueId()) is None:
            above = None  # deleted meanwhile
        (above.parentNode() if above else document.rootNode()).addChildNode(top, above)
        self.host.result = top


def parameters_of(document, node):
    """What is stored with a layer, as bytes; b"" when sdd did not make it."""
    return bytes(document.annotation(f"{ANNOTATION}:{node.uniqueId().toString()}"))


def active_document():
    return Krita.instance().activeDocument()
