"""The docker: fields, Generate and Cancel, progress and preview. Nothing blocks: the task's socket wakes Qt's main loop."""
import select

from krita import DockWidget
from PyQt5.QtCore import QSocketNotifier, Qt
from PyQt5.QtGui import QImage, QPixmap
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QScrollArea, QVBoxLayout, QWidget

from .form import Form
from .host import DocumentHost, active_document, parameters_of
from .library import CONNECT, Error, Failure, Settings, Task, _, c, lib, listed, must
from .live import Live

PREVIEW_SIDE = 192
DOCKERS = []  # all of this Krita, one a window


class Runner:
    """A task and its notifiers; ends by itself. Only one runs at a time in a docker."""

    def __init__(self, host, settings, ended):
        self.task, self.ended = Task(host, settings), ended
        fd = lib.sdh_task_fd(self.task.pointer)
        self.reader = QSocketNotifier(fd, QSocketNotifier.Read)
        self.writer = QSocketNotifier(fd, QSocketNotifier.Write)
        self.reader.activated.connect(self.wake)
        self.writer.activated.connect(self.wake)
        self.writer.setEnabled(self._wants_to_write())

    def _wants_to_write(self):
        return bool(lib.sdh_task_events(self.task.pointer) & select.POLLOUT)

    def wake(self, *_arguments):
        if self.task.pointer is None:
            return
        self.reader.setEnabled(False)  # what a host function opens must not come back here
        if lib.sdh_task_dispatch(self.task.pointer):
            self.stop()
            self.ended()
            return
        self.reader.setEnabled(True)
        self.writer.setEnabled(self._wants_to_write())

    def cancel(self):
        if self.task.pointer:
            lib.sdh_task_cancel(self.task.pointer)

    def stop(self):
        """Hangs up, which ends the job if it still runs."""
        self.reader.setEnabled(False)
        self.writer.setEnabled(False)
        self.task.free()


class Docker(DockWidget):
    def __init__(self):
        super().__init__()
        self.setWindowTitle("sdd")
        self.settings, self.runner = Settings(), None
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
        self.start_button = self._button(_("Sta_rt sdd"), "sdd_start_button", self.start_daemon)
        self.start_button.hide()
        self.live = Live(self)
        self._build()
        self.form.show_settings(self.settings)
        self.cancel_button.setEnabled(False)
        self.ask_daemon()
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
        for button in (self.start_button, self.cancel_button, self.generate_button):
            buttons.addWidget(button)
        layout.addWidget(self.form)
        layout.addWidget(self.live.box)
        layout.addLayout(buttons)
        for widget in (self.bar, self.message, self.preview):
            layout.addWidget(widget)
        layout.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(inside)
        self.setWidget(area)

    def canvasChanged(self, canvas):  # pylint: disable=invalid-name
        """Krita requires it; a running job stays with the document it began in."""

    def say(self, text, code=0):
        self.message.setText(text)
        self.start_button.setVisible(code == CONNECT)

    def ask_daemon(self):
        offer, error = c.c_void_p(), Error()
        if lib.sdh_offer_new(None, offer, error) < 0:
            self.say(error.text(), error.code)
            return
        names = listed(lib.sdh_offer_model, offer)
        self.form.show_models([(name, lib.sdh_offer_model_note(offer, i).decode()) for i, name in enumerate(names)])
        self.say(lib.sdh_offer_engine(offer).decode())
        lib.sdh_offer_free(offer)

    def start_daemon(self):
        error = Error()
        try:
            must(lib.sdh_service_start(error), error)
            self.ask_daemon()
        except Failure as failure:
            self.say(str(failure))

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

    def begin(self, settings, repeated=None):
        document = active_document()
        if document is None:
            self.say(_("Open or make an image first."))
            return
        self.say("")
        self.runner = Runner(DocumentHost(document, repeated=repeated, watcher=self), settings, self._ended)
        self.generate_button.setEnabled(False)
        self.cancel_button.setEnabled(True)

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

    def _ended(self):
        self.runner = None
        self.generate_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.bar.reset()

    def on_progress(self, fraction, text):
        self.bar.setRange(0, 0 if fraction < 0 else 1000)
        self.bar.setFormat(text)
        if fraction >= 0:
            self.bar.setValue(int(fraction * 1000))
        else:
            self.message.setText(text)

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
        self.say(warnings or _("Done in %.1f s (%.1f s computing).") % (timings["total_ms"] / 1e3, timings["compute_ms"] / 1e3))
