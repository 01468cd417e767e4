"""A picture of what outpainting will do: the canvas inside its larger frame."""
from PyQt5.QtCore import QRect, Qt
from PyQt5.QtGui import QPainter, QPen
from PyQt5.QtWidgets import QWidget

from .host import DocumentHost, active_document
from .library import Settings, canvas_after

SIDE = 150


class SidesPreview(QWidget):
    """values: a function that gives the form's sides as {name: text}."""

    def __init__(self, values):
        super().__init__()
        self.values = values
        self.setObjectName("sdd_sides_preview")
        self.setFixedHeight(SIDE)

    def frame(self):
        """The canvas as (x, y, width, height) in its larger frame, and the frame's size; None without a document."""
        document = active_document()
        if document is None:
            return None
        settings = Settings()
        settings["action"] = "outpaint"
        for name, value in self.values().items():
            settings[name] = value
        grown = canvas_after(DocumentHost(document), settings)
        return (-grown.x, -grown.y, document.width(), document.height()), (grown.width, grown.height)

    def paintEvent(self, _event):  # pylint: disable=invalid-name
        frame = self.frame()
        if not frame:
            return
        (x, y, width, height), whole = frame
        scale = min((self.width() - 2) / whole[0], (self.height() - 2) / whole[1])
        left = (self.width() - whole[0] * scale) / 2
        top = (self.height() - whole[1] * scale) / 2

        def place(*rect):
            return QRect(*(round(value * scale) for value in rect)).translated(round(left), round(top))
        painter = QPainter(self)
        painter.setPen(QPen(self.palette().highlight().color(), 1, Qt.DashLine))
        painter.drawRect(place(0, 0, *whole))
        inner = place(x, y, width, height)
        painter.drawImage(inner, active_document().thumbnail(max(1, inner.width()), max(1, inner.height())))
        painter.end()
