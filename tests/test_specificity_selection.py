"""Choosing a feature and reporting it: the split of documents, and the best of all features under permuted labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from saekit.specificity import permutation, rank_features, specificity
from saekit.specificity.concepts import Concept
from saekit.specificity.permutation import permutation_test
from saekit.specificity.split import content_of, split_documents
from saekit.statistics import permuted_labels

from .array_index import ArrayIndex

GATE = Concept.regex("gate")
WORDS = ("fog", "bay", "city", "rain", "sea", "hill", "boat", "sun")


def texts_of(n: int, every: int = 4, seed: int = 0) -> list[str]:
    """Different texts, one in `every` with a gate."""
    rng = np.random.default_rng(seed)
    return [f"{'a gate' if i % every == 0 else 'a wall'} {' '.join(rng.choice(WORDS, 8))} {i}" for i in range(n)]


def noise(strings: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Features: 0 silent, 1 the gate, then a hundred that know nothing, of many densities and with ties."""
    rng = np.random.default_rng(0)
    out = np.zeros((len(strings), 102), dtype=np.float32)
    out[:, 1] = np.char.endswith(strings.astype(str), "gate") * (1 + rng.random(len(strings)))
    for f in range(2, 102):
        fires = rng.random(len(strings)) < rng.choice([0.002, 0.02, 0.2])
        out[:, f] = fires * (rng.integers(1, 4, len(strings)) if f % 2 else rng.random(len(strings)))
    return out


@pytest.fixture(scope="module")
def index() -> ArrayIndex:
    return ArrayIndex(texts_of(80), acts=noise)


# ---- the split ------------------------------------------------------------------------------------------------------


def sides(texts: list[str], concept: Concept = GATE) -> dict[str, bool]:
    """Whether each text is among those that choose. The first document makes tokens the same in any order."""
    index = ArrayIndex([f"a gate wall {' '.join(WORDS)} 0 1 2 3 4 5 6 7 8 9", *texts])
    return dict(zip(texts, split_documents(index, concept).choose[1:].tolist(), strict=True))


def test_documents_with_the_concept_and_without_it_are_halved(index: ArrayIndex) -> None:
    split = split_documents(index, GATE)
    assert (split.choose ^ split.report).all() and split.possible and not split.few
    for stratum, n in ((split.holds, 20), (~split.holds, 60)):
        assert (split.choose & stratum).sum() == (split.report & stratum).sum() == n // 2


def test_the_split_is_of_texts_and_not_of_places() -> None:
    texts = texts_of(40)
    shuffled = [texts[i] for i in np.random.default_rng(1).permutation(40)]
    assert sides(texts) == sides(shuffled)
    # Other documents move the middle only: of those on either side of it, all but a few stay.
    more = sides([*texts, *texts_of(8, seed=9)[1:3]])
    assert sum(more[t] != side for t, side in sides(texts).items()) <= 1
    # The first hashes are frozen: another release chooses on the same documents.
    assert content_of(ArrayIndex(["a gate", "a gate", "a wall"])).tolist() == [*[FROZEN[0]] * 2, FROZEN[1]]


FROZEN = (5762654058077428971, 13615575809096485651)


def test_copies_are_on_one_side_and_one_document(index: ArrayIndex) -> None:
    texts = texts_of(24, every=3)
    index = ArrayIndex([*texts, *texts[:9], *texts[:3]], {"odd": [i == 24 for i in range(36)]}, acts=noise)
    for concept in (GATE, Concept.labels(odd=True)):  # the second is of one copy only
        split = split_documents(index, concept)
        for copies in ([i, 24 + i] for i in range(9)):
            assert len(set(split.choose[copies])) == 1
    result = specificity(index, 1, GATE, documents="all", n_permutations=19)
    assert result.n_positive_documents == result.auroc.n_units == 8 and result.n_documents == 24
    assert "12 of the documents are copies of another" in " ".join(result.notes)
    assert (result.test.n_documents, result.test.n_positive) == (24, 8)
    assert result.bins.n_documents.max() <= 8


def test_few_documents_have_no_interval_and_say_so() -> None:
    index = ArrayIndex(texts_of(30, every=6), acts=noise)
    table = rank_features(index, GATE, n_permutations=19)
    assert table.index[0] == 1 and table.loc[1, "auroc"] == 1 and math.isnan(table.loc[1, "auroc_low"])
    assert "the concept is in 5 documents only: at least 10 are needed" in table.attrs["few"]
    result = specificity(index, 1, GATE, n_permutations=0)
    assert result.auroc.reason == "no interval: 3 documents, at least 5 are needed"
    assert result.notes[0] == table.attrs["few"] and " none " in str(result)


