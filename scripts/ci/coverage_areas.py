#!/usr/bin/env python3
"""Prints the line coverage of each area that decides about trust, and fails where one is below the floor.

Usage: coverage_areas.py REPORT, the JSON of `cargo llvm-cov --json --summary-only`.
"""

import json
import sys

FLOOR = 85.0
AREAS = {
    "contract": "proto/contract/src/",
    "authority": "control-plane/authority/src/",
    "trust": "node-agent/trust/src/",
    "store": "control-plane/store/src/",
    "server enrollment": "control-plane/server/src/grpc/enrollment/",
    "server acts": "control-plane/server/src/acts/",
}


def main(path):
    with open(path, encoding="utf-8") as report:
        files = json.load(report)["data"][0]["files"]
    below = []
    print(f"{'area':<18} {'lines':>7} {'covered':>8} {'percent':>8}   lowest file")
    for area, folder in AREAS.items():
        inside = [(entry["filename"], entry["summary"]["lines"]) for entry in files if folder in entry["filename"]]
        lines = sum(summary["count"] for _, summary in inside)
        covered = sum(summary["covered"] for _, summary in inside)
        if not lines:
            below.append(f"{area}: no file was measured")
            continue
        percent = 100 * covered / lines
        name, lowest = min(inside, key=lambda entry: entry[1]["percent"])
        print(f"{area:<18} {lines:>7} {covered:>8} {percent:>7.1f}%   {name.split(folder)[1]} {lowest['percent']:.1f}%")
        if percent < FLOOR:
            below.append(f"{area}: {percent:.1f} % is below {FLOOR:.0f} %")
    for line in below:
        print(line)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
