"""Results to choose from: small pictures of each in its surroundings. Nothing of them is in the document, and no undo step was
made, until one is kept."""
from PyQt5.QtCore import QRect, QSize, Qt
from PyQt5.QtGui import QIcon, QPainter, QPixmap
from PyQt5.QtWidgets import QGridLayout, QListView, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from .library import Failure, _

SMALL, LARGE = 80, 224
WAITING_MAX = 32  # pictures; the oldest go


def in_surroundings(results, i, side):
    """The i-th of the results over what lies around it, as a QPixmap of at most this side."""
    node = results.nodes[i]
    bounds = node.bounds()
    margin = max(bounds.width(), bounds.height()) // 8
    area = bounds.adjusted(-margin, -margin, margin, margin).intersected(results.area())
    scale = side / max(area.width(), area.height(), 1)
    size = QSize(max(1, round(area.width() * scale)), max(1, round(area.height() * scale)))
    pixmap = QPixmap(size)
    pixmap.fill(Qt.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.SmoothPixmapTransform)
    painter.drawImage(QRect(0, 0, size.width(), size.height()), results.surroundings(area))
    place = QRect(round((bounds.x() - area.x()) * scale), round((bounds.y() - area.y()) * scale),
                  max(1, round(bounds.width() * scale)), max(1, round(bounds.height() * scale)))
    painter.drawImage(place, node.thumbnail(place.width(), place.height()))
    painter.end()
    return pixmap


class Choice(QWidget):
    """show(pixmap) displays the chosen one larger; say(text) tells what went wrong."""

    def __init__(self, show, say):
        super().__init__()
        self.show_large, self.say = show, say
        self.list = QListWidget()
        self.list.setObjectName("sdd_choice")
        self.list.setAccessibleName(_("Results to choose from"))
        self.list.setViewMode(QListView.IconMode)
        self.list.setMovement(QListView.Static)
        self.list.setResizeMode(QListView.Adjust)
        self.list.setIconSize(QSize(SMALL, SMALL))
        self.list.setMinimumHeight(SMALL + 40)
        self.list.currentItemChanged.connect(lambda item, _before: self._look(item))
        self.list.itemActivated.connect(lambda _item: self.keep())
        buttons = QGridLayout()  # two rows: dockers are narrow
        for label, name, function, place in ((_("_Keep this one"), "sdd_keep_button", self.keep, (0, 0)),
                                             (_("Drop t_hem"), "sdd_discard_button", self.clear, (0, 1)),
                                             (_("Keep all as a group (_W)"), "sdd_keep_all_button", self.keep_all, (1, 0, 1, 2))):
            button = QPushButton(label.replace("_", "&"))
            button.setObjectName(name)
            button.clicked.connect(lambda *_a, function=function: function())
            buttons.addWidget(button, *place)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        layout.addLayout(buttons)
        self.hide()

    def add(self, results):
        """The latest stand first."""
        for i in reversed(range(len(results.nodes))):
            item = QListWidgetItem(QIcon(in_surroundings(results, i, SMALL)), results.seeds[i])
            item.setToolTip(results.names[i])
            item.setData(Qt.UserRole, (results, i))
            self.list.insertItem(0, item)
        while self.list.count() > WAITING_MAX:
            self.list.takeItem(self.list.count() - 1)
        self.list.setCurrentRow(0)
        self.show()

    def _look(self, item):
        if item:
            results, i = item.data(Qt.UserRole)
            self.show_large(in_surroundings(results, i, LARGE) if results.is_open() else item.icon().pixmap(SMALL, SMALL))

    def _drop(self, results):
        for row in reversed(range(self.list.count())):
            if self.list.item(row).data(Qt.UserRole)[0] is results:
                self.list.takeItem(row)
        self.setVisible(self.list.count() > 0)

    def _keep(self, all_of_them):
        item = self.list.currentItem()
        if item is None:
            return
        results, i = item.data(Qt.UserRole)
        try:
            results.keep(range(len(results.nodes)) if all_of_them else [i])
        except Failure as failure:
            self.say(str(failure))
            return
        self._drop(results)

    def keep(self):
        """The chosen one becomes a layer; its siblings are dropped."""
        self._keep(False)

    def keep_all(self):
        """The chosen one and its siblings become a group."""
        self._keep(True)

    def clear(self):
        self.list.clear()
        self.hide()
