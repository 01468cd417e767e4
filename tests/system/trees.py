"""Clean Debian 12 trees for the tests of this folder: bootstrapped from the mirror that this machine's own apt uses.

A tree is a stack of layers kept in a cache outside the checkout ($SDD_TEST_CACHE, else ~/.cache/sdd-test): `base` is
debootstrap's minbase, other layers are what apt installed on top of it. A test gets the stack as an overlay with an upper
layer of its own, so that nothing it does stays. All this needs root; without it the test fails and says so.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SUITE = "bookworm"
CACHE = pathlib.Path(os.environ.get("SDD_TEST_CACHE") or pathlib.Path.home() / ".cache" / "sdd-test")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
               **{k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}}


def run(*command, **kwargs):
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run(list(map(str, command)), check=True, **kwargs)


def need_root():
    if os.geteuid() != 0:
        sys.exit("this test makes clean Debian trees and needs root: run `make check` as root")
    os.environ["PATH"] += ":/usr/sbin:/sbin"


def mirrors():
    """[(address, suite)] of the suite and its updates, as this machine's apt has them."""
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
                            text=True, capture_output=True, check=True).stdout.split("\n")
    rows = sorted({tuple(line.split()) for line in listed if line})
    found = [(uri, release) for uri, release, component in rows
             if component == "main" and release in (SUITE, f"{SUITE}-updates", f"{SUITE}-security")]
    if not any(release == SUITE for _, release in found):
        sys.exit(f"apt on this machine knows no mirror of {SUITE}; run apt-get update on a Debian 12")
    return found


@contextlib.contextmanager
def chroot_mounts(tree):
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    run("mount", "-t", "proc", "proc", tree / "proc")
    run("mount", "--rbind", "/dev", tree / "dev")
    run("mount", "--make-rslave", tree / "dev")
    try:
        yield
    finally:
        run("umount", "-R", "-l", tree / "dev")
        run("umount", tree / "proc")


def chroot(tree, *command, **kwargs):
    return run("chroot", tree, *command, env=ENVIRONMENT, **kwargs)


def apt_install(tree, *packages):
    chroot(tree, "apt-get", "-qq", "-y", "install", "--no-install-recommends", *packages, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def overlay(lower, upper, mount_point):
    work = upper.with_name(upper.name + ".work")
    for folder in (upper, work, mount_point):
        folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}", mount_point)
    try:
        yield mount_point
    finally:
        run("umount", "-l", mount_point)
        shutil.rmtree(work)


def base_layer():
    base = CACHE / f"{SUITE}-base"
    if base.is_dir():
        return base
    half = CACHE / "base.new"
    shutil.rmtree(half, ignore_errors=True)
    found = mirrors()
    run("debootstrap", "--variant=minbase", SUITE, half, next(uri for uri, release in found if release == SUITE),
        stdout=subprocess.DEVNULL)
    (half / "etc/apt/sources.list").write_text("".join(f"deb {uri} {release} main\n" for uri, release in found))
    # a tree that is thrown away need not survive a power cut
    (half / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
    with chroot_mounts(half):
        chroot(half, "apt-get", "-qq", "update")
    half.rename(base)
    return base


def layer(name, packages):
    """What apt installs for these packages on the base, made once for each list."""
    base = base_layer()
    done = CACHE / f"{SUITE}-{name}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    if not done.is_dir():
        half = CACHE / f"{name}.new"
        shutil.rmtree(half, ignore_errors=True)
        with overlay([base], half, CACHE / f"{name}.mount") as tree, chroot_mounts(tree):
            apt_install(tree, *packages)
            chroot(tree, "apt-get", "clean")
        half.rename(done)
    return done


@contextlib.contextmanager
def tree(name=None, packages=(), mounts=True):
    """A throw-away tree: the base, with a layer of these packages if named. Mounted for chroot unless mounts is False."""
    need_root()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lower = ([layer(name, packages)] if name else []) + [base_layer()]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tree-", dir=CACHE))
    try:
        with overlay(lower, folder / "upper", folder / "root") as root:
            if mounts:
                with chroot_mounts(root):
                    yield root
            else:
                yield root
    finally:
        shutil.rmtree(folder)
