"""An index and a concept as classified examples: tokens, or documents by their strongest token.

An example belongs to the concept or not, and is scored by the activation of a feature. This module makes the examples
and finds a feature's score on each; the statistics are made of these in `sparse_statistics` and `leave_one_out`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError
from ..index.feature_block import N_HISTOGRAM_BINS, histogram_bin_of
from ..index.records import N_ACTIVATION_BINS
from .concepts import Concept
from .document_content import content_of, rows_of
from .leave_one_out import ScoredFirings
from .sparse_statistics import Ints
from .split import Mask, Unit

if TYPE_CHECKING:
    from ..index import FeatureIndex

Activations = npt.NDArray[np.float32]
BLOCK_FIRINGS = 4_000_000
"""Firings of a block of features in a scan over all of them."""

_COUNTS: WeakKeyDictionary[Any, dict[str, Ints]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class ClassifiedExamples:
    """The examples that a feature is scored on, each of the concept or not.

    Examples and documents are numbered from 0, in corpus order.
    """

    index: FeatureIndex
    unit: Unit
    match: npt.NDArray[np.bool_]
    """Whether each example belongs to the concept [n_examples]."""
    document: Ints
    """The document of each example [n_examples]."""
    document_numbers: Ints
    """The index's own number of each document [n_documents]; only documents with an indexed token."""
    position: Ints
    """Where to look at an example: a token's flat position; a document's first token of the concept, or its first."""
    example_of: Ints
    """The example of each kept token, in the order of `index.kept`; -1 where none is scored."""
    content: npt.NDArray[np.uint64]
    """A hash of the text of each document [n_documents]."""

    @property
    def n(self) -> int:
        return len(self.match)

    @property
    def n_positive(self) -> int:
        return int(self.match.sum())

    @cached_property
    def text_of_document(self) -> tuple[Ints, int]:
        """The number of each document's text [n_documents], the same for copies, and how many texts there are."""
        texts, of = np.unique(self.content, return_inverse=True)
        return of, len(texts)

    def scored(self, feature: int) -> tuple[Ints, Activations, Ints]:
        """The examples on which a feature fires (ascending), its value there, and the flat position of that value."""
        start, row, value = self._firings([feature])
        _, example, value, row = self._reduce(start, row, value)
        return example, value, np.asarray(self.index.kept)[row].astype(np.int64)

    def firings(self, example: Ints, value: Activations) -> ScoredFirings:
        """Scored examples as the arrays that leaving out documents needs; copies of a text are one document."""
        of, n = self.text_of_document
        document = of[self.document]
        return ScoredFirings(
            value=value,
            match=self.match[example],
            document=document[example],
            bin=activation_bin_of(value),
            positives=np.bincount(document[self.match], minlength=n),
            negatives=np.bincount(document[~self.match], minlength=n),
        )

    def among(self, documents: Mask) -> ClassifiedExamples:
        """The examples of some documents [n_documents]; both are numbered from 0 again."""
        keep = documents[self.document]
        number = np.where(keep, np.cumsum(keep) - 1, -1)
        return replace(
            self,
            match=self.match[keep],
            document=(np.cumsum(documents) - 1)[self.document[keep]],
            document_numbers=self.document_numbers[documents],
            position=self.position[keep],
            example_of=np.where(self.example_of >= 0, number[self.example_of], -1),
            content=self.content[documents],
        )

    def by_document(self, holds: Mask) -> ClassifiedExamples:
        """Each document as one example, scored by its strongest token; those that hold [n_documents] are positive."""
        _, first = np.unique(self.document, return_index=True)
        return replace(
            self,
            unit="document",
            match=holds,
            document=np.arange(len(holds)),
            position=self.position[first],
            example_of=np.where(self.example_of >= 0, self.document[self.example_of], -1),
        )

    def blocks(
        self, features: Sequence[int], n_firings: int = BLOCK_FIRINGS
    ) -> Iterator[tuple[Sequence[int], Ints, Ints, Activations]]:
        """The scored examples of many features, about `n_firings` at a time: features, start [n + 1], and each
        firing's example and value."""
        start, wanted = self.index.by_feature.start, np.asarray(features)
        held = np.cumsum(start[wanted + 1] - start[wanted]) // n_firings
        for some in np.split(wanted, np.flatnonzero(np.diff(held)) + 1):
            start, example, value, _ = self._reduce(*self._firings(some.tolist()))
            yield some.tolist(), start, example, value

    def _firings(self, features: Sequence[int]) -> tuple[Ints, Ints, Activations]:
        """start [n + 1], row of `index.kept` and value of the firings of some features; a slice where they adjoin."""
        start, row, value = self.index.by_feature
        begin, end = start[np.asarray(features)], start[np.asarray(features) + 1]
        cuts = [slice(begin[0], end[-1])] if (begin[1:] == end[:-1]).all() else list(map(slice, begin, end))
        rows, values = np.concatenate([row[c] for c in cuts]), np.concatenate([value[c] for c in cuts])
        return np.concatenate([[0], np.cumsum(end - begin)]), rows, values

    def _reduce(self, start: Ints, row: Ints, value: Activations) -> tuple[Ints, Ints, Activations, Ints]:
        """Firings as examples: those not scored are dropped, and a document keeps its strongest."""
        example = self.example_of[row]
        keep = (example >= 0) & (value > 0)
        if not keep.all():
            start = np.concatenate([[0], np.cumsum(keep)])[start]
            example, value, row = example[keep], value[keep], row[keep]
        if self.unit == "token" or not len(example):
            return start, example, value, row
        feature = np.repeat(np.arange(len(start) - 1), np.diff(start))
        key = feature * len(self.match) + example
        if (np.diff(key) < 0).any():
            order = np.argsort(key, kind="stable")
            key, feature, example, value, row = key[order], feature[order], example[order], value[order], row[order]
        run = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        strongest = np.maximum.reduceat(value, run)
        run_of = np.repeat(np.arange(len(run)), np.diff(run, append=len(key)))
        at = np.flatnonzero(value == strongest[run_of])[::-1]
        chosen = np.empty_like(run)
        chosen[run_of[at]] = at  # the first of equals, written last, stays
        start = np.concatenate([[0], np.cumsum(np.bincount(feature[chosen], minlength=len(start) - 1))])
        return start, example[chosen], value[chosen], row[chosen]


