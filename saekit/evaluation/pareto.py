"""Which SAEs no other beats in sparsity and fidelity, and what their metrics were measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    pass


TRAINING, HELD_OUT, NOTHING = "last training batch", "held-out text", "nothing"
"""What the metrics of a row were measured on."""
MEASURES = {"explained_variance": "explained variance", "ce_loss_recovered": "cross-entropy loss recovered"}
"""What `plot` can show by L0."""


def pareto_optimal(frame: pd.DataFrame, groups: Sequence[str], y: str = "explained_variance") -> pd.Series:
    """True for rows of a group that no other row of it beats: none has a smaller l0 and as high a y, or the reverse."""
    best = np.zeros(len(frame), bool)
    known = frame.reset_index(drop=True)[[*groups, "l0", y]].dropna(subset=["l0", y])
    for _, group in known.groupby(list(groups), dropna=False):
        l0, value = group["l0"].to_numpy(float), group[y].to_numpy(float)
        no_worse = (l0 <= l0[:, None]) & (value >= value[:, None])
        best[group.index.to_numpy(int)] = ~(no_worse & ((l0 < l0[:, None]) | (value > value[:, None]))).any(1)
    return pd.Series(best, index=frame.index)
