"""Names of features: which words carry their activation, against a slow count, on any text."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import saekit as sk
from saekit.atomic_io import sha256, write_json
from saekit.corpus.document_halves import content_hashes, lower_half
from saekit.errors import FileError, UnknownNameError
from saekit.index import name_rules, names
from saekit.index.name_rules import NamedText
from saekit.index.name_spelling import LONGEST, name_text, shown_word
from saekit.index.names import MIN_DOCUMENTS, name_features
from saekit.index.store import _checksum
from saekit.index.text import TextRun
from saekit.index.words import words_of
from saekit.models.text_matching import join_tokens
from saekit.models.token_text import read_vocabulary

from . import zoo_tokenizers
from .array_index import ArrayIndex

# ---- words ----------------------------------------------------------------------------------------------------------


def words(pieces: Sequence[str | bytes]) -> list[str]:
    """The word around each of the tokens of a text."""
    encoded = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    found = words_of([TextRun(0, len(encoded), join_tokens(encoded))], len(encoded))
    return [found.forms[i] for i in found.word]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["the", " E", "iff", "el", " Tower"], ["the", "Eiffel", "Eiffel", "Eiffel", "Tower"]),
        (["a", " ", "b", "ridge", ",", " c"], ["a", " ", "bridge", "bridge", ",", "c"]),
        (["of the", " way"], ["of the", "way"]),  # a token of two words
        (["x", "\n", "\n\n", "y"], ["x", "\n", "\n\n", "y"]),
        (["self", ".x", "_1"], ["self", ".x_1", "x_1"]),
        (["中国", "的", "桥"], ["中国", "的", "桥"]),  # no spaces: tokens are words
        (["桥".encode()[:2], "桥".encode()[2:], "。"], ["桥", "桥", "。"]),  # a character in two tokens
        (["שָׁל", "וֹם", " עולם"], ["שָׁלוֹם", "שָׁלוֹם", "עולם"]),  # marks belong to their letters
        (["हिन्", "दी"], ["हिन्दी", "हिन्दी"]),
        (["👩", "\u200d", "🚀", " 👍", "🏽"], ["👩\u200d🚀"] * 3 + ["👍🏽"] * 2),
        (["can", "'t"], ["can", "'t"]),
        (["a" * 70, "b"], ["a" * 70, "b"]),  # no word: a token's own characters
        ([b"\xff", " a"], ["<0xFF>", "a"]),
        ([""], [""]),
    ],
)
def test_the_word_around_a_token_is_found_by_characters(pieces: list[str | bytes], expected: list[str]) -> None:
    assert words(pieces) == expected


def test_forms_that_differ_in_case_are_one_word_and_words_beside_stop_where_a_text_does() -> None:
    encoded = [b"A", b" Bri", b"dge", b" a"]
    runs = [TextRun(0, 4, join_tokens(encoded)), TextRun(4, 6, join_tokens([b"bridge", b" A"]))]
    found = words_of(runs, 7)
    key = found.folded[found.word]
    assert key[1] == key[2] == key[4] and key[0] == key[3] == key[5]
    before = [found.forms[i] for i in found.beside(found.place, -1)]
    assert before == ["", "A", "A", "Bridge", "", "bridge", ""]
    assert [found.forms[i] for i in found.beside(found.place, 2)] == ["a", "", "", "", "", "", ""]
    assert [found.forms[i] for i in found.piece] == ["A", "Bri…", "…dge", "a", "bridge", "A", ""]


@pytest.mark.parametrize("make", ["llama2", "gemma", "gpt2", "llama3", "bloom", "wordpiece"])
def test_words_are_the_same_whatever_the_tokenizer(make: str) -> None:
    tokenizer = getattr(zoo_tokenizers, make)()
    ids = tokenizer("The golden bridge, naïve שלום 👍 end", add_special_tokens=False)["input_ids"]
    text = read_vocabulary(tokenizer, len(tokenizer)).text(ids)
    found = words_of([TextRun(0, len(ids), text)], len(ids))
    read = list(dict.fromkeys(found.forms[i].casefold() for i in found.word))
    if make == "wordpiece":  # which changes accents and does not know the rest
        assert read[:4] == ["the", "golden", "bridge", ","]
    else:
        assert [w for w in read if w.strip()] == ["the", "golden", "bridge", ",", "naïve", "שלום", "👍", "end"]


# ---- rules ----------------------------------------------------------------------------------------------------------


def named(index: ArrayIndex) -> tuple[pd.DataFrame, NamedText]:
    document = np.asarray(index.windows.documents).reshape(-1)[index.kept]
    halves = lower_half(content_hashes(index.windows))
    n = index.n_windows * index.windows.length
    text = NamedText(words_of(index.texts(), n), index.kept, document, halves)
    return name_features(index.by_feature, text), text


def fires(*where: Callable[[str, str], float]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Activations of features that are functions of a token and the one before."""

    def acts(tokens: np.ndarray, documents: np.ndarray) -> np.ndarray:
        before = ["", *tokens[:-1]]
        return np.array([[f(t, b) for f in where] for t, b in zip(tokens, before, strict=True)])

    return acts


