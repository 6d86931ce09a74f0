"""A feature beside control features: each counts once, however many texts it has."""

from __future__ import annotations

import math

import numpy as np
import pytest

from saekit.errors import DataError
from saekit.statistics import clustered_proportion
from saekit.steering.control_comparison import rank_p_value
from saekit.steering.prompt_split import split_prompts

from .steering_studies import row_of, study_from


def test_two_matched_features_with_sixty_texts_each_are_two() -> None:
    prompts = [str(n) for n in range(60)]
    rows = [row_of("none", 0.0, p, False) for p in prompts] + [row_of("feature", 0.25, p, True) for p in prompts]
    rows += [row_of("control", 0.25, p, False, feature=f) for f in (7, 8) for p in prompts]
    study = study_from(rows, split=split_prompts(prompts, ()), strengths=(0.25,), controls=(7, 8))
    found = study.compare()
    assert found.n_controls == 2 and found.p_value == pytest.approx(1 / 3)
    assert math.isnan(found.controls.low) and "2 features" in found.controls.reason
    assert found.rate.n_units == 60 and found.rate.low > 0.9
    with pytest.raises(DataError, match="no control feature to compare with"):
        study_from(rows[:120], split=study.split, strengths=(0.25,)).compare()


def test_the_comparison_counts_each_control_once() -> None:
    prompts = [str(n) for n in range(10)]
    rows = [row_of("none", 0.0, p, False) for p in prompts]
    rows += [row_of("feature", 0.25, p, int(p) < 8) for p in prompts]
    rows += [row_of("control", 0.25, prompts[f % 10], f < 2, feature=100 + f) for f in range(19)]
    study = study_from(rows, split=split_prompts(prompts, ()), strengths=(0.25,), controls=tuple(range(100, 119)))
    found = study.compare()
    assert (found.n_controls, found.n_showing) == (19, 2)
    assert found.p_value == pytest.approx((1 + 2) / (20 * 0.8))
    assert found.controls == clustered_proportion([1, 1, *[0] * 17], [1] * 19, unit="features")
    assert "p = 0.188" in repr(found) and "2 of 19 show it at all" in repr(found) and repr(found)[-50:] in repr(study)
    assert list(found.to_frame()["n_units"]) == [10, 19]


@pytest.mark.parametrize("per_control", [1, 3, 12])
def test_a_feature_drawn_like_the_controls_is_seldom_called_rare(per_control: int) -> None:
    """The p value under its hypothesis, for features of very different rates: at most alpha, for many and few texts."""
    rng = np.random.default_rng(0)
    for shape in ((0.05, 1.0), (0.5, 0.5), (1.0, 30.0)):
        called = 0
        for _ in range(2000):
            rates = rng.beta(*shape, size=21)
            own = rng.binomial(12, rates[0]) / 12
            controls = (rng.binomial(per_control, rates[1:]) / per_control).tolist()
            called += rank_p_value(own, controls, like_with_like=per_control == 12) <= 0.05
        assert called / 2000 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)
