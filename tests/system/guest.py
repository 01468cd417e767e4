#!/usr/bin/env python3
"""Runs inside the booted Debian (boot.py): sdd's units under a real systemd, as a machine's service and as a user's.

Each check prints a line; the last line is `all passed`, which is what boot.py looks for.
"""
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time

SYSTEM_SOCKET = "/run/sdd/sdd.sock"
WATCHDOG_S = 2
DROP_IN = f"""[Service]
WatchdogSec={WATCHDOG_S}
ExecStart=
ExecStart=/usr/local/bin/sdd --socket=/run/sdd/sdd.sock --allow-group=sdd --idle-exit=%s
"""


def sh(*command, check=True, timeout=60, **kwargs):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}")
    return done.stdout if check else done


def show(unit, key, *manager):
    return sh("systemctl", *manager, "show", "-P", key, unit).strip()


def await_true(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def status(**kwargs):
    return json.loads(sh("sdctl", "--json", "status", **kwargs))


def as_user(name, *command, check=True):
    runtime = f"/run/user/{pwd.getpwnam(name).pw_uid}"
    return sh("runuser", "-u", name, "--", "env", f"HOME=/home/{name}", f"XDG_RUNTIME_DIR={runtime}", *command, check=check, cwd="/")


def drop_in(idle_exit):
    folder = pathlib.Path("/etc/systemd/system/sdd.service.d")
    folder.mkdir(exist_ok=True)
    (folder / "test.conf").write_text(DROP_IN % idle_exit)
    sh("systemctl", "daemon-reload")


def pids():
    """(sdd, its worker or 0)"""
    now = status()
    return now["pid"], now["worker"]["pid"]


def paint(prefix=(), size="64x64"):
    command = [*prefix, "sdctl", "txt2img", "--model", "tiny", "--steps", "2", "--seed", "1", "--width", size.split("x")[0], "--height",
               size.split("x")[1], "-o", "/tmp/out.png", "a cat"]
    pathlib.Path("/tmp/out.png").unlink(missing_ok=True)
    done = sh(*command, check=False, timeout=240)
    return done.returncode, done.stdout


def own_the_control_groups():
    """nspawn gives version 1 hierarchies read-only; with those of boot.py writable, systemd uses their controllers."""
    for name in ("memory", "cpu", "cpuacct"):
        if pathlib.Path(f"/sys/fs/cgroup/{name}/cgroup.procs").exists():
            sh("mount", "-o", "remount,rw,bind", f"/sys/fs/cgroup/{name}")
    sh("systemctl", "daemon-reexec")


# -- the machine's daemon

def socket_activation():
    sh("systemctl", "start", "sdd.socket")
    assert show("sdd.service", "ActiveState") == "inactive"
    assert os.stat(SYSTEM_SOCKET).st_mode & 0o777 == 0o660
    assert status()["pid"] == int(show("sdd.service", "MainPID"))
    # Type=notify: active only after READY=1
    assert show("sdd.service", "ActiveState") == "active"
    assert show("sdd.service", "StatusText").startswith("Idle")
    assert pwd.getpwuid(os.stat(f"/proc/{pids()[0]}").st_uid).pw_name == "sdd"


def who_may_connect():
    for name, group in (("alice", "sdd"), ("bob", "users")):
        sh("useradd", "--create-home", "--user-group", "--groups", group, name)
    code, text = paint(("runuser", "-u", "alice", "--"))
    assert code == 0, text
    refused = as_user("bob", "sdctl", "--socket", SYSTEM_SOCKET, "status", check=False)
    assert refused.returncode != 0 and "not allowed to connect" in refused.stdout, refused.stdout
    # past the file's mode the daemon asks the kernel who it is
    os.chmod(SYSTEM_SOCKET, 0o666)
    refused = as_user("bob", "sdctl", "--socket", SYSTEM_SOCKET, "status", check=False)
    assert refused.returncode != 0 and "allow-user" in refused.stdout, refused.stdout
    os.chmod(SYSTEM_SOCKET, 0o660)


def sandbox_holds():
    for pid in pids():
        assert pid > 0
        words = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert words["NoNewPrivs"] == "1" and words["Seccomp"] == "2", words
        assert int(words["CapBnd"], 16) == 0 and int(words["CapEff"], 16) == 0, words
        # no way out but the socket: another network, no devices, nothing to write to
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/1/ns/net")
        inside = pathlib.Path(f"/proc/{pid}/root")
        assert not any((inside / "home").iterdir())
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert any(line.split()[4] == "/" and "ro" in line.split()[5].split(",") for line in mounts)


def hash_of(model, command=sh):
    """The hash of a model in the list, "" as long as it is not known."""
    return next(entry.get("hash", "") for entry in json.loads(command("sdctl", "--json", "models"))["models"] if entry["name"] == model)


def hashes_are_made_and_kept():
    """The helper that hashes works inside the sandbox, and the next daemon finds what it read."""
    await_true("the model is hashed", lambda: hash_of("tiny"))
    said = sh("sh", "-c", "cd /var/lib/sdd/models/tiny; find -L * -maxdepth 1 -type f | grep -E '\\.(safetensors|gguf|json|txt|model)$' | "
              "grep -v sdd.json$ | LC_ALL=C sort | xargs sha256sum | sha256sum")
    assert hash_of("tiny") == said.split()[0]
    store = pathlib.Path("/var/cache/sdd/hashes")
    kept = os.stat(store)
    assert kept.st_mode & 0o777 == 0o600 and pwd.getpwuid(kept.st_uid).pw_name == "sdd", kept
    assert os.stat(store.parent).st_mode & 0o777 == 0o700
    sh("systemctl", "restart", "sdd.service")
    await_true("the hash is known again", lambda: hash_of("tiny"))
    again = os.stat(store)
    assert (again.st_ino, again.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns), "files were read again"


def journal_has_fields():
    sh("journalctl", "--sync")
    lines = [json.loads(line) for line in sh("journalctl", "-o", "json", "-u", "sdd.service").splitlines()]
    assert any(line.get("SDD_MODEL") == "tiny" for line in lines), "no line about the model"
    assert any(line.get("SDD_WORKER_PID") for line in lines)
    assert not any(str(line.get("MESSAGE", "")).startswith("<") for line in lines)


def lost_worker_is_replaced():
    before = pids()
    os.kill(before[1], signal.SIGKILL)
    code, text = paint()
    after = pids()
    assert code == 0, text
    assert after[0] == before[0] and after[1] != before[1], (before, after)
    sh("journalctl", "--update-catalog")
    sh("journalctl", "--sync")
    assert "Subject: The engine process was lost" in sh("journalctl", "-x", "-u", "sdd.service")


def memory_kill_leaves_the_daemon():
    """The kernel ends the worker at the group's limit; the client gets one error, the daemon stays (OOMPolicy=continue)."""
    before = pids()
    sh("systemctl", "set-property", "--runtime", "sdd.service", "MemoryMax=70M")
    try:
        code, text = paint(size="1024x1024")
    finally:
        sh("systemctl", "set-property", "--runtime", "sdd.service", "MemoryMax=infinity")
    assert code != 0 and "the engine process was lost" in text, text
    assert status()["pid"] == before[0]
    assert show("sdd.service", "ActiveState") == "active"
    await_true("a new worker paints", lambda: paint()[0] == 0)


def killed_daemon_comes_back():
    for _ in range(3):
        before = pids()[0]
        os.kill(before, signal.SIGKILL)
        # the socket is systemd's: nobody is refused meanwhile, the answer only comes later
        assert pids()[0] != before
    assert int(show("sdd.service", "NRestarts")) == 3


def watchdog_replaces_a_hung_daemon():
    drop_in("10min")
    sh("systemctl", "restart", "sdd.service")
    before = pids()[0]
    time.sleep(WATCHDOG_S * 1.5)
    assert pids()[0] == before, "restarted though it sends its messages"
    os.kill(before, signal.SIGSTOP)
    await_true("the hung daemon is replaced", lambda: int(show("sdd.service", "MainPID")) not in (0, before))
    assert pids()[0] != before
    sh("journalctl", "--sync")
    assert "Watchdog timeout" in sh("journalctl", "-u", "sdd.service")


def idle_daemon_leaves_and_comes_back():
    drop_in("1s")
    sh("systemctl", "restart", "sdd.service")
    assert paint()[0] == 0
    before, worker = pids()
    with socket.socket(socket.AF_UNIX) as client:
        # somebody is connected: it stays
        client.connect(SYSTEM_SOCKET)
        time.sleep(2.5)
        assert show("sdd.service", "MainPID") == str(before)
    await_true("the idle daemon ends", lambda: show("sdd.service", "ActiveState") == "inactive")
    assert show("sdd.service", "Result") == "success"
    assert not pathlib.Path(f"/proc/{worker}").exists()
    assert show("sdd.socket", "SubState") == "listening"
    assert paint()[0] == 0
    assert pids()[0] != before
    drop_in("10min")


def poisoned_worker_is_no_loop():
    """A worker that dies whatever it loads: each client gets its error, the daemon stays and is not restarted, and the cure is heard at once."""
    environment = pathlib.Path("/etc/systemd/system/sdd.service.d/poison.conf")
    environment.write_text("[Service]\nEnvironment=SDD_FAULT=load:kill\n")
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "sdd.service")
    before, restarts = status()["pid"], show("sdd.service", "NRestarts")
    for _ in range(3):
        code, text = paint()
        assert code != 0 and "the engine process was lost" in text, text
    now = status()
    assert now["pid"] == before and now["jobs"]["queued"] == 0, now
    assert show("sdd.service", "ActiveState") == "active" and show("sdd.service", "NRestarts") == restarts
    environment.unlink()
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "sdd.service")
    code, text = paint()
    assert code == 0, text


