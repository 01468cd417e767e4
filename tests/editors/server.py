"""A real sdd with a real worker and a small model on a private socket, for tests of editors."""
import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import picture


class Server:
    """Paths come from the environment that meson sets. Use as a context; .socket is what editors get as SDD_SOCKET."""

    def __init__(self, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sdd-editors-"))
        self.socket = str(self.folder / "s")
        self.log = self.folder / "log"
        self.options = options
        models = self.folder / "models"
        models.mkdir()
        model = os.environ["SDD_TEST_MODEL"]
        assert os.path.isdir(model), f"no model at {model}"
        (models / "tiny").symlink_to(model)
        (models / "sketched").symlink_to(os.environ["SDD_TEST_PREVIEW_MODEL"])
        self.process = None

    def _command(self):
        return [os.environ["SDD_TEST_SDD"], "--config=/dev/null", f"--socket={self.socket}", f"--models={self.folder}/models",
                f"--worker={os.environ['SDD_TEST_WORKER']}", "--default-model=tiny", "--threads=1", *self.options]

    def stand_in(self, path):
        """A systemctl for a machine whose PID 1 is not systemd: it starts this daemon as sdd.socket would. Returns a function that
        ends what it started."""
        pid = self.folder / "started.pid"
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n"
                        '[ "$*" = "--user start sdd.socket" ] || exit 1\n'
                        f"{shlex.join(self._command())} 2>>{self.log} </dev/null >/dev/null &\n"
                        f"echo $! >{pid}\n"
                        f"until {os.environ['SDD_TEST_SDCTL']} --socket {self.socket} status >/dev/null 2>&1; do sleep 0.1; done\n")
        path.chmod(0o755)

        def end():
            if pid.exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid.read_text()), signal.SIGKILL)
        return end

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command(), stderr=log)
        deadline = time.monotonic() + 20
        while subprocess.run([os.environ["SDD_TEST_SDCTL"], "--socket", self.socket, "status"],
                             capture_output=True).returncode != 0:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def status(self):
        out = subprocess.run([os.environ["SDD_TEST_SDCTL"], "--socket", self.socket, "--json", "status"],
                             capture_output=True, text=True, check=True).stdout
        return json.loads(out)

    def await_status(self, test, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not test(self.status()):
            assert time.monotonic() < deadline, f"{what}: {self.status()}"
            time.sleep(0.1)

    def picture(self, path, real):
        """What the editor opens: a small pattern, or, for people's eyes, a picture with a model that fits it."""
        models = pathlib.Path(__file__).resolve().parent.parent.parent / "models"
        if real:
            shutil.copy(models / "demo/picture.png", path)
            (self.folder / "models" / "sdd-small-inpaint").symlink_to(models / "sdd-small-inpaint")
        else:
            picture.write_png(path, 96, 80, picture.pattern)

    def kill_worker(self):
        os.kill(self.status()["worker"]["pid"], signal.SIGKILL)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Table:
    """The table host x job x document that the tests print, and the list of what failed."""

    def __init__(self, host):
        self.host, self.cells, self.failures = host, {}, []

    def note(self, job, document, problems):
        self.cells[job, document] = not problems
        self.failures += [f"{self.host}, {job}, {document}: {p}" for p in problems]

    def finish(self):
        jobs = list(dict.fromkeys(j for j, _ in self.cells))
        documents = list(dict.fromkeys(d for _, d in self.cells))
        width = max(len(d) for d in documents) + 1
        print(f"{self.host:12}" + "".join(f"{d:>{width}}" for d in documents))
        for job in jobs:
            marks = ("pass" if self.cells.get((job, d)) else "FAIL" if (job, d) in self.cells else "-" for d in documents)
            print(f"{job:12}" + "".join(f"{m:>{width}}" for m in marks))
        for failure in self.failures:
            print("FAILED", failure)
        print(f"{sum(self.cells.values())} passed, {len(self.failures)} failures")
        return 1 if self.failures else 0
