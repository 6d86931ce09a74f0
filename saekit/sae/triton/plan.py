"""Two ways to the largest pre-activations, and which of them, with which tiles, may be tried.

dense: one library product, written to memory in float32, and torch.topk over it.
fused: the product of encode.py, which leaves 9 bytes for 16 pre-activations, and a choice among these candidates.

Which is quicker depends on the device and on the sizes, and no rate of either is assumed here: tiles.py times them on
the device. Two variants were ruled out by counting alone. Group maxima, and all k best groups computed again, reads
16 k rows of d_in numbers per token: at d_in 576 and k 32 ten gigabytes for 16,384 tokens. Group maxima, and a second
product that writes what passes a bound, does the product twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...errors import ConfigError
from .launch import cdiv

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

    @property
    def label(self) -> str:
        """The plan in one word.

        >>> Plan(kind="fused").label, Plan(kind="dense").label
        ('128x256x64-8-8-3', 'dense')
        """
        if self.kind == "dense":
            return "dense"
        return f"{self.tile_n}x{self.tile_f}x{self.tile_k}-{self.strip}-{self.warps}-{self.stages}"


DENSE = Plan(kind="dense")
TILES = (
    Plan(kind="fused"),
    Plan(kind="fused", tile_f=128, warps=4),
    Plan(kind="fused", tile_f=128, stages=2),
    Plan(kind="fused", tile_n=64, tile_f=64, tile_k=32, warps=4, stages=2),
)
"""What is checked and timed on a device. What does not fit its multiprocessors fails to compile and is left out."""


def possible(n: int, d_sae: int, k: int) -> bool:
    """Whether the fused kernels can do it: at most one chosen feature a group, and rows that fit a program."""
    n_groups = cdiv(d_sae, 16)
    return k <= n_groups <= MOST_GROUPS and 2 * n * n_groups < 2**31


def candidates(n: int, d_sae: int, k: int, dtype: torch.dtype, passed: frozenset[str]) -> tuple[Plan, ...]:
    """The plans that may be tried: dense, and in bfloat16 the tiles that passed the device's self-check.

    float32 is dense: its exact product has no matrix instructions, and large tiles of it take minutes to compile.

    >>> from saekit.sae.triton.plan import candidates
    >>> [p.label for p in candidates(4096, 16_384, 32, torch.bfloat16, frozenset({"64x64x32-8-4-2"}))]
    ['dense', '64x64x32-8-4-2']
    """
    if dtype == torch.float32 or not possible(n, d_sae, k):
        return (DENSE,)
    return (DENSE, *(p for p in TILES if p.label in passed))
