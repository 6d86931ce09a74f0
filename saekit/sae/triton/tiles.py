"""The quickest plan on this device, by timing each that passed the self-check on the tensors that it is wanted for.

The first batch of a new size is chosen from by every candidate, a few times; a candidate that raises, or whose values
are not the dense plan's, is dropped. What was found is kept beside the outcome of the self-check, so that the same
machine makes the same choice in every run. A size is the operation, the number of tokens rounded up to a power of two,
d_in, d_sae and k. Without a GPU nothing is timed: the plan is dense.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ...errors import FileError
from ...json_files import Finite
from . import gate
from .device_key import DeviceKey, device_key
from .launch import power_of_two
from .outcome import keep, kept
from .plan import DENSE, Plan, candidates

REPEATS = 5
WARM_UP = 2
SAME = 1e-3
"""How far the values of a plan may be from the dense one's, relative to the largest."""
Choose = Callable[[Plan], tuple[Tensor, Tensor]]
Timer = Callable[[Callable[[], Any]], float]


@dataclass(frozen=True, kw_only=True)
class TileTiming:
    """What each plan took for one size on one device."""

    size: str
    """The operation, tokens, d_in, d_sae and k."""
    chosen: str
    """The label of the quickest plan."""
    seconds: dict[str, float]
    """Median seconds of each plan that gave the right values."""
    dropped: dict[str, str]
    """Plans that were left out, and why."""


class StoredTiming(TypedDict):
    """A TileTiming as JSON."""

    size: str
    chosen: str
    seconds: dict[str, Finite]
    dropped: dict[str, str]


class StoredTimings(TypedDict):
    """What is kept about a device."""

    timings: dict[str, StoredTiming]
    checksum: str


_lock = threading.RLock()
_chosen: dict[tuple[torch.device, str], Plan] = {}


def quickest(
    operation: str, x: Tensor, d_sae: int, k: int, dtype: torch.dtype, choose: Choose, timer: Timer | None = None
) -> Plan:
    """The plan for a batch x [n, d_in], from this process, the cache folder, or a timing now.

    `choose` runs a plan on the batch; `timer` gives the seconds that a call takes, CUDA events by default.
    """
    device = x.device
    if device.type not in gate.CHECKED or not gate.available(device):
        return DENSE
    tried = candidates(len(x), d_sae, k, dtype, gate.self_check(device).tiles)
    if len(tried) == 1:
        return DENSE
    size = f"{operation} n {power_of_two(len(x))} d_in {x.shape[1]} d_sae {d_sae} k {k}"
    with _lock:
        if (device, size) not in _chosen:
            found = _kept_or_timed(size, tried, choose, timer or cuda_seconds, device_key(device))
            _chosen[device, size] = found
        return _chosen[device, size]


def _kept_or_timed(size: str, tried: Sequence[Plan], choose: Choose, timer: Timer, key: DeviceKey) -> Plan:
    plans = {p.label: p for p in tried}
    path = key.file("tiles")
    with gate.lock_of(path):  # of several processes one times, and all choose the same
        known = timings(key)
        found = known.get(size)
        if found is None or found.chosen not in plans:
            found = time_plans(size, tried, choose, timer)
            if not any("OutOfMemory" in why for why in found.dropped.values()):  # that would say more about the moment
                with contextlib.suppress(FileError):  # without a folder to keep it in, the next process times again
                    keep(path, {"timings": {name: asdict(t) for name, t in (known | {size: found}).items()}})
    return plans[found.chosen]


def time_plans(size: str, tried: Sequence[Plan], choose: Choose, timer: Timer) -> TileTiming:
    """Runs each plan, compares its values with the dense plan's, and times it.

    >>> from saekit.sae.triton.plan import DENSE, TILES
    >>> seconds = iter([3.0, 2.0])
    >>> same = torch.ones(2), torch.arange(2)
    >>> time_plans("top_k", [DENSE, TILES[0]], lambda plan: same, lambda call: next(seconds)).chosen == TILES[0].label
    True
    """
    seconds: dict[str, float] = {}
    dropped: dict[str, str] = {}
    want: Tensor | None = None
    for plan in sorted(tried, key=lambda p: p.kind != "dense"):
        try:
            values = choose(plan)[0]
            far = 0.0 if want is None else _distance(values, want)
            if not far <= SAME:
                dropped[plan.label] = f"differs from the dense plan by {far:.2g} on {size}"
                continue
            want = values if plan.kind == "dense" else want
            seconds[plan.label] = timer(lambda plan=plan: choose(plan))  # type: ignore[misc]
        except Exception as e:
            dropped[plan.label] = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
    chosen = min(seconds, key=lambda label: seconds[label]) if seconds else DENSE.label
    return TileTiming(size=size, chosen=chosen, seconds=seconds, dropped=dropped)


def cuda_seconds(call: Callable[[], Any]) -> float:
    """The median time of a call on the current CUDA device, after two that are not counted."""
    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(1e-3 * begin.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def timings(key: DeviceKey) -> dict[str, TileTiming]:
    """Every timing that is kept about a device, by size; none where there is no file or it is damaged."""
    return kept(key.file("tiles"), StoredTimings, lambda v: {s: TileTiming(**t) for s, t in v["timings"].items()}) or {}


def forget() -> None:
    """Forgets what this process has chosen; what is kept in the cache folder stays."""
    with _lock:
        _chosen.clear()


def _distance(values: Tensor, want: Tensor) -> float:
    """The largest difference of sorted values over the largest number; infinite where one is not finite."""
    a, b = (v.sort(dim=-1).values.double() for v in (values, want))
    far = float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) if b.numel() else 0.0
    return far if far == far else float("inf")
