"""Concepts put together, written and marked by hand: sets of tokens, documents that hold them, and what is typed."""

from __future__ import annotations

import pickle
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.specificity import concept_masks, rank_features, specificity
from saekit.specificity.concepts import Concept
from saekit.specificity.split import split_documents

from .array_index import ArrayIndex
from .test_specificity_concepts import LABELS, TEXTS

WORDS = ["Bridge", "golden", "fog", "the", "café", "and", "zebra", "red."]
GOLD, BRIDGE, FOG = Concept.keywords("golden"), Concept.keywords("bridge"), Concept.keywords("fog")
BRIDGES, STORY = Concept.labels(topic="bridges"), Concept.labels(style="story")


@pytest.fixture(scope="module")
def index() -> ArrayIndex:
    return ArrayIndex(TEXTS, LABELS, length=32)


def shown(index: ArrayIndex, concept: Concept) -> list[str]:
    return index.token_strings(index.kept[concept.token_mask(index)])


def test_tokens_are_sets_and_documents_hold_or_do_not(index: ArrayIndex) -> None:
    assert shown(index, GOLD | FOG) == [" Golden", " golden", " fog"]
    assert shown(index, BRIDGE & STORY) == [" Bridge"]
    assert shown(index, BRIDGE & ~STORY) == [" Bridge", " BRIDGE"]
    assert (~BRIDGE).token_mask(index).sum() == len(index.kept) - 3
    assert (GOLD & BRIDGE).document_mask(index).tolist() == [True, False, False, False]
    assert (BRIDGE & ~GOLD).document_mask(index).tolist() == [False, False, False, True]
    assert (~(GOLD | FOG)).document_mask(index).tolist() == [False, False, True, True]
    with pytest.raises(DataError, match='unit="document" asks for documents that hold all of them'):
        (GOLD & BRIDGE).token_mask(index)
    with pytest.raises(DataError, match="no document holds all of them"):
        (GOLD & FOG).document_mask(index)
    with pytest.raises(DataError, match="look alike: Bridge"):
        (Concept.keywords("brigde") & GOLD).token_mask(index)
    with pytest.raises(UnknownNameError, match="unknown label 'topik'; did you mean 'topic'"):
        (GOLD | Concept.labels(topik="x")).token_mask(index)


def concepts() -> st.SearchStrategy[Concept]:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(Concept.keywords)
    patterns = st.sampled_from(["bridges?", "a/b", "[/]x|the", r"\\/|o", "é.", r"\bred\b"])
    regex = st.builds(
        lambda p, a, i: Concept.regex(p, after=a, ignore_case=i), patterns, st.integers(0, 2), st.booleans()
    )
    label = st.sampled_from([BRIDGES, STORY, Concept.labels(year=[1, 3]), Concept.labels(topic="food", style="story")])
    return st.recursive(
        words | regex | label,
        lambda inner: (
            st.builds(lambda a, b: a & b, inner, inner)
            | st.builds(lambda a, b: a | b, inner, inner)
            | inner.map(lambda a: ~a)
        ),
        max_leaves=6,
    )


