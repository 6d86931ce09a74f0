"""What a token filter leaves out of a text: how many tokens, how much of the norm, and which words.

A filter by norm can take away more than its limit says: in layers 2 to 7 of the default model a fifth to a half of all
" the" are attention sinks, the more the shorter the windows, and a feature for them cannot be found. Counts are sums,
so they are taken in one pass beside whatever else runs over the text, and those of parts of a text are added.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from typing_extensions import TypedDict

from ..corpus import Windows
from ..json_files import Count, Finite, Natural
from ..sae import TokenFilter
from ..sae.precision import doubles
from .displays import excluded_html, excluded_norm_html, excluded_token_html

N_SHOWN = 20
"""Tokens that are named, the most frequently excluded first."""
SURPRISING = 0.05
"""A token filter that excludes more than this fraction of the tokens that are not special is warned of."""
COMMON, SURPRISING_OF_COMMON = 0.01, 0.1
"""So is one that excludes more than the second fraction of a token that makes up at least the first of the text."""


@dataclass(frozen=True, kw_only=True)
class ExcludedToken:
    """A token of the vocabulary, and how often a filter leaves it out."""

    token: str
    n_excluded: int
    n: int
    """How often it occurs."""
    special: bool

    @property
    def fraction(self) -> float:
        """Of its occurrences."""
        return self.n_excluded / self.n

    _repr_html_ = excluded_token_html


@dataclass(frozen=True, kw_only=True)
class ExcludedNorm:
    """How much of the activations at one hook point the excluded tokens hold."""

    hook_name: str
    max_norm: float | None
    """The filter's limit at this hook point, in the model's units."""
    n_above: int | None
    """Tokens above it that are not special; None where norms are not known."""
    norm_fraction: float
    """Of the sum of ||x|| over all tokens; nan where it is not known."""
    squared_norm_fraction: float
    """Of the sum of ||x||^2."""

    _repr_html_ = excluded_norm_html


@dataclass(frozen=True, kw_only=True)
class ExcludedTokens:
    """What a token filter leaves out of a text. Prints as one line."""

    n_tokens: int
    """All tokens of the text, special ones included."""
    n_special: int
    """Of them special tokens, which the filter leaves out."""
    n_sinks: int
    """Tokens that are not special and left out by their norm."""
    norms: tuple[ExcludedNorm, ...]
    """For each hook point, how much of the norm is left out."""
    tokens: tuple[ExcludedToken, ...]
    """Which tokens of the vocabulary are left out most often, at most `N_SHOWN`."""

    @property
    def n_excluded(self) -> int:
        return self.n_special + self.n_sinks

    @property
    def fraction(self) -> float:
        """Of all tokens."""
        return self.n_excluded / max(self.n_tokens, 1)

    @property
    def sink_fraction(self) -> float:
        """Fraction of the tokens that are not special which their norm leaves out."""
        return self.n_sinks / max(self.n_tokens - self.n_special, 1)

    def to_frame(self) -> pd.DataFrame:
        """One row for each token of the vocabulary that is left out most often: token, special, n_excluded, n and
        fraction of its occurrences."""
        columns = ["token", "special", "n_excluded", "n", "fraction"]
        return pd.DataFrame([{c: getattr(t, c) for c in columns} for t in self.tokens], columns=columns)

    def norms_frame(self) -> pd.DataFrame:
        """One row for each hook point: max_norm, n_above, norm_fraction, squared_norm_fraction."""
        return pd.DataFrame([asdict(n) for n in self.norms]).set_index("hook_name")

    @property
    def surprise(self) -> str:
        """What to warn of, in words; empty where the filter leaves out special tokens and a few others.

        That is a filter whose norm excludes more than 5 % of the tokens, or more than 10 % of the occurrences of a
        token that makes up 1 % of the text.
        """
        ordinary = self.n_tokens - self.n_special
        common = [t for t in self._words if t.n >= COMMON * ordinary and t.fraction > SURPRISING_OF_COMMON]
        if self.sink_fraction <= SURPRISING and not common:
            return ""
        where = ", ".join(n.hook_name for n in self.norms)
        return (
            f"the token filter leaves out {self.n_sinks:,} of {ordinary:,} tokens ({self.sink_fraction:.1%}) by their "
            f"norm at {where}, of them {_listed(common or self._words)}: attention sinks of this model, and no feature "
            "for them can be found. sk.activations.describe_token_filter shows all; a TokenFilter of your own keeps "
            "them"
        )

    @property
    def _words(self) -> list[ExcludedToken]:
        return [t for t in self.tokens if not t.special]

    def __repr__(self) -> str:
        if not self.n_excluded:
            return f"left out: none of {self.n_tokens:,} tokens"
        line = f"left out: {self.n_excluded:,} of {self.n_tokens:,} tokens ({self.fraction:.1%}), {self.n_special:,} "
        line += f"special and {self.n_sinks:,} by norm ({self.sink_fraction:.1%} of the others)"
        if self._words:
            line += f": {_listed(self._words)}"
        known = [n for n in self.norms if not math.isnan(n.squared_norm_fraction)]
        held = [f"{n.squared_norm_fraction:.1%} of the squared norm at {n.hook_name}" for n in known]
        return line + (f"; they hold {', '.join(held)}" if held else "")

    __str__ = __repr__
    _repr_html_ = excluded_html

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values; what is not known is None."""
        value = asdict(self)
        norms = [{k: None if v != v else v for k, v in norm.items()} for norm in value["norms"]]
        return value | {"norms": norms, "tokens": list(value["tokens"])}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ExcludedTokens:
        """The counts that `to_dict` wrote."""
        fractions = ("norm_fraction", "squared_norm_fraction")
        norms: list[dict[str, Any]] = [
            {k: math.nan if v is None and k in fractions else v for k, v in n.items()} for n in value["norms"]
        ]
        return cls(
            **{name: int(value[name]) for name in ("n_tokens", "n_special", "n_sinks")},
            norms=tuple(ExcludedNorm(**norm) for norm in norms),
            tokens=tuple(ExcludedToken(**token) for token in value["tokens"]),
        )


