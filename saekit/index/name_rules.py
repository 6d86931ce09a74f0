"""Rules by which features are named, and which firings a rule holds for.

A rule is a few words, of which a feature's firings are on one or beside one. Words are compared by keys: numbers that
forms of a word share. What is counted of all features at once is a sparse matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import sparse

from ..corpus import Windows
from ..corpus.document_halves import content_hashes, lower_half
from .sparse import Sparse
from .text import TextRun
from .words import Words, words_of

WORD, PIECE, AFTER, BEFORE, NUMBERS, CAPITALS = range(6)
BY = ("word", "piece", "after", "before", "numbers", "capitalised")
"""What a rule is about: words or their pieces by their text, words beside others, or words of a kind."""
N_WORDS = 3
"""Words of a rule at most."""
N_LEAD = 2
"""Words that precede them at most."""
NONE = -1
"""The key of no word."""
ABSENT = -2
"""The key of a word that is not in the text."""
REACH = 4
"""Words before and after a firing that are beside it."""


class Rule(NamedTuple):
    """By which words each of some features is named."""

    by: Int[np.ndarray, " n"]
    """One of WORD, PIECE, AFTER and BEFORE."""
    keys: Int[np.ndarray, "n words"]
    """Keys of the words, -1 for none."""
    lead: Int[np.ndarray, "n lead"]
    """Keys of the words that precede, the nearest first; -1 for any."""


class RowFirings(NamedTuple):
    """The firings of some features."""

    row: Int[np.ndarray, " n"]
    """Which of the features, ascending."""
    token: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    n_rows: int

    @classmethod
    def of(cls, columns: Sparse, first: int, last: int) -> RowFirings:
        """Those of the features from `first` to before `last`."""
        here = slice(int(columns.start[first]), int(columns.start[last]))
        row = np.repeat(np.arange(last - first, dtype=np.int32), np.diff(columns.start[first : last + 1]))
        return cls(row, columns.column[here], np.abs(columns.value[here].astype(np.float64)), last - first)

    def select(self, which: np.ndarray) -> RowFirings:
        """Some of the firings, of the same features."""
        return RowFirings(self.row[which], self.token[which], self.value[which], self.n_rows)

    def total(self, weight: np.ndarray | None = None) -> Float[np.ndarray, " n_rows"]:
        """The activation of each feature, each firing counting `weight` times."""
        value = self.value if weight is None else self.value * weight
        return np.bincount(self.row, value, self.n_rows)

    def by_key(self, keys: sparse.csr_matrix, weight: np.ndarray | None = None) -> sparse.csr_matrix:
        """The activation of each feature on each key; `keys` has those of each token."""
        value = self.value if weight is None else self.value * weight
        start = np.searchsorted(self.row, np.arange(self.n_rows + 1))
        return sparse.csr_matrix((value, self.token, start), shape=(self.n_rows, keys.shape[0])) @ keys


class Prefixes(NamedTuple):
    """What precedes words by some distance, and how often: in the documents that names are made on, and in all."""

    before: Int[np.ndarray, " n_tokens"]
    """The key of the word that precedes each token's."""
    pairs: Int[np.ndarray, " n_pairs"]
    """What occurs, as level * n_keys + key; ascending. The level of a word is its key, of a phrase its place here."""
    n_of_pair: Float[np.ndarray, "2 n_pairs"]
    n_of_level: Float[np.ndarray, "2 n_levels"]
    level: Int[np.ndarray, " n_tokens"]
    """Of each token's phrase."""

    def pair_of(self, levels: np.ndarray, before: np.ndarray, n_keys: int) -> Int[np.ndarray, "n words"]:
        """Where the phrase of each level [n, words] with a word before it [n] stands among the pairs, -1 for none."""
        wanted = levels * n_keys + before[:, None]
        at = np.searchsorted(self.pairs, wanted).clip(max=len(self.pairs) - 1)
        return np.where((levels >= 0) & (self.pairs[at] == wanted), at, NONE)


