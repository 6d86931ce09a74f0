"""What the index holds on one feature, as plain values that print as a readable card.

`feature_records` fills these in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..display import in_doubles
from .displays import active_html, bin_html, context_html, firings_html, histogram_html, record_html

if TYPE_CHECKING:
    import plotly.graph_objects as go

N_ACTIVATION_BINS = 10


class Firings(NamedTuple):
    """Every activation of one feature: `position` is window * length + pos, ascending; `value` is never zero."""

    position: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]

    def to_frame(self) -> pd.DataFrame:
        return in_doubles(pd.DataFrame({"position": self.position, "value": self.value}))

    def _repr_html_(self) -> str:
        return firings_html(self)


class Active(NamedTuple):
    """The features that fire on one token, in ascending order, and how strongly."""

    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]

    def to_frame(self) -> pd.DataFrame:
        return in_doubles(pd.DataFrame({"feature": self.feature, "value": self.value}))

    def _repr_html_(self) -> str:
        return active_html(self)


def character_token(tokens: Sequence[str], i: int) -> int:
    """The token that holds the character which token i goes on with, or i itself: see `LanguageModel.token_strings`.

    >>> from saekit.index.records import character_token
    >>> character_token([" 🦙", "", "", "!"], 2)
    0
    """
    first = i
    while first > 0 and not tokens[first]:
        first -= 1
    return first if tokens[first] else i


@dataclass(frozen=True, kw_only=True)
class Context:
    """One place where a feature fires, with the tokens around it."""

    window: int  # row of the index's windows
    pos: int  # the firing token's place in its window
    document: int  # document number; -1 for a token between documents
    activation: float  # raw activation on the firing token
    start: int  # place in the window of the first token shown
    tokens: list[str]  # the tokens shown, special tokens included
    acts: list[float]  # this feature's activation on each token shown; 0 where it is silent or the token is excluded
    labels: Mapping[str, Any] = field(default_factory=dict)  # the document's labels
    bytes: Mapping[int, str] = field(default_factory=dict)  # of a token shown, what it holds of a character, as <0xE2>

    @property
    def centre(self) -> int:
        """Which of the tokens shown is the firing one."""
        return self.pos - self.start

    @property
    def text(self) -> str:
        """The text with the firing token in brackets, on one line: 'the Golden Gate[ Bridge] at dawn'."""
        shown = [*self.tokens]
        at = character_token(shown, self.centre)
        shown[at] = f"[{shown[at]}]"
        return "".join(shown).replace("\r", "").replace("\n", "↵").replace("\t", "⇥")

    def __str__(self) -> str:
        return f"{self.activation:8.2f}  {self.text}"

    __repr__ = __str__
    _repr_html_ = context_html


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of a feature's activations in equal-width bins over (0, max]; bin b holds edges[b] < v <= edges[b + 1]."""

    edges: Float[np.ndarray, " n_edges"]
    counts: Int[np.ndarray, " n_bins"]

    def __repr__(self) -> str:
        bars = "▁▂▃▄▅▆▇█"
        top = np.log1p(self.counts.max(initial=0)) or 1.0
        line = "".join(" " if c == 0 else bars[int(np.log1p(c) / top * 7)] for c in self.counts)
        return f"0 |{line}| {self.edges[-1]:.2f} (log scale)"

    _repr_html_ = histogram_html

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"low": self.edges[:-1], "high": self.edges[1:], "count": self.counts})


@dataclass(frozen=True, kw_only=True)
class ActivationBin:
    """One tenth of a feature's activation range, low < v <= high, with contexts drawn at random from it."""

    low: float
    high: float
    count: int  # firings in the bin
    fraction: float  # of all the feature's firings
    contexts: list[Context]

    def __repr__(self) -> str:
        head = f"({self.low:.2f}, {self.high:.2f}]: {self.count} firings, {self.fraction:.1%}"
        return "\n".join([head, *(f"  {c}" for c in self.contexts)])

    _repr_html_ = bin_html


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """All that the index holds on one feature. Prints as a card."""

    feature: int
    stats: Mapping[str, Any]  # density, n_firings, n_documents, max, mean (when active), std, silent
    histogram: Histogram
    top: list[Context]  # strongest first, at most one per window
    bins: list[ActivationBin]  # ten, lowest first; empty of contexts for a silent feature
    promoted: list[tuple[str, float]]  # token, effect on its logit of one unit of the feature, up to the norm's scale
    suppressed: list[tuple[str, float]]
    neighbours: list[tuple[int, float]]  # feature, cosine of the decoder directions
    name: str = ""  # what it is called: its label, or what it fires on
    fraction: float = math.nan  # of its activation that the name's words carry, on other documents than made it
    names: Mapping[int, str] = field(default_factory=dict)  # of the neighbours

    @property
    def max(self) -> float:
        return float(self.stats["max"])

    @property
    def density(self) -> float:
        return float(self.stats["density"])

    @property
    def silent(self) -> bool:
        """Whether it never fires on the index's text."""
        return bool(self.stats["silent"])

    def card(self, n_top: int = 8) -> str:
        """The record as readable text with its `n_top` strongest contexts."""
        s = self.stats
        carries = "" if math.isnan(self.fraction) else f"   ({self.fraction:.0%} of its activation)"
        lines = [f"feature {self.feature}" + (f": {self.name}{carries}" if self.name else "")]
        lines.append(f"  promotes    {_tokens(self.promoted)}")
        if self.silent:
            lines.append("  silent: never fired on this corpus")
        else:
            lines += [
                f"  density {s['density']:.4%}   {s['n_firings']} firings in {s['n_documents']} documents",
                f"  max {s['max']:.2f}   mean when active {s['mean']:.2f}   std {s['std']:.2f}",
                f"  activations {self.histogram!r}",
            ]
        near = [f"{i} {self.names.get(i, '')}".strip() + f" ({c:.2f})" for i, c in self.neighbours[:5]]
        lines += [f"  suppresses  {_tokens(self.suppressed)}", f"  neighbours  {'; '.join(near)}"]
        if self.top:
            shown = self.top[:n_top]
            lines += [f"  top contexts ({len(shown)} of {len(self.top)})", *(f"  {c}" for c in shown)]
        return "\n".join(lines)

    __str__ = card

    def __repr__(self) -> str:
        return self.card()

    _repr_html_ = record_html

    def plot(self) -> go.Figure:
        """The histogram of its activations as a plotly figure."""
        from .plots import activation_histogram

        return activation_histogram(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per context: bin (-1 for the top ones), activation, text, window, pos, document and labels."""
        groups = [(-1, self.top), *((n, b.contexts) for n, b in enumerate(self.bins))]
        return pd.DataFrame(
            [
                {
                    "bin": n,
                    "activation": c.activation,
                    "text": c.text,
                    "window": c.window,
                    "pos": c.pos,
                    "document": c.document,
                    **c.labels,
                }
                for n, group in groups
                for c in group
            ]
        )


def _tokens(effects: list[tuple[str, float]], n: int = 10) -> str:
    return " ".join(repr(token) for token, _ in effects[:n])
