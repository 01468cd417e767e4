"""Krita without a display: a private home, kritarunner with a script of ours, and its word that it came to the end.

kritarunner returns 0 also after an exception, so scripts write what they found into a file.
"""
import json
import os
import pathlib
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent


class Krita:
    def __init__(self, folder, socket):
        self.folder = pathlib.Path(folder)
        home = self.folder / "home"
        self.environment = {
            **os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_CACHE_HOME": str(home / ".cache"), "XDG_RUNTIME_DIR": str(self.folder / "run"), "SDD_SOCKET": socket,
            "SDD_PLUGIN_LIBRARY": os.environ["SDD_TEST_PLUGIN_LIBRARY"], "LD_LIBRARY_PATH": os.environ["SDD_TEST_LIBRARIES"],
            "LIBGL_ALWAYS_SOFTWARE": "1", "DISABLE_ASSERT_MSG": "1", "LC_ALL": "C.UTF-8", "SDD_TEST_FOLDER": str(self.folder),
            "PYTHONPATH": f"{SOURCE / 'plugins/krita'}:{SOURCE / 'tests/editors'}", "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{self.folder}/bin:/usr/bin:/bin"}  # Krita's own Python is that of the first python3 on PATH
        for path in (home / ".config", home / ".local/share", home / ".cache", self.folder / "run"):
            path.mkdir(parents=True, mode=0o700)

    def _headless(self):
        return {**self.environment, "QT_QPA_PLATFORM": "offscreen", "SDD_HEADLESS": "1"}

    def begin(self, script):
        """Run a module without waiting for its end; the process."""
        return subprocess.Popen(["kritarunner", "-s", script, "-f", "main"], env=self._headless(), cwd=self.folder,
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def batch(self, script, timeout=900):
        """Run a module of tests/editors by name; what it wrote into found.json."""
        found = self.folder / "found.json"
        found.unlink(missing_ok=True)
        done = subprocess.run(
            ["timeout", "-k", "5", str(timeout), "kritarunner", "-s", script, "-f", "main"], env=self._headless(), cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not found.exists():
            raise AssertionError(f"Krita did not come to the script's end ({done.returncode}):\n{done.stdout[-4000:]}")
        return json.loads(found.read_text())

    def window(self, display, driver, picture, timeout=570):
        """Krita with a window, the docker and a plug-in of ours that plays the artist; what it wrote into found.json."""
        plugins = self.folder / "home/.local/share/krita/pykrita"
        plugins.mkdir(parents=True)
        (plugins / "sdd").symlink_to(SOURCE / "plugins/krita/sdd")
        shutil.copy(SOURCE / "plugins/krita/sdd.desktop", plugins)
        actions = self.folder / "home/.local/share/krita/actions"
        actions.mkdir()
        shutil.copy(SOURCE / "plugins/krita/sdd.action", actions)
        shutil.copy(SOURCE / "tests/editors" / f"{driver}.py", plugins)
        text = (SOURCE / "plugins/krita/sdd.desktop").read_text()
        (plugins / f"{driver}.desktop").write_text(text.replace("=sdd\n", f"={driver}\n"))
        (self.folder / "home/.config/kritarc").write_text(
            f"[python]\nenable_sdd=true\nenable_{driver}=true\n[General]\nHideSplash=true\n")
        with open(self.folder / "krita.log", "w") as log:
            subprocess.run(["timeout", "-k", "5", str(timeout), "krita", "--nosplash", picture],
                           env={**self.environment, **display.environment}, cwd=self.folder, stdin=subprocess.DEVNULL,
                           stdout=log, stderr=subprocess.STDOUT)
        found = self.folder / "found.json"
        if not found.exists():
            raise AssertionError(f"Krita did not come to the script's end:\n{(self.folder / 'krita.log').read_text()[-4000:]}")
        return json.loads(found.read_text())
