"""A screen without a monitor: Xvfb and a window manager, keys and pictures of it."""
import os
import subprocess
import tempfile
import time


class Display:
    def __init__(self, width=1600, height=900):
        self.size, self.processes, self.environment = f"{width}x{height}x24", [], {}

    def __enter__(self):
        read, write = os.pipe()
        self._spawn(["Xvfb", "-displayfd", str(write), "-screen", "0", self.size, "-nolisten", "tcp"], pass_fds=(write,))
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        self.environment = {"DISPLAY": f":{number}"}
        self._spawn(["openbox"], env={**os.environ, **self.environment, "HOME": tempfile.gettempdir()})
        return self

    def _spawn(self, command, **kwargs):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kwargs)
        self.processes.append(process)
        return process

    def __exit__(self, *exception):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def do(self, *command, check=True):
        return subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=check).stdout

    def find(self, title, seconds=60, alive=None):
        """The id of a visible window whose title matches; waits for it."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.do("xdotool", "search", "--onlyvisible", "--name", title, check=False).split()
            if found:
                return found[-1]
            assert alive is None or alive.poll() is None, f"the program ended before a window {title}"
            if time.monotonic() > deadline:
                names = [self.do("xdotool", "getwindowname", w, check=False).strip() for w in
                         self.do("xdotool", "search", "--onlyvisible", "--name", ".", check=False).split()]
                raise AssertionError(f"no window {title}; there are {names}")
            time.sleep(0.2)

    def _focus(self, window):
        """Keys go to what has the focus: GTK 3 ignores events that are sent to a window by name."""
        self.do("xdotool", "windowactivate", "--sync", window, check=False)
        self.do("xdotool", "windowfocus", "--sync", window, check=False)

    def keys(self, window, *keys):
        self._focus(window)
        self.do("xdotool", "key", *keys)

    def type(self, window, text):
        self._focus(window)
        self.do("xdotool", "type", "--delay", "20", text)

    def picture(self, path, window="root"):
        self.do("import", "-window", window, str(path))

    def place(self, window, x, y, width=None, height=None):
        if width:
            self.do("xdotool", "windowsize", "--sync", window, str(width), str(height), check=False)
        self.do("xdotool", "windowmove", window, str(x), str(y))
        time.sleep(1)

    def changed(self, before, after, x, y, width, height):
        """Pixels of a part of the screen that differ between two pictures of it."""
        out = self.do("convert", *(a for path in (before, after) for a in ("(", path, "-crop", f"{width}x{height}+{x}+{y}", "+repage", ")")),
                      "-compose", "difference", "-composite", "-colorspace", "gray", "-threshold", "0", "-format", "%[fx:mean*w*h]", "info:")
        return int(float(out))
