"""TokenHighlight's Python side: traits, frames, text, errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saekit.errors import DataError, UnknownNameError
from saekit.widgets import TokenHighlight, highlight
from saekit.widgets.token_highlight import names_of, pack_rows


@pytest.fixture
def w() -> TokenHighlight:
    acts = pack_rows([2, 1, 2], [7, 5, 3], [4.0, 0.5, 2.0], 4)
    return TokenHighlight(
        tokens=["<bos>", "a", "\n", " c"], excluded=["special token", "", "", ""], acts=acts, n_features=8
    )


def test_values_follow_the_feature_and_equal_a_dense_reference(w: TokenHighlight) -> None:
    dense = np.zeros((4, 8), np.float32)
    dense[2, 7], dense[1, 5], dense[2, 3] = 4.0, 0.5, 2.0
    np.testing.assert_array_equal(w.values(), dense.max(1))
    for feature in range(8):
        np.testing.assert_array_equal(w.values(feature), dense[:, feature])


def test_strongest_is_a_frame_in_order_of_strength(w: TokenHighlight) -> None:
    assert w.strongest.empty and list(w.strongest.columns) == ["feature", "activation", "relative", "density", "name"]
    assert w.selected_token is None
    w.selected = 2
    assert w.selected_token == "\n"
    assert w.strongest["feature"].tolist() == [7, 3]
    assert w.strongest["activation"].tolist() == [4.0, 2.0]
    w.selected = 3
    assert w.strongest.empty


def test_text_form_is_readable_everywhere(w: TokenHighlight) -> None:
    w.selected = 2
    assert str(w) == repr(w) == w._repr_mimebundle_()[0]["text/plain"]
    lines = str(w).splitlines()
    head = "TokenHighlight: 4 tokens, coloured by what stands out (2 of 2 features; set aside: 1 token)"
    assert lines[0] == head and lines[1].startswith("  Relative to the strongest activation in this text")
    assert lines[2] == "  feature 7: 3.28 bits, up to 100% of the text's maximum at '↵', token 2"
    assert "not counted: special token" in lines[4]
    assert lines[6].startswith(">   2  ↵") and lines[6].endswith("feature 7")
    w.feature = 3
    assert "activation of feature 3, at most 2" in str(w)
    w.colour_by = "strongest"
    assert str(w).splitlines()[0] == "TokenHighlight: 4 tokens, strongest activation of any feature, at most 4"


def test_the_colouring_feature_and_what_colours_go_together(w: TokenHighlight) -> None:
    assert (w.colour_by, w.feature, w.shown_features) == ("standout", None, [7, 5])  # 3 is nowhere the first
    w.feature = 5
    assert (w.colour_by, w.feature, w.shown_features) == ("feature", 5, [5])
    w.feature = None
    assert (w.colour_by, w.feature) == ("standout", None)
    w.colour_by = "feature"
    assert w.feature == 7, "the one that stands out most"
    w.colour_by = "strongest"
    assert (w.feature, w.shown_features) == (None, [])
    w.set_state({"feature": 3})
    assert (w.colour_by, w.feature) == ("feature", 3)
    w.set_state({"feature": None, "colour_by": "strongest"})
    assert (w.colour_by, w.feature) == ("strongest", None)
    assert TokenHighlight(n_features=4, feature=1).colour_by == "feature"
    assert TokenHighlight(n_features=4, colour_by="feature").feature == 0


def test_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="unknown keyword 'featur'; did you mean 'feature'"):
        TokenHighlight(featur=3)


@pytest.mark.parametrize("bad", [8, -1, 10_000])
def test_a_feature_out_of_range_is_refused_and_changes_nothing(w: TokenHighlight, bad: int) -> None:
    with pytest.raises(UnknownNameError, match=f"no feature {bad}"):
        w.feature = bad
    assert w.feature is None


def test_a_token_out_of_range_is_refused(w: TokenHighlight) -> None:
    with pytest.raises(DataError, match="there is no token 4"):
        w.selected = 4


def test_zero_activations_are_dropped_and_rows_sorted() -> None:
    acts = pack_rows([1, 0, 1], [2, 2, 1], [1.0, 0.0, 3.0], 2)
    assert np.frombuffer(acts["start"], "<i4").tolist() == [0, 0, 2]
    assert np.frombuffer(acts["feature"], "<i4").tolist() == [1, 2]


def test_names_are_those_of_the_index() -> None:
    index: Any = SimpleNamespace(name=lambda i: f"name of {i}")
    assert names_of(index, [4, 0]) == {"4": "name of 4", "0": "name of 0"}
    assert names_of(index, []) == names_of(None, [0]) == {}


def test_highlight_shows_what_the_sae_encodes(model: Any, sae: Any) -> None:
    w = highlight(model, sae, "the golden gate", feature=3)
    ids = model.tokenize("the golden gate")
    x = model.activations(ids, sae.config.hook_name)[0]
    dense = sae.encode(x).detach().numpy()
    dense[0] = 0  # BOS is left out by the SAE's token filter
    assert w.tokens == model.token_strings(ids) and w.excluded == ["special token"] + [""] * (len(ids) - 1)
    for feature in (None, *range(64)):
        expected = dense.max(1) if feature is None else dense[:, feature]
        np.testing.assert_allclose(w.values(feature), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_text_is_refused(model: Any, sae: Any, text: str) -> None:
    with pytest.raises(DataError, match="there is no text to show"):
        highlight(model, sae, text)


@pytest.mark.parametrize("feature", [64, -1, "7", 1.5, True])
def test_highlight_refuses_features_the_sae_does_not_have(model: Any, sae: Any, feature: Any) -> None:
    with pytest.raises(UnknownNameError, match="the SAE has no feature"):
        highlight(model, sae, "a", feature=feature)


@pytest.mark.parametrize("colour", ["standout", "feature", "strongest"])
def test_the_frame_says_what_colours_each_token(model: Any, sae: Any, colour: str) -> None:
    w = highlight(model, sae, "the golden gate")
    w.max_density, w.n_features_shown, w.min_relative = 1.0, 4, 0.1
    w.colour_by = colour
    frame = w.to_frame()
    assert list(frame) == ["token", "feature", "activation", "relative", "strongest", "excluded"]
    for i, row in enumerate(frame.itertuples()):
        feature, value = w.at(i)
        raw = dict(zip(feature.tolist(), value.tolist(), strict=True))
        assert row.strongest == max(raw, key=lambda f: (raw[f], -f), default=-1)
        if colour == "strongest":
            assert row.feature == row.strongest
        elif colour == "feature":
            assert row.feature == (w.feature if w.feature in raw else -1)
        else:
            assert row.feature in {*w.shown_features, -1}
        assert row.activation == pytest.approx(raw.get(row.feature, 0.0))
