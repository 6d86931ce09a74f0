"""What stands out in a text: which features, and how much each activation of theirs counts.

    standout of an activation = activation / maximum * -log2(density)                       in bits
    standout of a feature     = the sum over the tokens on which no other feature has a larger one
                                * the fraction of its firings beyond the density * n_tokens that are expected

This is tf-idf (Sparck Jones 1972), with the relative activation as the weight and the feature's rarity as its
information. Each token speaks for one feature, so that many faint activations do not outweigh a few strong ones; a
feature that fires as often as anywhere does not stand out, which matters in long texts. Six features chosen so tell
which document the rest of a text belongs to as well as or better than those of every other definition in
benchmarks/what_stands_out.py, in texts of one document and of eight; raw activations tell next to nothing.

Maxima and densities are an index's where there is one. Without one, activations are relative to the strongest in the
text (decoder rows have unit norm, so they compare), and densities are those stored with the SAE, or the text's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from .base import pack

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..sae import SAE

MAX_DENSITY = 0.1
"""Features denser than this are set aside unless told otherwise."""
LEAST_DENSITY = 1e-6
"""Below which a stored density says no more than that the feature is rare."""
Z = 1.96


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """How large and how rare the activations of some features are."""

    feature: Int[np.ndarray, " n"]
    """Their numbers, ascending."""
    maximum: Float[np.ndarray, " n"]
    """The activation that counts as 1."""
    density: Float[np.ndarray, " n"]
    """Fraction of tokens on which each fires."""
    bits: Float[np.ndarray, " n"]
    """-log2 of a density that allows for small counts; what is set aside as dense, this decides."""

    def packed(self) -> dict[str, bytes]:
        """The `statistics` trait."""
        return {
            "feature": pack(self.feature, "int32"),
            "max": pack(self.maximum, "float32"),
            "density": pack(self.density, "float32"),
            "bits": pack(self.bits, "float32"),
        }

    @classmethod
    def unpacked(cls, packed: dict[str, bytes]) -> FeatureStatistics:
        """From the `statistics` trait; of no feature where that is empty."""
        maximum, density, bits = (np.frombuffer(packed.get(k, b""), "<f4") for k in ("max", "density", "bits"))
        feature = np.frombuffer(packed.get("feature", b""), "<i4")
        return cls(feature=feature, maximum=maximum, density=density, bits=bits)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where maxima and densities come from: an index, a stored density, or nothing but the text."""

    maximum: Float[np.ndarray, " d_sae"] | None = None
    density: Float[np.ndarray, " d_sae"] | None = None
    bits: Float[np.ndarray, " d_sae"] | None = None
    maxima_from: str = "text"
    density_from: str = "text"
    explanation: str = (
        "Relative to the strongest activation in this text, weighted by how rarely each feature fires in it; with "
        "index= relative to each feature's maximum, and rarity counted on the index's text."
    )

    @classmethod
    def of(cls, index: FeatureIndex | None, sae: SAE) -> Reference:
        """That of the index, else of the SAE's stored density, else of the text."""
        if index is not None:
            return cls._of_index(index)
        if sae.density is None:
            return cls()
        density = sae.density.detach().float().cpu().numpy().astype(np.float64)
        density = np.nan_to_num(density, nan=LEAST_DENSITY).clip(0.0, 1.0)
        return cls(
            density=density,
            bits=-np.log2(np.maximum(density, LEAST_DENSITY)),
            density_from="SAE",
            explanation="Relative to the strongest activation in this text, weighted by rarity (the densities stored "
            "with the SAE); with index= relative to each feature's own maximum.",
        )

    @classmethod
    def _of_index(cls, index: FeatureIndex) -> Reference:
        table = index.features
        maximum, density = table["max"].to_numpy(np.float64), table["density"].to_numpy(np.float64)
        fires = maximum > 0
        # Of a feature that fired once or never there, the maximum is hardly known: no less than that of most others.
        ascending = np.sort(maximum[fires])
        least = float(ascending[len(ascending) // 4]) if fires.any() else 0.0
        n = index.n_tokens
        return cls(
            maximum=np.maximum(maximum, least),
            density=density,
            bits=-np.log2((density * n + 1) / (n + 2)),
            maxima_from="index",
            density_from="index",
            explanation=f"Relative to each feature's maximum and weighted by its rarity, both over {n:,} tokens of "
            f"the index ({index.corpus_name}).",
        )

    def statistics(
        self, feature: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"], n_tokens: int
    ) -> FeatureStatistics:
        """Of the features that fire in a text, from all its activations and the number of tokens that count.

        A maximum is never below what the text itself has.
        """
        features, at = np.unique(feature, return_inverse=True)
        own = np.zeros(len(features))
        np.maximum.at(own, at, np.nan_to_num(value))
        if self.density is None or self.bits is None:
            counts = np.bincount(at, minlength=len(features))
            density = counts / max(n_tokens, 1)
            bits = -np.log2(lower_bound(counts, max(n_tokens, 1)))
        else:
            density, bits = self.density[features], self.bits[features]
        if self.maximum is None:
            sparse = bits >= -np.log2(MAX_DENSITY)
            maximum = np.maximum(own, own[sparse].max(initial=0.0))
        else:
            maximum = np.maximum(self.maximum[features], own)
        return FeatureStatistics(feature=features, maximum=maximum, density=density, bits=np.maximum(bits, 0.0))


def lower_bound(count: Int[np.ndarray, " n"], n_tokens: int) -> Float[np.ndarray, " n"]:
    """The lower end of Wilson's 95 % interval of a density: a feature that fires on 2 of 10 tokens need not be dense.

    >>> import numpy as np
    >>> from saekit.widgets.highlight_standouts import lower_bound
    >>> lower_bound(np.array([2, 10]), 10).round(3).tolist()
    [0.057, 0.722]
    """
    p = count / n_tokens
    spread = Z * np.sqrt(p * (1 - p) / n_tokens + Z**2 / (4 * n_tokens**2))
    low: np.ndarray = (p + Z**2 / (2 * n_tokens) - spread) / (1 + Z**2 / n_tokens)
    return low


@dataclass(frozen=True, eq=False)
class Standouts:
    """Every activation of a text with what it counts for; those that are set aside count nothing."""

    statistics: FeatureStatistics
    token: Int[np.ndarray, " n"]
    at: Int[np.ndarray, " n"]
    """The row of `statistics` of each activation."""
    value: Float[np.ndarray, " n"]
    relative: Float[np.ndarray, " n"]
    """From 0 to 1."""
    standout: Float[np.ndarray, " n"]
    """In bits; 0 where the feature or the activation is set aside."""
    n_counted: int
    """Tokens of the text that count."""

    @classmethod
    def of(
        cls,
        acts: tuple[np.ndarray, np.ndarray, np.ndarray],
        statistics: FeatureStatistics,
        keep: np.ndarray[Any, Any],
        min_relative: float,
        n_counted: int,
    ) -> Standouts:
        """From compressed rows (start, feature, value); `keep` says which rows of `statistics` count."""
        start, feature, value = acts
        token = np.repeat(np.arange(max(len(start) - 1, 0)), np.diff(start))
        at = np.searchsorted(statistics.feature, feature).clip(max=max(len(statistics.feature) - 1, 0))
        known = statistics.feature[at] == feature if len(statistics.feature) else np.zeros(len(feature), bool)
        token, at, value = token[known], at[known], np.nan_to_num(value[known]).astype(np.float64)
        maximum = statistics.maximum[at].astype(np.float64)
        relative = np.divide(value, maximum, out=np.zeros_like(value), where=maximum > 0).clip(0.0, 1.0)
        counts = keep[at] & (relative >= min_relative)
        return cls(statistics, token, at, value, relative, relative * statistics.bits[at] * counts, n_counted)

    @cached_property
    def best(self) -> Int[np.ndarray, " m"]:
        """The activation that stands out most on each token that has one."""
        return self._largest(np.flatnonzero(self.standout > 0))

    @cached_property
    def totals(self) -> Float[np.ndarray, " n"]:
        """The standout of each row of `statistics`."""
        n = len(self.statistics.feature)
        expected = 2.0 ** -self.statistics.bits.astype(np.float64) * self.n_counted
        beyond = np.maximum(0.0, 1.0 - expected / np.maximum(np.bincount(self.at, minlength=n), 1))
        found: np.ndarray = np.bincount(self.at[self.best], self.standout[self.best], minlength=n) * beyond
        return found

    def order(self) -> Int[np.ndarray, " m"]:
        """Rows of `statistics` that stand out, most first; equal ones by number."""
        totals = self.totals
        rows = np.flatnonzero(totals > 0)
        return rows[np.lexsort((rows, -totals[rows]))]

    def of_tokens(self, rows: Int[np.ndarray, " k"], n_tokens: int) -> Int[np.ndarray, " n_tokens"]:
        """For each token the activation of one of these rows that stands out most there, -1 for none."""
        best = np.full(n_tokens, -1)
        found = self._largest(np.flatnonzero(np.isin(self.at, rows) & (self.standout > 0)))
        best[self.token[found]] = found
        return best

    def _largest(self, among: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
        """Of these activations the one that stands out most on each token; of equal ones the lowest feature's."""
        if not len(among):
            return among
        token, standout = self.token[among], self.standout[among]  # by token, and by feature within it
        starts = np.flatnonzero(np.diff(token, prepend=-1))
        lengths = np.diff(starts, append=len(token))
        top = among[standout == np.repeat(np.maximum.reduceat(standout, starts), lengths)]
        firsts: np.ndarray = top[np.flatnonzero(np.diff(self.token[top], prepend=-1))]
        return firsts
