#!/usr/bin/env python3
"""What programs already built rely on. usage: check.py symbols LIBRARY MAP HEADER | api NEW OLD...

symbols  the library exports exactly what sdclient.map lists, and that is what sdclient.h declares
api      the text of api.info is a superset of each released level: nothing removed, renamed, narrowed or made required
"""
import json
import re
import subprocess
import sys


def symbols(library, map_path, header_path):
    listed = set(re.findall(r"^\s*(sdc_\w+);", open(map_path).read(), re.M))
    declared = set(re.findall(r"\b(sdc_\w+)\(", "".join(re.findall(r"^SDC_API[^;]*;", open(header_path).read(), re.M))))
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[2].split("@")[0] for line in out.splitlines() if " T " in line}
    faults = [f"{name} is {what}" for what, names in (
        ("listed but not exported", listed - exported), ("exported but not listed", exported - listed),
        ("declared but not listed", declared - listed), ("listed but not declared", listed - declared)) for name in sorted(names)]
    other = {line.split()[2].split("@")[0] for line in out.splitlines()} - exported - {"SDCLIENT_1"}
    return faults + [f"{name} is exported, but is no function" for name in sorted(other)]


def narrower(where, new, old, kinds):
    """kinds: of jobs, that the old level had; what a new kind needs binds nobody."""
    faults = []
    if new["type"] != old["type"] or any(new.get(k) != old.get(k) for k in ("struct", "items", "fd", "default")):
        faults.append(f"{where}: its type or default changed")
    for key, worse in (("min", lambda n, o: o is None or n > o), ("max", lambda n, o: o is None or n < o),
                       ("max_items", lambda n, o: n < o), ("min_items", lambda n, o: o is None or n > o)):
        if new.get(key) is not None and worse(new[key], old.get(key)):
            faults.append(f"{where}: {key} is narrower")
    if new.get("multiple", 1) != old.get("multiple", 1) and old.get("multiple", 1) % new.get("multiple", 1):
        faults.append(f"{where}: multiple is narrower")
    if new.get("required", False) and not old.get("required", False):
        faults.append(f"{where}: became required")
    if not set(old.get("only", [])) <= set(new.get("only", old.get("only", []))) or ("only" in new and "only" not in old):
        faults.append(f"{where}: fewer kinds may carry it")
    if not set(new.get("needs", [])) & kinds <= set(old.get("needs", [])):
        faults.append(f"{where}: more kinds need it")
    if "enum" in old and new.get("enum") != old["enum"]:
        faults.append(f"{where}: another enum")
    return faults


def superset(new, old):
    faults = []
    if new["level"] < old["level"] or new["minimum_level"] > old["level"]:
        faults.append(f"level {old['level']} is no longer spoken")
    for what in ("methods", "events"):
        have = {m["name"]: m for m in new[what]}
        for m in old[what]:
            if m["name"] not in have:
                faults.append(f"{what}: {m['name']} is gone")
            elif any(have[m["name"]].get(k) != m.get(k) for k in ("params", "result", "since")):
                faults.append(f"{what}: {m['name']} changed its structs")
    for name, values in old["enums"].items():
        if new["enums"].get(name, [])[:len(values)] != values:
            faults.append(f"enum {name}: values removed or reordered")
    for error in old["errors"]:
        if not any(e["code"] == error["code"] and e["name"] == error["name"] for e in new["errors"]):
            faults.append(f"error {error['name']} changed")
    kinds = set(old["enums"]["job_kind"])
    for name, struct in old["structs"].items():
        have = {f["name"]: f for f in new["structs"].get(name, {"fields": []})["fields"]}
        before = {f["name"] for f in struct["fields"]}
        for field in struct["fields"]:
            where = f"{name}.{field['name']}"
            faults += narrower(where, have[field["name"]], field, kinds) if field["name"] in have else [f"{where} is gone"]
        faults += [f"{name}.{f} is new and required" for f in have.keys() - before if have[f].get("required")]
        if new["level"] == old["level"]:
            faults += [f"{name}.{f} is new, but the level is not" for f in have.keys() - before]
    if new["level"] == old["level"] and len(new["methods"] + new["events"]) > len(old["methods"] + old["events"]):
        faults.append("a method or event is new, but the level is not")
    return faults


def main():
    if sys.argv[1] == "symbols":
        faults = symbols(*sys.argv[2:])
    else:
        new = json.load(open(sys.argv[2]))
        faults = [fault for old in sys.argv[3:] for fault in superset(new, json.load(open(old)))]
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


main()
