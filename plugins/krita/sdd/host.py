"""Krita's side of the host table (plugins/common/host.h): a document, its selection, its current layer."""
import ctypes
import traceback

from krita import Krita

from .library import (ADD, BAD_REQUEST, DESCRIBE, DONE, F16, F32, NOT_FOUND, PREVIEW, PROGRESS, READ, SYSTEM, U8, U16,
                      SAMPLE_BYTES, Host, Rect, _)

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


class DocumentHost:
    """repeated: a layer to make again, which is not seen while the canvas is read."""

    def __init__(self, document, node=None, repeated=None, watcher=None):
        self.document, self.repeated, self.watcher = document, repeated, watcher
        self.node = node or document.activeNode()
        self.result = None
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
            except Exception:  # pylint: disable=broad-except
                self.fault = traceback.format_exc()
                return arguments[-1][0].fill(SYSTEM, self.fault.strip().splitlines()[-1])
        return call

    def _is_ours(self):
        """Whether the document's pixels are already what travels."""
        return self.document.colorModel() == "RGBA" and self.document.colorProfile() in (SRGB, "sRGB built-in", "sRGB")

    def describe(self, ret, error):
        document = self.document
        if document is None or document.width() == 0:
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

    def add_results(self, results, _error):
        results, document = results[0], self.document
        canvas = results.canvas
        if (canvas.x, canvas.y, canvas.width, canvas.height) != (0, 0, document.width(), document.height()):
            document.resizeImage(canvas.x, canvas.y, canvas.width, canvas.height)
            canvas = Rect(canvas.x, canvas.y, canvas.width, canvas.height)
        layers = [results.layers[i] for i in range(results.count)]
        nodes = [self.new_layer(layer, canvas.x, canvas.y) for layer in layers]
        top = nodes[0]
        if len(nodes) > 1:
            top = document.createGroupLayer(results.name.decode())
            for node in reversed(nodes):
                top.addChildNode(node, None)
        parent = self.node.parentNode() if self.node else None
        if parent:
            parent.addChildNode(top, self.node)
        else:
            document.rootNode().addChildNode(top, None)
        for node, layer in zip(nodes, layers):
            document.setAnnotation(f"{ANNOTATION}:{node.uniqueId().toString()}", "sdd parameters", layer.parameters)
        document.refreshProjection()
        self.result = top
        return 0


def parameters_of(document, node):
    """What is stored with a layer, as bytes; b"" when sdd did not make it."""
    return bytes(document.annotation(f"{ANNOTATION}:{node.uniqueId().toString()}"))


def active_document():
    return Krita.instance().activeDocument()
