#!/usr/bin/env python3
"""`meson install` puts every plug-in where its program looks, with what it needs to be found. usage: install.py BUILD"""
import os
import pathlib
import subprocess
import sys
import tempfile


def main():
    with tempfile.TemporaryDirectory(prefix="sdd-install-") as folder:
        subprocess.run(["/usr/bin/meson", "install", "-C", sys.argv[1], "--no-rebuild"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "DESTDIR": folder})
        files = {str(p)[len(folder):]: p for p in pathlib.Path(folder).rglob("*")}
        gimp = subprocess.run(["gimptool-2.0", "--gimpplugindir"], capture_output=True, text=True, check=True).stdout.strip()
        plugin = f"{gimp}/plug-ins/sdd-gimp2/sdd-gimp2"
        assert plugin in files, f"no {plugin}; there are {[f for f in files if 'gimp' in f]}"
        krita = [f for f in files if f.endswith("/share/krita/pykrita/sdd.desktop")]
        assert krita, "no plug-in for Krita"
        paths = {}
        exec(files[krita[0].replace("sdd.desktop", "sdd/paths.py")].read_text(), paths)
        assert paths["LIBRARY"] in files, f"Krita is told of {paths['LIBRARY']}, which is not there"
        library = next(f for f in files if f.endswith("/libsdclient.so.1"))
        for program in (plugin, paths["LIBRARY"]):
            out = subprocess.run(["readelf", "-d", files[program]], capture_output=True, text=True, check=True).stdout
            assert f"[{os.path.dirname(library)}]" in out, f"{program} does not say where libsdclient is:\n{out}"
        assert any(f.endswith("/locale/de/LC_MESSAGES/sdd.mo") for f in files), "no translations"
    print("everything is where it is looked for")


if __name__ == "__main__":
    main()
