"""Intervals and resamples against their definitions and scipy, and that nothing else in saekit draws any."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from saekit.errors import ConfigError
from saekit.statistics import (
    Estimate,
    clustered_mean,
    clustered_proportion,
    design_effect,
    jackknife_bounds,
    jackknife_estimate,
    max_statistic_p,
    percentile_bounds,
    permuted_labels,
)

PACKAGE = Path(__file__).parents[1] / "saekit"


DRAWN = re.compile(r"(np\.(nan)?(quantile|percentile)|rng\.(multinomial|permuted)|binomtest|stats\.bootstrap)")
"""What draws resamples of units or takes their percentiles."""


def draws_any(path: Path) -> bool:
    """Whether a file calls one of them; examples in docstrings aside."""
    text = path.read_text("utf8")
    if not DRAWN.search(text):  # most files: parsing is slow
        return False
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return any(DRAWN.fullmatch(ast.unparse(called)) for called in calls)


def test_nothing_else_takes_percentiles_or_draws_resamples() -> None:
    others = [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE / "statistics" and draws_any(p)]
    assert others == [], "statistics/ is the only place that draws intervals"
    assert draws_any(PACKAGE / "statistics" / "jackknife.py") and draws_any(PACKAGE / "statistics" / "permutation.py")


def test_undefined_draws_are_left_out() -> None:
    samples = np.array([[0.0, 1.0, np.nan, 1.0], [np.nan, np.nan, np.nan, 1.0]])
    low, high = percentile_bounds(samples, 0.5, max_undefined=0.5)
    assert low[0] == np.nanquantile(samples[0], 0.25) and high[0] == 1.0
    assert math.isnan(low[1]) and math.isnan(high[1])
    assert [float(end[1]) for end in percentile_bounds(samples, 0.5)] == [1.0, 1.0]
    assert np.isnan(percentile_bounds(np.zeros((2, 0)))).all()


def test_infinite_ends_are_among_the_draws() -> None:
    low, high = percentile_bounds(np.array([[1.0, np.inf], [2.0, np.inf], [3.0, 4.0]]), 0.9, axis=0, method="nearest")
    assert low.tolist() == [1.0, 4.0] and high.tolist() == [3.0, np.inf]


def test_an_estimate_says_its_interval_or_why_there_is_none() -> None:
    assert str(Estimate(0.5, 0.04, 0.6)) == "0.50 [0.040, 0.60]" and str(Estimate(0.5)) == "0.50"
    assert str(Estimate(math.nan, reason="it never fires")) == "undefined: it never fires"
    assert f"{Estimate(1234.5, 1000, 2000):,.0f}" == "1,234 [1,000, 2,000]" and float(Estimate(2.0)) == 2.0


def delete_one(x: np.ndarray, statistic: object) -> np.ndarray:
    return np.array([statistic(np.delete(x, i)) for i in range(len(x))])  # type: ignore[operator]


def test_the_jackknife_interval_of_a_mean_is_the_t_interval_of_its_units() -> None:
    x = np.array([0.2, 0.35, 0.45, 0.5, 0.6, 0.7, 0.8])
    found = jackknife_estimate(x.mean(), delete_one(x, np.mean), scale="identity", unit="prompts")
    expected = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6)
    assert (found.n_units, found.unit) == (7, "prompts")


@pytest.mark.parametrize(
    ("scale", "to", "back"), [("logit", special.logit, special.expit), ("log", np.log, np.exp)], ids=["logit", "log"]
)
def test_on_a_scale_the_interval_is_the_t_interval_carried_over(scale: str, to: object, back: object) -> None:
    x = np.array([0.2, 0.35, 0.45, 0.5, 0.6, 0.7, 0.8])
    found = jackknife_estimate(x.mean(), delete_one(x, np.mean), scale=scale)  # type: ignore[arg-type]
    slope = 1 / (x.mean() * (1 - x.mean())) if scale == "logit" else 1 / x.mean()
    half = stats.t.ppf(0.975, len(x) - 1) * stats.sem(x) * slope
    assert (found.low, found.high) == pytest.approx(tuple(back(to(x.mean()) + s * half) for s in (-1, 1)))  # type: ignore[operator]


def test_strata_add_their_variances_and_satterthwaite_their_degrees_of_freedom() -> None:
    a, b = np.array([1.0, 2.0, 4.0, 3.0, 2.5]), np.array([5.0, 5.5, 6.5, 6.0, 4.5, 5.2, 5.8, 6.1])
    without = np.concatenate([delete_one(a, np.mean) - b.mean(), a.mean() - delete_one(b, np.mean)])
    found = jackknife_estimate(
        a.mean() - b.mean(), without, scale="identity", strata=np.array([0] * len(a) + [1] * len(b))
    )
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), rel=1e-6)


def test_one_document_that_makes_the_variance_takes_degrees_of_freedom() -> None:
    light, heavy = np.arange(40.0), np.r_[np.zeros(39), 20.0]
    for x, df in ((light, 39), (heavy, 4)):
        low, high = jackknife_bounds(np.array([x.mean()]), delete_one(x, np.mean)[None], scale="identity")
        assert (high - low)[0] == pytest.approx(2 * stats.t.ppf(0.975, df) * stats.sem(x))


def test_units_that_change_nothing_count_for_nothing() -> None:
    """A precision over six documents in which the feature fires is the same beside a thousand in which it does not."""
    hits, firings = np.array([3.0, 2, 0, 1, 4, 2]), np.array([4.0, 2, 1, 3, 4, 3])

    def bounds(n_silent: int) -> tuple[float, float, int | None]:
        h, f = (np.r_[v, np.zeros(n_silent)] for v in (hits, firings))
        found = jackknife_estimate(h.sum() / f.sum(), (h.sum() - h) / (f.sum() - f), informative=f > 0)
        return found.low, found.high, found.n_units

    assert bounds(1000) == pytest.approx(bounds(0)) and bounds(0)[2] == 6


@pytest.mark.parametrize("n", [1, 4])
def test_below_five_units_there_is_no_interval_and_the_reason_is_given(n: int) -> None:
    some = np.linspace(0.2, 0.8, n)
    of_jackknife = jackknife_estimate(0.5, some)
    of_rate = clustered_proportion([1] * n, [2] * n, unit="documents")
    of_mean = clustered_mean([[v, v] for v in some], unit="documents")
    all_hit = jackknife_estimate(1.0, np.ones(n))
    for found in (of_jackknife, of_rate, of_mean, all_hit):
        assert math.isnan(found.low) and math.isnan(found.high) and found.n_units == n
        assert found.reason == f"no interval: {n} document{'s' * (n > 1)}, at least 5 are needed"
        assert found.reason in str(found)


def test_all_of_n_is_as_sure_as_the_number_of_documents() -> None:
    """Forty firings, all on the concept, in eight documents: the limit is that of 8 of 8."""
    found = jackknife_estimate(1.0, np.ones(8))
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 8), 1.0))
    assert jackknife_estimate(0.0, np.zeros(8)).high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_a_statistic_that_one_unit_leaves_undefined_has_no_interval() -> None:
    found = jackknife_estimate(0.5, np.array([0.5, 0.4, 0.6, 0.5, np.nan, 0.5]))
    assert math.isnan(found.low) and "undefined without one of the 6 documents" in found.reason


def test_the_design_effect_is_that_of_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    n = np.array([4, 6, 3, 5, 4, 8])
    texts = [rng.random(size) < rate for size, rate in zip(n, rng.beta(1, 1, len(n)), strict=True)]
    between = stats.f_oneway(*[t.astype(float) for t in texts])
    k0 = (n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1)
    icc = (between.statistic - 1) / (between.statistic - 1 + k0)
    expected = 1 + ((n**2).sum() / n.sum() - 1) * icc
    assert design_effect([t.sum() for t in texts], n) == pytest.approx(expected)


def test_a_rate_over_prompts_is_wilsons_with_fewer_texts_and_a_t_quantile() -> None:
    hits, n = np.array([4, 1, 3, 0, 2, 4, 1, 3]), np.full(8, 4)
    n_effective = 32 / design_effect(hits, n)
    p, z = 18 / 32, stats.t.ppf(0.975, 7)
    half = z * math.sqrt(p * (1 - p) / n_effective + z * z / (4 * n_effective**2)) / (1 + z * z / n_effective)
    centre = (p + z * z / (2 * n_effective)) / (1 + z * z / n_effective)
    found = clustered_proportion(hits, n)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_the_p_value_of_a_search_counts_the_searches_that_did_as_well() -> None:
    maxima = np.array([1.0, 3.0, 2.0, 3.0])
    brute = [(1 + sum(m >= o for m in maxima)) / 5 for o in (0.0, 2.0, 3.0, 3.5)]
    assert max_statistic_p([0.0, 2.0, 3.0, 3.5, math.nan], maxima)[:4].tolist() == brute
    with pytest.raises(ConfigError, match="no permutation"):
        max_statistic_p([1.0], np.array([]))


def test_permuted_labels_are_permutations_whatever_the_block() -> None:
    labels = np.array([1, 1, 0, 0, 0, 1, 0])
    at_once, in_parts = (
        np.concatenate(list(permuted_labels(labels, 50, np.random.default_rng(3), block=block))) for block in (50, 7)
    )
    assert (at_once == in_parts).all() and (at_once.sum(1) == 3).all() and len(np.unique(at_once, axis=0)) > 10


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_intervals_hold_the_truth_as_often_as_they_say(rate: float) -> None:
    """Rates of twenty prompts with four texts each, 300 times; benchmarks/coverage.py does it for every kind."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        of_prompt = rng.beta(4 * rate, 4 * (1 - rate), 20)
        found = clustered_proportion(rng.binomial(4, of_prompt), np.full(20, 4))
        held += found.low <= rate <= found.high
    assert 0.91 <= held / 300 <= 0.99


def test_a_rate_that_few_prompts_decide_has_fewer_degrees_of_freedom() -> None:
    hits, n = np.array([16] + [0] * 39), np.full(40, 16)
    n_effective = 640 / design_effect(hits, n)
    p, z = 16 / 640, stats.t.ppf(0.975, 4)
    half = z * math.sqrt(p * (1 - p) / n_effective + z * z / (4 * n_effective**2)) / (1 + z * z / n_effective)
    centre = (p + z * z / (2 * n_effective)) / (1 + z * z / n_effective)
    found = clustered_proportion(hits, n)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
