"""SpecificityPanel's Python side: it says what `rank_features` and `specificity` say, and the latest wish wins."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

import saekit as sk
from saekit.display.numbers import short
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.specificity.tables import curve_table
from saekit.widgets import SpecificityPanel
from saekit.widgets import specificity_views as views
from saekit.widgets.page import plain
from saekit.widgets.specificity_scorer import Scorer

from .array_index import ArrayIndex

FRAMES = ("curve", "bins", "by_label", "controls", "control_curves")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model: Any, corpus: Any) -> Any:
    from conftest import tiny_sae

    return sk.build_index(
        model, tiny_sae(model), corpus, out=tmp_path_factory.mktemp("index") / "tiny", length=48, progress=False
    )


def strange(texts: list[str]) -> Any:
    """An index of an array: one feature that fires on gold and one that never fires."""
    index: Any = ArrayIndex(texts, acts=lambda t, d: np.stack([t == " gold", np.zeros(len(t))], 1))
    index.n_tokens, index.corpus_name = len(index.kept), "strange"
    index.name = str
    return index


def same(a: sk.SpecificityResult, b: sk.SpecificityResult) -> bool:
    return str(a) == str(b) and a.concept == b.concept and all(getattr(a, n).equals(getattr(b, n)) for n in FRAMES)


def contexts(panel: SpecificityPanel, group: str) -> list[dict[str, Any]]:
    return [c for c in panel.contexts if c["group"] == group]


@pytest.mark.parametrize("unit", ["token", "document"])
@pytest.mark.parametrize("by", ["average_precision", "auroc"])
def test_ranked_and_result_are_those_of_the_functions(index: Any, unit: Any, by: Any) -> None:
    concept = sk.Concept.regex("golden|bridge", name="crossings")
    panel = sk.score(index, concept, unit=unit, by=by, n=5)
    ranked = sk.rank_features(index, concept, unit=unit, by=by, n=5)
    pd.testing.assert_frame_equal(panel.ranked, ranked)
    assert panel.ranked.attrs == ranked.attrs
    assert panel.feature == ranked.index[0] and panel.concept is concept and panel.query == "/golden|bridge/"
    assert same(panel.result, sk.specificity(index, panel.feature, concept, unit=unit))
    assert [row["feature"] for row in panel.rows] == ranked.index.tolist()
    assert panel.rows[0]["p_value"] == pytest.approx(ranked["p_value"].iloc[0], rel=1e-5)
    panel.feature = int(ranked.index[3])
    assert same(panel.result, sk.specificity(index, panel.feature, concept, unit=unit))
    assert panel.measures["feature"] == panel.feature == panel.scores["feature"]
    assert panel.threshold == pytest.approx(ranked["f1_threshold"].iloc[3])
    json.dumps(plain(panel.page_state()), allow_nan=False)


def test_what_is_written_is_the_concept_and_the_other_way_round(index: Any) -> None:
    panel = sk.score(index)
    assert panel.concept is None and "without a concept" in panel.text() and not panel.rows
    with pytest.raises(ConfigError, match="no feature is chosen"):
        _ = panel.result
    with pytest.raises(ConfigError, match="no concept is written"):
        _ = panel.ranked
    panel.query = "bridge and not style:story"
    assert panel.concept == sk.Concept.parse("bridge and not style:story") and panel.wait().rows
    panel.query = "bridge and not ("
    assert 'something is missing after "("' in panel.query_error and panel.concept.name == "bridge and not style=story"
    assert "something is missing" in panel.text()
    panel.query = "topik:bridge"
    assert "unknown label 'topik'" in panel.wait().error and panel.query_error == ""
    panel.concept = named = sk.Concept.keywords(["golden", "gate"], name="gold")
    assert (panel.query, panel.query_error) == ("golden, gate", "")
    panel.query = "golden,  gate"
    assert panel.concept == named, "the same as written: the concept keeps its name"
    panel.query = ""
    assert panel.wait().concept is None and not panel.rows and not panel.preview and not panel.scores


def test_the_preview_says_where_and_why_nowhere(index: Any) -> None:
    panel = sk.score(index, query="bridge").wait()
    assert panel.preview["n_documents"] == 10 and panel.preview["n_tokens"] == 60
    snippet = panel.preview["snippets"][0]
    marked = [t for t, of in zip(snippet["tokens"], snippet["of"], strict=True) if of]
    assert (
        "".join(marked) == "bridge" and snippet["labels"]["topic"] == "bridge" and len(panel.preview["snippets"]) == 4
    )
    panel.query = "brigde"
    assert "look alike: bridge" in panel.wait().preview["nothing"] and not panel.rows and not panel.error
    panel.query = "cat and bridge"
    assert 'unit="document"' in panel.wait().preview["nothing"]
    panel.unit = "document"
    assert panel.wait().preview["nothing"] == "" and panel.rows
    assert "values" not in panel.labels and panel.labels["topic"][1] == {
        "shown": "bridge",
        "written": "topic:bridge",
        "n": 10,
    }


def test_marks_are_part_of_the_concept_and_undone(index: Any) -> None:
    panel = sk.score(index, query="bridge").wait()
    panel.threshold = 0.0
    before = [(c["at"], c["group"]) for c in panel.contexts]
    wrong = contexts(panel, "false alarm")[:3]
    for context in wrong:
        panel._handle_custom_msg({"kind": "mark", "at": context["at"], "unit": "token", "counts": True}, [])
    panel.mark(divmod(contexts(panel, "miss")[0]["at"], index.length), False)
    by_hand = {c["at"]: True for c in wrong} | {contexts(panel, "miss")[0]["at"]: False}
    assert panel.concept == sk.Concept.keywords("bridge").marked(index, by_hand) and panel.n_undo == 4
    assert [(c["at"], c["group"]) for c in panel.wait().contexts] == before, "the list stays while one marks"
    assert same(panel.result, sk.specificity(index, panel.feature, panel.concept))
    assert panel.preview["n_tokens"] == 60 + 3 - 1
    panel._handle_custom_msg({"kind": "contexts"}, [])
    assert not {c["at"] for c in contexts(panel.wait(), "false alarm")} & {c["at"] for c in wrong}
    panel.undo().undo()
    assert len(panel.marks) == 2 and len(panel.concept.marks) == 2 and panel.n_undo == 2
    panel.mark(wrong[0]["at"], None)
    assert panel.marks == [{"at": wrong[1]["at"], "unit": "token", "counts": True}]
    panel.query = "bridge or gate"
    assert len(panel.concept.marks) == 1 and panel.concept.unmarked == sk.Concept.parse("bridge or gate")
    again = sk.score(sk.load_index(index.path), panel.concept)
    assert again.marks == panel.marks and again.query == "bridge or gate"
    panel.mark(3, True, unit="document")
    assert panel.wait().concept.document_mask(index)[3]
    for at, unit, error in ((0, "token", ConfigError), (10**9, "token", ConfigError), (99, "document", ConfigError)):
        with pytest.raises(error):
            panel.mark(at, True, unit=unit)
    assert len(panel.marks) == 2
    with pytest.raises(MismatchError, match="are not in this index"):
        sk.score(strange(["a b", "c"]), panel.concept)


def test_a_part_that_cannot_be_written_stays_by_name(index: Any) -> None:
    by_hand = sk.Concept.examples(index, {5: True, 6: True}, name="mine")
    panel = sk.score(index, by_hand | sk.Concept.keywords("gate"))
    assert panel.query == "{mine} or gate"
    panel.query = "{mine} or bridge"
    assert panel.concept.flat_mask(index).sum() == 60 + 2 and not panel.query_error
    panel.query = "{yours}"
    assert "unknown given concept 'yours'" in panel.query_error
    panel.query = "x" * 50 + " or {mine}"
    assert panel.wait().preview["n_tokens"] == 2


class SlowScorer(Scorer):
    """Waits at each stage until it is let go, and keeps a list of what was begun."""

    def __init__(self, index: Any) -> None:
        super().__init__(index)
        self.begun: list[str] = []
        self.gate = threading.Event()

    def ranked(self, concept: Any, unit: Any, by: Any, n: int, watch: Any) -> pd.DataFrame:
        self.begun.append(concept.name)
        while not self.gate.wait(0.01):
            watch()
        return super().ranked(concept, unit, by, n, watch)


def test_the_latest_wish_wins_and_nothing_queues(index: Any) -> None:
    scorer = SlowScorer(index)
    panel = SpecificityPanel(scorer, n_features=64, query="bridge")
    deadline = time.monotonic() + 10
    for name in ("golden", "gate", "fog"):
        while len(scorer.begun) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        panel.query = name
    while "fog" not in scorer.begun and time.monotonic() < deadline:
        time.sleep(0.01)
    scorer.gate.set()
    assert panel.wait().ranking["concept"] == "fog" and scorer.begun[-1] == "fog" and len(scorer.begun) <= 4
    assert not panel.running and panel.status == ""

    scorer.gate.clear()
    panel.query = "rain"
    while scorer.begun[-1] != "rain" and time.monotonic() < deadline:
        time.sleep(0.01)
    panel.stop()
    assert panel.wait().status == "Stopped." and panel.ranking["concept"] == "fog"
    scorer.gate.set()
    assert panel.run().wait().ranking["concept"] == "rain"
    assert panel.result.concept.name == "rain"


def test_another_concept_has_its_own_first_feature_and_a_choice_stays(index: Any) -> None:
    panel = sk.score(index, query="bridge")
    first = panel.ranked.index.tolist()
    assert panel.feature == first[0]
    panel.query = "fog"
    second = panel.ranked.index.tolist()
    assert panel.feature == second[0]
    both = next(f for f in second[1:] if f in first)
    panel.feature = both
    panel.query = "bridge"
    assert panel.wait().feature == both, "the person's choice is in this ranking too"
    kept = sk.score(index, query="bridge", feature=7, threshold=0.25)
    assert (kept.wait().feature, kept.threshold) == (7, 0.25)
    silent = (
        sk.score(index, query="bridge", feature=int(index.features.index[index.features.silent][0]))
        if index.features.silent.any()
        else kept
    )
    assert silent.wait().error == ""


def test_scores_are_the_curve_and_the_band_is_the_matched_features(index: Any) -> None:
    concept = sk.Concept.keywords("bridge")
    panel = sk.score(index, concept).wait()
    value, n, hits = (
        np.frombuffer(panel.scores[k], d) for k, d in (("value", "<f4"), ("n_firings", "<i4"), ("n_hits", "<i4"))
    )
    curve = panel.result.curve
    at = np.searchsorted(-value, -curve["threshold"].to_numpy(np.float32))
    assert (value[at] == curve["threshold"].to_numpy(np.float32)).all() and (n[at] == curve["n_firings"]).all()
    assert np.allclose(hits[at] / n[at], curve["precision"]) and panel.scores["n_positive"] == panel.result.n_positive
    band = panel.scores["band"]
    assert band["n"] == len(panel.result.controls)
    low, mean, high = (np.frombuffer(band[f"recall_{k}"], "<f4") for k in ("low", "mean", "high"))
    assert np.isclose(mean[0], panel.result.controls["recall"].mean()) and (low <= mean).all() and (mean <= high).all()
    assert np.isclose(high[0], panel.result.controls["recall"].max())


def test_many_activations_are_sent_in_part_with_exact_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_POINTS", 50)
    rng = np.random.default_rng(0)
    texts = ["gold " * 60] * 8
    index = ArrayIndex([f"{i} {t}" for i, t in enumerate(texts)], acts=lambda t, d: rng.random((len(t), 2)), length=128)
    scored = Scorer(index).scored(0, sk.Concept.keywords("gold"), "token")
    value, n = np.frombuffer(scored.scores["value"], "<f4"), np.frombuffer(scored.scores["n_firings"], "<i4")
    assert len(value) == 50 and n[-1] == scored.examples.n and n[0] == 1
    example, act, _ = scored.examples.scored(0)
    table = curve_table(scored.examples, example, act, value.astype(np.float64))
    assert (table["n_firings"] == n).all()


HARD = ["<script>alert(1)</script> gold", "שלום gold " * 3, "🌉🌉 gold", "", "gold", "a" * 60 + " gold"]


@pytest.mark.parametrize("texts", [HARD, ["gold"], ["gold and fog"] * 3])
def test_small_and_strange_corpora(texts: list[str]) -> None:
    index = strange([t or " " for t in texts])
    panel = sk.score(index, query="gold")
    assert panel.wait().error == "" and panel.preview["n_tokens"] >= 1
    panel.feature = 1
    assert panel.wait().error == "" and panel.scores["max"] == 0 and panel.text()
    panel.unit = "document"
    assert panel.wait().error == ""
    assert same(panel.result, sk.specificity(index, 1, panel.concept, unit="document"))
    json.dumps(plain(panel.page_state()), allow_nan=False)


def test_bad_values_and_what_has_no_index() -> None:
    panel = SpecificityPanel(n_features=4, query="bridge")
    assert panel.concept == sk.Concept.keywords("bridge") and not panel.running
    with pytest.raises(UnknownNameError, match="no feature 4"):
        panel.feature = 4
    with pytest.raises(ConfigError, match="no feature is chosen"):
        _ = panel.result
    with pytest.raises(TypeError, match="unknown keyword 'querry'; did you mean 'query'"):
        SpecificityPanel(querry="x")
    with pytest.raises(ConfigError, match="concept is not a concept"):
        sk.score(ArrayIndex(["a"]), "bridge")  # type: ignore[arg-type]


def test_a_concept_that_is_nowhere_raises_as_the_functions_do(index: Any) -> None:
    panel = sk.score(index, query="zzz", feature=3)
    with pytest.raises(DataError, match="matches no indexed token"):
        _ = panel.ranked
    with pytest.raises(DataError, match="matches no indexed token"):
        _ = panel.result


def bare(picture: str) -> str:
    """The words of a picture without its styles and drawings."""
    left = re.sub(r' style="[^"]*"|<img src="data:image/svg[^>]*>', "", picture)
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", left))
    assert tags <= {"div", "p", "b", "br", "span", "table", "thead", "tbody", "tr", "th", "td"}, tags
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", left)).split())


def test_the_static_picture_has_ranking_result_histogram_and_mistakes(index: Any) -> None:
    panel = sk.score(index, query="bridge and not style:story", n=15).wait()
    panel.threshold = 0.0
    wrong = contexts(panel, "false alarm")[0]
    panel.mark(wrong["at"], False)
    panel.wait()
    picture = panel.static_picture()
    said = bare(picture)
    assert 5_000 < len(picture) < 60_000 and picture.count("<img") == 1 and panel.safe_picture() == picture
    assert "Concept: bridge and not style:story" in said and "5 more in the ranking" in said
    assert f"{panel.preview['n_tokens']} tokens in {panel.preview['n_documents']} documents" in said
    for feature in panel.ranked.index[:10]:
        row = panel.ranked.loc[feature]
        name = " ".join(index.name(int(feature)).split())
        assert f"{feature} {name} {short(row['choose_average_precision'])} {short(row['average_precision'])}" in said
    assert panel.result.summary in said and panel.status == "" and "Being computed" not in said
    n, hits = (np.frombuffer(panel.scores[k], "<i4")[-1] for k in ("n_firings", "n_hits"))
    assert f"{n} tokens fire, {hits} on the concept" in said and f"False alarms: 4 of {n - hits:,}" in said
    assert "marked: does not count" in said and "1 that do not" in said
    rows = re.findall(r"([\d.]+) to ([\d.]+) ([\d,]+) ([\d,]+) [\d.]+%", said)
    assert sum(int(r[2]) for r in rows) == n and sum(int(r[3]) for r in rows) == hits
    panel.threshold = float(panel.scores["max"])
    assert "Misses: " in bare(panel.static_picture()) and "1 token fire" not in said


def test_a_picture_does_not_wait_and_follows_at_the_end(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", lambda data, *_, **__: published.append(data))
    for module in ("base", "specificity_panel"):
        monkeypatch.setattr(f"saekit.widgets.{module}.in_a_notebook", lambda: True)
    scorer = SlowScorer(index)
    panel = SpecificityPanel(scorer, n_features=64, query="bridge")
    panel._ipython_display_()  # the ranking is held back: this would wait for ever
    assert panel.running and len(published) == 2
    first = bare(published[0]["text/html"].partition("<style>")[0])
    assert "Concept: bridge" in first and "Nothing is ranked yet" in first
    scorer.gate.set()
    panel.wait()
    assert panel.result.summary in bare(published[-1]["text/html"].partition("<style>")[0]), "at the end, not later"


def test_pictures_of_what_is_missing_or_strange() -> None:
    assert "No concept is written" in bare(SpecificityPanel(n_features=4).static_picture())
    long = bare(SpecificityPanel(n_features=4, query="bridge, " * 1000 + "gate").static_picture())
    assert len(long) < 1_000 and "Nothing is ranked yet" in long
    panel = sk.score(strange(["<script>alert(1)</script> gold fog"] * 12), query="fog", feature=0).wait()
    assert "<script" not in panel.static_picture() and "<script>" in bare(panel.static_picture())
    panel.feature = 1
    assert "does not fire on these documents" in bare(panel.wait().static_picture())
    panel.query = "<script>alert(1)</script>"
    assert "<script" not in panel.wait().static_picture()
    panel.query = "not ("
    assert "something is missing" in bare(panel.static_picture())
