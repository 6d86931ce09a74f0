"""Where every kernel starts, after the gate has let it through.

Triton comes with torch's CUDA and ROCm builds and is imported only when a kernel is wanted. TRITON_INTERPRET=1 in the
environment, set before triton's first import, runs kernels on CPU tensors in Python: for tests.
"""

from __future__ import annotations

from typing import Any

import torch

from . import gate


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Runs a kernel over a grid of programs, on the device of its first argument; ConfigError on an unchecked one."""
    device = args[0].device
    gate.require(device)
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
