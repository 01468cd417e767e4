"""GIMP 3 in the Debian 13 tree (trixie.sh), without a display: built there, scripts run there, the daemon outside.

The tree sees the checkout at /src and a folder of the test at /shared; a Unix socket in it joins both worlds.
"""
import os
import pathlib
import re
import subprocess

from jobs import FAST

HERE = pathlib.Path(__file__).resolve().parent

PRELUDE = r"""
(define (save image path)
  (let* ((copy (car (gimp-image-duplicate image))))
    (gimp-image-flatten copy)
    (gimp-file-save RUN-NONINTERACTIVE copy path)
    (gimp-image-delete copy)))
(define (save-layer image layer path)
  (let* ((copy (car (gimp-image-new (car (gimp-drawable-get-width layer)) (car (gimp-drawable-get-height layer)) RGB)))
         (one (car (gimp-layer-new-from-drawable layer copy))))
    (gimp-image-insert-layer copy one 0 0)
    (gimp-layer-set-offsets one 0 0)
    (gimp-file-save RUN-NONINTERACTIVE copy path)
    (gimp-image-delete copy)))
(define (say name value)
  (display "SAY ") (display name) (display " ") (write value) (newline))
(define (load path) (car (gimp-file-load RUN-NONINTERACTIVE path)))
(define (current image) (vector-ref (car (gimp-image-get-selected-drawables image)) 0))
(define (layers image) (vector-length (car (gimp-image-get-layers image))))
(define (describe image layer)
  (say "layers" (layers image))
  (say "name" (car (gimp-item-get-name layer)))
  (say "position" (car (gimp-image-get-item-position image layer)))
  (say "parent" (car (gimp-item-get-parent layer))))
(define (parameters layer) (caddr (car (gimp-item-get-parasite layer "sdd-parameters"))))
"""


class Gimp:
    """PLACE, ROUND, GROUP, CHOOSE and call: how gimp_jobs.py writes its scripts here."""

    PLACE, ROUND, GROUP = "/shared/", "NON-LINEAR", '(gimp-group-layer-new image "g")'
    CHOOSE = "(gimp-image-set-selected-layers image (vector drw))"

    @staticmethod
    def call(procedure, settings, drawable, prompt):
        given = " ".join(f'#:{name} "{value}"' for name, value in {**FAST, **settings}.items())
        return (f"({procedure} #:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector {drawable}) "
                f'#:prompt "{prompt}" {given})')

    def __init__(self, shared, socket_name):
        self.shared = pathlib.Path(shared)
        (self.shared / "home").mkdir()
        self.socket = f"/shared/{socket_name}"
        self.enter(["/bin/sh", "-ec", BUILD], timeout=600)

    def enter(self, command, timeout=1560, **more):
        done = subprocess.run([str(HERE / "trixie.sh"), "run", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout,
                              env={**os.environ, "SDD_TRIXIE_SHARED": str(self.shared), **more})
        if done.returncode != 0:
            raise AssertionError(f"{command[:1]} in the tree: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def environment(self, **more):
        values = {"HOME": "/shared/home", "GIMP3_DIRECTORY": "/shared/home/gimp", "XDG_CONFIG_HOME": "/shared/home/config",
                  "SDD_SOCKET": self.socket, "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": "/shared/build/client", **more}
        return ["env", "-u", "DISPLAY", *(f"{k}={v}" for k, v in values.items())]

    def batch(self, script, **more):
        """What the script printed; an error in it is a failure, as GIMP 3's exit code says so."""
        (self.shared / "script.scm").write_text(PRELUDE + script)
        return self.enter([*self.environment(**more), "sh", "-c",
                           "cd /shared && timeout -k 5 1500 gimp-console -d -f --quit --batch-interpreter=plug-in-script-fu-eval "
                           "-b '(load \"/shared/script.scm\")'"])

    @staticmethod
    def said(output):
        """{name: [values]} of the SAY lines."""
        found = {}
        for name, value in re.findall(r"SAY (\S+) (.*)", output):
            found.setdefault(name, []).append(value.strip())
        return found


# the folder outlives the test, so that only what changed is compiled
BUILD = """
cd /src
[ -f /var/cache/sdd-build/build.ninja ] ||
    meson setup /var/cache/sdd-build -Dengine=false -Dtests=false -Dgimp2=disabled -Dgimp3=enabled >/var/log/sdd-setup.log 2>&1 ||
    { cat /var/log/sdd-setup.log; exit 1; }
ninja -C /var/cache/sdd-build plugins/gimp3/sdd-gimp3 >/var/log/sdd-ninja.log 2>&1 || { cat /var/log/sdd-ninja.log; exit 1; }
mkdir -p /shared/home/gimp/plug-ins/sdd-gimp3 /shared/home/config /shared/build
cp /var/cache/sdd-build/plugins/gimp3/sdd-gimp3 /shared/home/gimp/plug-ins/sdd-gimp3/
cp -r /var/cache/sdd-build/client /shared/build/
"""
