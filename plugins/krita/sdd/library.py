"""libsdplugin through ctypes: the plug-ins' common logic, the same that the GIMP plug-ins are linked with.

The structures mirror plugins/common/host.h and client/sdclient.h. Texts go in and out as str.
"""
import ctypes as c
import os

try:
    from .paths import LIBRARY, LOCALE
except ImportError:  # a source tree: the tests say where the library is
    LIBRARY, LOCALE = "libsdplugin.so", ""

U8, U16, F16, F32 = range(4)
CANCELLED, CONNECT, BAD_REQUEST, UNSUPPORTED, SYSTEM, NOT_FOUND = -13, -100, -2, -9, -103, -11
# what may go better the next time: busy, timeout, no_memory, worker_lost, shutting_down, connect, disconnected
RETRIES = (-10, -14, -15, -17, -18, CONNECT, -101)
SAMPLE_BYTES = {U8: 1, U16: 2, F16: 2, F32: 4}


class Error(c.Structure):
    _fields_ = [("code", c.c_int), ("retry_ms", c.c_int), ("field", c.c_char * 96), ("message", c.c_char * 512)]

    def fill(self, code, message):
        self.code, self.message = code, message.encode()[:511]
        return code

    def text(self):
        return self.message.decode(errors="replace")


class Failure(Exception):
    """What a call of the library ended with."""

    def __init__(self, error):
        super().__init__(error.text())
        self.code = error.code


class Image(c.Structure):
    _fields_ = [("width", c.c_int), ("height", c.c_int), ("channels", c.c_int), ("type", c.c_int), ("stride", c.c_size_t),
                ("data", c.c_void_p), ("icc", c.c_void_p), ("icc_size", c.c_size_t)]

    def packed(self):
        """The rows without padding, as a bytearray."""
        row = self.width * self.channels * SAMPLE_BYTES[self.type]
        stride = self.stride or row
        if stride == row:
            return bytearray(c.string_at(self.data, row * self.height))
        return bytearray(b"".join(c.string_at(self.data + y * stride, row) for y in range(self.height)))


class Rect(c.Structure):
    _fields_ = [("x", c.c_int), ("y", c.c_int), ("width", c.c_int), ("height", c.c_int)]


class Document(c.Structure):
    _fields_ = [("width", c.c_int), ("height", c.c_int), ("type", c.c_int), ("mask_type", c.c_int), ("selection", Rect),
                ("layer", Rect)]


class Layer(c.Structure):
    _fields_ = [("name", c.c_char_p), ("parameters", c.c_char_p), ("x", c.c_int), ("y", c.c_int), ("image", Image),
                ("visible", c.c_bool)]


class Results(c.Structure):
    _fields_ = [("name", c.c_char_p), ("layers", c.POINTER(Layer)), ("count", c.c_size_t), ("canvas", Rect),
                ("scaled_width", c.c_int), ("scaled_height", c.c_int)]


class Timings(c.Structure):
    _fields_ = [(name, c.c_double) for name in ("read_ms", "plan_ms", "transport_ms", "queue_ms", "compute_ms", "insert_ms",
                                                "total_ms")] + [("sent_bytes", c.c_size_t)]


DESCRIBE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Document), c.POINTER(Error))
READ = c.CFUNCTYPE(c.c_int, c.c_void_p, Rect, c.c_int, c.c_void_p, c.POINTER(Error))
ADD = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Results), c.POINTER(Error))
PROGRESS = c.CFUNCTYPE(None, c.c_void_p, c.c_double, c.c_char_p)
PREVIEW = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(Image))
DONE = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(Error))


class Host(c.Structure):
    _fields_ = [("describe", DESCRIBE), ("read_canvas", READ), ("read_selection", READ), ("add_results", ADD),
                ("userdata", c.c_void_p), ("progress", PROGRESS), ("preview", PREVIEW), ("done", DONE), ("watcher", c.c_void_p)]


COUNTED = c.CFUNCTYPE(None, c.c_void_p, c.c_char_p, c.c_char_p)


class ActionInfo(c.Structure):
    _fields_ = [("name", c.c_char_p), ("label", c.c_char_p), ("help", c.c_char_p), ("needs_selection", c.c_bool),
                ("uses_strength", c.c_bool)]


