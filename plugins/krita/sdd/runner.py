"""What waits for the daemon without blocking Krita: descriptors of the common library in Qt's main loop."""
import select

from PyQt5.QtCore import QSocketNotifier

from .library import COUNTED, Task, lib


class Runner:
    """A task and its notifiers; ends by itself. ended() is called when it has."""

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


class Counter:
    """Tokens while somebody types; show(prompt's line, negative prompt's line)."""

    def __init__(self, show):
        self.function = COUNTED(lambda _watcher, prompt, negative: show(prompt.decode(), negative.decode()))
        self.pointer, self.notifier = lib.sdh_counter_new(None, self.function, None), None

    def __del__(self):
        lib.sdh_counter_free(self.pointer)

    def ask(self, settings):
        lib.sdh_counter_ask(self.pointer, settings.pointer)
        fd = lib.sdh_counter_fd(self.pointer)
        if fd >= 0 and not self.notifier:
            self.notifier = QSocketNotifier(fd, QSocketNotifier.Read)
            self.notifier.activated.connect(self.wake)

    def wake(self, *_arguments):
        if self.notifier and lib.sdh_counter_dispatch(self.pointer):
            self.notifier.setEnabled(False)
            self.notifier = None
