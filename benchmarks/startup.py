"""How long importing saekit takes beside importing torch, and how long the command line's help and completion take.

    python benchmarks/startup.py [--rounds 9]

Every command runs in a fresh interpreter, all of them in turn in each round, after one round that warms the file cache
and is not counted. Seconds are from start to exit, so `python -c pass` is in each; processor seconds are of the process
and its children. `sk.SAE` and `sk.load_model` say what the first use of an autoencoder and of a model costs on top.

Prints a table of medians, with ratios to `import torch` of the same round, and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from train_step import machine

CASES: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import saekit": ["-c", "import saekit"],
    "import saekit as sk; sk.SAE": ["-c", "import saekit as sk; sk.SAE"],
    "import saekit as sk; sk.load_model": ["-c", "import saekit as sk; sk.load_model"],
    "saekit --help": ["-m", "saekit", "--help"],
    "saekit train --help": ["-m", "saekit", "train", "--help"],
    "saekit tr<tab>": ["-c", "from saekit.cli import app; app(prog_name='saekit')"],
}
COMPLETION = {"_SAEKIT_COMPLETE": "complete_bash", "COMP_WORDS": "saekit tr", "COMP_CWORD": "1"}


def seconds(case: str) -> tuple[float, float]:
    """Wall and processor seconds of one run in a fresh interpreter."""
    environment = os.environ | (COMPLETION if case.endswith("<tab>") else {})
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *CASES[case]], env=environment, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each command that count")
    arguments = parser.parse_args()

    where = machine("cpu")
    for case in CASES:
        seconds(case)
    runs: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case in CASES:
            runs[case].append(seconds(case))

    rows = {}
    for case, measured in runs.items():
        pairs = zip(measured, runs["import torch"], strict=True)
        rows[case] = {
            "seconds": round(statistics.median(wall for wall, _ in measured), 3),
            "processor_seconds": round(statistics.median(used for _, used in measured), 3),
            "of_import_torch": round(statistics.median(wall / torch for (wall, _), (torch, _) in pairs), 3),
        }
    print(f"{'':36s} {'seconds':>10s} {'processor':>10s} {'of torch':>10s}")
    for case, row in rows.items():
        print(f"{case:36s} {row['seconds']:10.3f} {row['processor_seconds']:10.3f} {row['of_import_torch']:10.3f}")
    print(json.dumps({"benchmark": "startup", "rounds": arguments.rounds, **where, "cases": rows}))


if __name__ == "__main__":
    main()
