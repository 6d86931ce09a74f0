"""What belongs to a concept: exact tokens, documents, and errors that help."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.specificity.concepts import Concept

from .array_index import ArrayIndex, pieces

TEXTS = [
    "The Golden Gate Bridge is red. A golden gate is not.",
    "A café by the Brücke 🌉 in fog",
    "Nothing to see here at all",
    "bridgework and Bridge; BRIDGE",
]
LABELS = {
    "topic": ["bridges", "food", "none", "bridges"],
    "style": ["story", "story", "note", "note"],
    "year": [1, 2, 2, 3],
}


@pytest.fixture(scope="module")
def index() -> ArrayIndex:
    return ArrayIndex(TEXTS, LABELS, length=32)


def shown(index: ArrayIndex, concept: Concept) -> list[str]:
    mask = concept.token_mask(index)
    return index.token_strings(index.kept[mask])


def test_tokens_that_overlap_a_match(index: ArrayIndex) -> None:
    assert shown(index, Concept.regex("golden gate bridge")) == [" Golden", " Gate", " Bridge"]
    assert shown(index, Concept.regex("olden gate", ignore_case=False)) == [" golden", " gate"]
    assert shown(index, Concept.regex("(?<=Golden Gate )Bridge")) == [" Bridge"]
    assert shown(index, Concept.regex("Gate", ignore_case=False)) == [" Gate"]
    assert shown(index, Concept.regex(r"d\. A")) == [" red", ".", " A"]


def test_characters_split_over_byte_tokens(index: ArrayIndex) -> None:
    """Each of an emoji's four byte tokens belongs to a match of the emoji, and offsets behind it stay right."""
    assert shown(index, Concept.regex("🌉")) == ["🌉", "", "", ""]
    assert shown(index, Concept.regex("é by")) == ["é", "", " by"]
    assert shown(index, Concept.regex("fog")) == [" fog"]
    assert shown(index, Concept.keywords(["brücke"])) == [" Br", "ü", "", "cke"]


def test_after_adds_the_tokens_behind_a_match_in_the_same_document(index: ArrayIndex) -> None:
    assert shown(index, Concept.regex("Golden Gate Bridge", after=2)) == [" Golden", " Gate", " Bridge", " is", " red"]
    assert shown(index, Concept.regex("at all", after=9)) == [" at", " all"]
    packed = ArrayIndex(["one two", "three"], length=16)
    packed.windows.documents[0, 3:5] = 1  # a second document right behind the first, in one window
    packed.windows.tokens[0, 3:5] = packed.windows.tokens[1, 1:2]
    packed.kept = np.array([1, 2, 3, 4])
    assert shown(packed, Concept.regex("two", after=5)) == [" two"]


def test_a_match_does_not_cross_documents_or_windows() -> None:
    index = ArrayIndex(["a b c d Golden Gate", "Golden", " Gate"], length=6)
    assert index.token_strings(np.flatnonzero(index.windows.documents.reshape(-1).numpy() >= 0))[4:6] == [
        " Golden",
        " Gate",
    ]
    assert len(index.windows.tokens) == 4  # the first document is cut between the two words
    with pytest.raises(DataError, match="matches no indexed token"):
        Concept.regex("golden gate").token_mask(index)
    index.windows.documents[1, 0] = 0  # a window whose first token is the document's own, as in chats that hold BOS
    index.windows.tokens[1, 0] = index.vocabulary.index(" Gate")
    with pytest.raises(DataError, match="matches no indexed token"):
        Concept.regex("golden gate gate").token_mask(index)


def test_keywords_are_whole_words_unless_asked(index: ArrayIndex) -> None:
    assert shown(index, Concept.keywords(["bridge"])) == [" Bridge", " Bridge", " BRIDGE"]
    assert shown(index, Concept.keywords("bridge", whole_words=False))[:2] == [" Bridge", "bridgework"]
    assert Concept.keywords(["golden gate"]).present("the Golden\n Gate")
    assert Concept.keywords(["c++", "a.b"]).spans("c++ axb a.b") == [(0, 3), (8, 11)]
    assert Concept.keywords(["golden", "golden gate"]).spans("golden gate") == [(0, 11)]
    assert not Concept.keywords(["Gate"], ignore_case=False).present("gate")


def test_labels_choose_documents(index: ArrayIndex) -> None:
    documents = index.windows.documents.reshape(-1).numpy()[index.kept]
    assert set(documents[Concept.labels(topic="bridges").token_mask(index)]) == {0, 3}
    assert Concept.labels(topic="bridges", style="note").document_mask(index).tolist() == [False, False, False, True]
    assert Concept.labels(topic=["food", "none"]).document_mask(index).tolist() == [False, True, True, False]
    assert Concept.labels({"year": 2}).document_mask(index).tolist() == [False, True, True, False]
    assert Concept.labels(topic={"none", "food"}) == Concept.labels(topic={"food", "none"})


def test_document_mask_of_text(index: ArrayIndex) -> None:
    assert Concept.regex("bridge").document_mask(index).tolist() == [True, False, False, True]