def firing_counts(examples: ClassifiedExamples) -> Ints:
    """On how many of all examples of an index each feature fires [d_sae]; found once for an index and unit."""
    known = _COUNTS.setdefault(examples.index, {})
    if examples.unit not in known:
        d_sae = examples.index.d_sae
        known[examples.unit] = np.concatenate([np.diff(start) for _, start, _, _ in examples.blocks(range(d_sae))])
    return known[examples.unit]


def classified_examples(index: FeatureIndex, concept: Concept, unit: Unit) -> ClassifiedExamples:
    """The examples of an index and which of them belong to the concept."""
    if unit not in ("token", "document"):
        raise ConfigError("unknown unit to score by", got=unit, accepted='"token" or "document"')
    token_match = concept.token_mask(index) if unit == "token" else None
    kept = np.asarray(index.kept)
    number = np.asarray(index.windows.documents).reshape(-1)[kept]
    inside = number >= 0
    position, number = kept[inside].astype(np.int64), number[inside]
    numbers, document = np.unique(number, return_inverse=True)
    content = content_of(index)[rows_of(index, numbers)]
    example_of = np.full(len(kept), -1, dtype=np.int64)
    if token_match is not None:
        example_of[inside] = np.arange(len(position))
        return ClassifiedExamples(
            index=index,
            unit=unit,
            match=token_match[inside],
            document=document,
            document_numbers=numbers,
            position=position,
            example_of=example_of,
            content=content,
        )
    example_of[inside] = document
    match = np.isin(numbers, np.asarray(index.documents.index)[concept.document_mask(index)])
    first = np.full(len(numbers), -1, dtype=np.int64)
    of_concept = concept.flat_mask(index)[position]
    for chosen in (np.ones_like(of_concept), of_concept):  # one of the concept, where there is one, replaces the first
        first[document[chosen][::-1]] = position[chosen][::-1]
    return ClassifiedExamples(
        index=index,
        unit=unit,
        match=match,
        document=np.arange(len(numbers)),
        document_numbers=numbers,
        position=first,
        example_of=example_of,
        content=content,
    )


def activation_bin_of(value: Activations) -> Ints:
    """The tenth of (0, max] that each activation lies in, 0 to 9, as the index counts them."""
    bins: Ints = histogram_bin_of(value, value.max(initial=0)) // (N_HISTOGRAM_BINS // N_ACTIVATION_BINS)
    return bins
