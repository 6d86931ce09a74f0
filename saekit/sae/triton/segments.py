"""Pairs of token and feature in order of feature, cut into pieces of even work; in plain PyTorch, of fixed shapes.

Sorting once serves both weight gradients and the counts. A feature with many tokens is cut into chunks of CHUNK pairs,
so that no program has much more to do than another; a feature without any has one empty chunk. How many chunks there
are depends on data, so their list has room for the most there can be: d_sae + nnz / CHUNK.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

CHUNK = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Segments:
    """The pairs of a batch, sorted by feature."""

    order: Int[Tensor, " nnz"]
    """The pairs, feature by feature; within a feature as they came."""
    start: Int[Tensor, " d_sae_plus_1"]
    """Where each feature's pairs begin in `order`, and the end of the last."""
    chunk_end: Int[Tensor, " d_sae"]
    """How many chunks this feature and those before it have."""
    chunk_feature: Int[Tensor, " n_chunks"]
    """The feature of each chunk; d_sae where there is none."""
    partial_start: Int[Tensor, " d_sae"]
    """Where the sums of a feature of several chunks are kept until they are added."""

    @property
    def n_partials(self) -> int:
        """Room for the chunks of features that have several: fewer than 2 / CHUNK of the pairs."""
        return 2 * (len(self.order) // CHUNK) + 1


def segments(feature: Int[Tensor, " nnz"], d_sae: int) -> Segments:
    """The pairs sorted by feature. One radix sort of nnz 32-bit keys; the host waits for nothing.

    >>> sk.sae.triton.segments(torch.tensor([2, 0, 2]), 3).start.tolist()
    [0, 1, 1, 3]
    """
    ascending, order = torch.sort(feature.reshape(-1).int(), stable=True)
    names = torch.arange(d_sae + 1, dtype=torch.int32, device=feature.device)
    start = torch.searchsorted(ascending, names)
    n_chunks = ((start.diff() + CHUNK - 1) // CHUNK).clamp(min=1)
    chunk_end = n_chunks.cumsum(0)
    chunks = torch.arange(d_sae + len(order) // CHUNK, device=feature.device)
    several = torch.where(n_chunks > 1, n_chunks, 0)
    return Segments(
        order=order,
        start=start,
        chunk_end=chunk_end,
        chunk_feature=torch.searchsorted(chunk_end, chunks, right=True),
        partial_start=several.cumsum(0) - several,
    )
