#!/usr/bin/env python3
"""The house rules that a compiler does not check. Usage: lint.py RULE [SDD-BINARY]; prints each breach, exits 1 if any.

    arrows    who may include whom, and which folder may use which library
    length    median <= 250 lines, none over 700
    headers   each C file opens with a comment that says why it exists
    format    clang-format agrees with every C file
    words     nothing of a developer's machine and no package registry's host in the tree
    linkage   the front process links no engine library
"""
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIP = ("build", "demo", ".git", "training/work")

# room -> folders it may include from; the longest matching prefix names the room
MAY_INCLUDE = {
    "protocol/": ("protocol/",),
    "client/": ("client/sdclient.h", "client/", "protocol/"),
    "client/sdctl/": ("client/sdclient.h", "client/sdctl/"),
    "client/example.c": ("client/sdclient.h", "sdclient.h"),
    "kernels/": ("kernels/",),
    "daemon/engine/": ("daemon/engine/", "daemon/util/hash.h", "daemon/util/part-folders.h", "kernels/"),
    "daemon/": ("daemon/", "protocol/"),
    "plugins/": ("plugins/", "client/sdclient.h"),
}
BOUNDARY = ("daemon/engine/engine.h", "daemon/engine/error.h", "daemon/engine/pixels/image.h")
MAY_USE = {  # library header -> rooms
    r"dnnl": ("kernels/cpu/",),
    r"msgpack": ("protocol/", "client/"),
    r"systemd/": ("daemon/",),
    r"nettle/": ("daemon/model-hash.c",),
    r"jansson": ("daemon/", "client/sdctl/", "plugins/common/"),
    r"pcre2|utf8proc": ("daemon/engine/",),
    r"png|jpeglib|webp/|tiffio|lcms2": ("client/sdctl/",),
}


def sources(*suffixes):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                            capture_output=True, check=True).stdout.split("\n")
    return [p for p in listed if p.endswith(suffixes) and not p.startswith(SKIP) and (ROOT / p).is_file()]


def c_files():
    return [p for p in sources(".c", ".h") if not p.startswith("tests/")]


def room_of(path):
    rooms = [r for r in MAY_INCLUDE if path.startswith(r)]
    return max(rooms, key=len) if rooms else None


def arrows():
    for path in c_files():
        room = room_of(path)
        if room is None:
            continue
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            local = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if local:
                target = local.group(1)
                if not target.startswith(MAY_INCLUDE[room]) and "/" in target:
                    yield f"{path}:{number}: {room} may not include {target}"
                in_daemon = room == "daemon/"
                if in_daemon and target.startswith("daemon/engine/"):
                    if target not in BOUNDARY or not path.startswith("daemon/worker"):
                        yield f"{path}:{number}: only sdd-worker includes the engine, and only its boundary"
            if system:
                for library, rooms in MAY_USE.items():
                    if re.match(library, system.group(1)) and not path.startswith(rooms):
                        yield f"{path}:{number}: {system.group(1)} belongs to {', '.join(rooms)}"


def length():
    counts = {p: len((ROOT / p).read_text().splitlines()) for p in sources(".c", ".h", ".py")}
    for path, lines in counts.items():
        if lines > 700:
            yield f"{path}: {lines} lines; split it by topic (700 at most)"
    if counts and statistics.median(counts.values()) > 250:
        yield f"median length {statistics.median(counts.values())} lines; 250 at most"


def headers():
    for path in sources(".c", ".h"):
        text = (ROOT / path).read_text()
        if not re.match(r"(/\*.*?\*/)", text, re.S) or len(text.split("*/")[0]) < 30:
            yield f"{path}: begins without a comment that says why the file exists"


def clang_format():
    files = sources(".c", ".h")
    for start in range(0, len(files), 50):
        result = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *files[start:start + 50]], cwd=ROOT,
                                text=True, capture_output=True)
        yield from {line for line in result.stderr.splitlines() if "error:" in line}


def words():
    forbidden = re.compile("|".join([r"/wo" r"rk/(main|wt|shared|train|\.)", r"/\.lib" r"rary", r"pypi\." "org", r"python" "hosted", r"deb\.deb" "ian",
                                     r"farm" "-bench"]))
    for path in sources(".c", ".h", ".py", ".sh", ".md", ".txt", ".build", ".json", ".in", "Makefile"):
        text = (ROOT / path).read_text(errors="replace")
        for found in forbidden.finditer(text):
            yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {found.group(0)} does not belong in the tree"


def linkage():
    needed = subprocess.run(["ldd", sys.argv[2]], text=True, capture_output=True, check=True).stdout
    for library in ("dnnl", "gomp", "cuda", "cublas", "cudnn", "pcre2-8", "utf8proc", "stdc++"):
        # libsystemd itself brings in neither; jansson is used for nothing here but is harmless
        if re.search(rf"lib{re.escape(library)}\.so", needed):
            yield f"{sys.argv[2]} links lib{library}: the front process must stay free of engine libraries"


RULES = {"arrows": arrows, "length": length, "headers": headers, "format": clang_format, "words": words,
         "linkage": linkage}

if __name__ == "__main__":
    breaches = list(RULES[sys.argv[1]]())
    print("\n".join(breaches) if breaches else f"{sys.argv[1]}: clean")
    sys.exit(1 if breaches else 0)