def _load():
    lib = c.CDLL(os.environ.get("SDD_PLUGIN_LIBRARY", LIBRARY))
    pointer, text, number = c.c_void_p, c.c_char_p, c.c_int
    for name, result, *arguments in (
            ("sdh_translate", None, text), ("sdh_text", text, text), ("sdh_settings_new", pointer),
            ("sdh_settings_free", pointer, pointer), ("sdh_settings_copy", pointer, pointer), ("sdh_settings_set", number, pointer, text, text, c.POINTER(Error)),
            ("sdh_settings_get", text, pointer, text), ("sdh_settings_parse", number, pointer, text, c.POINTER(Error)),
            ("sdh_settings_from_json", number, pointer, text, c.POINTER(Error)), ("sdh_settings_recall", None, pointer),
            ("sdh_settings_remember", None, pointer),
            ("sdh_task_new", number, c.POINTER(Host), pointer, text, c.POINTER(pointer), c.POINTER(Error)),
            ("sdh_task_free", pointer, pointer), ("sdh_task_fd", number, pointer), ("sdh_task_events", number, pointer),
            ("sdh_task_dispatch", number, pointer), ("sdh_task_cancel", None, pointer),
            ("sdh_task_run", number, pointer, c.POINTER(Error)), ("sdh_task_timings", None, pointer, c.POINTER(Timings)),
            ("sdh_task_warnings", text, pointer), ("sdh_service_start", number, c.POINTER(Error)),
            ("sdh_offer_new", number, text, c.POINTER(pointer), c.POINTER(Error)), ("sdh_offer_free", pointer, pointer),
            ("sdh_offer_model", text, pointer, c.c_size_t), ("sdh_offer_model_note", text, pointer, c.c_size_t),
            ("sdh_offer_engine", text, pointer), ("sdh_sampler_name", text, c.c_size_t), ("sdh_style_name", text, c.c_size_t),
            ("sdh_style_label", text, c.c_size_t), ("sdh_counter_new", pointer, text, COUNTED, pointer),
            ("sdh_counter_free", pointer, pointer), ("sdh_counter_ask", None, pointer, pointer),
            ("sdh_counter_fd", number, pointer), ("sdh_counter_dispatch", number, pointer),
            ("sdh_canvas_after", number, c.POINTER(Host), pointer, c.POINTER(Rect), c.POINTER(Error))):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    if LOCALE:
        lib.sdh_translate(LOCALE.encode())
    return lib


lib = _load()
ACTIONS = list((ActionInfo * 9).in_dll(lib, "sdh_actions"))


def _(text):
    return lib.sdh_text(text.encode()).decode()


def listed(function, *arguments):
    """What a function that answers NULL behind its last item has, as a list of str."""
    items = []
    while (item := function(*arguments, len(items))) is not None:
        items.append(item.decode())
    return items


def must(code, error):
    if code < 0:
        raise Failure(error)


class Settings:
    """Named values; see plugins/common/settings.h."""

    def __init__(self, pointer=None):
        self.pointer = pointer or lib.sdh_settings_new()

    def __del__(self):
        lib.sdh_settings_free(self.pointer)

    def __getitem__(self, name):
        return lib.sdh_settings_get(self.pointer, name.encode()).decode()

    def __setitem__(self, name, value):
        error = Error()
        must(lib.sdh_settings_set(self.pointer, name.encode(), value.encode(), error), error)

    def copy(self):
        return Settings(lib.sdh_settings_copy(self.pointer))

    def parse(self, text):
        error = Error()
        must(lib.sdh_settings_parse(self.pointer, text.encode(), error), error)

    def from_json(self, text):
        error = Error()
        must(lib.sdh_settings_from_json(self.pointer, text, error), error)

    def recall(self):
        lib.sdh_settings_recall(self.pointer)

    def remember(self):
        lib.sdh_settings_remember(self.pointer)


def failure_of(code, text):
    error = Error()
    error.fill(code, text)
    return Failure(error)


def canvas_after(host, settings):
    """The canvas that the settings' job would leave, in coordinates of the one there is."""
    error, rect, table = Error(), Rect(), host.table()
    must(lib.sdh_canvas_after(table, settings.pointer, rect, error), error)
    return rect


class Task:
    """One job from a host's document to new layers; see plugins/common/task.h."""

    def __init__(self, host, settings):
        error, pointer = Error(), c.c_void_p()
        self.host, self.table = host, host.table()  # the table's functions must outlive the task
        self.pointer = None
        must(lib.sdh_task_new(self.table, settings.pointer, None, pointer, error), error)
        self.pointer = pointer

    def free(self):
        if self.pointer:
            lib.sdh_task_free(self.pointer)
        self.pointer = None

    def run(self):
        error = Error()
        must(lib.sdh_task_run(self.pointer, error), error)

    def timings(self):
        timings = Timings()
        lib.sdh_task_timings(self.pointer, timings)
        return {name: getattr(timings, name) for name, _type in Timings._fields_}

    def warnings(self):
        return lib.sdh_task_warnings(self.pointer).decode()