def test_a_concept_of_one_text_is_not_split() -> None:
    index = ArrayIndex(texts_of(30, every=40), acts=noise)
    table = rank_features(index, GATE, min_firings=1, n_permutations=19)
    assert table.index[0] == 1 and table[["auroc", "average_precision", "recall"]].isna().all(axis=None)
    result = specificity(index, 1, GATE, n_permutations=0)
    assert result.documents == "all" and result.n_documents == 30
    for words in (result.protocol, table.attrs["documents"]):
        assert "a single text and cannot be split" in words and "looks better than it is" in words
    assert str(result).count("cannot be split") == 1


def test_what_was_scored_is_said(index: ArrayIndex) -> None:
    for documents, words in (
        ("report", "on 40 of 80 documents, none of which rank_features chooses on"),
        ("choose", "on the 40 of 80 documents that rank_features chooses on: what it chose looks better here"),
        ("all", "on all 80 documents: right for a feature fixed in advance, too good for one chosen on them"),
    ):
        result = specificity(index, 1, GATE, documents=documents, n_permutations=0)  # type: ignore[arg-type]
        assert words in str(result) and result.documents == documents
    split = split_documents(index, GATE)
    halves = [specificity(index, 3, GATE, documents=d, n_permutations=0) for d in ("report", "choose")]  # type: ignore[arg-type]
    for result, mask in zip(halves, (split.report, split.choose), strict=True):
        assert {e.context.document for e in result.evidence} <= set(np.flatnonzero(mask))


# ---- the best of all features ---------------------------------------------------------------------------------------


def strongest(index: ArrayIndex) -> np.ndarray:
    documents = index.windows.documents.reshape(-1).numpy()[index.kept]
    return np.stack([index.acts[documents == d].max(0) for d in range(index.n_documents)])


@pytest.mark.slow
def test_the_test_is_what_a_slow_one_gives(index: ArrayIndex) -> None:
    test = permutation_test(index, GATE, n_permutations=9, seed=3)
    scores, holds = strongest(index), GATE.document_mask(index)
    labels = np.concatenate(list(permuted_labels(holds, 9, np.random.default_rng(3)))).astype(bool)
    live = [f for f in range(index.d_sae) if scores[:, f].any()]
    assert test.n_features == len(live)
    best = [max(roc_auc_score(drawn, scores[:, f]) for f in live) for drawn in labels]
    assert test.best == pytest.approx(best)
    for f in live:
        observed = roc_auc_score(holds, scores[:, f])
        assert test.auroc[f] == pytest.approx(observed)
        assert test.p_values[f] == (1 + sum(b >= observed - 1e-12 for b in best)) / 10
    assert math.isnan(test.auroc[0]) and math.isnan(test.p_values[0])
    assert test.p_any == np.nanmin(test.p_values) == test.p_values[1] == 1 / 10


