"""Sixteen digits that say which SAE it is, hashed once for as long as its weights stay.

The hash of 16,384 features is of 75 MB. It is kept with a checksum of every weight, made on every call, which takes
a tenth of the time. Torch's version counters would be quicker still, but fused optimisers, writes through `.data` and
kernels change weights without being counted.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import SAE

INTEGERS = (torch.int64, torch.int32, torch.int16)


class Fingerprint(NamedTuple):
    """A fingerprint, and what it was made of."""

    digits: str
    header: str
    checksums: list[Tensor]

    def is_of(self, sae: SAE) -> bool:
        """Whether it is still that of this SAE."""
        if self.header != _header(sae):
            return False
        now = [part for tensor in _tensors(sae) for part in _checksum(tensor)]
        return len(now) == len(self.checksums) and all(map(_same, now, self.checksums))


def fingerprint(sae: SAE) -> Fingerprint:
    """The fingerprint of an SAE: its architecture, how it reads x, and every weight in float32 or float64."""
    header, tensors = _header(sae), _tensors(sae)
    digest = hashlib.sha256(header.encode())
    for tensor in tensors:
        values = tensor.cpu()
        values = values.to(torch.promote_types(values.dtype, torch.float32)).contiguous()
        digest.update(values.numpy().tobytes())
    return Fingerprint(digest.hexdigest()[:16], header, [part for tensor in tensors for part in _checksum(tensor)])


def _checksum(tensor: Tensor) -> tuple[Tensor, ...]:
    """A vector itself; of a matrix, per row in memory, the exact sum of its bits and a product with fixed numbers.

    The sum misses no change of a single weight, however small; the product sees signs and places.
    """
    if tensor.ndim != 2:
        return (tensor.cpu().clone(),)
    stored = tensor if tensor.is_contiguous() else tensor.T.contiguous()
    fixed = torch.arange(stored.shape[1], device=stored.device).cos().to(stored.dtype)
    row_bytes = stored.shape[1] * stored.element_size()
    bits = stored.view(next(dtype for dtype in INTEGERS if row_bytes % dtype.itemsize == 0))  # the widest is fastest
    return bits.sum(1).cpu(), (stored @ fixed).cpu()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _header(sae: SAE) -> str:
    c = sae.config
    return f"{c.activation} {c.k} {c.subtracts_b_dec}" + (f" {c.input_normalisation}" if c.normalises_input else "")


def _tensors(sae: SAE) -> list[Tensor]:
    names = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", *sae.architecture.extra_parameters)
    return [getattr(sae, n).detach() for n in dict.fromkeys((*names, *(["W_skip"] if sae.config.skip else [])))]