class NamedText:
    """The tokens of an index and the words around them, in the order of `FeatureIndex.kept`."""

    def __init__(self, words: Words, position: np.ndarray, document: np.ndarray, halves: np.ndarray) -> None:
        """`document` is the row of each token's document, -1 for none; `halves` marks those that names are made on."""
        self.words, self.n_keys = words, int(words.folded.max()) + 1
        self.form = {WORD: words.word[position], PIECE: words.piece[position]}
        self.key = {by: words.folded[form] for by, form in self.form.items()}
        self.of_kind = {kind: found[self.form[WORD]] for kind, found in kinds_of_words(words).items()}
        self.place, self.document_key = words.place[position], np.where(document < 0, len(halves), document)
        self.halves, self.made = halves, np.append(halves, True)[document]
        self._prefixes: dict[int, Prefixes] = {}
        self._around: dict[int, sparse.csr_matrix] = {}
        self._in_documents: dict[int, tuple[sparse.csr_matrix, np.ndarray]] = {}

    def one_each(self, key: np.ndarray, n_keys: int) -> sparse.csr_matrix:
        """A matrix of tokens by keys with a 1 for the key of each token."""
        start = np.arange(len(key) + 1)
        return sparse.csr_matrix((np.ones(len(key)), key, start), shape=(len(key), n_keys))

    def in_documents(self, by: int) -> tuple[sparse.csr_matrix, Int[np.ndarray, " n_pairs"]]:
        """A matrix of tokens by pairs of a key and a document, with a 1 for the token's, and the key of each pair."""
        if by not in self._in_documents:
            n = len(self.halves) + 1
            pairs, pair = np.unique(self.key[by].astype(np.int64) * n + self.document_key, return_inverse=True)
            self._in_documents[by] = self.one_each(pair, len(pairs)), pairs // n
        return self._in_documents[by]

    def around(self, direction: int) -> sparse.csr_matrix:
        """A matrix of tokens by keys with a 1 for each word within REACH before (-1) or after each token (1)."""
        if direction in self._around:
            return self._around[direction]
        near = [self.words.beside(self.place, direction * n) for n in range(1, REACH + 1)]
        keys = np.stack([np.where(form > 0, self.words.folded[form], -1) for form in near], axis=1)
        token = np.repeat(np.arange(len(keys)), REACH)[keys.ravel() >= 0]
        found = sparse.coo_matrix((np.ones(len(token)), (token, keys.ravel()[keys.ravel() >= 0])))
        found = found.tocsr()
        found.resize(len(keys), self.n_keys)
        found.data[:] = 1.0
        self._around[direction] = found
        return found

    def part_of(self, keys: sparse.csr_matrix) -> Float[np.ndarray, "2 n_keys"]:
        """The part of tokens that have each key, in the documents that names are made on and in all."""
        sums = [
            np.asarray(keys.T @ weight).ravel() / max(weight.sum(), 1)
            for weight in (self.made * 1.0, np.ones(len(self.made)))
        ]
        return np.stack(sums)

    def prefixes(self, n: int) -> Prefixes:
        """What precedes each token's word by n words, given that the words between are the same."""
        if n not in self._prefixes:
            level = self.key[WORD].astype(np.int64) if n == 1 else self.prefixes(n - 1).level
            n_levels = self.n_keys if n == 1 else len(self.prefixes(n - 1).pairs)
            before = self.words.folded[self.words.beside(self.place, -n)]
            pairs, inverse = np.unique(level * self.n_keys + before, return_inverse=True)
            n_of_pair, n_of_level = (
                np.stack([np.bincount(k, self.made, most), np.bincount(k, minlength=most)]).astype(float)
                for k, most in ((inverse, len(pairs)), (level, n_levels))
            )
            self._prefixes[n] = Prefixes(before, pairs, n_of_pair, n_of_level, inverse)
        return self._prefixes[n]


def named_text(windows: Windows, runs: Iterable[TextRun], position: Int[np.ndarray, " n_tokens"]) -> NamedText:
    """The tokens at some positions of windows, whose text is in stretches; names are made on one half of documents."""
    words = words_of(runs, windows.tokens.numel())
    document = np.asarray(windows.documents).reshape(-1)[position]
    rows = windows.labels.index.get_indexer(pd.Index(document))
    return NamedText(words, position, rows, lower_half(content_hashes(windows)))


def kinds_of_words(words: Words) -> dict[int, Bool[np.ndarray, " forms"]]:
    """Which forms are numbers, and which are written with a capital."""
    return {
        NUMBERS: np.array([form.isdigit() for form in words.forms]),
        CAPITALS: np.array([form[:1].isupper() for form in words.forms]),
    }


def occurrences(text: NamedText, rule: Rule) -> Float[np.ndarray, " n"]:
    """How many tokens of the documents that names are not made on a rule holds for; of words beside others at most."""
    found = np.zeros(len(rule.by))
    for by in np.unique(rule.by).tolist():
        rows, keys = rule.by == by, rule.keys[rule.by == by]
        if by in text.of_kind:
            found[rows] = np.count_nonzero(text.of_kind[by] & ~text.made)
            continue
        if by in (AFTER, BEFORE):
            count = text.around(1 if by == BEFORE else -1).T @ (~text.made * 1.0)
        else:
            count = np.bincount(text.key[by], ~text.made, text.n_keys)
        found[rows] = np.where(keys >= 0, count[keys], 0).sum(1)
    ids = rule.keys.astype(np.int64)
    for n in range(N_LEAD):
        led = np.flatnonzero(rule.lead[:, n] != NONE)
        if len(led):
            ids = text.prefixes(n + 1).pair_of(ids, rule.lead[:, n], text.n_keys)
            made, everywhere = np.where(ids[led] >= 0, text.prefixes(n + 1).n_of_pair[:, ids[led]], 0).sum(2)
            found[led] = everywhere - made
    return found


