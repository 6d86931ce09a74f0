"""Where every kernel starts, and whether kernels can be used at all.

Triton comes with torch's CUDA and ROCm builds and is imported only when a kernel is wanted. TRITON_INTERPRET=1 in the
environment, set before triton's first import, runs kernels on CPU tensors in Python: for tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

import torch


def available(device: torch.device | str) -> bool:
    """Whether the kernels run on this device: CUDA or ROCm with triton importable, or triton's interpreter.

    >>> sk.sae.triton.available("cpu")
    False
    """
    on_gpu = torch.device(device).type == "cuda"  # ROCm's devices are called cuda too
    return (on_gpu or os.environ.get("TRITON_INTERPRET") == "1") and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Runs a kernel over a grid of programs, on the device of its first argument."""
    device = args[0].device
    if device.type == "cuda":
        with torch.cuda.device(device):
            kernel[grid](*args, **options)
    else:
        kernel[grid](*args, **options)


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()
