"""Intervals and resamples against their definitions and scipy, and that nothing else in saekit draws any."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from saekit.errors import ConfigError
from saekit.statistics import (
    Estimate,
    count_blocks,
    mean_interval,
    percentile_bounds,
    percentile_interval,
    point_and_interval,
    resample_counts,
    resample_picks,
    resample_within,
    wilson_interval,
)

PACKAGE = Path(__file__).parents[1] / "saekit"


DRAWN = re.compile(r"(np\.(nan)?(quantile|percentile)|rng\.multinomial|binomtest|stats\.bootstrap)")
"""What draws resamples of units or takes their percentiles."""


def draws_any(path: Path) -> bool:
    """Whether a file calls one of them; examples in docstrings aside."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return any(DRAWN.fullmatch(ast.unparse(called)) for called in calls)


def test_nothing_else_takes_percentiles_or_draws_resamples() -> None:
    others = [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE / "statistics" and draws_any(p)]
    assert others == [], "statistics/ is the only place that draws intervals"
    assert draws_any(PACKAGE / "statistics" / "resampling.py") and draws_any(PACKAGE / "statistics" / "intervals.py")


def test_a_wilson_interval_is_scipys() -> None:
    for hits, n in ((0, 7), (3, 7), (7, 7), (40, 100)):
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert wilson_interval(0, 7).low == 0.0 and wilson_interval(7, 7).high == 1.0


def test_a_wilson_interval_by_its_formula() -> None:
    n, p, z = 100, 0.4, stats.norm.ppf(0.975)
    centre, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    ends = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    assert wilson_interval(40, n) == pytest.approx(ends)


def test_a_mean_is_resampled_by_groups_not_values() -> None:
    def interval(groups: list[list[float]]) -> tuple[float, float]:
        return mean_interval(groups, 2000, np.random.default_rng(0))

    centres = np.random.default_rng(0).normal(size=40)
    low, high = interval([[c] * 25 for c in centres])
    expected = stats.bootstrap((centres,), np.mean, method="percentile", n_resamples=5000, random_state=1)
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.03)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.03)
    assert interval([[0.0], [1.0] * 9]) == (0.0, 1.0)  # a resample of one group twice is that group's mean
    assert interval([[1.0, math.nan], [math.nan], [3.0]])[1] <= 3.0
    assert all(map(math.isnan, interval([[math.nan]])))


def test_the_draws_do_not_depend_on_the_block_size() -> None:
    wide, narrow = (
        np.concatenate(list(count_blocks(5, 20, np.random.default_rng(3), block)), axis=1) for block in (20, 1)
    )
    assert (wide == narrow).all() and (wide.sum(0) == 5).all()
    picks = resample_picks(5, 20, np.random.default_rng(3))
    assert (np.stack([np.bincount(row, minlength=5) for row in picks], axis=1) == wide).all()


def test_strata_keep_their_size_and_the_first_row_counts_each_once() -> None:
    strata = np.repeat([0, 1, 2], [20, 5, 2])
    weights = resample_within(strata, 200, np.random.default_rng([0, 1]))
    assert weights.shape == (201, 27) and (weights[0] == 1).all()
    assert all((weights[:, strata == c].sum(1) == (strata == c).sum()).all() for c in range(3))
    with pytest.raises(ConfigError, match="n_bootstrap is negative"):
        resample_counts(3, -1, np.random.default_rng(0))


def test_undefined_draws_are_left_out() -> None:
    samples = np.array([[0.0, 1.0, np.nan, 1.0], [np.nan, np.nan, np.nan, 1.0]])
    low, high = percentile_bounds(samples, 0.5, max_undefined=0.5)
    assert low[0] == np.nanquantile(samples[0], 0.25) and high[0] == 1.0
    assert math.isnan(low[1]) and math.isnan(high[1])
    assert [float(end[1]) for end in percentile_bounds(samples, 0.5)] == [1.0, 1.0]
    value, *ends = point_and_interval(np.concatenate([[7.0], np.arange(101.0), [np.nan]]))
    assert (value, *ends) == pytest.approx((7.0, 2.5, 97.5))
    assert np.isnan(point_and_interval(np.array([1.0]))[1]) and np.isnan(percentile_interval([])).all()


def test_infinite_ends_are_among_the_draws() -> None:
    low, high = percentile_bounds(np.array([[1.0, np.inf], [2.0, np.inf], [3.0, 4.0]]), 0.9, axis=0, method="nearest")
    assert low.tolist() == [1.0, 4.0] and high.tolist() == [3.0, np.inf]


def test_an_estimate_says_its_interval_or_why_there_is_none() -> None:
    assert str(Estimate(0.5, 0.04, 0.6)) == "0.50 [0.040, 0.60]" and str(Estimate(0.5)) == "0.50"
    assert str(Estimate(math.nan, reason="it never fires")) == "undefined: it never fires"
    assert f"{Estimate(1234.5, 1000, 2000):,.0f}" == "1,234 [1,000, 2,000]" and float(Estimate(2.0)) == 2.0