def slots(text: NamedText, firings: RowFirings, rule: Rule) -> Int[np.ndarray, " n"]:
    """For each firing which of the words of its feature's rule it is on or beside, -1 for none."""
    on = np.where(((rule.by == WORD) | (rule.by == PIECE))[:, None], rule.keys, NONE).astype(np.int32)
    key = text.key[WORD][firings.token]
    if (rule.by == PIECE).any():
        key = np.where((rule.by == PIECE)[firings.row], text.key[PIECE][firings.token], key)
    slot = np.full(len(firings.row), -1, np.int8)
    for kind, member in text.of_kind.items():
        if (rule.by == kind).any():
            slot[(rule.by == kind)[firings.row] & member[firings.token]] = 0
    for n in reversed(range(N_WORDS)):
        slot[key == on[:, n][firings.row]] = n
    for n in range(N_LEAD):
        if (rule.lead[:, n] == NONE).all():
            continue
        lead = rule.lead[:, n][firings.row]
        at = np.flatnonzero((slot >= 0) & (lead != NONE))
        before = text.words.folded[text.words.beside(text.place[firings.token[at]], -n - 1)]
        slot[at[before != lead[at]]] = -1
    for by, n in itertools.product((AFTER, BEFORE), range(1, REACH + 1)):
        if not (rule.by == by).any():
            continue
        at = np.flatnonzero((rule.by == by)[firings.row] & (slot < 0))
        near = text.words.beside(text.place[firings.token[at]], n if by == BEFORE else -n)
        match = (text.words.folded[near][:, None] == rule.keys[firings.row[at]]) & (near > 0)[:, None]
        slot[at] = np.where(match.any(1), match.argmax(1), -1)
    return slot


def forms(text: NamedText, firings: RowFirings, rule: Rule, slot: np.ndarray) -> Int[np.ndarray, " n"]:
    """The form of the word that each firing is on or beside, given the slots; any where there is none."""
    form: np.ndarray = np.where(
        (rule.by == PIECE)[firings.row], text.form[PIECE][firings.token], text.form[WORD][firings.token]
    )
    beside = (rule.by >= AFTER)[firings.row] & (slot >= 0)
    for by, n in itertools.product((AFTER, BEFORE), range(1, REACH + 1)):
        at = np.flatnonzero((rule.by == by)[firings.row] & beside)
        near = text.words.beside(text.place[firings.token[at]], n if by == BEFORE else -n)
        found = text.words.folded[near] == rule.keys[firings.row[at], slot[at]]
        form[at[found]], beside[at[found]] = near[found], False
    return form


def strongest(mass: sparse.csr_matrix, n: int) -> tuple[Int[np.ndarray, "rows n"], Float[np.ndarray, "rows n"]]:
    """The columns of the n largest values of each row and these, largest first; -1 and 0 where there are fewer.

    Of equal values that of the lower column comes first; values that are not positive do not count.

    >>> from scipy import sparse
    >>> from saekit.index.name_rules import strongest
    >>> strongest(sparse.csr_matrix([[0, 2.0, 3.0], [1.0, 1.0, 0]]), 2)[0].tolist()
    [[2, 1], [0, 1]]
    """
    n_rows, none = mass.shape[0], mass.shape[1]
    column, value = np.full((n_rows, n), -1), np.zeros((n_rows, n))
    left, filled = mass.data.copy(), np.flatnonzero(np.diff(mass.indptr))
    row = np.repeat(np.arange(n_rows), np.diff(mass.indptr))
    for place in range(n):
        best = np.zeros(n_rows)
        if len(filled):
            best[filled] = np.maximum.reduceat(left, mass.indptr[filled])
        at = np.flatnonzero((left == best[row]) & (left > 0))
        lowest = np.full(n_rows, none)
        np.minimum.at(lowest, row[at], mass.indices[at])
        found = lowest < none
        column[found, place], value[found, place] = lowest[found], best[found]
        left[mass.indices == lowest[row]] = 0
    return column, value


def rule_of(table: pd.DataFrame, text: NamedText) -> Rule:
    """The rule that each row of a table of names states (`names.name_features`), for the text of any index."""
    key_of = {form.casefold(): key for form, key in zip(text.words.forms, text.words.folded.tolist(), strict=True)}
    keys, lead = (
        np.array(
            [[*(key_of.get(word, ABSENT) for word in row), *[-1] * (n - len(row))] for row in table[column]]
        ).reshape(len(table), n)
        for column, n in (("words", N_WORDS), ("lead", N_LEAD))
    )
    return Rule(np.array([BY.index(by) for by in table["by"]], dtype=np.int64), keys, lead)


def carried(columns: Sparse, text: NamedText, rule: Rule) -> Float[np.ndarray, " n_features"]:
    """The part of each feature's activation that is on the words of its rule; nan for silent features."""
    firings = RowFirings.of(columns, 0, columns.n_rows)
    slot = slots(text, firings, rule)
    total = firings.total()
    part: np.ndarray = np.divide(firings.total(slot >= 0), total, out=np.full(len(total), np.nan), where=total > 0)
    return part
