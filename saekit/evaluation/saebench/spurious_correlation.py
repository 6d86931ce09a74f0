"""Spurious correlation removal: is a biased probe corrected by ablating the features of its bias?

A probe for the wanted label is trained where it coincides with a spurious one, and evaluated where the two are
balanced: there it errs as far as it has learned the wrong thing. The n features most attributed to the spurious label,
by |difference of class means * (probe of the spurious label . W_dec)|, are set to zero with the SAE's error left as it
is, and the same probe is evaluated again. Score = (accuracy after - accuracy biased) / (accuracy oracle - accuracy
biased), where the oracle is a probe for the wanted label trained on balanced documents: 0 no gain, 1 the bias is gone.

Source: Karvonen et al. 2025 (SAEBench, arXiv:2503.09532), after SHIFT (Marks et al. 2024, arXiv:2403.19647) without a
human judge. As there: sets, probes, attribution, score. Differences: L2 logistic regressions for SAEBench's
Adam-trained ones; SAEBench runs both directions and reports the one whose biased probe is worse, here the caller says
which label is wanted; where the biased probe is as good as the oracle the score is undefined, with a note. A random SAE
of the same sizes stands beside it. An audit (2026, arXiv:2605.18229) advises against SCR at its usual settings: a
warning says so, and every score stands beside its reseed noise and what it can resolve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from ...arguments import checks_arguments
from ...corpus import as_corpus
from ...errors import ConfigError, DataError, unknown_name
from ...sae import SAE
from .audit import warn_of_audit
from .displays import spurious_removal_html
from .perturbation import NS, attributed, row_at, without
from .pooled import choose_documents, decoder, hook_point, label_values, pool, several, writes_where_it_reads
from .probes import Matrix, check_counts, fit_probe, split_rows
from .resolution import N_RESEEDS, headline, interval, leave_one_out, reseeds, resolution_text, smallest_difference

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ...corpus import AnyCorpus, Corpus
    from ...models import LanguageModel

Label = str | Mapping[str, Any]
"""A column with two values, {column: value} against all others, or {column: (value, other value)}."""


@dataclass(frozen=True, eq=False)
class Removed:
    """Accuracies for the wanted label on balanced held-out documents; the last axis is the draws."""

    biased: Float[np.ndarray, " draws"]
    oracle: Float[np.ndarray, " draws"]
    after: Float[np.ndarray, "ns draws"]
    features: tuple[int, ...]
    """The most attributed to the spurious label first."""
    n_biased: int
    n_balanced: int
    n_test: int
    strata: Int[np.ndarray, " test"]
    """Combination of the labels of each held-out document."""

    def scores(self) -> Float[np.ndarray, "ns draws"]:
        """(after - biased) / (oracle - biased); NaN where the biased probe is as good as the oracle."""
        gap = self.oracle - self.biased
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(gap > 1e-9, (self.after - self.biased) / gap, np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpuriousRemoval:
    """Whether ablating the features of a spurious label corrects a biased probe (SCR). Prints as a table by n."""

    wanted: str
    spurious: str
    ns: tuple[int, ...]
    sae: str
    accuracy_biased: float
    """Of the probe trained where the labels coincide, for the wanted label on balanced held-out documents."""
    accuracy_oracle: float
    """Of a probe trained on balanced documents."""
    table: pd.DataFrame
    """A row for each n: accuracy and score with _low and _high (95 %, jackknife over n_units held-out documents), the
    score's reseed noise (score_sd) and the smallest difference between two SAEs that it can tell (score_resolves), and
    random_score."""
    features: tuple[int, ...]
    """Those attributed to the spurious label, strongest first."""
    n_biased: int
    """Documents the biased probe was trained on."""
    n_balanced: int
    """Documents the oracle and the spurious label's probe were trained on."""
    n_test: int
    notes: tuple[str, ...] = ()

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """The score with `at` features ablated, the fewest by default, and what it resolves."""
        at = self.ns[0] if at is None else at
        return headline(f"SCR of {self.spurious!r}, {at} features ablated", row_at(self.table, at), "score")

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of ablated features."""
        return self.table

    def plot(self) -> go.Figure:
        """Accuracy by number of features between the biased probe and the oracle, as a plotly figure."""
        from .plots import plot_spurious_removal

        return plot_spurious_removal(self)

    def __repr__(self) -> str:
        known = self.headline()
        resolves = f"{known['what']}: {resolution_text(known['reseed_sd'], known['smallest_difference'])}"
        return "\n".join(
            [
                f"Spurious correlation removal: wanted {self.wanted}, spurious {self.spurious}; {self.n_biased:,} "
                f"biased and {self.n_balanced:,} balanced training documents, {self.n_test:,} held out",
                f"  {self.sae}",
                f"  accuracy biased {self.accuracy_biased:.3f}, oracle {self.accuracy_oracle:.3f}",
                self.table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep="-"),
                f"  {resolves}",
                *self.notes,
            ]
        )

    __str__ = __repr__
    _repr_html_ = spurious_removal_html


def remove(
    x: Float[np.ndarray, "n d_in"],
    acts: Matrix,
    W_dec: Float[np.ndarray, "d_sae d_in"],
    wanted: Bool[np.ndarray, " n"],
    spurious: Bool[np.ndarray, " n"],
    *,
    ns: Sequence[int],
    fraction_held_out: float = 0.4,
    draws: bool = False,
    seed: int = 0,
) -> Removed:
    """A biased probe's accuracy before and after ablation, and the oracle's; with `draws` also without each held-out
    document.

    `x` and `acts` are mean activations and mean feature activations of documents. DataError when one of the four
    combinations of the labels has fewer than four documents.
    """
    cell = 2 * wanted.astype(np.int64) + spurious
    smallest = int(np.bincount(cell, minlength=4).min())
    if smallest < 4:
        raise DataError(
            "the two labels are not found in every combination",
            got=f"{smallest} documents in the rarest",
            accepted="at least 4 of each of the four combinations",
            fix="choose other labels, or a larger corpus",
        )
    train, test = split_rows(cell, fraction_held_out, seed)
    rng = np.random.default_rng([seed, 3])
    balanced, held_out = _evenly(train, cell, range(4), rng), _evenly(test, cell, range(4), rng)
    biased = _evenly(train, cell, (0, 3), rng)
    biased_probe, oracle = fit_probe(x[biased], wanted[biased]), fit_probe(x[balanced], wanted[balanced])
    of_spurious = fit_probe(x[balanced], spurious[balanced])
    ranked = attributed(acts[balanced], spurious[balanced], of_spurious, W_dec, max(ns), signed=False)
    weights = leave_one_out(len(held_out)) if draws else np.ones((1, len(held_out)))

    def accuracy(probe: Any, rows: Any) -> Float[np.ndarray, " draws"]:
        return np.asarray(weights @ ((probe.scores(rows) > 0) == wanted[held_out]) / weights.sum(1))

    x_test, acts_test = x[held_out], acts[held_out]
    after = [accuracy(biased_probe, without(x_test, acts_test, W_dec, ranked[:n])) for n in ns]
    return Removed(
        accuracy(biased_probe, x_test),
        accuracy(oracle, x_test),
        np.stack(after),
        tuple(map(int, ranked)),
        len(biased),
        len(balanced),
        len(held_out),
        cell[held_out],
    )


def _evenly(
    rows: Int[np.ndarray, " n"], cell: Int[np.ndarray, " m"], cells: Sequence[int], rng: np.random.Generator
) -> Int[np.ndarray, " some"]:
    """As many of the rows from each of the cells, drawn at random."""
    groups = [rows[cell[rows] == c] for c in cells]
    n = min(map(len, groups))
    return np.sort(np.concatenate([rng.permutation(g)[:n] for g in groups]))


@overload
def spurious_correlation_removal(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus,
    *,
    wanted: Label,
    spurious: Label,
    ns: Sequence[int] = ...,
    n_each: int | None = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> SpuriousRemoval: ...
@overload
def spurious_correlation_removal(
    model: LanguageModel,
    sae: Sequence[SAE],
    corpus: AnyCorpus,
    *,
    wanted: Label,
    spurious: Label,
    ns: Sequence[int] = ...,
    n_each: int | None = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> list[SpuriousRemoval]: ...
@checks_arguments
def spurious_correlation_removal(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    corpus: AnyCorpus,
    *,
    wanted: Label,
    spurious: Label,
    ns: Sequence[int] = NS,
    n_each: int | None = 100,
    length: int = 128,
    fraction_held_out: float = 0.4,
    hook_name: str | None = None,
    n_reseeds: int = N_RESEEDS,
    seed: int = 0,
    progress: bool = True,
) -> SpuriousRemoval | list[SpuriousRemoval]:
    """Whether ablating the features of `spurious` corrects a probe for `wanted` that it biases (SCR); a list for a
    list.

    Warns that a 2026 audit advises against this evaluation at its usual settings. A label is a column with two values,
    {column: value} (against all other values) or {column: (value, other)}. `n_each` documents of each of the four
    combinations are drawn at most, each read as its first `length` tokens. `n_reseeds` further splits give the reseed
    noise. Raises UnknownNameError for a label or value, ConfigError for a column with more than two values or a
    transcoder, DataError when a combination is too rare.

    >>> result = sk.spurious_correlation_removal(
    ...     model, sae, sk.load_corpus([{"text": t, "a": a, "b": b} for t in ("cat", "mat", "fog", "red")
    ...                                 for a in (True, False) for b in ("x", "y")]),
    ...     wanted="a", spurious={"b": "y"}, ns=(1, 2), length=16, progress=False)
    >>> result.wanted, result.spurious
    ('a = True', 'b = y')
    """
    saes, ns = several(sae), check_counts("ns", ns)
    corpus = as_corpus(corpus)
    writes_where_it_reads(saes, "spurious correlation removal")
    where = hook_point(model, saes, hook_name)
    seeds = reseeds(seed, n_reseeds)
    sides = [_sides(corpus, label) for label in (wanted, spurious)]
    warn_of_audit("spurious correlation removal (SCR)")

    def key(labels: Mapping[str, Any]) -> tuple[bool, bool] | None:
        found = [_side(labels, side) for side in sides]
        return None if None in found else (bool(found[0]), bool(found[1]))

    documents, keys = choose_documents(corpus, key, n_each, seed)
    pooled = pool(model, saes, documents, hook_name=where, length=length, seed=seed, progress=progress)
    is_wanted, is_spurious = np.array(keys, dtype=bool)[pooled.document].T
    out = []
    for s, acts, random, W_random in zip(
        saes, pooled.feature_acts, pooled.random_acts, pooled.random_W_dec, strict=True
    ):
        same: dict[str, Any] = {"ns": ns, "fraction_held_out": fraction_held_out}
        labels, W_dec = (is_wanted, is_spurious), decoder(s)
        found = remove(pooled.x, acts, W_dec, *labels, draws=True, seed=seed, **same)
        again = [remove(pooled.x, acts, W_dec, *labels, seed=v, **same).scores()[:, 0] for v in seeds[1:]]
        baseline = remove(pooled.x, random, W_random, *labels, seed=seed, **same)
        gap = found.oracle[0] - found.biased[0]
        note = "the score is undefined: the biased probe is as good as the oracle, so there is no bias to remove"
        out.append(
            SpuriousRemoval(
                wanted=_name(sides[0]),
                spurious=_name(sides[1]),
                ns=ns,
                sae=repr(s).split("\n")[0],
                accuracy_biased=float(found.biased[0]),
                accuracy_oracle=float(found.oracle[0]),
                table=_table(ns, found, baseline, again),
                features=found.features,
                n_biased=found.n_biased,
                n_balanced=found.n_balanced,
                n_test=found.n_test,
                notes=() if gap > 1e-9 else (note,),
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def _table(ns: Sequence[int], found: Removed, baseline: Removed, again: list[Any]) -> pd.DataFrame:
    rows = []
    for i, n in enumerate(ns):
        row: dict[str, float] = {"n": n, "n_units": found.n_test}
        ends = interval(found.after[i], strata=found.strata), interval(found.scores()[i], "identity", found.strata)
        for name, known in zip(("accuracy", "score"), ends, strict=True):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = known
        values = [row["score"], *(other[i] for other in again)]
        row["score_sd"], row["score_resolves"] = smallest_difference(values, row["score_low"], row["score_high"])
        rows.append({**row, "random_score": float(baseline.scores()[i, 0])})
    return pd.DataFrame(rows)


def _sides(corpus: Corpus, label: Label) -> tuple[str, Any, Any]:
    """(column, value that counts as true, value that counts as false or None for all others)."""
    if isinstance(label, str):
        values = sorted(label_values(corpus, label), key=str)
        if len(values) != 2:
            raise ConfigError(
                f"label {label!r} does not have two values",
                got=values,
                accepted="a column with two values",
                fix=f"say which: {{{label!r}: {values[0]!r}}}, or {{{label!r}: (value, other value)}}",
            )
        return label, values[1], values[0]
    if not isinstance(label, Mapping) or len(label) != 1:
        raise ConfigError("not a label", got=label, accepted="a column's name, or {column: value} with one column")
    ((column, value),) = label.items()
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, None)
    if len(pair) != 2:
        raise ConfigError("a label takes one value or two", got=value, accepted="a value, or (value, other value)")
    seen = label_values(corpus, column)
    for v in pair:
        if v is not None and v not in seen:
            raise unknown_name(f"value of label {column!r}:", v, seen)
    return column, pair[0], pair[1]


def _side(labels: Mapping[str, Any], sides: tuple[str, Any, Any]) -> bool | None:
    column, yes, no = sides
    value = labels.get(column)
    if value is None or (no is not None and value not in (yes, no)):
        return None
    return bool(value == yes)


def _name(sides: tuple[str, Any, Any]) -> str:
    return f"{sides[0]} = {sides[1]}" + (f" (not {sides[2]})" if sides[2] is not None and sides[1] is not True else "")
