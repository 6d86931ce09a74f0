"""Peak memory of a stretch of code: resident on a CPU, allocated on a GPU.

Linux keeps the largest resident size of a process (VmHWM) and starts it again when 5 is written to
/proc/self/clear_refs. Where that is not allowed the peak of the whole life of the process stands in: use a fresh one.
"""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def held(device: str) -> int:
    """Bytes held now."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    return _status("VmRSS") or peak(device)


def restart(device: str) -> None:
    """Forgets the peak so far, where that is allowed."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak(device: str) -> int:
    """The most bytes held at once since `restart`, or since the process began where that was not allowed."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM") or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
