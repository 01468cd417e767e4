"""The docker's fields: a widget for each setting an artist changes. Object names are sdd_NAME, for scripts and tests."""
import random

from PyQt5.QtCore import pyqtSignal
from PyQt5.QtWidgets import (QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QLineEdit,
                             QPlainTextEdit, QPushButton, QSpinBox, QWidget)

from .library import ACTIONS, _, lib, listed
from .sides import SidesPreview

SIDES = ("left", "right", "top", "bottom")
USUAL = {"strength": 1, "count": 1, "scale": 2}  # what a number is when it was never chosen
STRENGTHS = {b"refine": 0.6, b"upscale": 0.3}  # where 1 would leave nothing of the picture


def narrow(combo):
    """Dockers are narrow: the list may be wider than its button."""
    combo.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    return combo


class Models(QComboBox):
    """Says when somebody is about to look at the list."""

    looked = pyqtSignal()

    def showPopup(self):  # pylint: disable=invalid-name
        self.looked.emit()
        super().showPopup()


class Form(QWidget):
    """fields: {setting: widget}; choices of a combo box are its items' data, as settings store them. typed: what is counted as
    tokens has changed; looked: the list of models should be up to date."""

    typed = pyqtSignal()
    looked = pyqtSignal()

    def __init__(self):
        super().__init__()
        self.fields = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._row(layout, _("_Action:"), "action", self._combo([(a.name.decode(), _(a.label.decode())) for a in ACTIONS]))
        self._row(layout, _("_Prompt:"), "prompt", self._text(70))
        self.tokens = self._remark(layout, "sdd_tokens")
        self._row(layout, _("_Negative:"), "negative", self._text(44))
        self.negative_tokens = self._remark(layout, "sdd_negative_tokens")
        styles = zip(listed(lib.sdh_style_name), listed(lib.sdh_style_label))
        self._row(layout, _("St_yle:"), "style", self._combo([("", _("None")), *styles]))
        models = narrow(Models())
        models.addItem(_("The daemon's choice"), "")
        models.looked.connect(self.looked)
        self._row(layout, _("_Model:"), "model", models)
        self.engine = self._remark(layout, "sdd_engine")
        strength = QDoubleSpinBox()
        strength.setRange(0.01, 1.0)
        strength.setSingleStep(0.05)
        self._row(layout, _("S_trength:"), "strength", strength)
        scale = QDoubleSpinBox()
        scale.setRange(1.0, 4.0)
        scale.setSingleStep(0.5)
        self.scale_label = self._row(layout, _("S_cale:"), "scale", scale)
        row = QHBoxLayout()
        self.dice = QPushButton(_("_Dice").replace("_", "&"))
        self.dice.clicked.connect(lambda: self.draw_seed(True))
        for name, widget in (("seed", QLineEdit()), (None, self.dice), ("lock-seed", QCheckBox(_("_Lock").replace("_", "&")))):
            row.addWidget(self._named(name, widget) if name else widget)
        self._label(layout, _("S_eed:"), row, self.fields["seed"])
        count = QSpinBox()
        count.setRange(1, 16)
        self._row(layout, _("Pict_ures:"), "count", count)
        self.sides = QGroupBox(_("Outpaint"))
        sides = QFormLayout(self.sides)
        for label, name in ((_("Left (_8):"), "left"), (_("Right (_9):"), "right"), (_("Top (_0):"), "top"),
                            (_("_Bottom:"), "bottom")):
            spin = QSpinBox()
            spin.setRange(0, 4096)
            spin.setSingleStep(128)
            self._row(sides, label, name, spin)
            spin.valueChanged.connect(lambda _value: self.sides_preview.update())
        self.sides_preview = SidesPreview(lambda: {name: str(self.fields[name].value()) for name in SIDES})
        sides.addRow(self.sides_preview)
        layout.addRow(self.sides)
        self._more(layout)
        self.fields["action"].currentIndexChanged.connect(self._on_action)
        for name in ("prompt", "negative"):
            self.fields[name].textChanged.connect(self.typed)
        for name in ("style", "model"):
            self.fields[name].currentIndexChanged.connect(lambda _i: self.typed.emit())
        self._on_action(0)

    def _more(self, layout):
        box = QGroupBox(_("M_ore").replace("_", "&"))
        box.setCheckable(True)
        inner = QWidget()
        more = QFormLayout(inner)
        for label, name in ((_("Steps (_1):"), "steps"), (_("Guidance (_2):"), "guidance")):
            self._row(more, label, name, QLineEdit())
            self.fields[name].setPlaceholderText(_("Empty: the model's own."))
        self._row(more, _("Sampler (_3):"), "sampler",
                  self._combo([("", _("The model's choice")), *((s, s) for s in listed(lib.sdh_sampler_name))]))
        more.addRow(self._named("exact", QCheckBox(_("E_xact selection: nothing else changes").replace("_", "&"))))
        for label, name, hint in ((_("Grow (_4):"), "grow", _("Pixels; empty: 4.")),
                                  (_("Feather (_5):"), "feather", _("A part of the selection's diagonal; empty: 0.1.")),
                                  (_("Padding (_6):"), "padding", _("A part of the selection's diagonal; empty: 0.06."))):
            self._row(more, label, name, QLineEdit())
            self.fields[name].setToolTip(hint)
        self._row(more, _("Context (_7):"), "context", self._combo([
            ("auto", _("Automatic")), ("selection", _("The selection")), ("image", _("The whole image")),
            ("layer", _("The current layer"))]))
        outer = QFormLayout(box)
        outer.addRow(inner)
        box.toggled.connect(inner.setVisible)
        box.setChecked(False)
        layout.addRow(box)

    @staticmethod
    def _remark(layout, name):
        """A line of small print below a field."""
        label = QLabel("")
        label.setObjectName(name)
        label.setWordWrap(True)
        label.setEnabled(False)
        layout.addRow("", label)
        return label

    def show_tokens(self, prompt, negative):
        self.tokens.setText(prompt)
        self.negative_tokens.setText(negative)

    def _named(self, name, widget):
        widget.setObjectName(f"sdd_{name}")
        self.fields[name] = widget
        return widget

    def _row(self, layout, label, name, widget):
        return self._label(layout, label, widget, self._named(name, widget))

    @staticmethod
    def _label(layout, label, row, buddy):
        text = QLabel(label.replace("_", "&"))
        text.setBuddy(buddy)
        layout.addRow(text, row)
        return text

    @staticmethod
    def _combo(choices):
        combo = narrow(QComboBox())
        for name, label in choices:
            combo.addItem(label, name)
        return combo

    def _on_action(self, i):
        self.sides.setVisible(ACTIONS[i].name == b"outpaint")
        self.fields["strength"].setEnabled(ACTIONS[i].uses_strength)
        usual = STRENGTHS.get(ACTIONS[i].name)
        if usual and self.fields["strength"].value() >= 1:
            self.fields["strength"].setValue(usual)
        self.scale_label.setVisible(ACTIONS[i].name == b"upscale")
        self.fields["scale"].setVisible(ACTIONS[i].name == b"upscale")
        self.fields["action"].setToolTip(_(ACTIONS[i].help.decode()))

    @staticmethod
    def _text(height):
        text = QPlainTextEdit()
        text.setTabChangesFocus(True)
        text.setFixedHeight(height)
        return text

    def show_models(self, models):
        """models: [(name, note)]"""
        combo, before = self.fields["model"], self.fields["model"].currentData()
        combo.blockSignals(True)
        while combo.count() > 1:
            combo.removeItem(1)
        for name, note in models:
            combo.addItem(f"{name} ({note})", name)
        combo.setCurrentIndex(max(0, combo.findData(before)))
        combo.blockSignals(False)

    def show_settings(self, settings):
        for name, widget in self.fields.items():
            value = settings[name]
            if isinstance(widget, QComboBox):
                widget.setCurrentIndex(max(0, widget.findData(value)))
            elif isinstance(widget, QPlainTextEdit):
                widget.setPlainText(value)
            elif isinstance(widget, QCheckBox):
                widget.setChecked(value in ("yes", "true"))
            elif isinstance(widget, QLineEdit):
                widget.setText(value)
            else:
                widget.setValue(type(widget.value())(float(value or USUAL.get(name, 0))))
        self._on_action(self.fields["action"].currentIndex())

    def read_settings(self, settings, names=None):
        for name in names or self.fields:
            widget = self.fields[name]
            if isinstance(widget, QComboBox):
                value = widget.currentData()
            elif isinstance(widget, QPlainTextEdit):
                value = widget.toPlainText().strip()
            elif isinstance(widget, QCheckBox):
                value = "yes" if widget.isChecked() else ""
            elif isinstance(widget, QLineEdit):
                value = widget.text().strip()
            else:
                value = f"{widget.value():.2f}" if isinstance(widget, QDoubleSpinBox) else str(widget.value())
            settings[name] = value

    def draw_seed(self, also_locked=False):
        if also_locked or not self.fields["lock-seed"].isChecked():
            self.fields["seed"].setText(str(random.getrandbits(31)))
