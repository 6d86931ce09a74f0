"""Documents to choose a feature on, and others to report it on.

The best of thousands of features looks good for any label on the documents that it was chosen on. So documents are
split once: `rank_features` chooses on one half, and every figure shown is of the other. A document's side depends on
its tokens, by their hash, and not on where it stands; a text that stands in the corpus twice is on one side. Documents
with the concept and without it are halved separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..corpus.document_halves import content_hashes, lower_half
from ..errors import ConfigError
from ..statistics import MIN_UNITS
from .concepts import Concept

if TYPE_CHECKING:
    from ..index import FeatureIndex

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Documents = Literal["report", "choose", "all"]
"""Those that no feature was chosen on, those that features are chosen on, or both together."""

_HASHES: WeakKeyDictionary[Any, npt.NDArray[np.uint64]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentSplit:
    """Which of the documents of an index, in the order of `index.documents`, features are chosen and reported on."""

    concept: Concept
    choose: Mask
    report: Mask
    present: Mask
    """Documents with an indexed token: both halves together."""
    holds: Mask
    """Documents with the concept."""
    n_distinct: int
    """Different texts with the concept."""

    @property
    def possible(self) -> bool:
        """Whether both halves hold the concept; not where it is in a single text."""
        return bool((self.holds & self.choose).any() and (self.holds & self.report).any())

    @property
    def few(self) -> str:
        """Why figures of a half have no interval, where the concept is in too few documents; empty otherwise."""
        if self.n_distinct >= 2 * MIN_UNITS:
            return ""
        documents = "one document" if self.n_distinct == 1 else f"{self.n_distinct} documents"
        return (
            f"the concept is in {documents} only: at least {2 * MIN_UNITS} are needed to choose a feature on half of "
            "them and to give an interval on the others"
        )

    def mask(self, documents: Documents) -> Mask:
        """The documents of one kind; all of them where they cannot be split."""
        if documents not in ("report", "choose", "all"):
            raise ConfigError(
                "unknown documents to report on",
                got=documents,
                accepted='"report", "choose" or "all"',
                fix='documents="all" is for a feature that was fixed in advance',
            )
        return self.present if documents == "all" or not self.possible else getattr(self, documents)

    def described(self, documents: Documents) -> str:
        """Which documents those are, for people."""
        n, total = int(self.mask(documents).sum()), int(self.present.sum())
        if documents != "all" and not self.possible:
            return (
                f"all {total:,} documents, because the concept is in a single text and cannot be split: a feature that "
                "was chosen on them looks better than it is"
            )
        if documents == "report":
            return f"{n:,} of {total:,} documents, none of which rank_features chooses on"
        if documents == "choose":
            return (
                f"the {n:,} of {total:,} documents that rank_features chooses on: what it chose looks better here than "
                "it is"
            )
        return f"all {total:,} documents: right for a feature fixed in advance, too good for one chosen on them"


def rows_of(index: FeatureIndex, numbers: npt.ArrayLike) -> Ints:
    """The rows of `index.documents` that documents of these numbers stand in."""
    rows: Ints = index.documents.index.get_indexer(pd.Index(np.asarray(numbers)))
    return rows


def split_documents(index: FeatureIndex, concept: Concept) -> DocumentSplit:
    """The split of an index for a concept; the same whenever it is asked for.

    >>> from saekit.specificity.split import split_documents
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> split = split_documents(index, sk.Concept.regex("bridge"))
    >>> int((split.choose & split.holds).sum()), int((split.report & split.holds).sum())
    (4, 4)
    """
    numbers = np.asarray(index.documents.index)
    flat = np.asarray(index.windows.documents).reshape(-1)
    present = np.isin(numbers, flat[np.asarray(index.kept)])
    holds = concept.document_mask(index) & present
    text = content_of(index)
    # A text is with the concept where any of its copies is.
    with_concept = np.isin(text, text[holds])
    choose = np.zeros(len(numbers), dtype=bool)
    for stratum in (with_concept & present, ~with_concept & present):
        choose[stratum] = lower_half(text[stratum])
    return DocumentSplit(
        concept=concept,
        choose=choose,
        report=present & ~choose,
        present=present,
        holds=holds,
        n_distinct=len(np.unique(text[holds])),
    )


def content_of(index: FeatureIndex) -> npt.NDArray[np.uint64]:
    """A hash of the tokens of each document, in the order of `index.documents`; equal for equal texts.

    Found once for an index and remembered as long as the index lives.
    """
    if index not in _HASHES:
        _HASHES[index] = content_hashes(index.windows)
    return _HASHES[index]
