"""Which few pre-activations are the largest, and their values, without a matrix of all of them.

Pre-activations are (x - b_dec) @ W_enc + b_enc. Where the CPU has 8-bit products, upper bounds say which pairs of
token and feature can matter (int8_bounds.py), and those are computed in float32; elsewhere the product is made for a
block of tokens at a time. What is chosen is the same either way. No gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import triton as triton_kernels
from . import int8_bounds, kernels
from .int8_bounds import GROUPS, Int8Bounds
from .kernels import Pattern, dots

BLOCK_ELEMENTS = 2**24  # of a block of pre-activations
GPU_ELEMENTS = 2**30
TOKENS = 4096  # whose candidates are held at once
SAMPLE_TOKENS = 64  # from which the cut of a batch is guessed
MOST_CANDIDATES = 0.02  # fraction of pairs above which the float32 product is faster
Chosen = tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]  # token, feature, value


@dataclass(frozen=True, eq=False)
class EncoderWeights:
    """What pre-activations are made of; the rows of W_enc, [d_sae, d_in], are contiguous."""

    rows: Float[Tensor, "d_sae d_in"]
    b_enc: Float[Tensor, " d_sae"]
    b_dec: Float[Tensor, " d_in"] | None
    matmul_dtype: torch.dtype = torch.float32
    """The type in which a GPU multiplies; sums are float32."""

    def centred(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """x as the encoder reads it."""
        return x if self.b_dec is None else x - self.b_dec

    def at(
        self, z: Float[Tensor, "n d_in"], token: Int[Tensor, " nnz"], feature: Int[Tensor, " nnz"]
    ) -> Float[Tensor, " nnz"]:
        """Pre-activations of some pairs."""
        pattern = Pattern(token, feature, len(z), len(self.rows))
        return dots(self.rows, z, pattern).add_(self.b_enc[feature])

    def blocks(self, z: Float[Tensor, "n d_in"]) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the tokens and all their pre-activations, in the same storage each time."""
        n = max(1, min(len(z), BLOCK_ELEMENTS // len(self.rows)))
        pre = z.new_empty(n, len(self.rows))
        for start in range(0, max(1, len(z)), n):  # one empty block of no tokens
            part = z[start : start + n]
            yield slice(start, start + len(part)), torch.addmm(self.b_enc, part, self.rows.T, out=pre[: len(part)])

    def fused(self, z: Float[Tensor, "n d_in"]) -> bool:
        """Whether a GPU's kernels choose."""
        return kernels.on_gpu(z) and z.dtype == torch.float32

    def uses_int8_bounds(self, z: Float[Tensor, "n d_in"], n_kept: int) -> bool:
        """Whether bounds come first: on CPUs that have the integer product, where the matrix is large enough."""
        wide = len(self.rows) >= 2048 and len(z) >= 128 and n_kept <= min(384, len(self.rows) // 32)
        usual = wide and not kernels.on_gpu(z) and z.dtype == torch.float32 and int8_bounds.supported()
        return usual and bool(torch.isfinite(z.norm()))


@torch.no_grad()
def largest_of_tokens(
    encoder: EncoderWeights, x: Float[Tensor, "n d_in"], k: int
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Per token the k features with the largest pre-activations, ascending, and these; they may be negative."""
    z = encoder.centred(x)
    if encoder.fused(z):
        parts = [
            triton_kernels.top_k(part, encoder.rows, encoder.b_enc, k, dtype=encoder.matmul_dtype)
            for part in torch.split(z, max(1, GPU_ELEMENTS // len(encoder.rows)))
        ]
        return torch.cat([f for _, f in parts]), torch.cat([v for v, _ in parts])
    if not encoder.uses_int8_bounds(z, 2 * k):
        return _exact(encoder, z, k)
    quantised = Int8Bounds(encoder.rows, encoder.b_enc, z)
    found = [_largest_by_bounds(encoder, quantised, part, k) for part in torch.split(z, TOKENS)]
    return torch.cat([feature for feature, _ in found]), torch.cat([value for _, value in found])


def _largest_by_bounds(encoder: EncoderWeights, quantised: Int8Bounds, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    cuts, tokens, features = [], [], []
    for rows, bound in quantised.bounds(z):
        members = bound.view(len(bound), -1, GROUPS)
        largest = members.amax(1)
        # of 512 maxima: at least 2 k bounds reach the 2 k-th of them, and hardly more
        maxima = largest.view(len(bound), -1, 512).amax(1).numpy()
        cut = torch.from_numpy(np.sort(maxima, axis=1)[:, -2 * k])  # numpy sorts so few faster than it partitions them
        cut.clamp_(min=torch.finfo(cut.dtype).min)  # features of bias -inf are none
        token, group = (largest >= cut[:, None]).nonzero().unbind(1)
        which, member = (members[token, :, group] >= cut[token, None]).nonzero().unbind(1)
        token, feature = token[which], member * GROUPS + group[which]  # features in no order
        cuts.append(cut)
        tokens.append(token + rows.start)
        features.append(feature)
    token, feature = torch.cat(tokens), torch.cat(features)
    counts = torch.bincount(token, minlength=len(z))
    if int(counts.min()) < k:
        return _exact(encoder, z, k)
    feature, value = _largest_of_list(token, feature, encoder.at(z, token, feature), counts, k)
    unsure = (torch.cat(cuts) > value.amin(1)).nonzero().squeeze(1)  # one below the cut might be larger
    if len(unsure):
        feature[unsure], value[unsure] = _exact(encoder, z[unsure], k)
    return feature, value


@torch.no_grad()
def above(encoder: EncoderWeights, x: Float[Tensor, "n d_in"], threshold: Float[Tensor, " d_sae"]) -> Chosen:
    """All pairs whose pre-activation exceeds the feature's threshold; tokens and their features ascending."""
    z = encoder.centred(x)
    pairs = None
    if encoder.uses_int8_bounds(z, 1):
        pairs = _candidates(Int8Bounds(encoder.rows, encoder.b_enc, z).bounds(z, threshold), 0.0)
    if pairs is None:
        found = []
        for rows, pre in encoder.blocks(z):
            token, feature = (pre > threshold).nonzero().unbind(1)
            found.append((token + rows.start, feature, pre[token, feature]))
        return _joined(found)
    token, feature = pairs
    value = encoder.at(z, token, feature)
    kept = value > threshold[feature]
    return token[kept], feature[kept], value[kept]


@torch.no_grad()
def largest_of_batch(encoder: EncoderWeights, x: Float[Tensor, "n d_in"], count: int) -> Chosen:
    """The `count` largest pre-activations of the whole batch; tokens and their features ascending.

    A cut below which none of them lies is guessed from a sample of the tokens; should fewer than `count` reach it, a
    lower one is tried.
    """
    z = encoder.centred(x)
    n, d_sae = len(z), len(encoder.rows)
    count = min(count, n * d_sae)
    if encoder.fused(z):
        value, position = triton_kernels.top_of_batch(z, encoder.rows, encoder.b_enc, count, dtype=encoder.matmul_dtype)
        token = torch.div(position, d_sae, rounding_mode="floor")
        return token, position - token * d_sae, value
    sample = torch.addmm(encoder.b_enc, z[:: -(-n // SAMPLE_TOKENS)], encoder.rows.T).reshape(-1)
    int8_bounds = Int8Bounds(encoder.rows, encoder.b_enc, z) if encoder.uses_int8_bounds(z, -(-count // n)) else None
    fraction = count / (n * d_sae)
    while True:
        fraction *= 1.25
        cut = _quantile(sample, fraction)
        pairs = _candidates(int8_bounds.bounds(z), cut) if int8_bounds is not None else None
        if pairs is not None:
            token, feature = pairs
            value = encoder.at(z, token, feature)
        else:
            found = []
            for rows, pre in encoder.blocks(z):
                token, feature = (pre >= cut).nonzero().unbind(1)
                found.append((token + rows.start, feature, pre[token, feature]))
            token, feature, value = _joined(found)
        if cut == -torch.inf or int((value >= cut).sum()) >= count:
            break
        fraction *= 2
    if len(value) > count:
        chosen = value.topk(count, sorted=False).indices.sort().values
        token, feature, value = token[chosen], feature[chosen], value[chosen]
    return token, feature, value


def positive(token: Tensor, feature: Tensor, value: Tensor) -> Chosen:
    """The pairs whose value is above 0."""
    on = value > 0
    if bool(on.all()):
        return token, feature, value
    return token[on], feature[on], value[on]


def _exact(encoder: EncoderWeights, z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    parts = [pre.topk(k, dim=1, sorted=False) for _, pre in encoder.blocks(z)]
    return _ascending(torch.cat([p.indices for p in parts]), torch.cat([p.values for p in parts]))


def _ascending(feature: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    feature, order = feature.sort(dim=1)
    return feature, value.gather(1, order)


def _largest_of_list(token: Tensor, feature: Tensor, value: Tensor, counts: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Features, ascending, and values of the k largest of each token, of a list with `counts`, at least k, of each."""
    first = counts.cumsum(0) - counts
    table = value.new_full((len(counts), int(counts.max())), -torch.inf)
    table[token, torch.arange(len(token)) - first[token]] = value
    value, place = table.topk(k, dim=1, sorted=False)
    return _ascending(feature[first[:, None] + place], value)


def _reaching(bound: Float[Tensor, "n width"], cut: Tensor | float) -> tuple[Tensor, Tensor]:
    """Row and column of all that reach the cut, ascending. Few do: comparisons are looked through eight at a time."""
    eight = (bound >= cut).view(torch.int64)
    row, word = eight.nonzero().unbind(1)
    which, byte = eight[row, word].view(torch.uint8).view(-1, 8).nonzero().unbind(1)
    return row[which], word[which] * 8 + byte


def _candidates(bounds: Iterator[tuple[slice, Tensor]], cut: float) -> tuple[Tensor, Tensor] | None:
    """Token and feature of all bounds that reach the cut, ascending; None when they are too many to be of use."""
    tokens, features = [], []
    for rows, bound in bounds:
        token, feature = _reaching(bound, cut)
        if len(token) > MOST_CANDIDATES * bound.numel():
            return None
        tokens.append(token + rows.start)
        features.append(feature)
    return torch.cat(tokens), torch.cat(features)


def _quantile(sample: Float[Tensor, " m"], fraction: float) -> float:
    """The value that a fraction of the sample reaches; -inf for all of it."""
    wanted = int(fraction * len(sample)) + 1
    return -torch.inf if wanted >= len(sample) else float(sample.topk(wanted, sorted=False).values.min())


def _joined(parts: list[Chosen]) -> Chosen:
    token, feature, value = (torch.cat(column) for column in zip(*parts, strict=True))
    return token, feature, value
