"""Sparse probing: can a concept be classified from k features, and better than from k of anything else?

Documents are mean-pooled (`pooled`), and every class is separated from the rest by a logistic regression on the k
features that separate it best on the training documents; k neurons are chosen and used in the same way in Gurnee et al.
2023 (arXiv:2305.01610). Beside it stand what shows whether the SAE did anything: k raw dimensions of x and k features
of an SAE with random weights, chosen in the same way, a probe on all of x, and the majority class.

What SAEBench does (Karvonen et al. 2025, arXiv:2503.09532, its sparse-probing part), and where this differs:
- the same: mean pooling without special tokens, logistic regression, k = 1, 2, 5;
- SAEBench chooses features by the largest difference of class means (`choose="difference"`); here the difference is
  divided by the spread within classes (`choose="separation"`). Measured on the packaged SAE (150 documents of ten
  topics, mean over eight splits, k = 1): balanced accuracy 0.73 by difference, where a random SAE has 0.80, and 0.92 by
  separation, where it has 0.85. The difference alone prefers features that are loud everywhere;
- SAEBench draws as many negatives as positives and reports accuracy; here all documents of the other classes are
  negatives, classes are weighted alike, and balanced accuracy and AUROC stand beside accuracy;
- SAEBench trains the probe on all of x with Adam; here it is the same regression as the others, on standardised
  columns;
- intervals, the random SAE and attention sinks (left out by the SAE's token filter) are added here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ...arguments import checks_arguments
from ...corpus import as_corpus
from ...errors import ConfigError, unknown_name
from ...sae import SAE
from .displays import sparse_probing_html
from .pooled import hook_point, several
from .pooled_classes import choose_classes, pool_classes
from .probes import METRICS, Choice, Matrix, check_counts, columns, fit_probe, probe_metrics, split_rows, strongest
from .resolution import (
    N_RESEEDS,
    cell,
    headline,
    interval,
    leave_one_out,
    reseeds,
    resolution_text,
    smallest_difference,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ...corpus import AnyCorpus
    from ...models import LanguageModel

SAE_PROBE, RANDOM_PROBE, DIMENSIONS, ALL, MAJORITY = (
    "SAE features",
    "random SAE's features",
    "dimensions of x",
    "all of x",
    "majority class",
)
"""What is probed, in the order of tables."""
Part = tuple[str, int | None, Any, list[tuple[int, ...]]]
"""What was probed, with how many columns, the metrics [class, metric, draw], and the columns of each class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseProbing:
    """How well the classes of a label can be classified from k features of an SAE. Prints as a table with its
    baselines."""

    label: str
    """The label that was probed."""
    classes: tuple[Any, ...]
    """Its values, each classified against all others."""
    ks: tuple[int, ...]
    choose: str
    """How the k columns were chosen: "difference" of class means, or that over the spread ("separation")."""
    sae: str
    """Which SAE."""
    summary: pd.DataFrame
    """A row for each probe and k: the mean over classes of each metric, with _low and _high (95 %, jackknife over
    n_units held-out documents), and of the SAE's with _sd, the reseed noise, and _resolves, the smallest difference
    between two SAEs that it can tell."""
    by_class: pd.DataFrame
    """A row for each probe, k and class: the same, the features used and the number of held-out documents."""
    n_train: int
    n_test: int
    """Documents."""
    n_tokens: int
    """Tokens that the documents' means are over."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """The balanced accuracy with `at` features, the fewest by default, and what it resolves."""
        at = self.ks[0] if at is None else at
        self.score(at)
        rows = self.summary[(self.summary["probe"] == SAE_PROBE) & (self.summary["k"] == at)]
        return headline(f"balanced accuracy of {self.label!r} from {at} features", rows, "balanced_accuracy")

    def score(self, k: int, metric: str = "balanced_accuracy", probe: str = SAE_PROBE) -> float:
        """The mean over classes of one metric."""
        rows = self.summary[(self.summary["probe"] == probe) & (self.summary["k"].fillna(k) == k)]
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        if not len(rows):
            raise unknown_name(
                "probe", (probe, k), map(str, zip(self.summary["probe"], self.summary["k"], strict=True))
            )
        return float(rows[metric].iloc[0])

    def to_frame(self) -> pd.DataFrame:
        """One row for each probe and k: the means over classes."""
        return self.summary

    def plot(self) -> go.Figure:
        """Balanced accuracy and AUROC by k, beside the baselines, as a plotly figure."""
        from .plots import plot_sparse_probing

        return plot_sparse_probing(self)

    def __repr__(self) -> str:
        rows = []
        for _, row in self.summary.iterrows():
            cells = [cell(row, m) for m in METRICS]
            k = "" if pd.isna(row["k"]) else f"k = {int(row['k'])}"
            rows.append([f"{row['probe']} {k}".strip(), *cells])
        table = pd.DataFrame(rows, columns=["probe", *(m.replace("_", " ") for m in METRICS)])
        head = f"Sparse probing of {self.label!r}: {len(self.classes)} classes, {self.n_train:,} training and "
        known = self.headline()
        resolves = resolution_text(known["reseed_sd"], known["smallest_difference"])
        lines = [f"{head}{self.n_test:,} held-out documents", f"  {self.sae}", table.to_string(index=False)]
        return "\n".join(
            [*lines, f"  brackets: 95 %, {self.n_test:,} documents", f"  {known['what']}: {resolves}", *self.notes]
        )

    __str__ = __repr__
    _repr_html_ = sparse_probing_html


def probe_classes(
    values: Matrix,
    y: Int[np.ndarray, " n"],
    n_classes: int,
    split: tuple[Any, Any],
    weights: Float[np.ndarray, "draws test"],
    k: int | None,
    choose: Choice = "difference",
) -> tuple[Float[np.ndarray, "classes 3 draws"], list[tuple[int, ...]]]:
    """Metrics of one-against-the-rest probes on k columns of `values` (None: all), and those columns.

    `y` is each row's class from 0 to n_classes - 1; `split` the training and held-out rows; `weights` of those in each
    draw, such as `leave_one_out`.
    """
    train, test = split
    inside, outside = values[train], values[test]
    found, used = [], []
    for c in range(n_classes):
        truth = y[train] == c
        chosen = np.arange(values.shape[1]) if k is None else strongest(inside, truth, k, choose)
        probe = fit_probe(columns(inside, chosen), truth)
        found.append(probe_metrics(probe.scores(columns(outside, chosen)), y[test] == c, weights))
        used.append(() if k is None else tuple(int(i) for i in chosen))
    return np.stack(found), used


def _majority(
    y: Int[np.ndarray, " n"], n_classes: int, split: tuple[Any, Any], weights: Float[np.ndarray, "draws test"]
) -> Float[np.ndarray, "classes 3 draws"]:
    """The same for always giving the commoner answer of the training rows."""
    train, test = split
    guess = [1.0 if (y[train] == c).mean() > 0.5 else -1.0 for c in range(n_classes)]
    return np.stack([probe_metrics(np.full(len(test), g), y[test] == c, weights) for c, g in enumerate(guess)])


@overload
def sparse_probing(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = ...,
    ks: Sequence[int] = ...,
    choose: Choice = ...,
    n_each: int | None = ...,
    min_each: int = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> SparseProbing: ...
@overload
def sparse_probing(
    model: LanguageModel,
    sae: Sequence[SAE],
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = ...,
    ks: Sequence[int] = ...,
    choose: Choice = ...,
    n_each: int | None = ...,
    min_each: int = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> list[SparseProbing]: ...
@checks_arguments
def sparse_probing(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = None,
    ks: Sequence[int] = (1, 2, 5),
    choose: Choice = "separation",
    n_each: int | None = 100,
    min_each: int = 10,
    length: int = 128,
    fraction_held_out: float = 0.4,
    hook_name: str | None = None,
    n_reseeds: int = N_RESEEDS,
    seed: int = 0,
    progress: bool = True,
) -> SparseProbing | list[SparseProbing]:
    """How well the values of `label` can be classified by k features of the SAE; a list for a list of SAEs.

    `choose` says how the k features, and the k of each baseline, are picked on the training documents: by
    "separation" of class means, their difference over the standard deviation within classes, or by the plain
    "difference", as published, which prefers features that are loud everywhere; at k = 1 the two can disagree on
    whether an SAE beats random directions.

    `classes` None takes every value with at least `min_each` documents; `n_each` documents of a class are drawn at
    most, each read as its first `length` tokens. `fraction_held_out` of each class is held out, and `n_reseeds` further
    splits give the reseed noise. The model is run once for all SAEs. Raises UnknownNameError for the label or a value,
    DataError when fewer than two classes are left, MismatchError for an SAE of another model or hook point.

    >>> result = sk.sparse_probing(
    ...     model, sae, corpus, label="topic", ks=(1,), length=16, progress=False)
    >>> result.classes
    ('other', 'bridge')
    """
    saes, ks = several(sae), check_counts("ks", ks)
    corpus = as_corpus(corpus)
    if choose not in ("difference", "separation"):
        raise unknown_name("way to choose features", choose, ("difference", "separation"))
    where = hook_point(model, saes, hook_name)
    widest = min(s.config.d_sae for s in saes)
    if ks[-1] > min(widest, saes[0].config.d_in):
        limit = f"at most {min(widest, saes[0].config.d_in)}: the smaller of d_sae and d_in"
        raise ConfigError("ks asks for more features than there are", got=ks[-1], accepted=limit)
    seeds = reseeds(seed, n_reseeds)
    wanted, notes = choose_classes(corpus, label, classes, min_each)
    pooled, y = pool_classes(
        model, saes, corpus, label, wanted, hook_name=where, length=length, n_each=n_each, seed=seed, progress=progress
    )
    split = split_rows(y, fraction_held_out, seed)
    others = [split_rows(y, fraction_held_out, other) for other in seeds[1:]]
    weights = leave_one_out(len(split[1]))

    def probed(values: Matrix, k: int | None) -> tuple[Any, list[tuple[int, ...]]]:
        return probe_classes(values, y, len(wanted), split, weights, k, choose)

    def again(values: Matrix, k: int) -> Any:
        """The mean metrics with each other split [seed, metric]."""
        one = [np.ones((1, len(test))) for _, test in others]
        found = [probe_classes(values, y, len(wanted), s, w, k, choose)[0] for s, w in zip(others, one, strict=True)]
        return np.array([f[..., 0].mean(0) for f in found]).reshape(len(others), len(METRICS))

    shared: list[Part] = [(DIMENSIONS, k, *probed(pooled.x, k)) for k in ks]
    shared.append((ALL, None, *probed(pooled.x, None)))
    shared.append((MAJORITY, None, _majority(y, len(wanted), split, weights), [()] * len(wanted)))
    out = []
    for s, acts, random in zip(saes, pooled.feature_acts, pooled.random_acts, strict=True):
        parts: list[Part] = [(SAE_PROBE, k, *probed(acts, k)) for k in ks] + [
            (RANDOM_PROBE, k, *probed(random, k)) for k in ks
        ]
        summary, by_class = _tables([*parts, *shared], wanted, y[split[1]], {k: again(acts, k) for k in ks})
        out.append(
            SparseProbing(
                label=label,
                classes=tuple(wanted),
                ks=ks,
                choose=choose,
                sae=repr(s).split("\n")[0],
                summary=summary,
                by_class=by_class,
                n_train=len(split[0]),
                n_test=len(split[1]),
                n_tokens=int(pooled.n_tokens.sum()),
                notes=tuple(notes),
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def _tables(
    parts: Sequence[Part], classes: Sequence[Any], y_test: Any, again: dict[int, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    summary, by_class = [], []
    for probe, k, found, used in parts:
        row = {"probe": probe, "k": k, "n_units": len(y_test), **_cells(found.mean(0), y_test)}
        for i, name in enumerate(METRICS):
            noise = (np.nan, np.nan)
            if probe == SAE_PROBE and k is not None:
                values = [row[name], *again[k][:, i]]
                noise = smallest_difference(values, row[f"{name}_low"], row[f"{name}_high"])
            row |= {f"{name}_sd": noise[0], f"{name}_resolves": noise[1]}
        summary.append(row)
        for c, value in enumerate(classes):
            n = int((y_test == c).sum())
            row = {"probe": probe, "k": k, "class": value, "n_test": n, "features": used[c]}
            by_class.append({**row, **_cells(found[c], (y_test == c).astype(np.int64))})
    frames = [pd.DataFrame(rows).astype({"k": "Int64"}) for rows in (summary, by_class)]
    return frames[0], frames[1]


def _cells(found: Float[np.ndarray, "3 draws"], strata: Int[np.ndarray, " n"]) -> dict[str, Any]:
    """Each metric with its interval; accuracy is a proportion of all documents, the others are taken within classes."""
    cells: dict[str, Any] = {}
    for name, draws in zip(METRICS, found, strict=True):
        within = None if name == "accuracy" else strata
        cells[name], cells[f"{name}_low"], cells[f"{name}_high"] = interval(draws, strata=within)
    return cells
