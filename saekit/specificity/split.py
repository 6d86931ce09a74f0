"""Documents to choose a feature on, and others to report it on.

The best of thousands of features looks good for any label on the documents that it was chosen on. So documents are
split once: `rank_features` chooses on one half, and every figure shown is of the other. A document's side depends on
its tokens, by their hash, and not on where it stands; a text that stands in the corpus twice is on one side. Documents
with the concept and without it are halved separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ..corpus.document_halves import lower_half
from ..errors import ConfigError
from ..statistics import MIN_UNITS
from .concepts import Concept
from .document_content import content_of, document_of

if TYPE_CHECKING:
    from ..index import FeatureIndex

Mask = npt.NDArray[np.bool_]
Unit = Literal["token", "document"]
"""What one example is."""
Documents = Literal["report", "choose", "all"]
"""Those that no feature was chosen on, those that features are chosen on, or both together."""


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


def split_documents(index: FeatureIndex, concept: Concept, unit: Unit = "token") -> DocumentSplit:
    """The split of an index for a concept; the same whenever it is asked for.

    With unit "token" a document is with the concept where one of its tokens is of it, else where it holds the concept:
    the two differ for some composed concepts.

    >>> from saekit.specificity.split import split_documents
    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> split = split_documents(index, sk.Concept.regex("bridge"))
    >>> int((split.choose & split.holds).sum()), int((split.report & split.holds).sum())
    (4, 4)
    """
    numbers = np.asarray(index.documents.index)
    flat = document_of(index)
    present = np.isin(numbers, flat[np.asarray(index.kept)])
    by_token = unit == "token"
    holds = np.isin(numbers, flat[concept.flat_mask(index)]) if by_token else concept.document_mask(index)
    holds = holds & present
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
