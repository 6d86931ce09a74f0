"""Labels of features: kept, undone, shared by processes, and whatever may be wrong in their file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import saekit as sk
from conftest import tiny_sae
from saekit.errors import ConfigError, FileError, FolderInUseError, UnknownNameError
from saekit.index import labels as label_acts
from saekit.json_files import read_json, sealed
from saekit.output_folder import output_folder
from saekit.sae.formats import packaged


@pytest.fixture
def index(model, corpus, tmp_path):  # type: ignore[no-untyped-def]
    return sk.build_index(model, tiny_sae(model), corpus.take(8), out=tmp_path / "i", length=32, progress=False)


def test_a_label_goes_before_the_name_wherever_the_index_is_opened(index: sk.FeatureIndex) -> None:
    automatic = index.name(3)
    index.label(3, "  the\n gates ", note="doors too", stars=4, author="ada")
    for opened in (index, sk.load_index(index.path)):
        assert opened.name(3) == "the gates" and opened.names.loc[3, "kind"] == "label"
        row = opened.labels.iloc[0]
        assert row[["feature", "label", "note", "stars", "author", "source"]].tolist() == [
            3, "the gates", "doors too", 4, "ada", "hand"
        ]  # fmt: skip
        assert row["time"][:2] == "20" and opened.names["fraction"].isna()[3]
    index.label(3, "")
    assert index.name(3) == automatic and len(index.labels) == 0
    index.label(3, "w" * 100)
    assert index.name(3) == "w" * 39 + "…" and index.labels["label"][0] == "w" * 100


def test_acts_are_undone_one_by_one_also_after_a_restart(index: sk.FeatureIndex) -> None:
    automatic = index.name(3)
    index.label(3, "first")
    index.label(5, "other")
    index.label(3, "second")
    assert index.undo_label()["label"].tolist() == ["second"] and index.name(3) == "first"
    again = sk.load_index(index.path)
    assert again.undo_label()["feature"].tolist() == [5]
    again.label(3, "third")
    assert index.name(3) == "third"  # read again, since another one wrote
    assert [again.undo_label()["label"][0] for _ in range(2)] == ["third", "first"]
    assert index.name(3) == automatic
    with pytest.raises(ConfigError, match="no label to take back"):
        index.undo_label()


WRITER = """
import sys, saekit as sk
index = sk.load_index(sys.argv[1])
for n in range(40):
    index.label(n, f"{sys.argv[2]} {n}", author=sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_label_at_once_and_lose_nothing(index: sk.FeatureIndex) -> None:
    command = [sys.executable, "-c", WRITER, str(index.path)]
    running = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[1]) for name in ("a", "b")]
    assert [process.wait() for process in running] == [0, 0]
    lines = [json.loads(line) for line in (index.path / label_acts.LABELS).read_text().splitlines()]
    written = sorted(line["labels"][0]["label"] for line in lines)
    assert written == sorted(f"{name} {n}" for name in "ab" for n in range(40))
    assert len(index.labels) == 40