def drop_in_for_a_card():
    """gpu.conf under a real manager: the real /dev is there, all else is as locked as before."""
    copy = pathlib.Path("/etc/systemd/system/sdd.service.d/gpu.conf")
    copy.write_text(pathlib.Path("/usr/local/share/sdd/gpu.conf").read_text())
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "sdd.service")
    code, text = paint()
    assert code == 0, text
    sandbox_holds()
    for pid in pids():
        inside = pathlib.Path(f"/proc/{pid}/root")
        assert os.stat(inside / "dev").st_dev == os.stat("/dev").st_dev, "a private /dev has no nodes of cards"
        assert (inside / "proc/devices").exists()
    copy.unlink()
    sh("systemctl", "daemon-reload")
    sh("systemctl", "restart", "sdd.service")
    assert os.stat(f"/proc/{pids()[0]}/root/dev").st_dev != os.stat("/dev").st_dev


def limits_of_the_slice_are_the_budget():
    sh("systemctl", "set-property", "--runtime", "sdd.slice", "MemoryMax=500M", "MemoryHigh=infinity")
    sh("systemctl", "restart", "sdd.service")
    budget = status()["memory_budget"]
    assert budget == 500 * 2**20 - 500 * 2**20 // 10, budget
    sh("systemctl", "set-property", "--runtime", "sdd.slice", "MemoryMax=80%")
    sh("systemctl", "restart", "sdd.service")
    assert status()["memory_budget"] > budget


