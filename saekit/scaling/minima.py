"""Best widths read from the runs, without the surface: losses at equal compute, a parabola through them, its minimum.

This is what Templeton et al. 2024 (Scaling Monosemanticity, "Scaling laws") look at, and approach 2 of Hoffmann et al.
2022: losses over width at one compute, and a power law through the minima of several such curves. Losses between two
runs of one width are interpolated in the logarithms (pchip), never beyond them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .forms import Doubles

ENOUGH_WIDTHS = 3
"""Widths a curve of equal compute needs for a parabola."""


def equal_compute(runs: pd.DataFrame, product: Doubles) -> pd.DataFrame:
    """Losses over width where width * n_tokens is each of `product`: product, width, n_tokens, loss.

    As many widths for each as have runs to interpolate between; products with fewer than three are left out.

    >>> import pandas as pd
    >>> from saekit.scaling.minima import equal_compute
    >>> runs = pd.DataFrame([(n, t, 1 / n + 1 / t) for n in (1, 2, 4) for t in (1, 2, 4)],
    ...                     columns=["width", "n_tokens", "loss"])
    >>> equal_compute(runs, [4.0])["loss"].tolist()
    [1.25, 1.0, 1.25]
    """
    from scipy.interpolate import PchipInterpolator

    curves: list[tuple[float, Doubles, Doubles, Callable[[float], Doubles] | None]] = []
    for width in np.unique(runs["width"]):
        here = runs[runs["width"] == width].sort_values("n_tokens")
        log_t, log_loss = np.log(here["n_tokens"].to_numpy(float)), np.log(here["loss"].to_numpy(float))
        curves.append((float(width), log_t, log_loss, PchipInterpolator(log_t, log_loss) if len(here) > 1 else None))
    rows = []
    for p in product:
        here_rows = []
        for width, log_t, log_loss, between in curves:
            t = float(np.log(p / width))
            exact = np.flatnonzero(np.abs(log_t - t) < 1e-6)
            if len(exact):
                loss = float(np.exp(log_loss[exact[0]]))
            elif between is not None and log_t[0] < t < log_t[-1]:
                loss = float(np.exp(between(t)))
            else:
                continue
            here_rows.append({"product": p, "width": width, "n_tokens": p / width, "loss": loss})
        rows += here_rows if len(here_rows) >= ENOUGH_WIDTHS else []
    return pd.DataFrame(rows, columns=["product", "width", "n_tokens", "loss"])


def vertices(curves: pd.DataFrame) -> pd.Series:
    """The best width for each product: the minimum of a parabola in log width through log loss; nan where it has none
    within the widths of the curve."""
    best = {}
    for p in np.unique(curves["product"]):
        here = curves[curves["product"] == p]
        x = np.log(here["width"].to_numpy())
        bend, slope, _ = np.polyfit(x - x.mean(), np.log(here["loss"].to_numpy()), 2)
        vertex = x.mean() - slope / (2 * bend) if bend > 0 else np.nan
        best[float(p)] = float(np.exp(vertex)) if x.min() <= vertex <= x.max() else np.nan
    return pd.Series(best, dtype=float)
