"""The docker's fields: a widget for each setting an artist changes. Object names are sdd_NAME, for scripts and tests."""
import random

from PyQt5.QtWidgets import (QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QLineEdit,
                             QPlainTextEdit, QPushButton, QSpinBox, QWidget)

from .library import ACTIONS, _, lib, listed


class Form(QWidget):
    """fields: {setting: widget}; choices of a combo box are its items' data, as settings store them."""

    def __init__(self):
        super().__init__()
        self.fields, self.offer = {}, None
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._row(layout, _("_Action:"), "action", self._combo([(a.name.decode(), _(a.label.decode())) for a in ACTIONS]))
        self._row(layout, _("_Prompt:"), "prompt", self._text(70))
        self._row(layout, _("_Negative:"), "negative", self._text(44))
        styles = zip(listed(lib.sdh_style_name), listed(lib.sdh_style_label))
        self._row(layout, _("St_yle:"), "style", self._combo([("", _("None")), *styles]))
        self._row(layout, _("_Model:"), "model", self._combo([("", _("The daemon's choice"))]))
        self.note = QLabel("")
        layout.addRow("", self.note)
        strength = QDoubleSpinBox()
        strength.setRange(0.01, 1.0)
        strength.setSingleStep(0.05)
        self._row(layout, _("S_trength:"), "strength", strength)
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
        layout.addRow(self.sides)
        self._more(layout)
        self.fields["action"].currentIndexChanged.connect(self._on_action)
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

    def _named(self, name, widget):
        widget.setObjectName(f"sdd_{name}")
        self.fields[name] = widget
        return widget

    def _row(self, layout, label, name, widget):
        self._label(layout, label, widget, self._named(name, widget))

    @staticmethod
    def _label(layout, label, row, buddy):
        text = QLabel(label.replace("_", "&"))
        text.setBuddy(buddy)
        layout.addRow(text, row)

    @staticmethod
    def _combo(choices):
        combo = QComboBox()
        for name, label in choices:
            combo.addItem(label, name)
        return combo

    @staticmethod
    def _text(height):
        text = QPlainTextEdit()
        text.setTabChangesFocus(True)
        text.setFixedHeight(height)
        return text

    def _on_action(self, i):
        self.sides.setVisible(ACTIONS[i].name == b"outpaint")
        self.fields["strength"].setEnabled(ACTIONS[i].uses_strength)
        if ACTIONS[i].name == b"refine" and self.fields["strength"].value() >= 1:
            self.fields["strength"].setValue(0.6)  # 1 would leave nothing to refine
        self.fields["action"].setToolTip(_(ACTIONS[i].help.decode()))

    def show_models(self, models):
        """models: [(name, note)]"""
        combo, before = self.fields["model"], self.fields["model"].currentData()
        while combo.count() > 1:
            combo.removeItem(1)
        for name, note in models:
            combo.addItem(f"{name} ({note})", name)
        combo.setCurrentIndex(max(0, combo.findData(before)))

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
                widget.setValue(type(widget.value())(float(value or (1 if name in ("strength", "count") else 0))))
        self._on_action(self.fields["action"].currentIndex())

    def read_settings(self, settings):
        for name, widget in self.fields.items():
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
