"""An index and a concept as things to score: tokens, or documents by their strongest token.

Turns the firings of a feature into scored items with a label and a document each. Knows nothing of statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..index.records import N_INTERVALS
from ..index.statistics import N_BINS, bin_of
from .concepts import Concept
from .resampling import Firings

if TYPE_CHECKING:
    from ..index import FeatureIndex

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Unit = Literal["token", "document"]

BLOCK_FIRINGS = 4_000_000
"""Firings of a block of features in a scan over all of them."""


@dataclass(frozen=True, kw_only=True)
class Units:
    """The items that a feature is scored on. Items and documents are numbered from 0, in corpus order."""

    index: FeatureIndex
    unit: Unit
    match: npt.NDArray[np.bool_]
    """Whether each item belongs to the concept [n_items]."""
    document: Ints
    """The document of each item [n_items]."""
    document_numbers: Ints
    """The index's own number of each document [n_documents]; only documents with an indexed token."""
    position: Ints
    """Where to look at an item: a token's flat position; a document's first token of the concept, or its first."""
    item_of: Ints
    """The item of each kept token, in the order of `index.kept`; -1 where none is scored."""

    @property
    def n(self) -> int:
        return len(self.match)

    @property
    def n_positive(self) -> int:
        return int(self.match.sum())

    def scored(self, feature: int) -> tuple[Ints, Floats, Ints]:
        """The items on which a feature fires (ascending), its value there, and the flat position of that value."""
        start, row, value = self._firings([feature])
        _, item, value, row = self._reduce(start, row, value)
        return item, value, np.asarray(self.index.kept)[row].astype(np.int64)

    def firings(self, item: Ints, value: Floats) -> Firings:
        """Scored items as the arrays that resampling needs."""
        n_documents = len(self.document_numbers)
        return Firings(
            value=value,
            match=self.match[item],
            document=self.document[item],
            bin=interval_of(value),
            positives=np.bincount(self.document[self.match], minlength=n_documents),
            negatives=np.bincount(self.document[~self.match], minlength=n_documents),
        )

    def blocks(self, features: Sequence[int]) -> Iterator[tuple[Sequence[int], Ints, Ints, Floats]]:
        """The scored items of many features, some at a time: features, start [n + 1], item and value of each firing."""
        start, wanted = self.index.by_feature.start, np.asarray(features)
        held = np.cumsum(start[wanted + 1] - start[wanted]) // BLOCK_FIRINGS
        for some in np.split(wanted, np.flatnonzero(np.diff(held)) + 1):
            start, item, value, _ = self._reduce(*self._firings(some.tolist()))
            yield some.tolist(), start, item, value

    def _firings(self, features: Sequence[int]) -> tuple[Ints, Ints, Floats]:
        """start [n + 1], row of `index.kept` and value of the firings of some features; a slice where they adjoin."""
        start, row, value = self.index.by_feature
        begin, end = start[np.asarray(features)], start[np.asarray(features) + 1]
        cuts = [slice(begin[0], end[-1])] if (begin[1:] == end[:-1]).all() else list(map(slice, begin, end))
        rows, values = np.concatenate([row[c] for c in cuts]), np.concatenate([value[c] for c in cuts])
        return np.concatenate([[0], np.cumsum(end - begin)]), rows, values

    def _reduce(self, start: Ints, row: Ints, value: Floats) -> tuple[Ints, Ints, Floats, Ints]:
        """Firings as items: those not scored are dropped, and a document keeps its strongest."""
        item = self.item_of[row]
        keep = (item >= 0) & (value > 0)
        if not keep.all():
            start = np.concatenate([[0], np.cumsum(keep)])[start]
            item, value, row = item[keep], value[keep], row[keep]
        if self.unit == "token" or not len(item):
            return start, item, value, row
        feature = np.repeat(np.arange(len(start) - 1), np.diff(start))
        key = feature * len(self.match) + item
        if (np.diff(key) < 0).any():
            order = np.argsort(key, kind="stable")
            key, feature, item, value, row = key[order], feature[order], item[order], value[order], row[order]
        run = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        strongest = np.maximum.reduceat(value, run)
        run_of = np.repeat(np.arange(len(run)), np.diff(run, append=len(key)))
        at = np.flatnonzero(value == strongest[run_of])[::-1]
        chosen = np.empty_like(run)
        chosen[run_of[at]] = at  # the first of equals, written last, stays
        start = np.concatenate([[0], np.cumsum(np.bincount(feature[chosen], minlength=len(start) - 1))])
        return start, item[chosen], value[chosen], row[chosen]


def units(index: FeatureIndex, concept: Concept, unit: Unit) -> Units:
    """The items of an index and which of them belong to the concept."""
    if unit not in ("token", "document"):
        raise ConfigError("unknown unit to score by", got=unit, accepted='"token" or "document"')
    token_match = concept.token_mask(index) if unit == "token" else None
    kept = np.asarray(index.kept)
    number = np.asarray(index.windows.documents).reshape(-1)[kept]
    inside = number >= 0
    position, number = kept[inside].astype(np.int64), number[inside]
    numbers, document = np.unique(number, return_inverse=True)
    item_of = np.full(len(kept), -1, dtype=np.int64)
    if token_match is not None:
        item_of[inside] = np.arange(len(position))
        return Units(
            index=index,
            unit=unit,
            match=token_match[inside],
            document=document,
            document_numbers=numbers,
            position=position,
            item_of=item_of,
        )
    item_of[inside] = document
    match = np.isin(numbers, np.asarray(index.documents.index)[concept.document_mask(index)])
    first = np.full(len(numbers), -1, dtype=np.int64)
    of_concept = concept.flat_mask(index)[position]
    for chosen in (np.ones_like(of_concept), of_concept):  # one of the concept, where there is one, replaces the first
        first[document[chosen][::-1]] = position[chosen][::-1]
    return Units(
        index=index,
        unit=unit,
        match=match,
        document=np.arange(len(numbers)),
        document_numbers=numbers,
        position=first,
        item_of=item_of,
    )


def interval_of(value: Floats) -> Ints:
    """The tenth of (0, max] that each activation lies in, 0 to 9, as the index counts them."""
    bins: Ints = bin_of(value, value.max(initial=0)) // (N_BINS // N_INTERVALS)
    return bins