def test_who_waits_too_long_is_told_who_writes(index: sk.FeatureIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(label_acts, "PATIENCE", 0.05)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with output_folder(index.path, "an index"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    try:
        with pytest.raises(FolderInUseError, match="is writing an index"):
            index.label(3, "gates")
    finally:
        leave.set()
        thread.join()
    index.label(3, "gates")


def test_a_torn_last_line_loses_that_act_alone_and_is_reported(index: sk.FeatureIndex) -> None:
    index.label(3, "kept")
    index.label(5, "torn")
    path = index.path / label_acts.LABELS
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r"labels\.jsonl, line 2 was cut short"):
        assert sk.load_index(index.path).labels["label"].tolist() == ["kept"]
    with pytest.warns(UserWarning, match="cut short"):
        index.label(7, "new")
    assert sk.load_index(index.path).labels["label"].tolist() == ["kept", "new"]


def line(index: sk.FeatureIndex, **changes: object) -> bytes:
    label = {"feature": 3, "label": "x", "note": "", "stars": None, "author": None, "time": "", "source": "hand"}
    act = {"act": "label", "sae": index.sae_fingerprint, "time": "", "labels": [{**label, **changes}]}
    return json.dumps(sealed(act)).encode() + b"\n"


@pytest.mark.parametrize(
    "change",
    [
        {"feature": 64},
        {"feature": -1},
        {"feature": 3.5},
        {"label": 7},
        {"label": "x" * 201},
        {"stars": 6},
        {"author": ["a"]},
        {"extra": 1, "label": None},
    ],
)
def test_a_hostile_line_is_a_file_error_and_names_go_on(index: sk.FeatureIndex, change: dict[str, object]) -> None:
    automatic = index.name(3)
    (index.path / label_acts.LABELS).write_bytes(line(index, **change))
    with pytest.raises(FileError, match=r"labels\.jsonl"):
        _ = index.labels
    with pytest.warns(UserWarning, match="named without their labels"):
        assert index.name(3) == automatic
    with pytest.raises(FileError):
        index.label(3, "y")
    assert (index.path / label_acts.LABELS).read_bytes() == line(index, **change)


@pytest.mark.parametrize("content", [b"\x00\xff\n", b"[]\n", b"{}\n", b'{"act": "label"}\n', b"[" * 500 + b"\n"])
def test_a_file_of_something_else_is_a_file_error(index: sk.FeatureIndex, content: bytes) -> None:
    (index.path / label_acts.LABELS).write_bytes(content)
    with pytest.raises(FileError, match=r"labels\.jsonl"):
        _ = index.labels


def test_labels_of_another_sae_are_refused(index: sk.FeatureIndex) -> None:
    act = json.loads(line(index)) | {"sae": "0123456789abcdef"}
    (index.path / label_acts.LABELS).write_text(json.dumps(sealed(act)) + "\n")
    with pytest.raises(FileError, match="labels of another SAE"):
        _ = index.labels


def test_what_is_no_label_is_refused_before_anything_is_written(index: sk.FeatureIndex) -> None:
    for call in (
        lambda: index.label(3, 7),  # type: ignore[arg-type]
        lambda: index.label(3, "x" * 201),
        lambda: index.label(3, "\ud800"),
        lambda: index.label(3, "x", note=None),  # type: ignore[arg-type]
        lambda: index.label(3, "x", stars=6),
        lambda: index.label(3, "x", stars=2.5),  # type: ignore[arg-type]
        lambda: index.label(3, "x", author=7),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(UnknownNameError):
        index.label(64, "x")
    assert not (index.path / label_acts.LABELS).exists()


def test_building_again_keeps_the_labels(model, corpus, index: sk.FeatureIndex) -> None:  # type: ignore[no-untyped-def]
    index.label(3, "gates")
    again = sk.build_index(
        model, tiny_sae(model), corpus.take(8), out=index.path, length=32, progress=False, resume=False
    )
    assert again.name(3) == "gates"
    assert sorted(p.name for p in index.path.iterdir() if p.name.startswith(".")) == []


# ---- cards ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_card(index: sk.FeatureIndex, monkeypatch: pytest.MonkeyPatch) -> sk.FeatureIndex:
    """An index whose SAE is a packaged one that labels feature 3."""
    known = {"sae": index.sae_fingerprint, "strengths": [], "labels": [{"feature": 3, "label": "gates", "note": "0.9"}]}
    monkeypatch.setattr(packaged, "_all_labels", lambda: {index.sae_fingerprint: known})
    return sk.load_index(index.path)


def test_a_label_by_hand_goes_before_that_of_a_card_which_nothing_undoes(with_card: sk.FeatureIndex) -> None:
    index = with_card
    assert index.name(3) == "gates" and index.labels[["source", "note"]].values.tolist() == [["card", "0.9"]]
    with pytest.raises(ConfigError, match="no label to take back"):
        index.undo_label()
    index.label(3, "doors")
    assert index.labels[["label", "source"]].values.tolist() == [["doors", "hand"]]
    index.undo_label()
    assert index.name(3) == "gates" and index.labels["source"].tolist() == ["card"]
    index.label(3, "")
    assert index.name(3) != "gates" and len(index.labels) == 0


def test_packaged_saes_bring_what_their_cards_report_well() -> None:
    from recipes.default_saes.labels import MIN_AUROC, card_labels

    found = sorted(packaged.PRETRAINED.rglob(packaged.LABELS))
    assert len(found) == 3
    for path in found:
        card, brought = read_json(path.with_name("card.json")), read_json(path, packaged.CardLabels)
        assert brought == card_labels(card), "run: python -m recipes default-saes labels"
        assert packaged.packaged_labels(card["fingerprint"]) == brought
        poor = {row["feature"] for row in [*card["concepts"].values(), *card["features"]] if row["auroc"] <= MIN_AUROC}
        good = {row["feature"] for row in card["concepts"].values() if row["auroc"] > MIN_AUROC}
        labelled = [label["feature"] for label in brought["labels"]]
        assert len(set(labelled)) == len(labelled) > 0 and not set(labelled) & (poor - good)
        assert all("AUROC" in label["note"] and label["feature"] < card["d_sae"] for label in brought["labels"])