def quota_is_the_number_of_threads():
    engines = []
    for quota in ("", "100%"):
        sh("systemctl", "set-property", "--runtime", "sdd.slice", f"CPUQuota={quota}")
        sh("systemctl", "restart", "sdd.service")
        assert paint()[0] == 0
        engines.append(status()["worker"]["engine"])
    sh("systemctl", "set-property", "--runtime", "sdd.slice", "CPUQuota=")
    assert engines[0].endswith(f" {os.cpu_count()} threads") and engines[1].endswith(" 1 thread"), engines


def stopping_is_clean():
    sh("systemctl", "stop", "sdd.service", "sdd.socket")
    assert show("sdd.service", "Result") == "success"


# -- a user's daemon

def user_unit():
    sh("loginctl", "enable-linger", "alice")
    models = pathlib.Path("/home/alice/.local/share/sdd/models")
    await_true("alice's manager runs", lambda: as_user("alice", "systemctl", "--user", "is-system-running", check=False).stdout.strip()
               in ("running", "degraded"))
    as_user("alice", "mkdir", "-p", str(models))
    as_user("alice", "cp", "-r", "/var/lib/sdd/models/tiny", str(models / "mine"))
    as_user("alice", "systemctl", "--user", "enable", "--now", "sdd.socket")
    code, text = 0, as_user("alice", "sdctl", "txt2img", "--model", "mine", "--steps", "2", "--width", "64", "--height", "64",
                            "-o", "/home/alice/out.png", "a cat")
    now = json.loads(as_user("alice", "sdctl", "--json", "status"))
    assert "/sdd.slice/" in as_user("alice", "systemctl", "--user", "show", "-P", "ControlGroup", "sdd.service")
    assert now["pid"] == int(as_user("alice", "systemctl", "--user", "show", "-P", "MainPID", "sdd.service")), text
    words = pathlib.Path(f"/proc/{now['pid']}/status").read_text()
    assert "Seccomp:\t2" in words and "NoNewPrivs:\t1" in words
    assert os.readlink(f"/proc/{now['pid']}/ns/net") != os.readlink("/proc/1/ns/net")
    assert os.readlink(f"/proc/{now['pid']}/ns/user") != os.readlink("/proc/1/ns/user")
    inside = pathlib.Path(f"/proc/{now['pid']}/root/home/alice")
    assert (inside / ".local").is_dir()
    assert os.statvfs(inside).f_flag & os.ST_RDONLY, "the home folder is writable in there"
    # but for the one folder that is the daemon's own
    await_true("alice's model is hashed", lambda: hash_of("mine", lambda *command: as_user("alice", *command)))
    kept = os.stat("/home/alice/.cache/sdd/hashes")
    assert kept.st_mode & 0o777 == 0o600 and pwd.getpwuid(kept.st_uid).pw_name == "alice", kept
    # another user is not even let to the socket
    refused = as_user("bob", "sdctl", "--socket", "/run/user/%d/sdd/sdd.sock" % pwd.getpwnam("alice").pw_uid, "status", check=False)
    assert refused.returncode != 0
    os.kill(now["pid"], signal.SIGKILL)
    assert json.loads(as_user("alice", "sdctl", "--json", "status"))["pid"] != now["pid"]


