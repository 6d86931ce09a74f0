"""Linear probes on rows of numbers, the split they are evaluated on, and intervals for their scores.

One logistic regression (scikit-learn, L2, C = 1, columns standardised on the training rows, classes weighted alike) is
used everywhere in this package; its weights are given back in the units of the rows, so that they can be compared with
decoder rows. Intervals are delete-one-row jackknives over held-out rows, within each class; the probe stays as fitted.

Source: AUROC with weights and ties as the fraction of pairs in order, Hanley and McNeil (1982).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from ...errors import ConfigError, DataError

Doubles = npt.NDArray[np.float64]
Matrix = Any
"""Rows of numbers: a numpy array, or a scipy sparse array [rows, columns]."""

Choice = Literal["difference", "separation"]
"""How k columns are chosen."""
METRICS = ("accuracy", "balanced_accuracy", "auroc")
"""The metrics of a probe, in the order of tables."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear probe; rows that score above 0 are called positive."""

    weight: Float[np.ndarray, " d"]
    bias: float

    def scores(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """The probe's log-odds for each row."""
        return np.asarray(x @ self.weight + self.bias, dtype=np.float64)


def fit_probe(x: Float[np.ndarray, "n d"], y: Bool[np.ndarray, " n"]) -> Probe:
    """A logistic regression of `y` on the rows of `x`; DataError unless both answers occur.

    >>> import numpy as np
    >>> from saekit.evaluation.saebench.probes import fit_probe
    >>> probe = fit_probe(np.array([[0.0], [1.0], [8.0], [9.0]]), np.array([False, False, True, True]))
    >>> probe.scores(np.array([[2.0], [7.0]])) > 0
    array([False,  True])
    """
    from sklearn.linear_model import LogisticRegression

    if y.all() or not y.any():
        raise DataError(
            "a probe needs rows of both classes",
            got=f"{int(y.sum())} positive of {len(y)}",
            accepted="at least one row of each",
            fix="take more documents, or leave that class out",
        )
    x = np.asarray(x, dtype=np.float64)
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit((x - centre) / scale, y)
    weight = model.coef_[0] / scale
    return Probe(weight, float(model.intercept_[0] - weight @ centre))


def strongest(
    values: Matrix, y: Bool[np.ndarray, " n"], k: int, choose: Choice = "difference"
) -> Int[np.ndarray, " k"]:
    """The k columns that differ most between the classes, largest first; ties to the lower number.

    "difference" is the absolute difference of class means, "separation" that over the standard deviation within
    classes.
    """
    size = np.abs(mean_difference(values, y))
    if choose == "separation":
        size = size / _spread(values, y)
    return np.argsort(-size, kind="stable")[:k]


def _spread(values: Matrix, y: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """Standard deviation within the two classes, pooled; never 0."""
    square = values.multiply(values) if hasattr(values, "multiply") else values**2
    total, variance = np.asarray(square.mean(axis=0)).reshape(-1), 0.0
    for side in (y, ~y):
        weight = side / side.sum()
        mean = np.asarray(values.T @ weight)
        variance = variance + side.mean() * (np.asarray(square.T @ weight) - mean**2)
    return np.asarray(np.sqrt(np.maximum(variance, 1e-9 * total + 1e-30)))


def mean_difference(values: Matrix, y: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """Mean over the rows in `y` less the mean over the others, by column."""
    inside = y.astype(np.float64)
    total = np.asarray(values.T @ inside), np.asarray(values.T @ (1 - inside))
    return np.asarray(total[0] / inside.sum() - total[1] / (1 - inside).sum(), dtype=np.float64)


def columns(values: Matrix, chosen: npt.NDArray[Any]) -> Float[np.ndarray, "n k"]:
    """Some columns, dense."""
    some = values[:, chosen]
    return np.asarray(some.toarray() if hasattr(some, "toarray") else some, dtype=np.float64)


def split_rows(
    strata: Int[np.ndarray, " n"], fraction_held_out: float, seed: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """(training, held-out) row numbers, each stratum divided alike; every stratum has a row on both sides.

    DataError for a stratum of fewer than two rows.
    """
    check_fraction("fraction_held_out", fraction_held_out)
    rng = np.random.default_rng(seed)
    train, test = [], []
    for stratum in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        if len(rows) < 2:
            raise DataError(
                "a class has too few documents to be split", got=len(rows), accepted="at least 2", fix="leave it out"
            )
        n = min(max(round(fraction_held_out * len(rows)), 1), len(rows) - 1)
        test.append(rows[:n])
        train.append(rows[n:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def probe_metrics(
    score: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]
) -> Float[np.ndarray, "3 draws"]:
    """Accuracy, balanced accuracy and AUROC of scores, for each row of weights.

    >>> import numpy as np
    >>> from saekit.evaluation.saebench.probes import probe_metrics
    >>> probe_metrics(np.array([-1.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True]), np.ones((1, 4)))[:, 0]
    array([0.75, 0.75, 1.  ])
    """
    correct = ((score > 0) == y).astype(np.float64)
    inside, outside = weights * y, weights * ~y
    n_in, n_out = inside.sum(1), outside.sum(1)
    accuracy = weights @ correct / (n_in + n_out)
    with np.errstate(invalid="ignore", divide="ignore"):
        balanced = (inside @ correct / n_in + outside @ correct / n_out) / 2
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        up = np.add.reduceat(inside[:, order], starts, axis=1)
        down = np.add.reduceat(outside[:, order], starts, axis=1)
        below = np.cumsum(down, axis=1) - down
        auroc = (up * (below + down / 2)).sum(1) / (n_in * n_out)
    return np.stack([accuracy, balanced, auroc])


def check_fraction(name: str, value: float) -> None:
    """ConfigError unless a fraction leaves something on both sides."""
    if not 0 < value < 1:
        raise ConfigError(f"{name} is not a fraction", got=value, accepted="above 0, below 1")


def check_counts(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Ascending distinct counts; ConfigError for none, or for anything but positive integers."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} is no list of counts", got=f"{values!r:.80}", accepted="a list, such as (1, 2, 5)")
    listed = list(values)
    if not listed or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < 1 for v in listed):
        raise ConfigError(f"{name} are not counts", got=listed, accepted="integers of at least 1, such as (1, 2, 5)")
    return tuple(sorted({int(v) for v in listed}))
