"""Features of similar density and maximum, for controls."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError

N_CANDIDATES = 36
"""The nearest features from which controls are drawn, at least."""


def matched_features(table: pd.DataFrame, feature: int, n: int, seed: int) -> list[int]:
    """n features that fire about as often and as strongly as `feature`, given those of all; see FeatureIndex."""
    live = table.index[~table["silent"]].to_numpy()
    if feature not in live:
        raise DataError(
            f"feature {feature} is silent on this corpus: no feature matches it",
            got=feature,
            accepted="a feature that fires here",
        )
    others = live[live != feature]
    if not 0 < n <= len(others):
        raise ConfigError("not that many features to choose from", got=n, accepted=f"1 to {len(others)}")
    logs = np.log(table.loc[live, ["density", "max"]].to_numpy(np.float64))
    spread = logs.std(0)
    distance = np.linalg.norm((logs - logs[live == feature]) / np.where(spread > 0, spread, 1.0), axis=1)
    pool = others[np.argsort(distance[live != feature], kind="stable")[: max(N_CANDIDATES, 2 * n)]]
    return sorted(int(f) for f in np.random.default_rng([seed, feature]).choice(pool, n, replace=False))
