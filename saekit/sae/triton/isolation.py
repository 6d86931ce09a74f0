"""Runs the self-check in a process of its own, so that a crash, a hang or a device fault costs the check alone.

A kernel that reads outside its memory ends the whole process's use of a GPU, and one that hangs cannot be stopped from
inside. The other process writes down each check as it begins and ends, so that the last one begun is known.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ...errors import FileError
from ...json_files import parsed
from .device_key import DeviceKey
from .outcome import KernelCheck, SelfCheck, check_of

SECONDS = 900.0
"""After which the check counts as hanging. Most of it is compiling."""
COMMAND = [sys.executable or "python", "-P", "-m", "saekit.sae.triton.checks"]


def check_in_own_process(device: torch.device, key: DeviceKey) -> SelfCheck:
    """The outcome of `checks.run_checks` on a device; an error in words where that process does not come to its end."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="saekit-") as folder:
        report, said = Path(folder) / "report.jsonl", Path(folder) / "stderr"
        error = _run([*COMMAND, str(device), key.digest, str(report)], said)
        checks, last = _read(report)
    if error and last:
        error = f"{error}, in {last}"
    return SelfCheck(key=key, checks=checks, error=error, seconds=round(time.perf_counter() - begun, 1))


def _run(command: list[str], said: Path) -> str:
    """Runs a command to its end or SECONDS; what went wrong, in words."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)}
    try:
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
            )
    except (OSError, ValueError) as e:
        return f"the check could not be started: {e}"
    try:
        code = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS:.0f} s"
    finally:
        _end(process)
    if code == 0:
        return ""
    lines = said.read_text("utf8", errors="replace").strip().splitlines()
    why = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return f"the check {why}" + (f": {lines[-1][:300]}" if lines else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs; one that a driver holds is left behind rather than waited for."""
    if process.poll() is None:
        process.kill()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            return


def _read(report: Path) -> tuple[tuple[KernelCheck, ...], str]:
    """The checks that were finished, and the one that was begun and was not."""
    checks: list[KernelCheck] = []
    last = ""
    lines = report.read_bytes().splitlines() if report.is_file() else []
    for line in lines:
        try:
            value: Any = parsed(line, report)
            if "begun" in value:
                last = str(value["begun"])
            else:
                checks.append(check_of(value, report))
                last = ""
        except FileError:
            continue  # torn: the process ended while it wrote
    return tuple(checks), last
