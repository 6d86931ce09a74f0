"""float64 where a device has it: Apple's MPS does not."""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps",)


def doubles(x: Tensor) -> Tensor:
    """`x` as float64: where it lies, or on the CPU where its device has no float64.

    >>> from saekit.sae.precision import doubles
    >>> doubles(torch.ones(2)).dtype
    torch.float64
    """
    return (x.cpu() if x.device.type in WITHOUT_FLOAT64 else x).double()


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 where a device has no more."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64