def test_masks_follow_the_kept_tokens() -> None:
    index = ArrayIndex(TEXTS, LABELS, length=32, unkept=[" Gate"])
    assert shown(index, Concept.regex("golden gate bridge")) == [" Golden", " Bridge"]
    with pytest.raises(DataError, match="special tokens and attention sinks"):
        Concept.regex("Gate", ignore_case=False).token_mask(index)
    assert Concept.regex("Gate", ignore_case=False).document_mask(index)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab é🌉\n", min_size=1, max_size=30), min_size=1, max_size=4),
    st.sampled_from(["a", "b a", "é+", "🌉", r"\w+ ", "a.b"]),
)
def test_masks_agree_with_the_slow_way(documents: list[str], pattern: str) -> None:
    """Token by token: does any match share a character with the bytes that the token covers?"""
    index = ArrayIndex(documents, length=64)
    expected = []
    for text in documents:
        matches = [m.span() for m in re.finditer(pattern, text)]
        covered = [i for i, c in enumerate(text) for _ in c.encode()]  # the character of each byte
        at = 0
        for piece in pieces(text):
            n = 1 if piece.startswith("<0x") else len(piece.encode())
            expected.append(any(a <= c < b for c in covered[at : at + n] for a, b in matches))
            at += n
    if any(expected):
        assert Concept.regex(pattern, ignore_case=False).token_mask(index).tolist() == expected
    else:
        with pytest.raises(DataError):
            Concept.regex(pattern, ignore_case=False).token_mask(index)


def test_spans_of_text() -> None:
    assert Concept.regex("x*").spans("axxb") == [(1, 3)]  # empty matches do not count
    with pytest.raises(MismatchError, match="about document labels and cannot be found in a text"):
        Concept.labels(topic="bridges").spans("a bridge")


def test_repr_is_a_sentence() -> None:
    assert repr(Concept.regex("a b", after=5)) == (
        "Concept 'a b': tokens in text that matches /a b/ (any case), and the 5 tokens behind each match"
    )
    assert "the token behind each match" in repr(Concept.regex("a", after=1))
    assert "(exact case)" in repr(Concept.keywords(["A"], ignore_case=False))
    assert (
        repr(Concept.labels(topic=["a", "b"]))
        == "Concept 'topic=a or b': tokens of documents whose topic is 'a' or 'b'"
    )


def test_bad_patterns_and_settings() -> None:
    with pytest.raises(
        ConfigError, match=r"not a regular expression: missing \), unterminated subpattern at position 7"
    ) as e:
        Concept.regex("Golden (gate")
    seen, arrow = str(e.value).splitlines()[1:3]
    assert seen.index("(") == arrow.index("^")
    with pytest.raises(ConfigError, match="no pattern to look for"):
        Concept.regex("")
    with pytest.raises(ConfigError, match="no keywords to look for"):
        Concept.keywords(["bridge", " "])
    with pytest.raises(ConfigError, match="no keywords to look for"):
        Concept.keywords([])
    with pytest.raises(ConfigError, match="no labels to look for"):
        Concept.labels()
    with pytest.raises(ConfigError, match="no value of the label 'topic'"):
        Concept.labels(topic=[])
    with pytest.raises(ConfigError, match="after is negative|after is not a whole number"):
        Concept.regex("a", after=-1)


def test_unknown_labels_and_values_name_the_nearest(index: ArrayIndex) -> None:
    with pytest.raises(UnknownNameError, match="unknown label 'topik'; did you mean 'topic'"):
        Concept.labels(topik="bridges").token_mask(index)
    with pytest.raises(UnknownNameError, match="unknown value of the label 'topic' 'bridge'; did you mean 'bridges'"):
        Concept.labels(topic=["bridge"]).document_mask(index)
    with pytest.raises(UnknownNameError, match="accepted: none"):
        Concept.labels(topic="bridges").token_mask(ArrayIndex(TEXTS))


def test_a_concept_that_is_not_there(index: ArrayIndex) -> None:
    with pytest.raises(DataError, match="matches no indexed token of this corpus") as e:
        Concept.keywords(["brigde"]).token_mask(index)
    assert "4 documents" in str(e.value) and "Bridge" in str(e.value)
    with pytest.raises(DataError, match="matches no document of this corpus"):
        Concept.regex("zzzz").document_mask(index)
    with pytest.raises(DataError, match="no indexed document has all of these labels"):
        Concept.labels(topic="food", style="note").token_mask(index)


def test_masks_are_fast_and_remembered() -> None:
    """The size of the demo corpus: 3,000 windows of 128 tokens."""
    words = np.random.default_rng(0).choice(["Golden", "Gate", "Bridge", "fog", "the", "of", "é"], (3000, 127))
    index = ArrayIndex.__new__(ArrayIndex)
    small = ArrayIndex(["Golden Gate Bridge fog the of é"], length=128)
    index.__dict__.update(small.__dict__)
    ids = {w: small.vocabulary.index(w if w == "Golden" else f" {w}") for w in np.unique(words) if w != "é"}
    tokens = np.vectorize(lambda w: ids.get(w, small.vocabulary.index("<0xC3>")))(words)
    windows = small.windows.select(np.zeros(3000, dtype=int))
    windows.tokens[:, 1:] = torch.from_numpy(tokens.astype(np.int32))
    windows.documents[:, 1:] = torch.arange(3000, dtype=torch.int32)[:, None]
    index.windows, index.kept = windows, np.flatnonzero(windows.documents.reshape(-1).numpy() >= 0)
    start = time.process_time()
    mask = Concept.regex(r"golden gate( bridge)?", after=3).token_mask(index)
    first = time.process_time() - start
    print(f"{first:.2f} s")
    start = time.process_time()
    again = Concept.regex(r"golden gate( bridge)?", after=3).token_mask(index)
    assert (mask == again).all() and mask.any()
    assert first < 3 and time.process_time() - start < first / 5
