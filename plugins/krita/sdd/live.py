"""Live painting: whenever the current layer changes, the canvas is refined again and the result shown in a preview layer.

Latest wins: a change while a job runs cancels it. The seed stays, so that the picture follows the brush and not the dice.
"""
import zlib

from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QCheckBox

from .host import DocumentHost, active_document, find_node, is_open
from .library import CANCELLED, NOT_FOUND, Failure, Settings, _
from .runner import Runner

LOOK_MS = 250
WATCHED_PIXELS = 4 << 20  # a larger canvas is watched through a thumbnail
STRENGTH = "0.50"
NAME = "sdd live"


class LiveHost(DocumentHost):
    """Shows results in one layer that it keeps, and that the engine never sees."""

    def __init__(self, document, node, preview, watcher):
        super().__init__(document, node, repeated=preview, watcher=watcher)

    def add_results(self, results, error):
        if not is_open(self.document):
            return error[0].fill(NOT_FOUND, _("The image was closed."))
        layer, preview = results[0].layers[0], self.repeated
        fresh = self.new_layer(layer, 0, 0)
        width, height = self.document.width(), self.document.height()
        if preview is None or find_node(self.document, preview.uniqueId()) is None:
            fresh.setName(NAME)
            self.document.rootNode().addChildNode(fresh, None)
            self.result = fresh
        else:
            preview.setPixelData(fresh.pixelData(0, 0, width, height), 0, 0, width, height)
            self.result = preview
        self.document.refreshProjection()
        return 0


class Live:
    def __init__(self, docker):
        self.docker, self.runner, self.seen, self.preview, self.dirty = docker, None, None, None, False
        self.painted = None
        self.n_results = 0
        self.box = QCheckBox(_("Paint li_ve").replace("_", "&"))
        self.box.setObjectName("sdd_live")
        self.timer = QTimer()
        self.timer.timeout.connect(self.look)
        self.box.toggled.connect(self.toggle)

    def toggle(self, on):
        self.seen = None
        if on:
            self.timer.start(LOOK_MS)
            return
        self.timer.stop()
        if self.runner:
            self.runner.stop()
        self.runner = None

    def _state(self, document, node):
        width, height = document.width(), document.height()
        if width * height <= WATCHED_PIXELS:
            return zlib.crc32(bytes(node.pixelData(0, 0, width, height)))
        image = node.thumbnail(512, 512)
        return zlib.crc32(image.bits().asstring(image.byteCount()))

    def look(self):
        document = active_document()
        node = document and document.activeNode()
        if node and self.preview and node.uniqueId() == self.preview.uniqueId():
            # Krita makes a new layer the current one: back to the one that is painted on
            node = self.painted and find_node(document, self.painted.uniqueId())
            if node:
                document.setActiveNode(node)
        if node is None:
            return
        self.painted = node
        state = (document.fileName(), node.uniqueId().toString(), self._state(document, node))
        if state == self.seen:
            return
        self.seen = state
        if self.runner:
            self.dirty = True  # begin again as soon as the cancelled job has ended
            self.runner.cancel()
        else:
            self.begin(document, node)

    def begin(self, document, node):
        settings = Settings()
        try:
            self.docker.form.read_settings(settings)
            if float(settings["strength"]) >= 1:  # would leave nothing of what is painted
                settings["strength"] = STRENGTH
            for name, value in (("action", "refine"), ("count", "1"), ("seed", settings["seed"] or "1")):
                settings[name] = value
            self.dirty = False
            self.host = LiveHost(document, node, self.preview, self)
            self.runner = Runner(self.host, settings, self._ended)
        except Failure as failure:
            self.docker.say(str(failure), failure.code)
            self.box.setChecked(False)

    def _ended(self):
        self.runner = None
        if self.host.result:
            self.preview = self.host.result
            self.n_results += 1
        if self.dirty:
            self.seen = None

    def on_progress(self, fraction, text):
        self.docker.on_progress(fraction, text)

    def on_preview(self, image):
        self.docker.on_preview(image)

    def on_done(self, error):
        if error and error.code != CANCELLED:
            self.docker.say(error.text(), error.code)
            self.box.setChecked(False)
