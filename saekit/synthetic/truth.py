"""Data in superposition whose features are known: what an autoencoder ought to find, and exactly where it fires.

    x = sum over firing features i of magnitude_i * directions_i + bias + noise

There are more directions than dimensions, few of which fire at once. make.py chooses directions and rates.

Firings are drawn as lists, never as an [n, n_features] table: a cell fires if a Poisson process of intensity
-log(1 - p) hits it, which is an exact Bernoulli(p), at the cost of the firings alone. Groups share a switch, children
wait for their parent. Every magnitude has mean 1.

Source: Elhage et al. 2022, "Toy Models of Superposition", for the setting.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, check_number, unknown_name
from ..sae import SAE, SAEConfig, SparseActs
from ..sae.sparse.kernels import decode
from .displays import batch_html, truth_html

if TYPE_CHECKING:
    import pandas as pd

MAGNITUDES = ("uniform", "half_normal", "lognormal", "constant")


@dataclass(frozen=True, eq=False)
class SyntheticBatch:
    """Activations and the features they were made of."""

    x: Float[Tensor, "n d_in"]
    acts: SparseActs
    """Magnitudes of the features that fire."""

    def __repr__(self) -> str:
        return f"SyntheticBatch: x {tuple(self.x.shape)}, {self.acts!r}"

    _repr_html_ = batch_html


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """Known features and how they fire. Made by `independent`, `correlated` or `hierarchical`, or by hand."""

    directions: Float[Tensor, "n_features d_in"]
    """Unit rows."""
    firing_rate: Float[Tensor, " n_features"]
    """Share of tokens each feature fires on, its parents and groups taken into account."""
    parent: Int[Tensor, " n_features"]
    """Without this feature firing a feature never does; -1: none. Parents come before their children."""
    group: Int[Tensor, " n_features"]
    """Features of one group share a switch; -1: none."""
    group_rate: Float[Tensor, " n_groups"]
    """Share of tokens on which each group's switch is on."""
    bias: Float[Tensor, " d_in"]
    """Added to every x."""
    exclusive: bool = False
    """Whether at most one child of a parent fires at a time."""
    magnitude: str = "uniform"
    """How strongly a feature fires, mean 1: "uniform" from 0.5 to 1.5; "half_normal" from 0.25 up; "lognormal" with
    sigma 0.5, not bounded away from 0; "constant"."""
    noise: int | float = 0.0
    """Standard deviation of Gaussian noise in each dimension of x."""
    name: str = "features"

    def __post_init__(self) -> None:
        if self.magnitude not in MAGNITUDES:
            raise unknown_name("magnitude", self.magnitude, MAGNITUDES)
        check_number("noise", self.noise, least=0)
        norms = self.directions.norm(dim=1)
        if not bool((norms - 1).abs().max() < 1e-3):
            raise ConfigError(
                "directions are not unit vectors",
                got=f"norms {norms.min():.3g} to {norms.max():.3g}",
                accepted="rows of norm 1",
                fix="divide each row by its norm",
            )
        if not bool(((self.firing_rate > 0) & (self.firing_rate < 1)).all()):
            raise ConfigError(
                "a firing rate is out of range",
                got=[float(v) for v in self.firing_rate.aminmax()],
                accepted="numbers above 0 and below 1",
            )
        if bool((self.parent >= torch.arange(self.n_features)).any()):
            raise ConfigError(
                "a feature comes before its parent",
                accepted="parents with lower numbers, -1 for none",
                fix="sort the features by their depth",
            )
        if bool(((self.parent >= 0) & (self.group >= 0)).any()):
            raise ConfigError("a feature has both a parent and a group", accepted="one of them, -1 for the other")
        for fan, what in ((self._children, "children"), (self._members, "members of a group")):
            total = torch.zeros(len(fan.starts) - 1, dtype=torch.float64)
            gate = torch.arange(len(total)).repeat_interleave(fan.starts.diff())
            total.index_add_(0, gate, fan.fraction)
            worst = total if self.exclusive and what == "children" else fan.fraction
            if worst.numel() and float(worst.max()) > 1 + 1e-6:
                raise ConfigError(
                    f"{what} fire more often than what they depend on",
                    got=f"{float(worst.max()):.3g} times as often",
                    accepted="rates of at most the parent's or switch's; exclusive children's together",
                )

    @property
    def n_features(self) -> int:
        return self.directions.shape[0]

    @property
    def d_in(self) -> int:
        return self.directions.shape[1]

    @property
    def n_active(self) -> float:
        """Expected number of features that fire on a token: the true l0."""
        return float(self.firing_rate.sum())

    @property
    def mean(self) -> Float[Tensor, " d_in"]:
        """The expected x."""
        return torch.addmv(self.bias, self.directions.T, self.firing_rate.to(self.directions.dtype))

    @cached_property
    def depth(self) -> Int[Tensor, " n_features"]:
        """Number of ancestors of each feature."""
        depth, above = torch.zeros_like(self.parent), self.parent
        while bool((above >= 0).any()):
            depth = depth + (above >= 0)
            above = torch.where(above >= 0, self.parent[above.clamp(min=0)], above)
        return depth

    def __repr__(self) -> str:
        low, high = self.firing_rate.aminmax()
        lines = [
            f"GroundTruth {self.name}: {self.n_features:,} features in {self.d_in} dimensions, "
            f"{self.n_active:.1f} fire per token",
            f"  firing rates {float(low):.2g} to {float(high):.2g}; magnitude {self.magnitude}; noise {self.noise:g}",
        ]
        if bool((self.parent >= 0).any()):
            kind = "exclusive " if self.exclusive else ""
            n = int((self.parent < 0).sum())
            lines.append(f"  {n:,} trees of depth {int(self.depth.max()) + 1}, {self.n_features - n:,} {kind}children")
        if self.group_rate.numel():
            lines.append(f"  {self.group_rate.numel():,} groups that fire together")
        return "\n".join(lines)

    _repr_html_ = truth_html

    def to_frame(self) -> pd.DataFrame:
        """One row per feature: firing_rate, parent, depth, group."""
        import pandas as pd

        columns = {n: getattr(self, n).numpy() for n in ("firing_rate", "parent", "depth", "group")}
        return pd.DataFrame(columns).rename_axis("feature")

    def sample(self, n: int, generator: torch.Generator) -> SyntheticBatch:
        """n tokens, drawn again at each call.

        >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
        >>> batch = truth.sample(1000, torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.acts.value.min() >= 0.5
        (torch.Size([1000, 16]), tensor(True))
        """
        if n < 1:
            raise ConfigError("there is no token to draw", got=n, accepted="at least 1")
        key = self._firings(n, generator)
        token = torch.div(key, self.n_features, rounding_mode="floor")
        value = self._magnitudes(key.numel(), generator)
        acts = SparseActs(token, key - token * self.n_features, value, n, self.n_features)
        x = decode(value, acts.pattern, self.directions) + self.bias
        if self.noise:
            x += self.noise * torch.randn(x.shape, generator=generator)
        return SyntheticBatch(x, acts)

    def batches(self, batch_size: int, seed: int = 0) -> Iterator[Float[Tensor, "batch d_in"]]:
        """x of fresh tokens without end, the same for the same seed: what a Trainer is given.

        >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
        >>> next(truth.batches(32)).shape
        torch.Size([32, 16])
        """
        generator = stream("batches", seed)
        while True:
            yield self.sample(batch_size, generator).x

    def sae(self, *, threshold: float | None = None, seed: int = 0) -> SAE:
        """The SAE made of the true directions: decoder rows and encoder columns are the truth.

        A mark to compare trained SAEs with: perfect where directions are orthogonal, and where they are not, what the
        interference of the other features leaves of it. Biases take out its mean; a feature fires above one threshold
        for all. None: that at which as many fire as truly do, on 8,192 tokens drawn with `seed`.

        >>> truth = sk.synthetic.independent(d_model=32, n_features=32, n_active=3, directions="orthogonal")
        >>> sk.recovery(truth.sae(), truth, n_tokens=2000).f1
        1.0
        """
        sae = SAE(SAEConfig(d_in=self.d_in, d_sae=self.n_features, activation="jumprelu", target_l0=None))
        batch = self.sample(8192, stream("threshold", seed))
        with torch.no_grad():
            sae.W_dec.copy_(self.directions)
            sae.W_enc.copy_(self.directions.T)
            sae.b_dec.copy_(self.bias)
            sae.b_enc.copy_(self.firing_rate - self.directions @ (self.mean - self.bias))
            if threshold is None:
                kept = batch.acts.value.numel()
                around = sae.pre_acts(batch.x).flatten().topk(kept + 1).values[-2:]
                threshold = float(around.mean())
            sae.threshold.fill_(threshold)
        return sae.requires_grad_(False)

    # ---- drawing ------------------------------------------------------------------------------------------------

    @cached_property
    def _children(self) -> _Fan:
        return _Fan.of(self.parent, self.firing_rate, self.firing_rate)

    @cached_property
    def _members(self) -> _Fan:
        return _Fan.of(self.group, self.firing_rate, self.group_rate)

    def _firings(self, n: int, generator: torch.Generator) -> Int[Tensor, " nnz"]:
        """token * n_features + feature of every firing, ascending."""
        alone = (self.parent < 0) & (self.group < 0)
        parts = [_bernoulli(torch.where(alone, self.firing_rate, 0.0), n, generator)]
        if self.group_rate.numel():
            switches = _bernoulli(self.group_rate, n, generator)
            parts.append(self._members.open(switches, self.n_features, False, generator))
        parts = [torch.cat(parts)]
        for _ in range(int(self.depth.max())):
            parts.append(self._children.open(parts[-1], self.n_features, self.exclusive, generator))
        return torch.cat(parts).sort().values

    def _magnitudes(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        if self.magnitude == "constant":
            return torch.ones(n)
        if self.magnitude == "uniform":
            return torch.rand(n, generator=generator) + 0.5
        z = torch.randn(n, generator=generator)
        if self.magnitude == "lognormal":
            return torch.exp(0.5 * z - 0.125)
        return z.abs().mul(0.75 * math.sqrt(math.pi / 2)).add(0.25)


@dataclass(frozen=True, eq=False)
class _Fan:
    """What may fire once a gate is open: the gate's members lie together, each with its chance given the gate."""

    starts: Int[Tensor, " n_gates_plus_1"]
    member: Int[Tensor, " m"]
    fraction: Float[Tensor, " m"]

    @staticmethod
    def of(gate: Tensor, rate: Tensor, gate_rate: Tensor) -> _Fan:
        member = (gate >= 0).nonzero().squeeze(1)
        member = member[gate[member].sort(stable=True).indices]
        starts = torch.zeros(len(gate_rate) + 1, dtype=torch.long)
        torch.cumsum(torch.bincount(gate[member], minlength=len(gate_rate)), 0, out=starts[1:])
        return _Fan(starts, member, (rate[member] / gate_rate[gate[member]]).double())

    def open(self, key: Tensor, n_features: int, exclusive: bool, generator: torch.Generator) -> Tensor:
        """Keys token * n_features + feature of the members that fire behind the open gates token * n_gates + gate."""
        n_gates = len(self.starts) - 1
        token = torch.div(key, n_gates, rounding_mode="floor")
        gate = key - token * n_gates
        if exclusive:  # one draw per gate: which of its members, or none
            edges = torch.cat([self.fraction.new_zeros(1), self.fraction.cumsum(0)])
            at = edges[self.starts[gate]] + torch.rand(len(gate), generator=generator, dtype=torch.float64)
            at = torch.searchsorted(edges, at, right=True) - 1
            fires = at < self.starts[gate + 1]
            return token[fires] * n_features + self.member[at[fires]]
        count = self.starts.diff()[gate]
        entry = torch.arange(len(gate)).repeat_interleave(count)
        at = torch.arange(len(entry)) - (count.cumsum(0) - count - self.starts[gate])[entry]
        fires = torch.rand(len(at), generator=generator) < self.fraction[at]
        return token[entry[fires]] * n_features + self.member[at[fires]]


def stream(purpose: str, seed: int) -> torch.Generator:
    """A generator of its own for each purpose, so that the same seed never gives training and held-out data alike."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _bernoulli(rate: Tensor, n: int, generator: torch.Generator) -> Int[Tensor, " hits"]:
    """token * len(rate) + feature of the cells that fire among n tokens, ascending."""
    hits = torch.poisson(-n * torch.log1p(-rate.double()), generator=generator).long()
    feature = torch.arange(len(rate)).repeat_interleave(hits)
    token = torch.randint(n, (len(feature),), generator=generator)
    key: Tensor = torch.unique(token * len(rate) + feature)
    return key