FILLER = re.findall(
    r"\w+", "one two three four five six seven eight nine ten red green blue cat dog sun moon sea hill town"
)


def texts(n: int = 60) -> list[str]:
    out = []
    for i in range(n):
        word = [FILLER[(i * 7 + j * j) % len(FILLER)] for j in range(4)]
        bridge = "Bridge" if i % 3 else "bridge"
        out.append(
            f"{word[0]} the old {bridge} {word[1]} {word[2]} golden gate {bridge} and {word[3]} said hello there"
        )
    return out


def test_names_of_words_phrases_context_and_nothing() -> None:
    index = ArrayIndex(
        texts(),
        length=32,
        acts=fires(
            lambda t, b: 2.0 * (t.strip().lower() == "bridge") + 0.1 * (t == " and"),
            lambda t, b: float(t.strip().lower() == "bridge" and b == " gate"),
            lambda t, b: float(b == " the") + float(b == " old"),
            lambda t, b: 0.0,
            lambda t, b: 1.0,
            lambda t, b: float(t == " hello") + 0.9 * (t == " and") + 0.8 * (t == " there"),
        ),
    )
    table, _ = named(index)
    assert table["name"].tolist()[:4] == ["Bridge", "golden gate Bridge", "old, Bridge", "silent"]
    assert table["kind"].tolist() == ["token", "token", "token", "silent", "mixed", "token"]
    assert table["name"][4].startswith("mixed: ") and table["name"][5] == "hello, and, there"
    assert table["fraction"][1] == table["fraction"][5] == 1.0 and math.isnan(table["fraction"][3])
    assert 0.95 < table["fraction"][0] < 1.0
    assert table["n_documents"].between(MIN_DOCUMENTS, 60).tolist() == [True, True, True, False, True, True]


def test_what_stands_before_firings_names_a_feature_that_no_word_carries() -> None:
    documents, rng = [], np.random.default_rng(0)
    for _ in range(80):
        word = rng.choice(FILLER, 14).tolist()
        documents.append(" ".join([*word[:6], "said", *word[6:]]))
    after, before = (ArrayIndex(documents, length=32, acts=fires(f)) for f in (lambda t, b: float(b == " said"),) * 2)
    acts = np.zeros((len(before.kept), 1))
    tokens = before.token_strings(before.kept)
    acts[[i for i in range(len(tokens) - 1) if tokens[i + 1] == " said"]] = 1.0
    table, _ = named(after)
    assert table["name"][0] == "after: said" and table["kind"][0] == "context" and table["fraction"][0] == 1.0
    table, _ = named(ArrayIndex(documents, length=32, acts=acts))
    assert table["name"][0] == "before: said" and table["fraction"][0] == 1.0


