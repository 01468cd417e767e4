"""Krita's entry point: the docker and the actions. Scripts without a window import sdd.host and sdd.library alone."""
import os

from krita import DockWidgetFactory, DockWidgetFactoryBase, Extension, Krita

from .library import _


def docker_of_active_window():
    """Each window has a docker of its own."""
    from .docker import DOCKERS
    return next((d for d in DOCKERS if d.isActiveWindow()), DOCKERS[0] if DOCKERS else None)


class Actions(Extension):
    """Shortcuts are in sdd.action; people change them in Krita's settings."""

    def setup(self):
        """Krita requires it."""

    def createActions(self, window):  # pylint: disable=invalid-name
        for name, label, call in (
                ("sdd_generate", _("Generate with sdd"), lambda d: d.generate()),
                ("sdd_cancel", _("Cancel the sdd job"), lambda d: d.cancel()),
                ("sdd_focus", _("Write a prompt for sdd"), lambda d: d.focus()),
                ("sdd_retry", _("Try the sdd job again"), lambda d: d.retry()),
                ("sdd_keep", _("Keep the chosen sdd result"), lambda d: d.choice.keep()),
                ("sdd_again", _("Make this layer again with sdd"), lambda d: d.repeat(False)),
                ("sdd_vary", _("Vary this layer with sdd"), lambda d: d.repeat(True)),
                ("sdd_live", _("Paint live with sdd"), lambda d: d.live.box.toggle())):
            action = window.createAction(name, label, "tools/scripts")
            action.triggered.connect(lambda *_a, call=call: self._with_docker(call))

    @staticmethod
    def _with_docker(call):
        docker = docker_of_active_window()
        if docker:
            call(docker)


def _register():
    from .docker import Docker
    application = Krita.instance()
    application.addDockWidgetFactory(DockWidgetFactory("sdd_docker", DockWidgetFactoryBase.DockRight, Docker))
    application.addExtension(Actions(application))


if "SDD_HEADLESS" not in os.environ:
    _register()
