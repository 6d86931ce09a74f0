"""Rules by which features are named, and which firings a rule holds for.

A rule is a few words, of which a feature's firings are on one or beside one. Words are compared by keys: numbers that
forms of a word share. What is counted of all features at once is a sparse matrix product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from .sparse import Sparse
from .words import Words

WORD, PIECE, AFTER, BEFORE = range(4)
BY = ("word", "piece", "after", "before")
N_WORDS = 3
"""Words of a rule at most."""
N_LEAD = 2
"""Words that precede them at most."""
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
        row = np.repeat(np.arange(last - first), np.diff(columns.start[first : last + 1]))
        return cls(row, columns.column[here], columns.value[here].astype(np.float64), last - first)

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


class NamedText:
    """The tokens of an index and the words around them, in the order of `FeatureIndex.kept`."""

    def __init__(self, words: Words, position: np.ndarray, document: np.ndarray, halves: np.ndarray) -> None:
        """`document` is the row of each token's document, -1 for none; `halves` marks those that names are made on."""
        self.words, self.n_keys = words, int(words.folded.max()) + 1
        self.form = {WORD: words.word[position], PIECE: words.piece[position]}
        self.key = {by: words.folded[form] for by, form in self.form.items()}
        self.place, self.document = words.place[position], document
        self.halves, self.made = halves, np.append(halves, True)[document]
        self._prefixes: dict[int, Prefixes] = {}

    def one_each(self, key: np.ndarray, n_keys: int) -> sparse.csr_matrix:
        """A matrix of tokens by keys with a 1 for the key of each token."""
        start = np.arange(len(key) + 1)
        return sparse.csr_matrix((np.ones(len(key)), key, start), shape=(len(key), n_keys))

    def around(self, direction: int) -> sparse.csr_matrix:
        """A matrix of tokens by keys with a 1 for each word within REACH before (-1) or after each token (1)."""
        near = [self.words.beside(self.place, direction * n) for n in range(1, REACH + 1)]
        keys = np.stack([np.where(form > 0, self.words.folded[form], -1) for form in near], axis=1)
        token = np.repeat(np.arange(len(keys)), REACH)[keys.ravel() >= 0]
        found = sparse.coo_matrix((np.ones(len(token)), (token, keys.ravel()[keys.ravel() >= 0])))
        found = found.tocsr()
        found.resize(len(keys), self.n_keys)
        found.data[:] = 1.0
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
            before = self.words.folded[self.words.beside(self.place, -n)]
            pairs, inverse = np.unique(level * self.n_keys + before, return_inverse=True)
            n_of_pair, n_of_level = (
                np.stack([np.bincount(k, self.made), np.bincount(k)]).astype(float) for k in (inverse, level)
            )
            self._prefixes[n] = Prefixes(before, pairs, n_of_pair, n_of_level, inverse)
        return self._prefixes[n]


def slots(text: NamedText, firings: RowFirings, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """For each firing which of the words of its feature's rule it is on, -1 for none, and the form of that word."""
    by, keys, lead = rule.by[firings.row], rule.keys[firings.row], rule.lead[firings.row]
    pieces, place = by == PIECE, text.place[firings.token]
    form = np.where(pieces, text.form[PIECE][firings.token], text.form[WORD][firings.token])
    match = (text.words.folded[form][:, None] == keys) & (by <= PIECE)[:, None]
    slot = np.where(match.any(1), match.argmax(1), -1)
    for n in range(N_LEAD):
        at = np.flatnonzero((slot >= 0) & (lead[:, n] >= 0))
        before = text.words.folded[text.words.beside(place[at], -n - 1)]
        slot[at[before != lead[at, n]]] = -1
    for direction, sign in ((AFTER, -1), (BEFORE, 1)):
        for n in range(1, REACH + 1):
            at = np.flatnonzero((by == direction) & (slot < 0))
            near = text.words.beside(place[at], sign * n)
            match = (text.words.folded[near][:, None] == keys[at]) & (near > 0)[:, None]
            hit = match.any(1)
            slot[at[hit]], form[at[hit]] = match.argmax(1)[hit], near[hit]
    return slot, form


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