def test_pieces_name_a_feature_that_fires_on_them_in_many_words() -> None:
    encoded = [[f" {a}".encode(), b"ing", f" {b}".encode()] for a, b in zip(FILLER, reversed(FILLER), strict=True)] * 2
    runs = [TextRun(3 * i, 3 * i + 3, join_tokens(run)) for i, run in enumerate(encoded)]
    position = np.arange(3 * len(runs))
    text = NamedText(words_of(runs, len(position)), position, position // 3, np.arange(len(runs)) % 2 == 0)
    fired = np.flatnonzero(position % 3 == 1)
    table = name_features(
        name_rules.Sparse(np.array([0, len(fired)]), fired.astype(np.int32), np.ones(len(fired), np.float32)), text
    )
    assert table.loc[0, ["name", "by", "fraction"]].tolist() == ["…ing", "piece", 1.0]


def test_numbers_and_capitals_name_features_that_fire_on_many_of_them() -> None:
    rng = np.random.default_rng(0)
    documents = []
    for _ in range(60):
        parts = [str(rng.integers(100, 999)), *rng.choice(FILLER, 6), *[w.title() for w in rng.choice(FILLER, 2)]]
        documents.append(" ".join(parts[i] for i in rng.permutation(len(parts))))
    index = ArrayIndex(documents, length=32)
    text = named(index)[1]
    digits = np.array([w.isdigit() for w in text.words.forms])[text.form[name_rules.WORD]]
    capital = np.array([w[:1].isupper() for w in text.words.forms])[text.form[name_rules.WORD]]
    half = capital & (np.arange(len(capital)) % 2 == 0)
    index = ArrayIndex(documents, length=32, acts=np.stack([digits + 0.0, half + 0.0], axis=1))
    table, _ = named(index)
    assert table["by"].tolist() == ["numbers", "capitalised"] and (table["fraction"] == 1.0).all()
    assert table["name"][0].startswith("numbers") and table["name"][1].startswith("capitalised")
    assert table["kind"].tolist() == ["token", "token"]
    assert table["coverage"][0] == 1.0 and 0.3 < table["coverage"][1] < 0.7


def test_coverage_counts_the_places_of_a_name_in_the_other_documents() -> None:
    acts = fires(
        lambda t, b: float(t.strip() == "Bridge"), lambda t, b: float(t.strip().lower() == "bridge" and b == " gate")
    )
    table, _ = named(ArrayIndex(texts(90), length=32, acts=acts))
    assert table["name"].tolist() == ["Bridge", "golden gate Bridge"]
    assert table["coverage"][0] == pytest.approx(2 / 3, abs=0.12) and table["coverage"][1] == 1.0


def test_what_one_document_repeats_names_no_feature_of_many() -> None:
    documents = [f"{text} zebra" for text in texts(60)]
    plain = ArrayIndex(documents, length=32)
    first, second = np.flatnonzero(lower_half(content_hashes(plain.windows)))[:2].tolist()

    def acts(tokens: np.ndarray, document: np.ndarray) -> np.ndarray:
        bridge = 0.1 * np.isin(np.char.strip(tokens.astype(str)), ["bridge", "Bridge"])
        zebra = np.char.strip(tokens.astype(str)) == "zebra"
        once = 20.0 * (zebra & (document == first))
        return np.stack([bridge + once, 0.01 + once + 0.5 * (zebra & (document == second))], axis=1)

    table, _ = named(ArrayIndex(documents, length=32, acts=acts))
    assert table["kind"].tolist() == ["mixed", "mixed"] and table["name"][0] == "mixed: Bridge"
    assert "zebra" in table["words"][1]  # in two documents, but half is not carried without the first


def test_few_documents_state_no_fraction() -> None:
    some = texts(2 * MIN_DOCUMENTS - 2)
    table, _ = named(ArrayIndex(some, length=32, acts=fires(lambda t, b: float(t.strip().lower() == "bridge"))))
    assert table["name"][0] == "Bridge" and math.isnan(table["fraction"][0]) and table["n_documents"][0] == 0


def slow_fraction(index: ArrayIndex, row: pd.Series, halves: np.ndarray, feature: int) -> float:
    """The part of a feature's activation on a name's words, on the documents that it was not made on, by loops."""
    whole = on = 0.0
    document = np.asarray(index.windows.documents).reshape(-1)[index.kept].tolist()
    tokens = [t.strip().lower() or t for t in index.token_strings(index.kept)]
    for i, (token, number) in enumerate(zip(tokens, document, strict=True)):
        if halves[number]:
            continue
        whole += float(index.acts[i, feature])
        led = all(
            i > n and document[i - n - 1] == number and tokens[i - n - 1] == lead for n, lead in enumerate(row["lead"])
        )
        on += float(index.acts[i, feature]) * (token in row["words"] and led)
    return on / whole


def test_the_fraction_is_that_of_a_slow_count_on_the_other_documents() -> None:
    rng = np.random.default_rng(0)
    base = ArrayIndex(texts(80), length=40)
    acts = rng.random((len(base.kept), 24)) * (rng.random((len(base.kept), 24)) < 0.15)
    tokens = np.array(base.token_strings(base.kept))
    for feature in range(12):  # more on some words than on others
        chosen = rng.choice(np.unique(tokens), 2, replace=False)
        acts[:, feature] += 5 * np.isin(tokens, chosen) * rng.random(len(tokens))
    index = ArrayIndex(texts(80), length=40, acts=acts)
    table, text = named(index)
    assert {"token", "mixed"} <= set(table["kind"])
    own = table[table["by"] == "word"]
    for feature, row in own.iterrows():
        expected = slow_fraction(index, row, text.halves, int(feature))  # type: ignore[call-overload]
        assert row["fraction"] == pytest.approx(expected, abs=1e-6), row.tolist()
    assert len(own) > 15


def test_names_do_not_depend_on_how_many_features_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    base = ArrayIndex(texts(40), length=40)
    index = ArrayIndex(texts(40), length=40, acts=rng.random((len(base.kept), 30)) ** 8)
    whole, _ = named(index)
    monkeypatch.setattr(names, "BLOCK_FIRINGS", 1)
    one_by_one, _ = named(index)
    pd.testing.assert_frame_equal(whole, one_by_one)


# ---- spelling -------------------------------------------------------------------------------------------------------


def test_names_fit_and_say_what_cannot_be_seen() -> None:
    assert [shown_word(w) for w in ["\n\n", ",", "…", "a\x00b", "…ing", "\u200f", "🦙"]] == [
        "↵↵", "“,”", "…", "a·b", "…ing", "“·”", "“🦙”"
    ]  # fmt: skip
    long = "w" * 60
    assert name_text("token", "word", [long]) == ("w" * (LONGEST - 1) + "…", 1)
    assert name_text("token", "word", ["a" * 20, "b" * 18, "c"]) == ("a" * 20 + ", " + "b" * 18, 2)
    assert name_text("mixed", "word", ["a", "b"]) == ("mixed: a, b", 2)
    assert name_text("silent", "word", []) == ("silent", 0)


# ---- the index ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(model, corpus, tmp_path_factory):  # type: ignore[no-untyped-def]
    from conftest import tiny_sae

    out = tmp_path_factory.mktemp("index") / "tiny"
    sk.build_index(model, tiny_sae(model), corpus, out=out, length=32, progress=False)
    return sk.load_index(out)


def test_every_feature_of_an_index_has_a_name(index: sk.FeatureIndex) -> None:
    table = index.names
    assert table.index.tolist() == list(range(index.d_sae)) and table["name"].str.len().between(1, LONGEST).all()
    assert table.columns.tolist() == ["name", "kind", "fraction", "coverage", "n_documents"]
    silent = index.features["n_firings"] == 0
    assert (table["kind"][silent] == "silent").all() and "silent" not in set(table["kind"][~silent])
    assert [index.name(i) for i in (0, np.int64(5))] == table["name"].loc[[0, 5]].tolist()
    assert table.equals(sk.load_index(index.path).names)
    with pytest.raises(UnknownNameError, match="has no feature 64"):
        index.name(64)


def test_names_are_stored_when_an_index_is_built_and_made_where_it_has_none(
    index: sk.FeatureIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = index.automatic_names
    made = name_features(index.by_feature, index.named_text)
    pd.testing.assert_frame_equal(built, made, check_dtype=False, rtol=1e-9)
    shutil.copytree(index.path, tmp_path / "older")
    manifest = json.loads((tmp_path / "older" / "manifest.json").read_text())
    del manifest["files"]["names.parquet"], manifest["names_rule"], manifest["checksum"]
    write_json(tmp_path / "older" / "manifest.json", {**manifest, "checksum": _checksum(manifest)})
    (tmp_path / "older" / "names.parquet").unlink()
    assert sk.load_index(tmp_path / "older").names.equals(index.names)
    monkeypatch.setattr("saekit.index.named_index.RULE", names.RULE + 1)
    monkeypatch.setattr("saekit.index.named_index.name_features", lambda *_: made.assign(name="by another rule"))
    assert sk.load_index(index.path).name(9) == "by another rule"


def test_stored_names_that_are_damaged_are_a_file_error(index: sk.FeatureIndex, tmp_path: Path) -> None:
    shutil.copytree(index.path, tmp_path / "i")
    path = tmp_path / "i" / "names.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FileError, match=r"names\.parquet has been altered"):
        sk.load_index(tmp_path / "i")
    pd.read_parquet(index.path / "names.parquet").assign(by=7).to_parquet(path)
    manifest = json.loads((tmp_path / "i" / "manifest.json").read_text())
    manifest["files"]["names.parquet"] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    del manifest["checksum"]
    write_json(tmp_path / "i" / "manifest.json", {**manifest, "checksum": _checksum(manifest)})
    with pytest.raises(FileError, match=r"names\.parquet does not hold"):
        _ = sk.load_index(tmp_path / "i").names


def test_naming_writes_nothing(index: sk.FeatureIndex) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in index.path.iterdir()}
    assert len(sk.load_index(index.path).names) == index.d_sae
    assert {p.name: p.stat().st_mtime_ns for p in index.path.iterdir()} == before


def test_an_index_of_one_document_names_without_fractions(model, sae, corpus, tmp_path):  # type: ignore[no-untyped-def]
    table = sk.build_index(model, sae, corpus.take(1), out=tmp_path / "i", length=32, progress=False).names
    assert table["fraction"].isna().all() and (table["n_documents"] == 0).all() and (table["name"] != "").all()
