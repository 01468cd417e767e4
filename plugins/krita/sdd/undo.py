"""Several changes of a document as one undo step.

Krita's Python interface (5.1 and 5.2) has none: resizing, scaling and adding a node each push a command of their own, actions
bring theirs, and of the undo stack Qt's meta-object knows undo and redo only. But the macros with which Krita's own tools do
it, KUndo2QStack's beginMacro and endMacro, are exported by its libraries, and so is the way there. They are called where they
are found under the names that g++ and clang give them on x86-64; elsewhere such a change remains two steps.
"""
import contextlib
import ctypes as c
import platform
import re

from PyQt5 import sip


def _library(name):
    """The loaded library of this name; OSError when there is none."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        found = re.search(rf"(/\S*/{re.escape(name)}\.so[.0-9]*)$", maps.read(), re.M)
    if not found:
        raise OSError(f"{name} is not loaded")
    return c.CDLL(found.group(1))


def _function(library, symbol, result, *arguments):
    function = getattr(library, symbol)
    function.restype, function.argtypes = result, arguments
    return function


class _Macros:
    """The symbols; making it raises OSError or AttributeError where one is missing."""

    def __init__(self):
        if platform.machine() != "x86_64":
            raise OSError("how a C++ object is returned was tried on x86-64 alone")
        pointer = c.c_void_p
        command, qt = _library("libkritacommand"), _library("libQt5Core")
        self.document = _function(_library("libkritalibkis"), "_ZNK8Document8documentEv", pointer, pointer, pointer)
        self.stack = _function(_library("libkritaui"), "_ZN11KisDocument9undoStackEv", pointer, pointer)
        self.begin = _function(command, "_ZN12KUndo2QStack10beginMacroERK17KUndo2MagicString", None, pointer, pointer)
        self.end = _function(command, "_ZN12KUndo2QStack8endMacroEv", None, pointer)
        self.new_string = _function(qt, "_ZN7QStringC1EPK5QChari", None, pointer, c.c_char_p, c.c_int)
        self.new_title = _function(command, "_ZN17KUndo2MagicStringC1ERK7QString", None, pointer, pointer)

    def stack_of(self, document):
        """KUndo2QStack of a document of Python's, 0 when it was closed."""
        weak = (c.c_void_p * 2)()  # a QPointer: its block of counters and the KisDocument
        self.document(c.addressof(weak), sip.unwrapinstance(document))
        return self.stack(weak[1]) if weak[1] else 0

    def begin_macro(self, stack, title):
        text, string, magic = title.encode("utf-16-le"), (c.c_void_p * 1)(), (c.c_void_p * 4)()
        self.new_string(c.addressof(string), text, len(text) // 2)
        self.new_title(c.addressof(magic), c.addressof(string))
        self.begin(stack, c.addressof(magic))


try:
    MACROS = _Macros()
except (OSError, AttributeError):
    MACROS = None


@contextlib.contextmanager
def one_step(document, title):
    """What happens to the document inside is undone together."""
    document.waitForDone()
    stack = MACROS and MACROS.stack_of(document)
    if not stack:
        yield
        return
    MACROS.begin_macro(stack, title)
    try:
        yield
    finally:
        document.waitForDone()  # commands come from Krita's own threads
        MACROS.end(stack)