def test_the_test_does_not_depend_on_blocks(index: ArrayIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = permutation_test(index, GATE, n_permutations=20)
    monkeypatch.setattr(permutation, "BLOCK_CELLS", 21 * 7)
    permutation._TESTS.clear()
    again = permutation_test(index, GATE, n_permutations=20)
    assert again is not whole and np.array_equal(again.best, whole.best)
    assert np.array_equal(again.p_values, whole.p_values, equal_nan=True)
    assert permutation_test(index, GATE, n_permutations=20) is again


def test_words_claim_no_more_than_the_permutations_allow(index: ArrayIndex) -> None:
    perfect = specificity(index, 1, GATE, n_permutations=10)
    assert perfect.p_value == pytest.approx(1 / 11) and not perfect.specific
    assert "p ≤ 0.091, not specific at 0.05" in " ".join(str(perfect).split())
    assert specificity(index, 1, GATE, n_permutations=99).specific
    noisy = specificity(index, 5, GATE, n_permutations=99)
    assert not noisy.specific and f"p = {noisy.p_value:.3f}" in noisy.summary
    without = specificity(index, 1, GATE, n_permutations=0)
    assert not without.specific and "no p value: no permutation was asked for" in str(without)
    assert "p value" not in without.summary and " p " not in without.summary
    silent = specificity(index, 0, GATE, n_permutations=9)
    assert "no p value: feature 0 never fires" in str(silent) and not silent.specific


def test_a_concept_of_nearly_all_documents_has_no_p_value_and_says_why() -> None:
    index = ArrayIndex([f"a gate {t}" if i > 2 else t for i, t in enumerate(texts_of(30, every=99)[1:])], acts=noise)
    table = rank_features(index, GATE, n_permutations=9)
    assert table["p_value"].isna().all() and math.isnan(table.attrs["p_any"])
    assert table.attrs["p_reason"] == "only 3 of 29 documents are without the concept, and the test compares documents"
    assert table.loc[1, "auroc"] == 1.0  # by token there is plenty to tell it from


@pytest.mark.slow
def test_random_labels_are_rarely_called_specific() -> None:
    """The exact rate of "some feature fires for this" is 4 in 100 for 99 permutations; 3 standard deviations above."""
    rng = np.random.default_rng(7)
    n, draws, called, reported, chosen = 40, 200, 0, [], []
    labels = rng.permuted(np.tile(np.arange(n) < 10, (draws, 1)), axis=1)
    index = ArrayIndex(texts_of(n, every=99), {f"l{i}": row.tolist() for i, row in enumerate(labels)}, acts=noise)
    for i in range(draws):
        concept = Concept.labels({f"l{i}": True})
        table = rank_features(index, concept, unit="document", by="auroc", n=1, n_permutations=99, seed=i)
        called += table.attrs["p_any"] < 0.05
        reported.append(table["auroc"].iloc[0])
        chosen.append(table["choose_auroc"].iloc[0])
    assert called / draws <= 0.04 + 3 * math.sqrt(0.04 * 0.96 / draws)
    assert np.mean(reported) == pytest.approx(0.5, abs=0.03) and np.mean(chosen) > 0.75


def test_of_features_that_separate_perfectly_the_one_with_the_widest_gap_is_first() -> None:
    concept = Concept.regex("bridge")
    texts = [f"text {i} has {'a bridge' if i % 2 else 'no river'} in it" for i in range(40)]
    match = concept.token_mask(ArrayIndex(texts, length=32, acts=lambda tokens, _: np.ones((len(tokens), 1))))[:, None]
    acts = np.where(match, [[2.0, 5.0, 9.0, 4.5]], [[0.0, 1.0, 6.0, 0.0]]).astype(np.float32)
    table = rank_features(ArrayIndex(texts, length=32, acts=acts), concept, min_firings=1, n_permutations=0)
    assert list(table.index) == [3, 1, 2, 0] and (table.choose_average_precision > 1 - 1e-9).all()


def test_documents_that_all_agree_leave_room_for_one_that_does_not() -> None:
    """A feature on one of the two tokens of the concept in each of nine documents has AUROC 0.75, but not exactly."""
    texts = (
        ["the Golden Gate is red"] * 1 + [f"a Golden Gate {w}" for w in "abcdefgh"] + [f"the {w}" for w in "ijklmnop"]
    )

    def acts(tokens: np.ndarray, documents: np.ndarray) -> np.ndarray:
        return np.stack([(tokens == " Gate") * 2.0, (tokens == "x") * 1.0], axis=1)

    index = ArrayIndex(texts, acts=acts)
    result = specificity(index, 0, Concept.regex("Golden Gate"), documents="all", n_permutations=0)
    share = 1 - 0.025 ** (1 / 9)
    assert result.recall.value == 0.5 and result.auroc.value == 0.75
    assert (result.recall.low, result.recall.high) == pytest.approx((0.5 - 0.5 * share, 0.5 + 0.5 * share))
    assert (result.auroc.low, result.auroc.high) == pytest.approx((0.75 - 0.25 * share, 0.75 + 0.25 * share))


def test_below_five_documents_no_measure_has_an_end_of_an_interval() -> None:
    texts = [f"a Golden Gate {w}" for w in "abc"] + [f"the {w}" for w in "ijklmnop"]

    def acts(tokens: np.ndarray, documents: np.ndarray) -> np.ndarray:
        return np.stack([np.isin(tokens, [" Golden", " Gate"]) * 2.0, (tokens == "x") * 1.0], axis=1)

    found = specificity(
        ArrayIndex(texts, acts=acts), 0, Concept.regex("Golden Gate"), documents="all", n_permutations=0
    )
    for measure in (found.auroc, found.recall, found.average_precision, found.precision, found.f1):
        assert measure.value == 1 and measure.n_units == 3 and math.isnan(measure.low) and math.isnan(measure.high)
