"""Where a model lies and in which precision: what the caller asked for, checked before anything is loaded."""

from __future__ import annotations

import torch

from ..errors import ConfigError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "half": torch.float16,
}
"""Accepted spellings; the first four are what messages list."""


def available_devices() -> list[str]:
    """The devices that torch can use here, "cpu" first.

    >>> from saekit.models.placement import available_devices
    >>> available_devices()[0]
    'cpu'
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{i}" for i in range(n_cuda)), *mps]


def find_device(device: str | torch.device = "auto") -> torch.device:
    """The torch.device that `device` names; "auto" is CUDA where there is one, else the CPU.

    ConfigError for one that is no device, or that this machine does not have, with the reason.

    >>> from saekit.models.placement import find_device
    >>> find_device("cpu")
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise _no_device("not a device", device) from None
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        reason = "torch sees no GPU" if built else "this build of torch is for the CPU alone"
        raise _no_device(f"no CUDA here: {reason}", device)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise _no_device(f"no GPU with number {found.index}", device)
    if found.type == "mps" and not torch.backends.mps.is_available():
        for_macs = torch.backends.mps.is_built()
        reason = (
            "this Mac or its macOS has none" if for_macs else "this build of torch has none, only those for Macs do"
        )
        raise _no_device(f"no MPS here: {reason}", device)
    if found.type not in ("cuda", "mps") and not _usable(found):
        raise _no_device(f"torch cannot use {found.type} here", device)
    return found


def find_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The torch.dtype that `dtype` names, like "bfloat16" or "torch.bfloat16".

    ConfigError for one that no model is loaded in, or that `device` does not have.

    >>> from saekit.models.placement import find_dtype
    >>> find_dtype("bfloat16", torch.device("cpu"))
    torch.bfloat16
    """
    found = DTYPES.get(dtype.removeprefix("torch.").lower()) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ConfigError(
            "not a dtype that a model is loaded in",
            got=dtype,
            accepted=", ".join(list(DTYPES)[:4]) + ", as text or as torch.float32 and so on",
            fix='pass dtype="float32", or "bfloat16" for half the memory',
        )
    if found is torch.float64 and device.type == "mps":
        raise ConfigError(
            "MPS has no float64: Apple's GPUs compute in 32 bits at most",
            got=f"dtype=float64, device={device}",
            accepted="float32, bfloat16, float16 on mps",
            fix='pass dtype="float32", or device="cpu"',
        )
    return found


def _usable(device: torch.device) -> bool:
    """Whether a tensor can be made on a device of a kind that has no question of its own."""
    if device.type == "meta":
        return False
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, NotImplementedError, ImportError, AssertionError):
        return False
    return True


def _no_device(what: str, device: object) -> ConfigError:
    names = ", ".join(f'"{name}"' for name in available_devices())
    return ConfigError(what, got=device, accepted=f'"auto", {names}', fix='pass device="auto"')
