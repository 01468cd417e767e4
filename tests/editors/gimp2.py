"""GIMP 2.10 without a display: a private configuration, scripts on its standard input, and what they say.

GIMP's exit code is always 0 and a script goes on after an error, so every script ends with a sentinel that must be seen.
"""
import os
import pathlib
import shutil
import subprocess

from jobs import written

SENTINEL = "SCRIPT-REACHED-ITS-END"

PRELUDE = r"""
(define (save image path)
  (let* ((copy (car (gimp-image-duplicate image)))
         (flat (car (gimp-image-flatten copy))))
    (if (string=? (substring path (- (string-length path) 3)) "png")
        (file-png-save RUN-NONINTERACTIVE copy flat path path 0 6 0 0 0 0 0)
        (file-tiff-save RUN-NONINTERACTIVE copy flat path path 0))
    (gimp-image-delete copy)))
(define (save-layer image layer path)
  (file-png-save RUN-NONINTERACTIVE image layer path path 0 6 0 0 0 0 0))
(define (say name value) (display "SAY ") (display name) (display " ") (write value) (newline))
(define (load path) (car (gimp-file-load RUN-NONINTERACTIVE path path)))
;; a copy of an image whose active layer lay in a group has the group active
(define (current image)
  (let ((drawable (car (gimp-image-get-active-drawable image))))
    (if (= (car (gimp-item-is-group drawable)) 1)
        (vector-ref (cadr (gimp-item-get-children drawable)) 0)
        drawable)))
(define (layers image) (car (gimp-image-get-layers image)))
(define (describe image layer)
  (say "layers" (layers image))
  (say "name" (car (gimp-item-get-name layer)))
  (say "offsets" (gimp-drawable-offsets layer))
  (say "size" (list (car (gimp-drawable-width layer)) (car (gimp-drawable-height layer))))
  (say "position" (car (gimp-image-get-item-position image layer)))
  (say "parent" (car (gimp-item-get-parent layer)))
  (say "canvas" (list (car (gimp-image-width image)) (car (gimp-image-height image)))))
(define (parameters layer) (caddr (car (gimp-item-get-parasite layer "sdd-parameters"))))
"""


class Gimp:
    """PLACE, ROUND, GROUP, CHOOSE and call: how gimp_jobs.py writes its scripts here."""

    PLACE, ROUND, GROUP, CHOOSE = "", "GAMMA", "(gimp-layer-group-new image)", ""

    @staticmethod
    def call(procedure, settings, drawable, prompt):
        return f'({procedure} RUN-NONINTERACTIVE image {drawable} "{prompt}" "{written(settings)}")'

    def __init__(self, folder, socket):
        self.folder = pathlib.Path(folder)
        self.environment = {**os.environ, "HOME": str(self.folder / "home"), "GIMP2_DIRECTORY": str(self.folder / "gimp"),
                            "XDG_CONFIG_HOME": str(self.folder / "config"), "SDD_SOCKET": socket, "LC_ALL": "C.UTF-8",
                            "LD_LIBRARY_PATH": os.environ.get("SDD_TEST_LIBRARIES", "")}
        for name in ("home", "config"):
            (self.folder / name).mkdir(exist_ok=True)
        self.environment.pop("DISPLAY", None)
        # the first start makes the folder, which must not be there before
        self.batch("")
        plugin = self.folder / "gimp" / "plug-ins" / "sdd-gimp2"
        plugin.mkdir(parents=True)
        shutil.copy(os.environ["SDD_TEST_GIMP2"], plugin / "sdd-gimp2")

    def batch(self, script, timeout=1500):
        """Everything it printed; raises when the script did not come to its end."""
        text = PRELUDE + script + f'\n(display "{SENTINEL}")(newline)(gimp-quit 1)\n'
        done = subprocess.run(["gimp", "-i", "-d", "-f", "-b", "-"], input=text, env=self.environment, cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        if script and SENTINEL not in done.stdout:
            raise AssertionError(f"GIMP did not come to the script's end:\n{done.stdout[-4000:]}")
        return done.stdout

    @staticmethod
    def said(output):
        """{name: [values]} of the SAY lines."""
        found = {}
        for line in output.splitlines():
            at = line.find("SAY ")
            if at >= 0:
                name, _, value = line[at + 4:].partition(" ")
                found.setdefault(name, []).append(value.strip())
        return found
