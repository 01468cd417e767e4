"""The docker: fields, Generate and Cancel, progress and preview, results to choose from. Nothing blocks: the sockets of jobs and
counts wake Qt's main loop."""
from krita import DockWidget
from PyQt5.QtCore import QEvent, QObject, Qt, QTimer
from PyQt5.QtGui import QImage, QPixmap
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from .choice import Choice
from .form import Form
from .host import DocumentHost, active_document, parameters_of
from .library import CONNECT, RETRIES, Error, Failure, Settings, _, c, lib, listed, must
from .live import Live
from .runner import Counter, Runner

PREVIEW_SIDE = 192
DOCKERS = []  # all of this Krita, one a window


class GoKey(QObject):
    """Ctrl+Return in any of the widgets inside paints, whatever else Krita may do with these keys."""

    def __init__(self, inside, generate):
        super().__init__(inside)
        self.generate = generate
        for widget in inside.findChildren(QWidget):
            widget.installEventFilter(self)

    def eventFilter(self, _widget, event):  # pylint: disable=invalid-name
        if event.type() not in (QEvent.ShortcutOverride, QEvent.KeyPress) or event.key() not in (Qt.Key_Return, Qt.Key_Enter) or \
                not event.modifiers() & Qt.ControlModifier:
            return False
        event.accept()  # of a shortcut: it comes again as a plain key
        if event.type() == QEvent.KeyPress:
            self.generate()
        return True


