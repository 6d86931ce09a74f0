"""The one way to a kernel: only on a device where every kernel has given its reference's result.

On a GPU the self-check (checks.py) runs before the first kernel, in a process of its own (isolation.py), once for a
device, driver, torch, triton and source of the kernels; its outcome is kept in saekit's cache folder. Where it does not
pass, or a kernel fails later, the references in plain PyTorch take the place of the kernels, with one warning. Every
kernel starts through `launch`, which refuses a device that has not passed. SAEKIT_TRITON=0 in the environment switches
the kernels off. Triton's interpreter, for tests, is not checked: it runs kernels on the CPU, in Python.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock

from ...errors import ConfigError, FileError, SaekitError, disk_errors
from . import isolation
from .device_key import device_key, triton_version
from .outcome import SelfCheck, StoredOutcome, keep, kept, outcome_of

SWITCH = "SAEKIT_TRITON"
AGAIN = "`saekit doctor --recheck` checks again; SAEKIT_TRITON=0 switches the kernels off without this warning"
CHECKED = ("cuda",)
"""Kinds of devices that have to pass first. ROCm's devices are called cuda too."""
Result = TypeVar("Result")

_lock = threading.RLock()
_outcomes: dict[torch.device, SelfCheck] = {}
_off: dict[torch.device, str] = {}
"""Devices on which a kernel that had passed failed in use, and how."""
_being_checked: set[torch.device] = set()
_warned: set[tuple[torch.device, str]] = set()


def available(device: torch.device | str) -> bool:
    """Whether kernels are used on this device: a GPU on which they passed the self-check, or triton's interpreter.

    On a GPU the first call may take as long as the check does.

    >>> sk.sae.triton.available("cpu")
    False
    """
    device = torch.device(device)
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    if device.type not in ("cpu", "cuda") or switched_off():
        return False
    if device.type not in CHECKED:
        return has_triton()
    device = _numbered(device)
    if device not in _outcomes and device not in _being_checked:
        if device.type == "cuda" and not torch.cuda.is_available():
            return False
        if not has_triton():
            _warn_once(device, "absent", "Triton is not installed", "install it with `pip install triton`")
            return False
    if device in _being_checked or device in _off:
        return device not in _off
    outcome = self_check(device)
    if not outcome:
        _warn_once(device, "check", outcome.reason, AGAIN)
    return outcome.passed


def self_check(device: torch.device | str = "cuda", *, again: bool = False) -> SelfCheck:
    """Whether the kernels give their references' results on this device; checked once, then read from the cache.

    `again` checks whatever was found before. ConfigError for a device that has no kernels.
    """
    device = _numbered(torch.device(device))
    if device.type not in CHECKED or not has_triton():
        raise ConfigError(
            "there are no kernels to check",
            got=f"{device}, triton {triton_version() or 'not installed'}",
            accepted="a CUDA or ROCm device, with triton installed",
        )
    with _lock:
        if again:
            _off.pop(device, None)
            _warned.difference_update({w for w in _warned if w[0] == device})
        elif device in _outcomes:
            return _outcomes[device]
        _outcomes[device] = _found(device, again)
        return _outcomes[device]


def _found(device: torch.device, again: bool) -> SelfCheck:
    """The outcome that is kept, or a new one; of several processes one checks and the others wait for it."""
    key = device_key(device)
    path = key.file("check")
    found = None if again else kept(path, StoredOutcome, outcome_of)
    if found is not None and found.key == key:
        return found
    with lock_of(path):
        found = None if again else kept(path, StoredOutcome, outcome_of)
        if found is not None and found.key == key:
            return found
        print(f"saekit: checking the GPU kernels on {key.device} against PyTorch, once", file=sys.stderr, flush=True)
        found = isolation.check_in_own_process(device, key)
        if found.lasts:
            try:
                keep(path, asdict(found))
            except FileError as e:
                warnings.warn(f"the outcome of the check of the GPU kernels could not be kept: {e.what}", stacklevel=2)
    return found


def lock_of(path: Path) -> AbstractContextManager[None]:
    """A lock between processes; none where the cache folder cannot be written."""
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
    except FileError:
        return nullcontext()
    return _released(lock)


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.release()


def run(device: torch.device, kernel: Callable[[], Result], plain: Callable[[], Result]) -> Result:
    """What the kernel gives where it may run, and the reference in plain PyTorch elsewhere or where it fails.

    A kernel that raises has changed nothing that its reference reads: inputs are read only, and what is changed in
    place is changed by the last launch. A device that was short of memory keeps its kernels for the next call; after
    any other failure it is left to the references. What the device itself reports later, such as a fault in its
    memory, ends the process's use of it, as with any other kernel, and is not caught.
    """
    if not available(device):
        return plain()
    try:
        return kernel()
    except SaekitError:
        raise
    except Exception as e:
        device = _numbered(device)
        if device in _being_checked:
            raise
        said = f"a kernel failed in use: {type(e).__name__}: {' '.join(str(e).split())[:300]}"
        if not isinstance(e, torch.OutOfMemoryError):
            _off[device] = said
        _warn_once(device, type(e).__name__, said, AGAIN)
    return plain()


def require(device: torch.device) -> None:
    """ConfigError unless kernels may start on this device now."""
    if device.type not in CHECKED or _numbered(device) in _being_checked:
        return
    if not available(device):
        raise ConfigError(
            "a kernel was to start on a device where it is not known to be right",
            got=device,
            accepted="a device for which saekit.sae.triton.available is true",
            fix="call the functions of saekit.sae.triton, which take the references elsewhere",
        )


@contextmanager
def checking(device: torch.device) -> Iterator[None]:
    """Lets kernels start on this device while they are checked."""
    device = _numbered(device)
    _being_checked.add(device)
    try:
        yield
    finally:
        _being_checked.discard(device)


def switched_off() -> bool:
    """Whether SAEKIT_TRITON says that no kernel is to be used."""
    asked = os.environ.get(SWITCH, "1").strip().lower()
    if asked not in ("", "0", "1", "on", "off", "true", "false"):
        raise ConfigError(f"the environment variable {SWITCH} is neither on nor off", got=asked, accepted="0 or 1")
    return asked in ("0", "off", "false")


def has_triton() -> bool:
    """Whether triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def failure(device: torch.device) -> str:
    """What a kernel that had passed raised in use, in this process; empty where none did."""
    return _off.get(_numbered(device), "")


def forget() -> None:
    """Forgets what this process knows about devices; what is kept in the cache folder stays."""
    with _lock:
        for known in (_outcomes, _off, _warned):
            known.clear()


def _numbered(device: torch.device) -> torch.device:
    """The device with its index."""
    if device.type != "cuda" or device.index is not None or not torch.cuda.is_available():
        return device
    return torch.device("cuda", torch.cuda.current_device())


def _warn_once(device: torch.device, kind: str, reason: str, fix: str) -> None:
    """The one warning about a device, and that nothing else changes."""
    if (device, kind) in _warned:
        return
    _warned.add((device, kind))
    warnings.warn(
        f"saekit's Triton kernels are not used on {device}: {reason}. Plain PyTorch takes their place. {fix}",
        stacklevel=4,
    )
