"""What stands out: the definition against a slow one, where maxima and densities come from, and the filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, MismatchError
from saekit.widgets import TokenHighlight
from saekit.widgets.highlight_standouts import FeatureStatistics, Reference, lower_bound
from saekit.widgets.token_highlight import pack_rows

TEXT = "the golden gate bridge"


def slowly(w: TokenHighlight) -> dict[int, float]:
    """The standout of every feature, one activation at a time."""
    s = FeatureStatistics.unpacked(w.statistics)
    of = {
        int(f): (float(m), float(d), float(b))
        for f, m, d, b in zip(s.feature, s.maximum, s.density, s.bits, strict=True)
    }
    totals: dict[int, float] = {}
    for i in range(len(w.tokens)):
        best, most = -1, 0.0
        for feature, value in zip(*w.at(i), strict=True):
            maximum, density, bits = of[int(feature)]
            relative = min(1.0, max(0.0, float(value) / maximum))
            words = w.filter.lower().split()
            named = all(word == str(feature) or word in w.names.get(str(feature), "").lower() for word in words)
            counts = 2.0**-bits <= w.max_density and density >= w.min_density and relative >= w.min_relative
            if counts and named and relative * bits > most:
                best, most = int(feature), relative * bits
        if best >= 0:
            totals[best] = totals.get(best, 0.0) + most
    n = w.excluded.count("")
    beyond = {f: max(0.0, 1 - 2.0 ** -of[f][2] * n / (w.values(f) > 0).sum()) for f in totals}
    return {f: total * beyond[f] for f, total in totals.items() if beyond[f] > 0}


@pytest.fixture
def index(model: Any, sae: Any, corpus: Any, tmp_path: Path) -> sk.FeatureIndex:
    return sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_density": 0.5},
        {"max_density": 1.0, "min_relative": 0.4},
        {"max_density": 0.4, "min_density": 0.05},
        {"max_density": 1.0, "filter": "3"},
        {"max_density": 1.0, "filter": "a"},
        {"max_density": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("with_index", [True, False])
def test_standouts_equal_a_slow_reference(
    model: Any, sae: Any, index: sk.FeatureIndex, with_index: bool, settings: dict[str, Any]
) -> None:
    w = sk.highlight(model, sae, TEXT, index=index if with_index else None)
    for name, value in settings.items():
        setattr(w, name, value)
    expected = slowly(w)
    frame = w.standouts
    assert dict(zip(frame["feature"], frame["standout"], strict=True)) == pytest.approx(expected, rel=1e-4)
    assert frame["feature"].tolist() == sorted(expected, key=lambda f: (-expected[f], f))
    for row in frame.itertuples():
        assert row.activation == pytest.approx(w.values(row.feature).max())
        assert row.token == int(np.argmax(w.values(row.feature)))
    dense = set(w.set_aside["feature"])
    assert not dense & set(frame["feature"])


def test_with_an_index_maxima_and_densities_are_its_own(model: Any, sae: Any, index: sk.FeatureIndex) -> None:
    w = sk.highlight(model, sae, TEXT, index=index)
    s = FeatureStatistics.unpacked(w.statistics)
    table = index.features.loc[s.feature]
    own = np.array([w.values(int(f)).max() for f in s.feature])
    ascending = np.sort(index.features["max"][index.features["max"] > 0])
    least = float(ascending[len(ascending) // 4])
    np.testing.assert_allclose(s.maximum, np.maximum(np.maximum(table["max"], least), own), rtol=1e-5)
    np.testing.assert_allclose(s.density, table["density"], rtol=1e-5)
    n = index.n_tokens
    np.testing.assert_allclose(s.bits, -np.log2((table["n_firings"] + 1) / (n + 2)), rtol=1e-5)
    assert w.maxima_from == "index" and f"{n:,} tokens of the index" in w.explanation


def test_without_an_index_the_stored_density_counts_and_without_one_the_text(model: Any, sae: Any) -> None:
    w = sk.highlight(model, sae, TEXT)
    assert "how rarely each feature fires in it" in w.explanation and w.maxima_from == "text"
    counted = w.excluded.count("")
    s = FeatureStatistics.unpacked(w.statistics)
    fires = np.array([(w.values(int(f)) > 0).sum() for f in s.feature])
    np.testing.assert_allclose(s.density, fires / counted, rtol=1e-5)
    np.testing.assert_allclose(s.bits, -np.log2(lower_bound(fires, counted)), rtol=1e-5)
    assert len(w.standouts) > 0, "twenty tokens are too few to call most features dense"
    sae.density = torch.full((64,), 0.02)
    sae.density[3], sae.density[5], sae.density[7] = 0.0, float("nan"), 0.5
    w = sk.highlight(model, sae, TEXT)
    s = FeatureStatistics.unpacked(w.statistics)
    known = dict(zip(s.feature.tolist(), s.bits.tolist(), strict=True))
    wanted = {3: -np.log2(1e-6), 5: -np.log2(1e-6), 7: 1.0}
    assert known == pytest.approx({f: wanted.get(f, -np.log2(0.02)) for f in known}, rel=1e-5)
    assert "stored with the SAE" in w.explanation
    sparse = s.maximum[s.bits >= -np.log2(0.1)]
    assert len(set(sparse.tolist())) == 1, "relative to the strongest activation of those that are not set aside"


def test_a_feature_that_is_silent_in_the_index_does_not_win_by_a_faint_activation() -> None:
    table = {"maximum": np.array([2.0, 10.0, 10.0]), "density": np.array([0.0, 0.01, 0.01])}
    reference = Reference(**table, bits=-np.log2((table["density"] * 1000 + 1) / 1002))
    s = reference.statistics(np.array([0, 1]), np.array([0.5, 9.0]), 10)
    assert s.maximum.tolist() == [2.0, 10.0] and s.density.tolist() == [0.0, 0.01]


def test_an_index_of_another_sae_is_refused(model: Any, sae: Any, index: sk.FeatureIndex) -> None:
    sae.W_enc.data[0, 0] += 1
    with pytest.raises(MismatchError, match="the index was built with another SAE"):
        sk.highlight(model, sae, TEXT, index=index)


def test_a_widget_of_arrays_alone_measures_its_own_text() -> None:
    w = TokenHighlight(
        tokens=["a", "b"], excluded=["", ""], n_features=4, acts=pack_rows([0, 1], [1, 2], [2.0, 4.0], 2)
    )
    assert w.shown_features == [2, 1] and w.standouts["relative"].tolist() == [1.0, 0.5]
    w.acts = pack_rows([0, 1], [1, 3], [8.0, 4.0], 2)
    assert w.shown_features == [1, 3]
    w.acts = {}
    assert w.standouts.empty and w.set_aside.empty and w.shown_features == []
    assert w.to_frame()["feature"].tolist() == [-1, -1]


def test_odd_activations_are_survived() -> None:
    values = [float("nan"), -3.0, 2.0, 1e-30]
    w = TokenHighlight(
        tokens=list("abcd"), excluded=[""] * 4, n_features=8, acts=pack_rows([0, 1, 2, 3], [1, 2, 3, 4], values, 4)
    )
    assert w.standouts["feature"].tolist() == [3] or w.standouts["feature"].tolist()[0] == 3
    assert np.isfinite(w.standouts["standout"]).all() and "feature 3" in str(w)


def test_what_is_set_aside_is_listed_densest_first() -> None:
    acts = pack_rows([*range(40), 3], [1] * 40 + [2], [1.0] * 41, 40)
    w = TokenHighlight(tokens=["x"] * 40, excluded=[""] * 40, n_features=4, acts=acts, names={"1": "everywhere"})
    assert w.set_aside.to_dict("records") == [{"feature": 1, "density": 1.0, "name": "everywhere"}]
    assert "1 of 1 features; set aside: 1 feature" in str(w)
    w.max_density = 1.0
    assert w.set_aside.empty


@pytest.mark.parametrize("bad", [{"length": 1}, {"length": 8, "overlap": 7}, {"overlap": -1}, {"length": 2.5}])
def test_windows_without_room_are_refused(model: Any, sae: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sk.highlight(model, sae, TEXT, **bad)
