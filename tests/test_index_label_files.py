"""Labels in files, our own and Neuronpedia's, and where labels and names are shown."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pandas as pd
import pytest

import saekit as sk
from conftest import tiny_sae
from saekit.errors import ConfigError, FileError, MismatchError
from saekit.index.name_search import search_names
from saekit.sae.formats import packaged
from saekit.widgets.token_highlight import names_of


@pytest.fixture
def index(model, corpus, tmp_path):  # type: ignore[no-untyped-def]
    return sk.build_index(model, tiny_sae(model), corpus.take(8), out=tmp_path / "i", length=32, progress=False)


@pytest.fixture
def with_card(index: sk.FeatureIndex, monkeypatch: pytest.MonkeyPatch) -> sk.FeatureIndex:
    """An index whose SAE is a packaged one that labels feature 3."""
    known = {"sae": index.sae_fingerprint, "strengths": [], "labels": [{"feature": 3, "label": "gates", "note": "0.9"}]}
    monkeypatch.setattr(packaged, "_all_labels", lambda: {index.sae_fingerprint: known})
    return sk.load_index(index.path)


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.jsonl.gz", "a.json.gz"])
def test_labels_survive_a_file(with_card: sk.FeatureIndex, name: str, tmp_path: Path) -> None:
    index = with_card
    index.label(5, 'a "quoted", 中文 label', note="two\nlines", stars=2, author="ada")
    index.label(7, "plain")
    before = index.labels
    path = index.export_labels(tmp_path / name)
    for _ in range(2):
        index.undo_label()
    assert index.import_labels(path) == 2
    after = index.labels
    same = ["feature", "label", "note", "stars", "author", "source", "time"]
    assert after[same].astype(str).values.tolist() == before[same].astype(str).values.tolist()
    assert len(index.undo_label()) == 2 and index.labels["source"].tolist() == ["card"]  # an import is one act


ROWS = [
    {"modelId": "gpt2", "layer": "0-res", "index": "3", "description": "old", "explanationModelName": "gpt-4o-mini"},
    {"modelId": "gpt2", "layer": "0-res", "index": "3", "description": "gates", "explanationModelName": "gpt-4o-mini",
     "typeName": "oai_token-act-pair", "embedding": [0.1]},
    {"modelId": "gpt2", "layer": "0-res", "feature": 5, "description": "long " * 60},
]  # fmt: skip


@pytest.mark.parametrize("how", ["lines", "list", "gz", "folder"])
def test_explanations_of_neuronpedia_are_read(index: sk.FeatureIndex, how: str, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path = tmp_path / {"lines": "a.jsonl", "list": "a.json", "gz": "a.jsonl.gz", "folder": "batches"}[how]
    if how == "folder":
        path.mkdir()
        (path / "batch-0.jsonl.gz").write_bytes(gzip.compress(lines))
    else:
        path.write_bytes(gzip.compress(lines) if how == "gz" else json.dumps(ROWS).encode() if how == "list" else lines)
    with pytest.raises(MismatchError, match="are of another SAE") as caught:
        index.import_labels(path)
    assert "sae_id='gpt2/0-res'" in str(caught.value) and len(index.labels) == 0
    assert index.import_labels(path, sae_id="gpt2/0-res") == 2
    table = index.labels.set_index("feature")
    assert table.loc[3, ["label", "note", "author", "source"]].tolist() == [
        "gates", "oai_token-act-pair", "gpt-4o-mini", "neuronpedia"
    ]  # fmt: skip
    assert len(table.loc[5, "label"]) == 200 and table.loc[5, "note"] == "long " * 60
    assert len(index.undo_label()) == 2 and len(index.labels) == 0


def test_what_was_labelled_by_hand_stays_in_an_import(index: sk.FeatureIndex, tmp_path: Path) -> None:
    index.label(3, "mine")
    (tmp_path / "a.json").write_text(json.dumps([{"feature": 3, "label": "theirs"}, {"feature": 4, "label": "four"}]))
    assert index.import_labels(tmp_path / "a.json") == 1 and index.labels["label"].tolist() == ["mine", "four"]
    assert index.import_labels(tmp_path / "a.json", replace=True) == 2 and index.name(3) == "theirs"


def test_labels_of_another_index_are_refused_unless_they_are_passed_on(index: sk.FeatureIndex, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("feature,label,sae\n3,gates,0123456789abcdef\n")
    with pytest.raises(MismatchError):
        index.import_labels(tmp_path / "a.csv")
    assert index.import_labels(tmp_path / "a.csv", sae_id="0123456789abcdef") == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'[{"feature": 3}]', "row 1 lacks a field"),
        ("a.json", b'[{"id": 3, "description": "x"}]', "feature or index"),
        ("a.json", b'[{"feature": 64, "label": "x"}]', "row 1: the SAE has no feature 64"),
        ("a.json", b'[{"feature": 3.5, "label": "x"}]', "has no feature 3.5"),
        ("a.json", b'[{"feature": 3, "label": ["x"]}]', "the label is no text"),
        ("a.json", b'[{"feature": 3, "label": "x", "stars": 9}]', "stars"),
        ("a.json", b"3", "no list of labels"),
        ("a.json", b"[3]", "row 1 is no object"),
        ("a.json", b'[{"feature": 3', "not valid JSON"),
        ("a.jsonl", b"\xff\xfe", "not valid JSON"),
        ("a.jsonl.gz", b"no gzip", "does not hold what it should"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 100, mtime=0)[:20], "does not hold what it should"),
        ("a.parquet", b"PAR1", "does not hold what it should"),
        ("a.csv", b'"', "does not hold what it should"),
        ("a.txt", b"", "no file of labels, by its name"),
    ],
)
def test_a_hostile_file_is_a_file_error(
    index: sk.FeatureIndex, name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        index.import_labels(tmp_path / name)
    assert says in str(caught.value) and len(index.labels) == 0
    with pytest.raises(FileError, match="no file"):
        index.import_labels(tmp_path / "absent.csv")


# ---- use ------------------------------------------------------------------------------------------------------------


def test_labels_are_found_before_names_and_shown_in_every_table(index: sk.FeatureIndex) -> None:
    index.label(9, "Gate")
    index.label(4, "the golden gate at dawn")
    found = index.search(name="gate")
    assert found["feature"].tolist()[:2] == [9, 4] and found["match"].tolist()[:2] == ["label", "label word"]
    assert set(found["match"][2:]) <= {"name"} and found.columns[:2].tolist() == ["feature", "name"]
    features = index.features
    assert features.columns[0] == "name" and features["name"].tolist() == index.names["name"].tolist()
    assert features["label"][9] == "Gate" and (features["label"] != "").sum() == 2
    assert index.search(text="gate", n=64).set_index("feature")["name"][9] == "Gate"
    assert sk.rank_features(index, sk.Concept.regex("gate"), n=64, min_firings=0, n_permutations=0)["name"][9] == "Gate"
    assert "feature 9: Gate\n  promotes" in str(index.feature(9))
    assert sk.specificity(index, 9, sk.Concept.regex("gate"), n_permutations=0, n_controls=2).called == "9 (Gate)"
    near = index.feature(index.feature(9).neighbours[0][0])
    record = next(r for r in (index.feature(i) for i in range(64)) if 9 in [n for n, _ in r.neighbours[:5]])
    assert "9 Gate (" in str(record) and near.name == index.name(near.feature)
    assert index.search(name="a word that no feature is called by", n=64)["match"].isin(["label", "name"]).all()
    with pytest.raises(ConfigError, match="no name to search for"):
        index.search(name="  ")


def test_names_are_ranked_by_what_they_carry_and_how_well_they_fit() -> None:
    names = pd.DataFrame(
        {
            "name": ["bridge", "Bridge", "span, bridges", "bridge", "river"],
            "fraction": [0.95, 1.0, 0.99, math.nan, 1.0],
            "n_documents": [60, 6, 60, 0, 50],
        }
    )
    made = pd.DataFrame({"words": [["bridge"], ["bridge"], ["span", "bridges"], ["bridge"], ["river"]]})
    made["lead"], made["by"], made["coverage"] = [[], [], [], [], ["wide"]], "word", [0.9, 0.9, 0.9, math.nan, 0.5]
    assert search_names(names, made, {}, "Bridge").index.tolist() == [0, 1, 2, 3]
    assert search_names(names, made, {}, "wide river").index.tolist() == [4]
    assert search_names(names, made, {4: "gorges"}, "river").index.tolist() == []  # what it is called is its label
    labels = {1: "old bridges", 3: "Bridges", 4: "the bridges of Prague"}
    assert search_names(names, made, labels, "bridge").index.tolist() == [3, 1, 4, 0, 2]
    assert search_names(names, made, labels, "bridge")["match"].tolist() == [
        "label",
        *["label word"] * 2,
        *["name"] * 2,
    ]
    assert search_names(names, made, labels | {0: "bridge"}, "bridge").index.tolist()[:2] == [0, 3]
    assert search_names(names, made, {}, "…").index.tolist() == []


def test_widgets_show_names(with_card: sk.FeatureIndex) -> None:
    assert names_of(with_card, [3, 5]) == {"3": "gates", "5": with_card.name(5)} and names_of(None, [3]) == {}
    card = sk.card(with_card, 5)
    with_card.label(5, "five")
    card.feature = 3
    card.feature = 5
    assert card.record is not None and card.record.name == "five"