@settings(max_examples=150, deadline=None)
@given(concepts())
def test_what_is_written_is_read_as_the_same(concept: Concept) -> None:
    index = ArrayIndex(TEXTS, LABELS, length=32)
    again = Concept.parse(concept.written)
    assert again.written == concept.written
    assert (again.flat_mask(index) == concept.flat_mask(index)).all()
    assert (concept_masks.documents_with(again, index) == concept_masks.documents_with(concept, index)).all()
    assert pickle.loads(pickle.dumps(concept)) == concept and len({concept, again}) <= 2
    inside = np.asarray(index.windows.documents).reshape(-1) >= 0
    assert ((~concept).flat_mask(index) == (inside & ~concept.flat_mask(index))).all()


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("bridge OR  golden gate", 'bridge or "golden gate"'),
        ("“golden gate”, c++, بسم 🌉", '"golden gate", c++, "بسم 🌉"'),
        ("not not (a)", "not not a"),
        ("a and b or c and not d", "(a and b) or (c and not d)"),
        ("a and (b or c)", "a and (b or c)"),
        ("/a\\/b/c+3", "/a\\/b/c+3"),
        ("and/or", "and/or"),
        ('"and" or year:2 or year:"2" or ok:true', '"and" or year:2 or year:"2" or ok:true'),
        ('"the topic":"<b>x</b>"|y', '"the topic":<b>x</b>|y'),
        ('say "a \\"b\\""'[4:], '"a \\"b\\""'),
    ],
)
def test_the_grammar(typed: str, written: str) -> None:
    concept = Concept.parse(typed)
    assert concept.written.replace("((", "(") in (written, written.replace("(", "").replace(")", ""))
    assert Concept.parse(concept.written).written == concept.written


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("  ", "no concept is written"),
        ("bridge or", 'something is missing after "or" at letter 10'),
        ("bridge and and", 'something is missing after "and" at letter 12'),
        ("(bridge", r"a \( without its \) at letter 1"),
        ("bridge)", r"a \) without its \( at letter 7"),
        ('"bridge', "a quotation mark without the second"),
        ("/bridge", "a / without the one that ends the pattern"),
        ("/(a/", "not a regular expression"),
        ("topic:", "a value of the label topic is missing"),
        ("a topic:b", "and, or or a comma is missing at letter 3"),
        ('a "b"', "and, or or a comma is missing at letter 3"),
        ("a, or b", 'a word is missing after ","'),
        ("{x}", "unknown given concept 'x'"),
        ("(" * 60 + "a", "more than 50 parentheses"),
        ("a " * 6000, "the concept is too long"),
        (3, "a written concept is no text"),
    ],
)
def test_what_cannot_be_read_says_where(typed: Any, says: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=says):
        Concept.parse(typed)


def test_names_reprs_and_hashes() -> None:
    both = (GOLD | BRIDGE) & ~STORY
    assert both.name == "(golden or bridge) and not style=story"
    assert repr(both) == (
        "Concept '(golden or bridge) and not style=story': tokens (in text that matches one of the words golden (any "
        "case) or in text that matches one of the words bridge (any case)) and not of documents whose style is 'story'"
    )
    assert both == (GOLD | BRIDGE) & ~STORY and hash(both) == hash((GOLD | BRIDGE) & ~STORY)
    assert len((GOLD | BRIDGE | FOG).parts) == 3
    many = reduce(lambda a, b: a | b, [Concept.keywords(f"w{i}") for i in range(3000)])
    assert len(many.parts) == 3000 and len(many.name) <= 120 and hash(many)
    assert Concept.parse("{g} or fog", given={"g": GOLD & STORY}).parts[0] == GOLD & STORY
    with pytest.raises(ConfigError, match="neither true nor false"):
        bool(GOLD)
    with pytest.raises(TypeError):
        GOLD & "fog"  # type: ignore[operator]


def test_texts() -> None:
    assert (GOLD | Concept.regex("gate")).spans("Golden Gate") == [(0, 6), (7, 11)]
    assert (Concept.regex("olden") & Concept.regex("den g")).spans("golden gate") == [(3, 6)]
    assert (~GOLD).spans("a golden b") == [(0, 2), (8, 10)]
    assert (GOLD & FOG).present("golden fog") and not (GOLD & ~FOG).present("golden fog")
    with pytest.raises(MismatchError, match="cannot be found in a text"):
        (GOLD & STORY).present("golden")


