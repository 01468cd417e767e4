#!/usr/bin/env python3
"""The Debian packages: built in a clean Debian 12 that has nothing but their Build-Depends, judged by lintian, installed into
another clean one, tried, and purged without a trace. usage: packages.py SOURCE-ROOT
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import trees

# with their editors a plug-in's package brings a thousand others: apt says that they can be had, and only ours is unpacked
PLUG_INS = ["gimp-sdd", "krita-sdd"]
NAMES = ["libsdclient-dev", "libsdclient1", "sdctl", "sdd", "sdd-l10n", "sdd-model-small"]
# what a system writes for itself while packages come and go
TRACES = re.compile(r"/(var/(cache|lib/(apt|dpkg|systemd/deb-systemd|pam|ucf)|log)|run|tmp|root|dev|proc|sys)(/|$)"
                    r"|/etc/(ld\.so\.cache|resolv\.conf|passwd-?|group-?|shadow-?|gshadow-?|\.pwd\.lock|subuid-?|subgid-?|mailcap|machine-id)$")


def build_dependencies(root):
    text = (root / "packaging/debian/control").read_text()
    names = re.search(r"^Build-Depends:(.*?)^\S", text, re.M | re.S).group(1)
    return [re.sub(r"\s*\(.*\)", "", name.strip()).replace("debhelper-compat", "debhelper") for name in names.split(",")]


def build(root, debs):
    """Puts the .deb files into the folder debs."""
    with trees.tree("packages", ["build-essential", "fakeroot", "lintian", *build_dependencies(root)]) as tree:
        source = tree / "root/sdd"
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, text=True, capture_output=True, check=True)
        for name in listed.stdout.split("\n"):
            if name and not name.startswith(("tests/golden/data", "tests/fuzz/corpus", "training/")) and (root / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, source / name)
        trees.chroot(tree, "sh", "-c", "cd /root/sdd && packaging/make-packages.sh /root/out >/root/log 2>&1 || { tail -n 60 /root/log; exit 1; }")
        trees.chroot(tree, "sh", "-c", "lintian --allow-root --fail-on error,warning,info --tag-display-limit 0 /root/out/*.changes")
        for deb in (tree / "root/out").glob("*.deb"):
            if "-dbgsym" not in deb.name:
                shutil.copy(deb, debs)


def files(tree):
    listed = subprocess.run(["find", ".", "-xdev", "-printf", "%P %y %l\n"], cwd=tree, text=True, capture_output=True, check=True)
    return {line for line in listed.stdout.split("\n") if not TRACES.match("/" + line.split(" ")[0])}


def check_installed(root, tree):
    trees.chroot(tree, "sdd", "--version")
    trees.chroot(tree, "sdctl", "--version")
    worker = subprocess.run(["chroot", tree, "/usr/libexec/sdd/sdd-worker", "--version"], text=True, capture_output=True, check=True)
    assert worker.stdout.startswith("sdd-worker "), worker
    config = subprocess.run(["chroot", tree, "env", "XDG_RUNTIME_DIR=/run/user/0", "sdd", "--dump-config"], text=True,
                            capture_output=True, check=True).stdout
    assert "worker = /usr/libexec/sdd/sdd-worker\n" in config and "models = /usr/share/sdd/models\n" in config, config
    # each user's socket is enabled, the machine's is not
    assert (tree / "etc/systemd/user/sockets.target.wants/sdd.socket").is_symlink()
    assert not list(tree.glob("etc/systemd/system/*/sdd.*")) and not list(tree.glob("etc/systemd/user/default.target.wants/sdd*"))
    assert re.search(r"^sdd:", (tree / "etc/passwd").read_text(), re.M), "sysusers.d was not applied"
    assert (tree / "var/lib/sdd/models").is_dir(), "tmpfiles.d was not applied"
    # a stranger's first program: the example against the installed library
    trees.apt_install(tree, "gcc", "libc6-dev", "pkg-config")
    trees.chroot(tree, "sh", "-c", "cd /tmp && cc -Wall -Werror -o example /usr/share/doc/libsdclient-dev/examples/example.c "
                                   "$(pkg-config --cflags --libs sdclient)")
    assert (tree / "usr/share/sdd/gpu.conf").is_file()
    # a daemon, its client and the small model, all as installed: it lists what the source has, is healthy, and paints
    models = root / "models"
    adapters = {path.name.removesuffix(".safetensors") for kind in ("loras", "controlnets", "embeddings") for path in models.glob(f"{kind}/*")
                if path.is_dir() or path.suffix == ".safetensors"}
    script = ("export XDG_CACHE_HOME=/tmp/cache; sdd --socket /tmp/s --models /usr/share/sdd/models & trap 'kill $!; wait' EXIT; "
              "for i in 1 2 3 4 5 6 7 8 9; do [ -S /tmp/s ] || sleep 0.3; done; sdctl --socket /tmp/s check sdd-small; "
              "sdctl --socket /tmp/s txt2img --model sdd-small --steps 1 -o /tmp/out.png 'a red house'; "
              "sdctl --socket /tmp/s --json adapters")
    listed = subprocess.run(["chroot", tree, "sh", "-ec", script], text=True, capture_output=True)
    assert listed.returncode == 0 and (tree / "tmp/out.png").is_file(), listed
    assert all(f'"{name}"' in listed.stdout for name in adapters), (adapters, listed.stdout)


def debs_of(debs, names):
    return [f"/root/debs/{deb.name}" for deb in debs.glob("*.deb") if deb.name.split("_")[0] in names]


def install_try_purge(root, debs):
    with trees.tree() as tree:
        shutil.copytree(debs, tree / "root/debs")
        trees.apt_install(tree, "libpam-systemd", "systemd")
        before, others = files(tree), installed(tree)
        trees.apt_install(tree, *debs_of(debs, NAMES))
        check_installed(root, tree)
        trees.apt_install(tree, "--simulate", *debs_of(debs, PLUG_INS))
        trees.chroot(tree, "dpkg", "--force-depends", "--install", *debs_of(debs, PLUG_INS), stdout=subprocess.DEVNULL)
        assert (tree / "usr/lib/gimp/2.0/plug-ins/sdd-gimp2/sdd-gimp2").is_file()
        assert (tree / "usr/share/krita/pykrita/sdd.desktop").is_file() and list(tree.glob("usr/lib/*/sdd/libsdplugin.so"))
        trees.chroot(tree, "dpkg", "--purge", *PLUG_INS, stdout=subprocess.DEVNULL)
        trees.chroot(tree, "apt-get", "-qq", "-y", "purge", *NAMES, stdout=subprocess.DEVNULL)
        trees.chroot(tree, "apt-get", "-qq", "-y", "purge", *sorted(installed(tree) - others), stdout=subprocess.DEVNULL)
        after = files(tree)
        # models that people put there stay, and so do the folders for them and the user, as Debian's policy has it
        left = sorted(line for line in after - before if not line.startswith(("var/lib/sdd", "tmp")))
        assert not left, left
        assert before <= after, sorted(before - after)


def installed(tree):
    listed = subprocess.run(["chroot", tree, "dpkg-query", "-W", "-f", "${Package}:${Architecture}\n"], text=True, capture_output=True, check=True)
    return set(listed.stdout.split())


def main():
    root = pathlib.Path(sys.argv[1])
    trees.need_root()
    trees.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debs-", dir=trees.CACHE) as folder:
        debs = pathlib.Path(folder)
        build(root, debs)
        built = sorted(deb.name.split("_")[0] for deb in debs.glob("*.deb"))
        assert built == sorted(NAMES + PLUG_INS), built
        install_try_purge(root, debs)
    print("built, checked, installed, tried and purged:", " ".join(NAMES + PLUG_INS))


if __name__ == "__main__":
    main()
