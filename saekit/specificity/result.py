"""What `specificity` returns: estimates with intervals, tables and the contexts behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ..statistics import Estimate
from ..statistics.intervals import short
from .concepts import Concept
from .displays import evidence_html, specificity_html
from .measures import MEASURES
from .permutation import FeatureTest
from .split import Documents

if TYPE_CHECKING:
    from ..index.records import Context

Group = Literal["true positive", "false positive", "miss", "bin sample"]


@dataclass(frozen=True, kw_only=True)
class EvidenceContext:
    """One context behind a number, and which number that is."""

    group: Group
    bin: int
    """The activation bin it lies in, a tenth of the activation range, 0 to 9; -1 where the feature is silent."""
    matches: bool
    """Whether it belongs to the concept."""
    context: Context

    def __repr__(self) -> str:
        return f"{'+' if self.matches else '-'} {self.context}"

    _repr_html_ = evidence_html


@dataclass(frozen=True, kw_only=True)
class SpecificityResult:
    """How well one feature's activation separates a concept from everything else. Prints as a report."""

    feature: int
    concept: Concept
    unit: str
    """What was scored: "token", or "document" by its strongest token."""
    level: float
    documents: Documents
    """Which documents it was scored on: "report", those that `rank_features` does not choose on, "choose" or "all"."""
    protocol: str
    """The same in words, and what they are right for."""
    n: int
    """Tokens or documents scored."""
    n_positive: int
    n_documents: int
    """Different documents; copies of a text are one."""
    n_positive_documents: int
    n_firings: int
    n_matches: int
    """Firings that belong to the concept."""
    max_activation: float
    base_rate: Estimate
    """Fraction of all tokens or documents that belong to the concept: the precision of a feature that fires at
    random."""
    auroc: Estimate
    average_precision: Estimate
    f1: Estimate
    """F1 at and above `f1_threshold`."""
    f1_threshold: float
    """The activation with the best F1 on the documents that `rank_features` chooses on; with other `documents` than
    "report", on the very ones scored."""
    precision: Estimate
    """Fraction of firings (activation above 0) that belong to the concept."""
    recall: Estimate
    """Fraction of the concept on which the feature fires."""
    top_precision: Estimate
    """The same two for the highest tenth of the activation range alone."""
    top_recall: Estimate
    test: FeatureTest
    """The feature against the best of all features for permuted labels, by document, on all documents."""
    curve: pd.DataFrame
    """threshold (descending), n_firings, precision and recall at and above it, each with _low and _high, and
    n_documents, where an example scores so much: what the interval of precision is over. That of recall is over
    `n_positive_documents`."""
    bins: pd.DataFrame
    """A row per activation bin, a tenth of (0, max]: low, high, n_firings, n_matches, n_documents with such a firing,
    fraction, its interval over these (fraction_low, fraction_high), and controls_fraction: of all matched features'
    firings in the same bin."""
    by_label: pd.DataFrame
    """Where the activation goes: label, value, n, n_firings, n_matches, density, precision, activation_fraction."""
    evidence: tuple[EvidenceContext, ...]
    """Some contexts of each kind: the strongest firings on and off the concept, misses, and a sample of each bin."""
    controls: pd.DataFrame
    """The same metrics of features of similar density and maximum, one row each."""
    control_curves: pd.DataFrame
    """Their curves one below the other: feature, threshold, n_firings, precision, recall."""
    notes: tuple[str, ...] = ()
    """What to keep in mind when reading the numbers."""
    name: str = ""
    """What the index calls the feature."""

    @property
    def called(self) -> str:
        """The feature's number, with its name where the index has one."""
        return f"{self.feature} ({self.name})" if self.name else str(self.feature)

    @property
    def true_positives(self) -> list[Context]:
        """The strongest firings on the concept, from different documents."""
        return self._contexts("true positive")

    @property
    def false_positives(self) -> list[Context]:
        """The strongest firings off the concept, from different documents."""
        return self._contexts("false positive")

    @property
    def misses(self) -> list[Context]:
        """Places of the concept where the feature is silent, drawn at random from different documents."""
        return self._contexts("miss")

    @property
    def p_value(self) -> float:
        """The p value corrected for the search over all features; nan where there is none, and `test.p` says why."""
        return self.test.p_value

    @property
    def specific(self) -> bool:
        """Whether the corrected p value is below 0.05."""
        return self.test.specific

    @property
    def summary(self) -> str:
        """One sentence: the AUROC beside that of the matched features, and the p value of the search."""
        against = ""
        if len(self.controls):
            scores = self.controls["auroc"]
            one = len(scores) == 1
            against = f"; {len(scores)} matched feature{'' if one else 's'} {short(scores.mean())}"
            against += "" if one else f", best {short(scores.max())}"
        p = "" if math.isnan(self.p_value) else f"; {self.test.p} among {self.test.n_features:,} features"
        return f"AUROC {self.auroc}{against}{p}"

    def to_frame(self) -> pd.DataFrame:
        """A row per measure: value, low, high, n_units (documents), controls_mean, controls_best, reason."""
        rows: dict[str, dict[str, Any]] = {"base_rate": self._row(self.base_rate)}
        for name in MEASURES:
            control = self.controls[name] if len(self.controls) else pd.Series(dtype=float)
            rows[name] = self._row(getattr(self, name), control.mean(), control.max())
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")

    def evidence_frame(self) -> pd.DataFrame:
        """A row per context: group, bin, matches, activation, text, document, window, pos and the labels."""
        return pd.DataFrame(
            [
                {
                    "group": e.group,
                    "bin": e.bin,
                    "matches": e.matches,
                    "activation": e.context.activation,
                    "text": e.context.text,
                    "document": e.context.document,
                    "window": e.context.window,
                    "pos": e.context.pos,
                    **e.context.labels,
                }
                for e in self.evidence
            ]
        )

    def plot(self) -> Any:
        """Precision against recall, and the fraction on the concept by activation bin, as a plotly figure."""
        from .plots import plot_specificity

        return plot_specificity(self)

    def __str__(self) -> str:
        parts = [
            self._head(),
            self._metrics(),
            self._search(),
            self._bins(),
            self._labels(),
            self._places(),
            self._notes(),
        ]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    __repr__ = __str__
    _repr_html_ = specificity_html

    def _head(self) -> list[str]:
        lines = [f"Feature {self.called} for {self.concept.name!r}: AUROC {self.auroc}"]
        lines += wrap(f"on {self.protocol}", 118, initial_indent="  ", subsequent_indent="  ")
        return [
            *lines,
            f"  {self.n_positive:,} of {self.n:,} {self.unit}s belong to the concept ({float(self.base_rate):.2%}), "
            f"in {self.n_positive_documents:,} of {self.n_documents:,} documents",
            f"  the feature fires on {self.n_firings:,} {self.unit}s, {self.n_matches:,} of them of the concept"
            + (f"; maximum {self.max_activation:.2f}" if self.n_firings else ""),
        ]

    def _metrics(self) -> list[str]:
        if not self.n_firings:
            return []
        n = len(self.controls)
        heading = f"{n} matched feature{'' if n == 1 else 's'}: mean (best)" if n else ""
        lines = [f"  {'':<26}{'value':>7}   {f'{self.level:.0%} interval':<17}{'documents':>9}   {heading}".rstrip()]
        for name, row in self.to_frame().iloc[1:].iterrows():
            if math.isnan(row["value"]):
                lines.append(f"  {MEASURES[str(name)]:<26}{'-':>7}   {row['reason']}")
                continue
            bounds = "none" if math.isnan(row["low"]) else f"[{short(row['low'])}, {short(row['high'])}]"
            control = f"{short(row['controls_mean'])} ({short(row['controls_best'])})" if n else ""
            cells = (
                f"  {MEASURES[str(name)]:<26}{short(row['value']):>7}   {bounds:<17}{row['n_units']:>9,}   {control}"
            )
            lines.append(cells.rstrip())
        if n:
            lines.append("  matched features are a fair comparison for a feature that was fixed in advance")
        return lines

    def _search(self) -> list[str]:
        return wrap(f"for a chosen one: {self.test}", 118, initial_indent="  ", subsequent_indent="  ")

    def _bins(self) -> list[str]:
        if not self.n_firings:
            return []
        lines = ["  activation            firings   documents   fraction on the concept"]
        for row in reversed(self.bins.to_dict("records")):
            span, part = f"{row['low']:.2f} to {row['high']:.2f}", float(row["fraction"])
            fraction = "" if math.isnan(part) else f"{part:6.1%}  {'█' * round(20 * part)}"
            lines.append(f"  {span:<20}{row['n_firings']:>9,}   {row['n_documents']:>9,}   {fraction}".rstrip())
        return lines

    def _labels(self) -> list[str]:
        lines = []
        for label, rows in self.by_label[self.by_label["n_firings"] > 0].groupby("label", sort=False):
            parts = [
                f"{row['value']} {row['activation_fraction']:.0%} (precision {row['precision']:.0%})"
                for row in rows.head(4).to_dict("records")
            ]
            lines.append(f"  its activation by {label}: {', '.join(parts)}")
        return lines

    def _places(self) -> list[str]:
        lines: list[str] = []
        for title, contexts in (
            ("strongest on the concept", self.true_positives),
            ("strongest off the concept", self.false_positives),
            ("silent on the concept", self.misses),
        ):
            if contexts:
                lines += [""] if lines else []
                lines += [f"  {title}", *(f"  {_clip(str(c))}" for c in contexts[:3])]
        return lines

    def _notes(self) -> list[str]:
        return [
            line
            for note in self.notes
            for line in wrap(f"note: {note}", 118, initial_indent="  ", subsequent_indent="        ")
        ]

    def _contexts(self, group: Group) -> list[Context]:
        return [e.context for e in self.evidence if e.group == group]

    @staticmethod
    def _row(e: Estimate, mean: float = math.nan, best: float = math.nan) -> dict[str, Any]:
        return {
            "value": e.value,
            "low": e.low,
            "high": e.high,
            "n_units": e.n_units,
            "controls_mean": mean,
            "controls_best": best,
            "reason": e.reason,
        }


def _clip(text: str, limit: int = 110) -> str:
    """The text around its [marked] token, within `limit` characters."""
    if len(text) <= limit:
        return text
    head, body = text[:10], text[10:]
    centre = max(body.find("["), 0)
    room = limit - len(head) - 2
    first = max(0, min(centre - room // 2, len(body) - room))
    return f"{head}{'…' * (first > 0)}{body[first : first + room]}{'…' * (first + room < len(body))}"
