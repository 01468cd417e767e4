#!/usr/bin/env python3
"""`make install` and `make install-user` put every plug-in where its program looks, with what it needs to be found.

usage: install.py BUILD
"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ASK = """
(define image (car (gimp-image-new 64 64 RGB)))
(define layer (car (gimp-layer-new image 64 64 RGB-IMAGE "l" 100 LAYER-MODE-NORMAL)))
(gimp-image-insert-layer image layer 0 0)
(plug-in-sdd-generate RUN-NONINTERACTIVE image layer "fox" "")
(gimp-quit 1)
"""


def check_krita(files):
    krita = [f for f in files if f.endswith("/share/krita/pykrita/sdd.desktop")]
    assert krita, "no plug-in for Krita"
    paths = {}
    exec(files[krita[0].replace("sdd.desktop", "sdd/paths.py")].read_text(), paths)
    assert paths["LIBRARY"] in files, f"Krita is told of {paths['LIBRARY']}, which is not there"
    missing = [p.name for p in (ROOT / "plugins/krita/sdd").glob("*.py")
               if krita[0].replace("sdd.desktop", f"sdd/{p.name}") not in files]
    assert not missing, f"Krita's plug-in lacks {missing}"
    return paths["LIBRARY"]


def check_libraries(files, *programs):
    library = next(f for f in files if f.endswith("/libsdclient.so.1"))
    for program in programs:
        out = subprocess.run(["readelf", "-d", files[program]], capture_output=True, text=True, check=True).stdout
        assert f"[{os.path.dirname(library)}]" in out, f"{program} does not say where libsdclient is:\n{out}"


def for_everybody(build, folder):
    subprocess.run(["/usr/bin/meson", "install", "-C", build, "--no-rebuild"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "DESTDIR": folder})
    files = {str(p)[len(folder):]: p for p in pathlib.Path(folder).rglob("*")}
    gimp = subprocess.run(["gimptool-2.0", "--gimpplugindir"], capture_output=True, text=True, check=True).stdout.strip()
    plugin = f"{gimp}/plug-ins/sdd-gimp2/sdd-gimp2"
    assert plugin in files, f"no {plugin}; there are {[f for f in files if 'gimp' in f]}"
    check_libraries(files, plugin, check_krita(files))
    assert any(f.endswith("/locale/de/LC_MESSAGES/sdd.mo") for f in files), "no translations"


def for_one_user(home):
    """And GIMP 2.10, started as that user does, has the procedures, whose libraries are found: it says that no daemon runs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "SDD_", "GIMP", "MAKE", "LD_")) and k != "DISPLAY"}
    environment |= {"HOME": home, "LC_ALL": "C.UTF-8", "SDD_SOCKET": f"{home}/no-daemon"}
    subprocess.run(["make", "-C", ROOT, "install-user", f"HOME={home}", f"BUILD_USER={home}/build",
                    "USER_OPTIONS=-Dengine=false -Dgimp3=disabled"], check=True, stdout=subprocess.DEVNULL, env=environment)
    check_krita({str(p): p for p in pathlib.Path(home, ".local").rglob("*")})
    done = subprocess.run(["gimp", "-i", "-d", "-f", "-b", "-"], input=ASK, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=600)
    assert "unbound variable" not in done.stdout, f"GIMP 2.10 does not find the plug-in: {done.stdout[-2000:]}"
    assert "systemctl --user start sdd.socket" in done.stdout, f"the plug-in does not run: {done.stdout[-2000:]}"


def main():
    with tempfile.TemporaryDirectory(prefix="sdd-install-") as folder:
        for_everybody(sys.argv[1], folder)
    with tempfile.TemporaryDirectory(prefix="sdd-install-user-") as home:
        for_one_user(home)
    print("everything is where it is looked for")


if __name__ == "__main__":
    main()