class ExcludedTokenSchema(TypedDict):
    """An ExcludedToken in a file."""

    token: str
    n_excluded: Count
    n: Count
    special: bool


class ExcludedNormSchema(TypedDict):
    """An ExcludedNorm in a file."""

    hook_name: str
    max_norm: Finite | None
    n_above: Natural | None
    norm_fraction: Finite | None
    squared_norm_fraction: Finite | None


class ExcludedSchema(TypedDict):
    """What `ExcludedTokens.to_dict` gives."""

    n_tokens: Natural
    n_special: Natural
    n_sinks: Natural
    norms: list[ExcludedNormSchema]
    tokens: list[ExcludedTokenSchema]


def warn_of_excluded(excluded: ExcludedTokens, stacklevel: int = 3) -> None:
    """A warning in words where a filter leaves out more than one would think."""
    if excluded.surprise:
        warnings.warn(excluded.surprise, stacklevel=stacklevel)


class ExclusionCounter:
    """Counts what a filter leaves out, batch by batch, at hook points whose activations stand side by side.

    An SAE reads the first `n_read` of them. A filter without blocks judges what is read: of one hook point it holds the
    limit, of several that of all side by side.
    """

    def __init__(
        self, token_filter: TokenFilter, names: Sequence[str], widths: Sequence[int], n_read: int | None = None
    ) -> None:
        self.token_filter, self.names, self.widths = token_filter, tuple(names), tuple(widths)
        n_read = len(self.names) if n_read is None else n_read
        of_blocks = [limit for _, limit in token_filter.blocks][: len(self.names)]
        one = [token_filter.max_norm if n_read == 1 else None] + [None] * (len(self.names) - 1)
        self.limits = of_blocks or one
        self.seen, self.excluded = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.totals = np.zeros((len(self.names), 5))

    def add(self, tokens: Int[Tensor, " n"], x: Float[Tensor, "n d"], keep: Bool[Tensor, " n"]) -> None:
        """Counts some tokens with their activations; `keep` is what the filter says of each."""
        self.count(tokens.cpu().numpy(), keep.cpu().numpy())
        self.totals += self.norm_totals(tokens, x, keep)

    def norm_totals(
        self, tokens: Int[Tensor, " n"], x: Float[Tensor, "n d"], keep: Bool[Tensor, " n"]
    ) -> Float[np.ndarray, "hooks 5"]:
        """For each hook point: tokens above its limit that are not special, and the sums of the norms and of the
        squared norms, of the excluded tokens and of all."""
        special = torch.tensor(self.token_filter.special_ids, dtype=tokens.dtype, device=tokens.device)
        rows, ordinary = [], ~torch.isin(tokens, special)
        keep, ordinary = keep.to(x.device), ordinary.to(x.device)
        for part, limit in zip(torch.split(x, list(self.widths), dim=-1), self.limits, strict=True):
            norm = part.float().norm(dim=-1)
            above = ((norm > limit) & ordinary).sum() if limit is not None else norm.new_zeros(())
            norm = doubles(norm)
            out = norm * ~keep.to(norm.device)
            rows.append(torch.stack([above.to(norm), out.sum(), norm.sum(), (out**2).sum(), (norm**2).sum()]))
        totals: np.ndarray = torch.stack(rows).cpu().numpy()
        return totals

    def count_windows(self, windows: Windows, kept: Int[np.ndarray, " n_kept"]) -> None:
        """Counts all tokens of windows, of which those at the flat positions `kept` are not left out."""
        keep = np.zeros(windows.tokens.numel(), bool)
        keep[kept] = True
        real = (torch.arange(windows.length) < windows.lengths[:, None]).reshape(-1).numpy()
        self.count(windows.tokens.reshape(-1).numpy()[real], keep[real])

    def count(self, tokens: Int[np.ndarray, " n"], keep: Bool[np.ndarray, " n"]) -> None:
        """Counts tokens whose activations are not at hand."""
        self.seen = _added(self.seen, np.bincount(tokens))
        self.excluded = _added(self.excluded, np.bincount(tokens[~keep]))

    def result_without_words(self) -> ExcludedTokens:
        """The counts alone, of activations whose tokens are not known."""
        return ExcludedTokens(
            n_tokens=int(self.seen.sum()),
            n_special=0,
            n_sinks=int(self.excluded.sum()),
            norms=tuple(map(_excluded_norm, self.names, self.limits, self.totals)),
            tokens=(),
        )

    def result(self, shown: Sequence[str]) -> ExcludedTokens:
        """The counts with their words; `shown` is what each token of the vocabulary reads."""
        excluded = _added(self.excluded, np.zeros(len(self.seen), np.int64))
        order = np.argsort(-excluded, kind="stable")[:N_SHOWN]
        special = set(self.token_filter.special_ids)
        tokens = [
            ExcludedToken(
                token=shown[i] if i < len(shown) else f"id {i}",
                n_excluded=int(excluded[i]),
                n=int(self.seen[i]),
                special=i in special,
            )
            for i in order.tolist()
            if excluded[i]
        ]
        n_special = int(sum(excluded[i] for i in special if i < len(excluded)))
        return ExcludedTokens(
            n_tokens=int(self.seen.sum()),
            n_special=n_special,
            n_sinks=int(excluded.sum()) - n_special,
            norms=tuple(map(_excluded_norm, self.names, self.limits, self.totals)),
            tokens=tuple(tokens),
        )


def _excluded_norm(name: str, limit: float | None, totals: Float[np.ndarray, " 5"]) -> ExcludedNorm:
    above, out, norm, squared_out, squared = totals.tolist()
    known = norm > 0
    return ExcludedNorm(
        hook_name=name,
        max_norm=limit,
        n_above=int(above) if known else None,
        norm_fraction=out / norm if known else math.nan,
        squared_norm_fraction=squared_out / squared if known else math.nan,
    )


def _added(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
    """The sum of two counts by id, of which one may be longer."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _listed(tokens: Sequence[ExcludedToken], n: int = 3) -> str:
    return ", ".join(f"{t.token!r} {t.n_excluded:,} of {t.n:,} ({t.fraction:.0%})" for t in tokens[:n])
