"""FeatureBrowser's and FeatureCard's Python side: the functions shared with TypeScript, cards, text, errors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import saekit as sk
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.widgets import FeatureBrowser, FeatureCard, card, explore
from saekit.widgets.base import pack_strings
from saekit.widgets.feature_browser import example_text, select
from saekit.widgets.feature_card import card_data

SHARED = json.loads((Path(__file__).parents[1] / "widgets/tests/cases.json").read_text("utf8"))
DEFAULTS = {
    "sort": "density",
    "descending": True,
    "filter": "",
    "min_density": None,
    "max_density": None,
    "hide_silent": False,
}


def table() -> pd.DataFrame:
    columns = {k: [np.nan if v is None else v for v in values] for k, values in SHARED["columns"].items()}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model: Any, corpus: Any) -> Any:
    import torch

    torch.manual_seed(0)
    config = sk.SAEConfig(
        d_in=32,
        d_sae=64,
        activation="topk",
        k=4,
        hook_name="blocks.0.hook_resid_post",
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=sk.TokenFilter(special_ids=tuple(model.special_ids)),
    )
    out = tmp_path_factory.mktemp("index") / "tiny"
    return sk.build_index(model, sk.SAE(config), corpus, out=out, length=48, progress=False)


@pytest.mark.parametrize("case", SHARED["cases"], ids=lambda c: json.dumps(c["query"], ensure_ascii=False))
def test_rows_follow_the_functions_shared_with_the_browser(case: dict[str, Any]) -> None:
    browser = FeatureBrowser(table(), page_size=100, **case["query"])
    assert browser.matches.tolist() == case["rows"]
    assert browser.rows.index.tolist() == case["rows"]


def test_pages_cut_the_rows_and_a_new_filter_turns_to_the_first() -> None:
    browser = FeatureBrowser(table(), page_size=3)
    assert (browser.n_pages, browser.rows.index.tolist()) == (3, [0, 6, 4])
    browser.page = 2
    assert browser.rows.index.tolist() == [5]
    browser.page = 40
    assert browser.rows.index.tolist() == [5], "a page beyond the last shows the last"
    browser.hide_silent = True
    assert (browser.page, browser.rows.index.tolist()) == (0, [0, 6, 4])
    assert browser.rows.loc[4, "example"] == "a[ bridge] of 6"


def test_bad_settings_are_refused_by_name() -> None:
    browser = FeatureBrowser(table())
    with pytest.raises(UnknownNameError, match="unknown column to sort by 'densty'; did you mean 'density'"):
        browser.sort = "densty"
    with pytest.raises(ConfigError, match="page_size is not positive"):
        browser.page_size = 0
    with pytest.raises(ConfigError, match="page is negative"):
        browser.page = -1
    with pytest.raises(UnknownNameError, match="no feature 7"):
        browser.feature = 7
    with pytest.raises(TypeError, match="FeatureBrowser\\(\\): unknown keyword 'pagesize'; did you mean 'page_size'"):
        FeatureBrowser(table(), pagesize=3)
    with pytest.raises(MismatchError, match="lacks columns"):
        FeatureBrowser(table().drop(columns="density"))
    with pytest.raises(MismatchError, match="without an index"):
        browser.embed([1])


def test_separators_inside_strings_cannot_shift_the_columns() -> None:
    assert pack_strings(["a\x1fb", "c"]) == b"a b\x1fc"


def test_example_marks_the_firing_token_and_is_cut() -> None:
    tokens = ["x" * 40, "\n", " gate", " y" * 50]
    text = example_text(tokens, 2)
    before, token, after = text.replace("\x02", "\x03").split("\x03")
    assert token == " gate" and before.startswith("…") and before.endswith("↵")
    assert len(before) == 27 and len(after) == 60


def test_sixty_five_thousand_features_stay_quick() -> None:
    rng = np.random.default_rng(0)
    n = 65_536
    frame = pd.DataFrame(
        {
            "density": rng.random(n),
            "max": rng.random(n),
            "n_firings": rng.integers(0, 9, n),
            "promoted": [f" token{i}  other" for i in range(n)],
            "example": ["some words of context"] * n,
        }
    )
    browser = FeatureBrowser(frame)
    start = time.perf_counter()
    browser.sort, browser.filter = "max", "token123"
    assert len(browser.rows) == 10
    assert time.perf_counter() - start < 3
    numbers = ("density", "max", "n_firings")
    assert sum(len(browser.columns[name]) for name in numbers) == 3 * 4 * n


def test_explore_opens_cards_of_a_real_index(index: Any) -> None:
    browser = explore(index, sort="max", page_size=5)
    features = index.features
    assert browser.rows.index.tolist() == features.sort_values("max", ascending=False, kind="stable").index[:5].tolist()
    live = int(browser.rows.index[0])
    strongest = index.feature(live).top[0]
    shown = browser.rows.loc[live, "example"]
    assert f"[{strongest.tokens[strongest.centre]}]" in shown
    browser.feature = live
    assert browser.record is not None and browser.record.feature == live
    assert browser.card == card_data(index.feature(live), browser._names, browser._naming)
    assert f"feature {live}" in str(browser)
    browser.feature = -1
    assert browser.record is None and browser.card == {}


def test_explore_shows_names_and_cards_say_where_they_come_from(index: Any) -> None:
    labelled = sk.load_index(index.path)
    live = int(labelled.features["density"].idxmax())
    automatic = card(labelled, live).card["naming"]
    assert automatic["label"] == "" and automatic["kind"] == labelled.names.loc[live, "kind"]
    labelled.label(
        live, "a label that is longer than the forty characters of a name", note="<b>", stars=4, author="ada"
    )
    try:
        browser = explore(labelled, filter="a label that")
        assert browser.to_frame()["name"].tolist() == [labelled.name(live)] and len(labelled.name(live)) <= 40
        assert browser.columns["name"] == pack_strings(labelled.names["name"])
        naming = card(labelled, live).card["naming"]
        assert naming["label"].startswith("a label that is longer than the forty characters of a name")
        assert (naming["note"], naming["stars"], naming["author"], naming["source"]) == ("<b>", 4, "ada", "hand")
    finally:
        labelled.undo_label()


def test_a_table_without_names_has_none() -> None:
    browser = FeatureBrowser(table().drop(columns="name"), filter="bridge")
    assert browser.matches.tolist() == [4, 2] and browser.rows["name"].tolist() == ["", ""]


def test_embedded_cards_travel_to_a_page(index: Any) -> None:
    browser = explore(index).embed([3, 5])
    assert set(browser.cards) == {"3", "5"}
    state = browser.page_state()
    assert state["live"] is False and state["cards"]["5"]["feature"] == 5
    with pytest.raises(UnknownNameError, match="no feature 64"):
        browser.embed([64])


def test_explore_refuses_what_the_index_was_not_built_with(index: Any, model: Any) -> None:
    other = sk.SAE(sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, seed=1))
    with pytest.raises(MismatchError, match="built with another sae"):
        explore(index, model, other)


def test_card_follows_its_feature_and_prints(index: Any) -> None:
    w = card(index, 3)
    assert isinstance(w, FeatureCard) and w.card["feature"] == 3
    assert str(w) == str(index.feature(3))
    neighbour = w.card["neighbours"][0][0]
    w.feature = neighbour
    assert w.card["feature"] == neighbour and w.record.feature == neighbour
    with pytest.raises(UnknownNameError, match="no feature 64"):
        card(index, 64)
    with pytest.raises(TypeError, match="unknown keyword 'featur'; did you mean 'feature'"):
        FeatureCard(featur=3)


def test_card_data_is_strict_json_with_everything_in_it(index: Any) -> None:
    for feature in range(64):
        record = index.feature(feature)
        data = json.loads(json.dumps(card_data(record), allow_nan=False))
        assert len(data["intervals"]) == 10
        assert [c["activation"] for c in data["top"]] == pytest.approx([c.activation for c in record.top], rel=1e-5)
        for context in data["top"]:
            assert context["acts"][context["centre"]] == pytest.approx(context["activation"], rel=1e-5)


def test_an_error_while_loading_is_shown_in_words() -> None:
    def load(feature: int) -> Any:
        raise DataError("the index lies on a disk that is gone")

    w = FeatureCard(load, n_features=4)
    assert w.error == "the index lies on a disk that is gone" and w.card == {} and "disk" in str(w)


def test_select_accepts_an_empty_table() -> None:
    assert select(FeatureBrowser()._frame, **DEFAULTS).tolist() == []
    assert "0 of 0 features" in str(FeatureBrowser())
