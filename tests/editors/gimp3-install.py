#!/usr/bin/env python3
"""`meson install` in the Debian 13 tree: GIMP 3 finds the plug-in in its own folder, and the plug-in its libraries.

The tree's /usr gets an overlay in memory for that, so that the next test finds it as it was.
"""
import sys
import tempfile

from gimp3 import Gimp

INSTALL = """
ninja -C /var/cache/sdd-build >/var/log/sdd-ninja.log 2>&1 || { cat /var/log/sdd-ninja.log; exit 1; }
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work /usr
meson install -C /var/cache/sdd-build --no-rebuild >/dev/null
plugin=$(gimptool-3.0 --gimpplugindir)/plug-ins/sdd-gimp3/sdd-gimp3
[ -x "$plugin" ] || { echo "no $plugin"; find /mnt/upper -name 'sdd-gimp*'; exit 1; }
cd /shared
# a fresh user, and no path to any library
env -u LD_LIBRARY_PATH HOME=/shared/fresh GIMP3_DIRECTORY=/shared/fresh/gimp XDG_CONFIG_HOME=/shared/fresh/config LC_ALL=C.UTF-8 \\
	SDD_SOCKET=/shared/no-daemon timeout -k 5 300 gimp-console -d -f --quit --batch-interpreter=plug-in-script-fu-eval \\
	-b '(load "/shared/ask.scm")' 2>&1 || true
"""
ASK = """
(define image (car (gimp-image-new 64 64 RGB)))
(define layer (car (gimp-layer-new image "l" 64 64 RGB-IMAGE 100 LAYER-MODE-NORMAL)))
(gimp-image-insert-layer image layer 0 0)
(plug-in-sdd-generate #:run-mode RUN-NONINTERACTIVE #:image image #:drawables (vector layer) #:prompt "fox")
"""


def main():
    with tempfile.TemporaryDirectory(prefix="sdd-gimp3-") as folder:
        gimp = Gimp(folder, "s")
        (gimp.shared / "fresh").mkdir()
        (gimp.shared / "ask.scm").write_text(ASK)
        said = gimp.enter(["/bin/sh", "-ec", INSTALL], timeout=800)
        assert "unbound variable" not in said, f"GIMP 3 does not find the plug-in: {said[-2000:]}"
        assert "systemctl --user start sdd.socket" in said, f"the plug-in does not run: {said[-2000:]}"
    print("GIMP 3 finds what was installed")


if __name__ == "__main__":
    sys.exit(main())