class Docker(DockWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle("sdd")
        self.settings, self.runner, self.last, self.timings = Settings(), None, None, {}
        self.settings.recall()
        self.form = Form()
        self.bar, self.message, self.preview = QProgressBar(), QLabel(""), QLabel("")
        self.message.setWordWrap(True)
        self.message.setObjectName("sdd_message")
        self.message.setTextInteractionFlags(Qt.TextSelectableByMouse)
        self.bar.setTextVisible(True)
        self.preview.setObjectName("sdd_preview")
        self.preview.setAlignment(Qt.AlignCenter)
        self.generate_button = self._button(_("_Generate"), "sdd_generate_button", self.generate)
        self.cancel_button = self._button(_("Cance_l"), "sdd_cancel_button", self.cancel)
        self.retry_button = self._button(_("Try aga_in"), "sdd_retry_button", self.retry)
        self.start_button = self._button(_("Sta_rt sdd"), "sdd_start_button", self.start_daemon)
        self.retry_button.hide()
        self.start_button.hide()
        self.choice = Choice(self.preview.setPixmap, self.say)
        self.live = Live(self)
        self.counter = Counter(self.form.show_tokens)
        self._build()
        self.form.show_settings(self.settings)
        self.form.typed.connect(self.count)
        self.form.looked.connect(self.ask_daemon)
        self.cancel_button.setEnabled(False)
        self.ask_daemon()
        self.count()
        DOCKERS.append(self)
        self.destroyed.connect(lambda *_a: DOCKERS.remove(self) if self in DOCKERS else None)

    @staticmethod
    def _button(label, name, function):
        button = QPushButton(label.replace("_", "&"))
        button.setObjectName(name)
        button.clicked.connect(lambda *_a: function())
        return button

    def _build(self):
        inside = QWidget()
        layout, buttons = QVBoxLayout(inside), QHBoxLayout()
        for button in (self.start_button, self.retry_button, self.cancel_button, self.generate_button):
            buttons.addWidget(button)
        layout.addWidget(self.form)
        layout.addWidget(self.live.box)
        layout.addLayout(buttons)
        for widget in (self.bar, self.message, self.preview, self.choice):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.go_key = GoKey(inside, self.generate)
        self.area = QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.area.setWidget(inside)
        self.area.setMinimumWidth(inside.minimumSizeHint().width() + self.area.verticalScrollBar().sizeHint().width())
        self.setWidget(self.area)

    def offer(self, results):
        """Several results: to choose from, and in sight."""
        self.choice.add(results)
        QTimer.singleShot(0, lambda: self.area.ensureWidgetVisible(self.choice, 0))

    def canvasChanged(self, canvas):  # pylint: disable=invalid-name
        """Krita requires it; a running job stays with the document it began in."""
        self.form.sides_preview.update()

    def say(self, text, code=0):
        self.message.setText(text)
        self.start_button.setVisible(code == CONNECT)
        self.retry_button.setVisible(code in RETRIES and self.last is not None)

    def ask_daemon(self):
        """What models there are and how they stand."""
        offer, error = c.c_void_p(), Error()
        if lib.sdh_offer_new(None, offer, error) < 0:
            self.say(error.text(), error.code)
            return False
        names = listed(lib.sdh_offer_model, offer)
        self.form.show_models([(name, lib.sdh_offer_model_note(offer, i).decode()) for i, name in enumerate(names)])
        self.form.engine.setText(lib.sdh_offer_engine(offer).decode())
        lib.sdh_offer_free(offer)
        return True

    def start_daemon(self):
        error = Error()
        try:
            must(lib.sdh_service_start(error), error)
        except Failure as failure:
            self.say(str(failure), failure.code)
            return
        if self.ask_daemon():
            self.say("")
            self.count()
            if self.last:
                self.retry()

    def count(self):
        settings = Settings()
        try:
            self.form.read_settings(settings, ("prompt", "negative", "style", "model"))
            self.counter.ask(settings)
        except Failure as failure:
            self.form.show_tokens(str(failure), "")

    def generate(self):
        if self.runner:
            return
        try:
            self.form.draw_seed()
            self.form.read_settings(self.settings)
            self.settings.remember()
            self.begin(self.settings)
        except Failure as failure:
            self.say(str(failure), failure.code)

    def begin(self, settings, repeated=None, document=None):
        """Raises Failure; then, as after a job that failed, retry() does the same once more."""
        document = document or active_document()
        if document is None:
            self.say(_("Open or make an image first."))
            return
        self.last = (settings.copy(), repeated, document)
        self.say("")
        self.runner = Runner(DocumentHost(document, repeated=repeated, watcher=self, choose=self.offer), settings, self._ended)
        self.generate_button.setEnabled(False)
        self.cancel_button.setEnabled(True)

    def retry(self):
        """The last job once more, with its own settings and seed, in its own document."""
        if self.runner or not self.last:
            return
        try:
            self.begin(*self.last)
        except Failure as failure:
            self.say(str(failure), failure.code)

    def repeat(self, vary):
        """Make the current layer again: from its stored parameters."""
        document = active_document()
        node = document and document.activeNode()
        stored = parameters_of(document, node) if node else b""
        if not stored:
            self.say(_("This layer was not made by sdd: it stores no parameters."))
            return
        settings = Settings()
        try:
            settings.from_json(stored)
            if vary:
                settings["seed"] = ""
            if not self.runner:
                self.begin(settings, node)
        except Failure as failure:
            self.say(str(failure), failure.code)

    def cancel(self):
        if self.runner:
            self.runner.cancel()

    def focus(self):
        """For the action: from anywhere to the prompt."""
        self.setVisible(True)
        self.raise_()
        self.form.fields["prompt"].setFocus(Qt.ShortcutFocusReason)

    def _ended(self):
        self.runner = None
        self.generate_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.bar.setRange(0, 1000)
        self.bar.reset()

    def on_progress(self, fraction, text):
        self.bar.setRange(0, 0 if fraction < 0 else 1000)
        self.bar.setFormat(text)
        if fraction >= 0:
            self.bar.setValue(int(fraction * 1000))
        self.message.setText("" if fraction >= 0 else text)

    def on_preview(self, image):
        if image.channels == 3:
            data = bytes(image.packed())
            picture = QImage(data, image.width, image.height, image.width * 3, QImage.Format_RGB888)
            self.preview.setPixmap(QPixmap.fromImage(picture).scaled(PREVIEW_SIDE, PREVIEW_SIDE, Qt.KeepAspectRatio,
                                                                     Qt.SmoothTransformation))

    def on_done(self, error):
        if error:
            self.say(error.text(), error.code)
            return
        timings, warnings = self.runner.task.timings(), self.runner.task.warnings()
        self.timings = timings  # the tests print how they divide
        self.last = None
        self.ask_daemon()  # a model may have come into memory
        self.say(warnings or _("Done in %.1f s (%.1f s computing).") % (timings["total_ms"] / 1e3, timings["compute_ms"] / 1e3))