def forwarded_by_ssh():
    """A painter elsewhere: the socket of alice's daemon through a real sshd, pixels inline, as sdctl(1) says."""
    key, local = "/home/bob/key", "/home/bob/sdd.sock"
    as_user("bob", "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key)
    as_user("alice", "mkdir", "-m", "700", "/home/alice/.ssh")
    pathlib.Path("/home/alice/.ssh/authorized_keys").write_text(pathlib.Path(key + ".pub").read_text())
    sh("systemctl", "start", "ssh.service")
    remote = "/run/user/%d/sdd/sdd.sock" % pwd.getpwnam("alice").pw_uid
    as_user("bob", "ssh", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "ExitOnForwardFailure=yes", "-f", "-N", "-L",
            f"{local}:{remote}", "alice@127.0.0.1")
    sdctl = ("sdctl", "--socket", local, "--inline")
    as_user("bob", *sdctl, "txt2img", "--seed", "1", "--steps", "2", "--width", "64", "--height", "64", "-o", "/home/bob/far.png", "a cat")
    as_user("alice", "sdctl", "txt2img", "--seed", "1", "--steps", "2", "--width", "64", "--height", "64", "-o", "/home/alice/near.png", "a cat")
    as_user("bob", *sdctl, "inpaint", "-i", "/home/bob/far.png", "--select", "8,8,32,32", "--steps", "2", "-o", "/home/bob/in.png", "a dog")
    pictures = [pathlib.Path(path).read_bytes() for path in ("/home/bob/far.png", "/home/alice/near.png")]
    assert chunks(pictures[0]) == chunks(pictures[1]), "the picture is another one through ssh"
    # without --inline the descriptors do not come through; that is said, not hung on
    refused = as_user("bob", "sdctl", "--socket", local, "inpaint", "-i", "/home/bob/far.png", "--select", "8,8,32,32", "--steps", "2",
                      "-o", "/home/bob/in.png", "a dog", check=False)
    assert refused.returncode != 0 and "descriptor" in refused.stdout, refused.stdout


def chunks(png):
    """The compressed pixels of a PNG."""
    found, at = b"", 8
    while at < len(png):
        length = int.from_bytes(png[at:at + 4], "big")
        if png[at + 4:at + 8] == b"IDAT":
            found += png[at + 8:at + 8 + length]
        at += 12 + length
    assert found
    return found


CHECKS = [own_the_control_groups, socket_activation, hashes_are_made_and_kept, who_may_connect, sandbox_holds, journal_has_fields, lost_worker_is_replaced,
          memory_kill_leaves_the_daemon, killed_daemon_comes_back, watchdog_replaces_a_hung_daemon,
          poisoned_worker_is_no_loop, drop_in_for_a_card, idle_daemon_leaves_and_comes_back, limits_of_the_slice_are_the_budget, quota_is_the_number_of_threads,
          stopping_is_clean, user_unit, forwarded_by_ssh]


def main():
    failed = 0
    for check in CHECKS:
        started = time.monotonic()
        try:
            check()
            print(f"ok      {check.__name__}  {time.monotonic() - started:.1f} s", flush=True)
        except Exception as error:  # the report says it all; the next check is worth running too
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    if failed:
        print(sh("journalctl", "-b", "--no-pager", "-n", "150", check=False).stdout)
    print(f"{len(CHECKS) - failed} passed, {failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
