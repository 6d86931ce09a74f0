"""Which way the largest pre-activations are found, by size, and the arithmetic behind the choice.

dense: one library product, written to memory in float32, and torch.topk over it.
fused: the product of encode.py, which leaves 9 bytes for 16 pre-activations, and a choice among these candidates.

Both do the product, 2 n d_in d_sae operations. Beyond it, per pre-activation:
- dense writes 4 bytes and reads them five times: torch.topk on many long rows is a radix select of four 8-bit digits
  and a pass that collects. Where all of it fits the L2 cache it moves at that cache's speed.
- fused spends about 12 operations on the two largest of 16 (not hidden behind the product, whose programs are alone
  on their multiprocessor), moves 9/16 bytes out and in, and spends 2 * 32 / 8 operations on the search for the bound.
  On top, groups that may hide a third chosen feature are computed again: with k of d_sae / 16 groups occupied at
  random, k (k - 1) / 2 / (d_sae / 16) of them per token, 16 rows each.

Two variants were ruled out by the same arithmetic. Group maxima alone, and all k best groups computed again: that is
16 k rows of d_in numbers per token, at d_in 576 and k 32 ten gigabytes out of the cache for 16,384 tokens, more time
than the product. Group maxima, and a second product that writes what passes a bound: 2 d_in operations for each
pre-activation cost more than writing 4 bytes as soon as d_in is above 370 (at the rates below).

    n 16,384   d_in 576, d_sae 16,384, k 32   d_in 2,304, d_sae 65,536, k 64
    product             0.39 ms                           6.26 ms
    fused, beyond it    0.45 ms                           1.74 ms
    dense, beyond it    1.52 ms                           6.02 ms

These are sums with the rates below, not measurements: product and memory as large plain products and copies reached
them on one H200, the others assumed. They are for top_k. top_of_batch reads the candidates about six times more, four
of them for histograms; its dense plan makes several passes more over everything too, so the choice is the same.
`plan=` overrides every choice; benchmarks/kernels.py times both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...errors import ConfigError
from .launch import cdiv

PRODUCT = 7.9e14  # operations a second, bfloat16
MEMORY = 4.3e12  # bytes a second
CACHE = 5.5e12  # bytes a second out of the L2 cache
CACHE_SIZE = 5.0e7  # bytes
ALU = 1.67e13  # comparisons, selections and integer operations a second: 132 multiprocessors, 64 each, 1.98 GHz
LAUNCH = 5e-6  # seconds between the beginnings of two short kernels
MOST_GROUPS = 8192  # of 16 features: what one program can hold of a token


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the largest pre-activations are found. The tiles matter to "fused" only."""

    kind: str
    """"dense" or "fused"."""
    tile_n: int = 128
    """Tokens of one program's product."""
    tile_f: int = 256
    """Features of one program's product, a multiple of 64."""
    tile_k: int = 64
    """Dimensions multiplied at once."""
    strip: int = 8
    """Tiles of tokens processed before the next features."""
    warps: int = 8
    stages: int = 3
    """Blocks of both operands in flight."""

    def __post_init__(self) -> None:
        if self.kind not in ("dense", "fused"):
            raise ConfigError("unknown plan", got=self.kind, accepted="dense or fused")
        if self.tile_f % 64:
            raise ConfigError("tile_f is not a multiple of 64", got=self.tile_f, accepted="64, 128 or 256")


TILES = (
    Plan(kind="fused"),
    Plan(kind="fused", tile_f=128, warps=4),
    Plan(kind="fused", tile_f=128, stages=2),
    Plan(kind="fused", tile_n=64, tile_f=64, tile_k=32, warps=4, stages=2),
)  # from the largest; the first that fits a multiprocessor is taken


def choose(n: int, d_in: int, d_sae: int, k: int, dtype: torch.dtype, device: torch.device) -> Plan:
    """The quicker plan by the arithmetic above. float32 is dense: triton's float32 product is not a library's.

    >>> device = torch.device("cuda")
    >>> choose(16_384, 576, 16_384, 32, torch.bfloat16, device).kind, choose(512, 576, 2048, 32, torch.bfloat16, device).kind
    ('fused', 'dense')
    """  # noqa: E501
    if dtype == torch.float32 or not possible(n, d_sae, k):
        return Plan(kind="dense")
    if beyond_product_fused(n, d_in, d_sae, k) >= beyond_product_dense(n, d_sae):
        return Plan(kind="dense")
    return tiles(dtype, device)


def possible(n: int, d_sae: int, k: int) -> bool:
    """Whether the fused kernels can do it: at most one chosen feature a group, and rows that fit a program."""
    n_groups = cdiv(d_sae, 16)
    return k <= n_groups <= MOST_GROUPS and 2 * n * n_groups < 2**31


def beyond_product_fused(n: int, d_in: int, d_sae: int, k: int) -> float:
    """Seconds of the fused plan besides the product, at the rates above."""
    weights = 2.0 * d_in * d_sae
    operations = n * d_sae * (12 + 2 * 32 / 8)
    moved = 2 * 9 / 16 * n * d_sae
    open_groups = k * (k - 1) / 2 / (d_sae / 16)
    again = n * open_groups * 16 * d_in * 2.0
    return operations / ALU + moved / MEMORY + again / (CACHE if weights < CACHE_SIZE else MEMORY) + 6 * LAUNCH


def beyond_product_dense(n: int, d_sae: int) -> float:
    """Seconds of the dense plan besides the product, at the rates above."""
    moved = 4.0 * n * d_sae
    return 6 * moved / (CACHE if moved < CACHE_SIZE else MEMORY) + 5 * LAUNCH


def tiles(dtype: torch.dtype, device: torch.device) -> Plan:
    """The fused plan with the largest tiles whose operands fit a multiprocessor of this device."""
    room = 232_448  # Hopper's
    if device.type == "cuda" and torch.cuda.is_available():
        room = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 65_536)
    fitting = [p for p in TILES if p.stages * (p.tile_n + p.tile_f) * p.tile_k * dtype.itemsize <= room]
    return fitting[0] if fitting else TILES[-1]