def test_marks_count_and_are_taken_back(index: ArrayIndex) -> None:
    at = {s: int(p) for p, s in zip(index.kept, index.token_strings(index.kept), strict=True)}
    marked = BRIDGE.marked(index, {at[" fog"]: True, divmod(at[" BRIDGE"], 32): False})
    assert shown(index, marked) == [" Bridge", " fog", " Bridge"]
    assert marked.document_mask(index).tolist() == [True, True, False, True]
    assert marked.marked(index, {at[" fog"]: None}).marked(index, {at[" BRIDGE"]: None}) == BRIDGE
    assert (
        marked.unmarked == BRIDGE
        and len(marked.marks) == 2
        and "of 2 marked by hand 1 counts, 1 does not" in repr(marked)
    )
    assert pickle.loads(pickle.dumps(marked)) == marked and hash(marked)
    lost = BRIDGE.marked(
        index, {p: False for p, s in zip(index.kept, index.token_strings(index.kept), strict=True) if s == " Bridge"}
    )
    assert lost.document_mask(index).tolist() == [False, False, False, True], "the first document has no other"
    by_document = marked.marked(index, documents={2: True, 0: False})
    assert by_document.document_mask(index).tolist() == [False, True, True, True]
    assert shown(index, by_document) == shown(index, marked), "a marked document is no token"
    assert shown(index, marked & ~STORY) == [" Bridge"]
    assert shown(index, Concept.examples(index, {at[" fog"]: True}) | GOLD) == [" Golden", " golden", " fog"]
    for wrong, says in (
        ({0: True}, "no token of a document"),
        ({5: 1}, "neither True nor False"),
        ({"x": True}, "not a place"),
    ):
        with pytest.raises(ConfigError, match=says):
            BRIDGE.marked(index, wrong)
    with pytest.raises(ConfigError, match="no such document"):
        BRIDGE.marked(index, documents={99: True})


def test_marks_stay_with_the_text(index: ArrayIndex) -> None:
    fog = int(index.kept[np.flatnonzero(np.array(index.token_strings(index.kept)) == " fog")[0]])
    marked = GOLD.marked(index, {fog: True}, documents={3: True})
    again = ArrayIndex(TEXTS, LABELS, length=32)
    assert shown(again, marked) == [" Golden", " golden", " fog"]
    assert marked.document_mask(again).tolist() == [True, True, False, True]
    shorter = ArrayIndex([TEXTS[0], *TEXTS], length=9)
    shorter.windows.tokens[:] = shorter.windows.tokens  # other windows, the first text twice, the same ids
    assert shown(shorter, marked)[-1] == " fog"
    with pytest.raises(MismatchError, match="1 of the 2 documents that the concept's marks are in"):
        marked.token_mask(ArrayIndex(TEXTS[:3], length=32))


def test_masks_are_remembered_and_forgotten() -> None:
    index = ArrayIndex(TEXTS, LABELS, length=32)
    first = Concept.regex("bridge").flat_mask(index)
    assert Concept.regex("bridge").flat_mask(index) is first
    for n in range(concept_masks.MAX_MASKS + 5):
        Concept.regex(f"bridge{n}").flat_mask(index)
    assert len(concept_masks._MASKS[index]) == concept_masks.MAX_MASKS


def test_scores_of_composed_and_marked_concepts() -> None:
    rng = np.random.default_rng(0)
    texts = [f"{i} " + " ".join(rng.choice(["gold", "fog", "bay", "cat"], 3)) for i in range(40)]
    labels = {"style": ["a", "b"] * 20}
    index = ArrayIndex(texts, labels, acts=lambda t, d: np.stack([t == " gold", (t == " gold") & (d % 2 == 0)], 1))
    gold = Concept.keywords("gold")
    in_a = gold & Concept.labels(style="a")
    table = rank_features(index, in_a, n=2, n_permutations=0)
    assert table.index.tolist() == [1, 0] and table.average_precision.iloc[0] > 0.9
    split = split_documents(index, in_a, "token")
    flat = np.asarray(index.windows.documents).reshape(-1)
    assert split.holds.tolist() == np.isin(np.arange(40), flat[in_a.flat_mask(index)]).tolist()
    neither = split_documents(index, ~gold & ~Concept.keywords("fog"), "document")
    assert neither.holds.tolist() == [("gold" not in t and "fog" not in t) for t in texts]
    wrong = index.kept[np.array(index.token_strings(index.kept)) == " fog"][:3]
    marked = in_a.marked(index, dict.fromkeys(wrong.tolist(), True))
    result = specificity(index, 1, marked, documents="all", n_permutations=0)
    assert result.n_positive == specificity(index, 1, in_a, documents="all", n_permutations=0).n_positive + 3
