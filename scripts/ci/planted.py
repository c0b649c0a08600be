#!/usr/bin/env python3
"""Plants known faults into a copy of the sources, one at a time, and expects that tests fail.

Usage: planted.py [--check] [--commit COMMIT] [--only NAME]... [--folder FOLDER] [--report FILE]

Each file of planted.d is one fault: `what` it is, one or more places `[[at]]` with the text to `find` and what to
`replace` it with, and the `tests` that must notice, as arguments of `cargo test`; `{package}` is the package that the
text was found in. Spaces and line breaks in `find` match any white space. The first place that is there counts, and it
must be there exactly once in the shipped sources. The copy is a git worktree in FOLDER (default: target/planted), with a
build folder of its own that all faults share. A fault that does not compile, or that no test notices, fails the run, and
so does a test that fails without a fault. `--check` builds nothing: it only looks for the place of every fault. The report is `{"schema":"rap.planted.v1","commit","ok","faults":[...]}`.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import tomllib

TOPS = ["proto", "control-plane", "node-agent"]
DEADLINE_S = 1800


def run(command, folder, environment=None):
    """Exit status and both outputs as one text."""
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, timeout=DEADLINE_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    return done.returncode, done.stdout


def pattern(text):
    return re.compile(r"\s+".join(re.escape(word) for word in text.split()))


def locate(tree, places):
    """(file, its text, start, end, replacement) of the first place that is there."""
    for place in places:
        wanted, found = pattern(place["find"]), []
        for top in TOPS:
            for file in sorted((tree / top).glob("*/src/**/*.rs")):
                text = file.read_text(encoding="utf-8")
                found += [(file, text, *match.span(), place["replace"].strip()) for match in wanted.finditer(text)]
        if len(found) == 1:
            return found[0]
        if found:
            where = ", ".join(str(one[0].relative_to(tree)) for one in found)
            raise LookupError(f"the text to replace is to be found once, and is: {where}")
    raise LookupError("the text to replace is nowhere")


def package_of(tree, file):
    folder = file.parent
    while not (folder / "Cargo.toml").exists():
        folder = folder.parent
    return tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))["package"]["name"]


def failed_tests(output):
    """The names below the last `failures:` of each test program."""
    names = set()
    for block in re.findall(r"^failures:\n((?:    \S.*\n)+)", output, re.MULTILINE):
        names.update(line.strip() for line in block.splitlines())
    return sorted(names)


def cargo_test(tree, target, tests, package):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target), CARGO_TERM_COLOR="never")
    words = [word.replace("{package}", package) for word in tests]
    built, output = run(["cargo", "test", "--quiet", "--locked", "--no-run", *without_filter(words)], tree, environment)
    if built != 0:
        return None, output
    status, output = run(["cargo", "test", "--locked", "--no-fail-fast", *words], tree, environment)
    ran = sum(int(passed) + int(failed) for passed, failed in re.findall(r"(\d+) passed; (\d+) failed", output))
    return {"status": status, "ran": ran, "failed": failed_tests(output)}, output


def without_filter(words):
    """What chooses the programs to build: all before `--`."""
    return words[: words.index("--")] if "--" in words else words


def judge(tree, target, name, fault):
    """One row of the report."""
    row = {"id": name, "what": fault["what"], "ok": False, "failed": [], "note": ""}
    started = time.monotonic()
    try:
        file, text, start, end, replacement = locate(tree, fault["at"])
        package = package_of(tree, file)
        row["file"] = str(file.relative_to(tree))
        sound, output = cargo_test(tree, target, fault["tests"], package)
        if sound is None or sound["status"] != 0 or sound["ran"] == 0:
            row["note"] = "without the fault the tests do not pass: " + output[-2000:]
            return row
        try:
            file.write_text(text[:start] + replacement + text[end:], encoding="utf-8")
            planted, output = cargo_test(tree, target, fault["tests"], package)
        finally:
            file.write_text(text, encoding="utf-8")
        if planted is None:
            row["note"] = "does not compile: " + output[-2000:]
        else:
            row.update(ok=bool(planted["failed"]), failed=planted["failed"], ran=planted["ran"])
            if not planted["failed"]:
                row["note"] = "no test noticed: " + output[-2000:]
    except (LookupError, OSError, subprocess.TimeoutExpired) as problem:
        row["note"] = str(problem)
    finally:
        row["seconds"] = round(time.monotonic() - started)
    return row


def write(report, commit, rows):
    """The report so far, so that an ended run leaves what it saw."""
    if report:
        good = bool(rows) and all(row["ok"] for row in rows)
        content = {"schema": "rap.planted.v1", "commit": commit, "ok": good, "faults": rows}
        report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check(root, faults):
    """Exit status 1 if a fault has no place in the sources of this folder."""
    lost = 0
    for name, fault in faults.items():
        try:
            locate(root, fault["at"])
        except LookupError as error:
            lost += 1
            print(f"{name}: {error}")
    print(f"planted: {len(faults) - lost} of {len(faults)} faults have a place")
    counts = os.environ.get("RAP_CI_COUNTS")
    if counts:
        pathlib.Path(counts).write_text(f"{len(faults) - lost} {lost} 0\n", encoding="utf-8")
    return 1 if lost or not faults else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--commit", default="HEAD")
    arguments.add_argument("--only", action="append", default=[])
    arguments.add_argument("--folder", type=pathlib.Path)
    arguments.add_argument("--report", type=pathlib.Path)
    given = arguments.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    root = here.parents[1]
    folder = (given.folder or root / "target" / "planted").resolve()
    tree, target = folder / "tree", folder / "target"
    folder.mkdir(parents=True, exist_ok=True)
    faults = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(here.glob("planted.d/*.toml"))}
    chosen = {name: fault for name, fault in faults.items() if not given.only or name in given.only}
    if given.check:
        return check(root, chosen)
    commit = subprocess.check_output(["git", "rev-parse", given.commit], cwd=root, text=True).strip()
    subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=root, capture_output=True, check=False)
    subprocess.run(["git", "worktree", "prune"], cwd=root, check=True)
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=root, check=True)
    rows = []
    try:
        for name, fault in chosen.items():
            row = judge(tree, target, name, fault)
            rows.append(row)
            write(given.report, commit, rows)
            said = f"{len(row['failed'])} test(s) failed" if row["ok"] else row["note"]
            print(f"{name:<28} {'ok' if row['ok'] else 'FAILED':<7} {row['seconds']:>4}s  {said}", flush=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=root, check=False)
    noticed = sum(row["ok"] for row in rows)
    print(f"planted: {noticed} of {len(rows)} faults were noticed")
    counts = os.environ.get("RAP_CI_COUNTS")
    if counts:
        pathlib.Path(counts).write_text(f"{noticed} {len(rows) - noticed} 0\n", encoding="utf-8")
    return 0 if rows and noticed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
