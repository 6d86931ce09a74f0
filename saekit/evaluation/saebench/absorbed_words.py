"""Which held-out words of a letter are absorbed: the definition that `absorption` reports by letter.

Of the words that the letter's probe gets right, one is absorbed when every main feature is silent and the feature with
the largest projection on the probe direction, a_i * (W_dec_i . p), is aligned with it and carries enough of the word's
own projection x . p. Sources and numbers: see `absorption`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .probes import Matrix, columns, fit_probe, mean_difference

F1_JUMP, MAX_MAIN = 0.03, 10
MIN_COSINE, MIN_PROJECTION = 0.025, 0.4
FRACTION_COSINE, MAX_ABSORBING = 0.1, 3


class Word(NamedTuple):
    """What became of one held-out word that the letter's probe gets right."""

    row: int
    absorbed: bool
    fraction: float
    feature: int
    """The feature with the largest projection on the probe direction; -1 when none fires."""
    projection_fraction: float
    """Its fraction of the word's own projection."""


def absorbed(
    x: Float[np.ndarray, "n d_in"],
    acts: Matrix,
    W_dec: Float[np.ndarray, "d_sae d_in"],
    direction: Float[np.ndarray, " d_in"],
    main: Int[np.ndarray, " main"],
    rows: Int[np.ndarray, " some"],
) -> list[Word]:
    """Each of `rows` classified by the definition of this module; `direction` is the probe's weight, of any length."""
    unit = direction / np.linalg.norm(direction)
    along = W_dec @ unit
    cosine = along / np.maximum(np.linalg.norm(W_dec, axis=1), 1e-12)
    is_main = np.zeros(len(W_dec), dtype=bool)
    is_main[main] = True
    out = []
    for row in rows:
        here = acts[[row]].tocoo() if hasattr(acts, "tocoo") else acts[row]
        feature, value = (here.col, here.data) if hasattr(here, "col") else (np.flatnonzero(here), here[here != 0])
        projection, total = value * along[feature], float(x[row] @ unit)
        if not len(feature):
            out.append(Word(int(row), False, 0.0, -1, 0.0))
            continue
        top = int(np.argmax(projection))
        part = float(projection[top] / total) if total > 0 else 0.0
        full = (
            not is_main[feature].any() and cosine[feature[top]] >= MIN_COSINE and total > 0 and part >= MIN_PROJECTION
        )
        by_main = float(projection[is_main[feature]].sum())
        other = (~is_main[feature]) & (cosine[feature] >= FRACTION_COSINE) & (projection > 0)
        by_other = float(np.sort(projection[other])[::-1][:MAX_ABSORBING].sum())
        out.append(Word(int(row), full, _fraction(by_main, by_other, total), int(feature[top]), part))
    return out


def _fraction(by_main: float, by_other: float, total: float) -> float:
    if total <= 0 or by_main >= total or by_other / total < MIN_PROJECTION:
        return 0.0
    if by_main <= 0:
        return 1.0
    taken = min(by_other, total - by_main)
    return taken / (taken + by_main)


def main_features(acts: Matrix, y: Any, *, max_main: int = MAX_MAIN) -> Int[np.ndarray, " main"]:
    """The features of a class by k-sparse probing on training rows: more as long as the F1 jumps by more than 0.03."""
    from sklearn.metrics import f1_score

    difference = mean_difference(acts, y)
    ranked = np.argsort(-difference, kind="stable")[:max_main]
    ranked = ranked[difference[ranked] > 0]
    best = -np.inf
    for k in range(1, len(ranked) + 1):
        values = columns(acts, ranked[:k])
        f1 = float(f1_score(y, fit_probe(values, y).scores(values) > 0, zero_division=0))
        if f1 <= best + F1_JUMP:
            return np.asarray(ranked[: k - 1])
        best = f1
    return np.asarray(ranked)
