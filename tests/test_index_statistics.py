"""Statistics, contexts and directions against the slowest obvious computation, on random sparse activations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from saekit.index.contexts import _scramble, endings
from saekit.index.directions import logit_effects, neighbours
from saekit.index.feature_block import N_HISTOGRAM_BINS, Tokens
from saekit.index.records import N_ACTIVATION_BINS
from saekit.index.sparse import Sparse
from saekit.index.summary import summarise
from saekit.models.text_matching import join_tokens, token_bytes

N_FEATURES, N_WINDOWS, LENGTH = 23, 40, 16


def random_acts(seed: int = 0) -> tuple[np.ndarray, Tokens]:
    """Dense activations [n_tokens, N_FEATURES] with silent, rare, dense and tied features, and where the tokens lie."""
    rng = np.random.default_rng(seed)
    position = np.sort(rng.choice(N_WINDOWS * LENGTH, 400, replace=False)).astype(np.int64)
    document = (position // LENGTH // 3).astype(np.int32)
    document[rng.random(400) < 0.05] = -1
    fraction = rng.uniform(0.01, 0.4, N_FEATURES)
    dense = np.where(rng.random((400, N_FEATURES)) < fraction, rng.gamma(2.0, 1.0, (400, N_FEATURES)), 0).astype(
        np.float32
    )
    dense[:, 4] = 0
    dense[:, 9] = 1.5  # always on, all equal
    dense[:, 11] = np.round(dense[:, 11])  # many ties
    dense[:, 12] = 0
    dense[77, 12] = 3.0
    ending = rng.integers(0, 60, 400).astype(np.uint64) << np.uint64(50)
    return dense, Tokens(position, document, ending, LENGTH)


def sparse_columns(dense: np.ndarray) -> Sparse:
    token, feature = np.nonzero(dense)
    start = np.concatenate([[0], np.cumsum((dense != 0).sum(1))])
    return Sparse(start, feature.astype(np.int32), dense[token, feature]).transpose(dense.shape[1])


@pytest.fixture(scope="module")
def case() -> tuple:
    dense, tokens = random_acts()
    return dense, tokens, summarise(sparse_columns(dense), tokens, n_top=6, n_per_bin=2, seed=3, block_firings=150)


def test_transpose_is_the_dense_transpose():
    dense, _ = random_acts(1)
    columns = sparse_columns(dense)
    for i in range(N_FEATURES):
        here = slice(columns.start[i], columns.start[i + 1])
        assert columns.column[here].tolist() == np.flatnonzero(dense[:, i]).tolist()
        assert columns.value[here].tolist() == dense[dense[:, i] != 0, i].tolist()


def test_statistics_match_the_dense_ones(case):
    dense, tokens, (stats, _, _) = case
    for i in range(N_FEATURES):
        on = dense[:, i] != 0
        value = dense[on, i].astype(np.float64)
        row = stats.loc[i]
        assert row["n_firings"] == on.sum() and row["density"] == on.mean() and row["silent"] == (not on.any())
        assert row["n_documents"] == len(set(tokens.document[on].tolist()) - {-1})
        assert row["max"] == (value.max() if on.any() else 0)
        assert row["mean"] == pytest.approx(value.mean() if on.any() else 0, rel=1e-6)
        assert row["std"] == pytest.approx(value.std() if on.any() else 0, rel=1e-5, abs=1e-7)
    assert stats["silent"].sum() == 1


def test_documents_are_counted_in_any_order():
    dense, tokens = random_acts(2)
    shuffled = np.random.default_rng(0).permutation(tokens.document)
    stats = summarise(sparse_columns(dense), tokens._replace(document=shuffled), n_top=1, n_per_bin=1).stats
    for i in range(N_FEATURES):
        assert stats["n_documents"][i] == len(set(shuffled[dense[:, i] != 0].tolist()) - {-1})


def test_histogram_counts_each_bin(case):
    dense, _, (_, histogram, _) = case
    for i in range(N_FEATURES):
        top = float(dense[:, i].max())
        value = dense[dense[:, i] != 0, i].astype(np.float64)
        edges = top * np.arange(N_HISTOGRAM_BINS + 1) / N_HISTOGRAM_BINS
        expected = [((value > low) & (value <= high)).sum() for low, high in pairwise(edges)]
        assert histogram[i].tolist() == expected
    assert histogram.sum() == (dense != 0).sum()


def test_top_contexts_are_the_strongest_of_each_window_in_order(case):
    dense, tokens, (_, _, contexts) = case
    for i in range(N_FEATURES):
        best: dict[int, tuple[float, int]] = {}
        for position, value in zip(tokens.position.tolist(), dense[:, i].tolist(), strict=True):
            if value and (position // LENGTH not in best or value > best[position // LENGTH][0]):
                best[position // LENGTH] = (value, position)
        expected, endings_seen = [], set()
        for value, position in sorted(best.values(), key=lambda pair: (-pair[0], pair[1])):
            ending = int(tokens.ending[np.searchsorted(tokens.position, position)])
            if ending not in endings_seen:
                expected.append((value, position))
            endings_seen.add(ending)
        expected = expected[:6]
        got = contexts[(contexts["feature"] == i) & (contexts["bin"] == -1)]
        assert list(zip(got["activation"].tolist(), got["position"].tolist(), strict=True)) == expected
        assert got["rank"].tolist() == list(range(len(expected)))


def test_sampled_contexts_lie_in_their_bin_one_a_window_and_as_many_as_there_are(case):
    dense, tokens, (_, _, contexts) = case
    at = {int(p): n for n, p in enumerate(tokens.position)}
    for i in range(N_FEATURES):
        top = float(dense[:, i].max())
        for k in range(N_ACTIVATION_BINS):
            low, high = top * k / N_ACTIVATION_BINS, top * (k + 1) / N_ACTIVATION_BINS
            inside = np.flatnonzero((dense[:, i] > low) & (dense[:, i] <= high))
            windows = set((tokens.position[inside] // LENGTH).tolist())
            got = contexts[(contexts["feature"] == i) & (contexts["bin"] == k)]
            rows = [at[p] for p in got["position"]]
            assert set(rows) <= set(inside.tolist())
            assert len(got) == min(2, len(windows)) == len(set(got["position"] // LENGTH))
            assert got["activation"].tolist() == dense[rows, i].tolist()


def test_sampled_contexts_are_those_with_the_lowest_draws(case):
    dense, tokens, (_, _, contexts) = case
    for i in range(N_FEATURES):
        row = np.flatnonzero(dense[:, i])
        draw = _scramble(np.array([i << 32 | int(r) for r in row], np.uint64), seed=3)
        activation_bin = (
            np.ceil(dense[row, i].astype(np.float64) / dense[:, i].max() * N_ACTIVATION_BINS).astype(int) - 1
        )
        for k in range(N_ACTIVATION_BINS):
            windows: dict[int, int] = {}
            for n in sorted(np.flatnonzero(activation_bin == k), key=lambda n: draw[n]):
                windows.setdefault(int(tokens.position[row[n]]) // LENGTH, int(tokens.position[row[n]]))
            got = contexts[(contexts["feature"] == i) & (contexts["bin"] == k)]
            assert got["position"].tolist() == list(windows.values())[:2]


def test_block_size_changes_nothing_and_seed_changes_the_sample():
    dense, tokens = random_acts()
    columns = sparse_columns(dense)

    def run(seed: int, block: int):
        return summarise(columns, tokens, n_top=6, n_per_bin=2, seed=seed, block_firings=block)

    one, other, again = run(3, 10**9), run(3, 1), run(4, 1)
    assert one.contexts.equals(other.contexts) and one.stats.equals(other.stats)
    assert np.array_equal(one.histogram, other.histogram)
    sampled = one.contexts[one.contexts["bin"] >= 0]["position"].tolist()
    assert sampled != again.contexts[again.contexts["bin"] >= 0]["position"].tolist()


def test_contexts_of_bursts_are_found_beyond_the_likely_ones():
    """Most firings, and the strongest, lie in one long window; contexts come from the others all the same."""
    length, n = 500, 520
    value = np.full(n, 2.0, np.float32)
    value[:400] = 8 + np.arange(400) / 100  # all of window 0's
    value[500:] = 1 + np.arange(20) / 40  # one token of each of 20 windows, in the lowest bins
    position = np.concatenate([np.arange(500), length * np.arange(1, 21)])
    rest = np.random.default_rng(0).permutation(n).astype(np.uint64)
    tokens = Tokens(position, np.zeros(n, np.int32), rest, length)
    contexts = summarise(sparse_columns(value[:, None]), tokens, n_top=6, n_per_bin=2).contexts
    top = contexts[contexts["bin"] == -1]
    assert top["position"].tolist() == [399, *(length * np.arange(20, 15, -1))]
    assert (contexts.groupby("bin").size().loc[[1, 9]] == [2, 1]).all()
    assert set(contexts[contexts["bin"] == 1]["position"] // length) & set(range(1, 21))


def test_one_firing_elsewhere_is_sampled_beside_a_burst():
    length, n = 500, 401
    position = np.append(np.arange(400), length)
    tokens = Tokens(position, np.zeros(n, np.int32), np.arange(n, dtype=np.uint64), length)
    columns = sparse_columns(np.ones((n, 1), np.float32))
    for seed in range(5):
        contexts = summarise(columns, tokens, n_top=1, n_per_bin=2, seed=seed).contexts
        assert set(contexts[contexts["bin"] == 9]["position"] // length) == {0, 1}


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_change_nothing_and_progress_is_reported(case, n_threads):
    dense, tokens, (stats, histogram, contexts) = case
    seen: list[int] = []
    found = summarise(
        sparse_columns(dense),
        tokens,
        n_top=6,
        n_per_bin=2,
        seed=3,
        block_firings=200,
        n_threads=n_threads,
        report=seen.append,
    )
    pd.testing.assert_frame_equal(found.stats, stats, check_exact=True)
    pd.testing.assert_frame_equal(found.contexts, contexts, check_exact=True)
    assert np.array_equal(found.histogram, histogram) and seen == sorted(seen) and seen[-1] == N_FEATURES


@pytest.mark.slow
def test_every_firing_of_a_bin_is_equally_likely_to_be_sampled():
    n = 400
    dense = np.ones((n, 1), np.float32)  # one firing a window, all in the top bin
    tokens = Tokens(np.arange(n, dtype=np.int64) * 4, np.zeros(n, np.int32), np.zeros(n, np.uint64), 4)
    columns, drawn = sparse_columns(dense), np.zeros(n)
    for seed in range(300):
        contexts = summarise(columns, tokens, n_top=1, n_per_bin=20, seed=seed).contexts
        drawn[contexts[contexts["bin"] == 9]["position"] // 4] += 1
    assert drawn.sum() == 300 * 20
    assert drawn.std() == pytest.approx(np.sqrt(300 * 0.05 * 0.95), rel=0.2)  # binomial


def test_endings_are_equal_where_the_last_tokens_are():
    tokens = np.random.default_rng(0).integers(0, 2, (30, 9))
    got = endings(tokens, n=4)
    seen: dict[tuple, int] = {}
    for row in range(30):
        for pos in range(9):
            key = tuple(tokens[row, max(0, pos - 3) : pos + 1])
            assert seen.setdefault(key, got[row, pos]) == got[row, pos]
    assert len(set(seen.values())) == len(seen) == 2 + 4 + 8 + 16


def test_logit_effects_match_the_dense_product():
    generator = torch.Generator().manual_seed(0)
    W_dec, U = torch.randn(19, 8, generator=generator), torch.randn(8, 50, generator=generator)
    promoted, suppressed = logit_effects(W_dec, U, n=5, block=4)
    effect = W_dec @ U
    effect = effect - effect.mean(1, keepdim=True)
    order = effect.argsort(1, descending=True)
    assert torch.equal(promoted.column, order[:, :5]) and torch.equal(suppressed.column, order.flip(1)[:, :5])
    torch.testing.assert_close(promoted.value, effect.gather(1, order[:, :5]))
    torch.testing.assert_close(suppressed.value, effect.gather(1, order.flip(1)[:, :5]))


def test_neighbours_match_pairwise_cosines():
    W_dec = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    found = neighbours(W_dec, n=4, block=7)
    cosine = torch.nn.functional.cosine_similarity(W_dec[:, None], W_dec[None], dim=-1)
    cosine.fill_diagonal_(-2)
    value, index = cosine.topk(4)
    assert torch.equal(found.column, index)
    torch.testing.assert_close(found.value, value)


def test_text_of_tokens_that_split_characters():
    whole = "naïve 🌉 Brücke ’s"
    raw = whole.encode()
    pieces = [raw[i : i + 3] for i in range(0, len(raw), 3)]
    text, spans = join_tokens(pieces)
    assert text == whole
    for n, (start, end) in enumerate(spans.tolist()):
        first, last = n * 3, n * 3 + len(pieces[n])
        covered = [
            k for k in range(len(whole)) if len(whole[:k].encode()) < last and len(whole[: k + 1].encode()) > first
        ]
        assert list(range(start, end)) == covered
    assert b"".join(token_bytes(["a", "<0xE2><0x80>", "<0x99>s"])).decode() == "a’s"
