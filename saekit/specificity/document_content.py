"""What the documents of an index hold, by content: so that splits and marks mean the same wherever a text stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..corpus.document_halves import content_hashes

if TYPE_CHECKING:
    from ..index import FeatureIndex

Ints = npt.NDArray[np.int64]

_HASHES: WeakKeyDictionary[Any, npt.NDArray[np.uint64]] = WeakKeyDictionary()


def rows_of(index: FeatureIndex, numbers: npt.ArrayLike) -> Ints:
    """The rows of `index.documents` that documents of these numbers stand in."""
    rows: Ints = index.documents.index.get_indexer(pd.Index(np.asarray(numbers)))
    return rows


def document_of(index: FeatureIndex) -> npt.NDArray[Any]:
    """The document of each flat position of the windows [n_windows * length]; -1 where there is none."""
    return np.asarray(index.windows.documents).reshape(-1)


def content_of(index: FeatureIndex) -> npt.NDArray[np.uint64]:
    """A hash of the tokens of each document, in the order of `index.documents`; equal for equal texts.

    Found once for an index and remembered as long as the index lives.
    """
    if index not in _HASHES:
        _HASHES[index] = content_hashes(index.windows)
    return _HASHES[index]


def tokens_of(index: FeatureIndex, numbers: npt.ArrayLike) -> dict[int, Ints]:
    """The flat positions of all tokens of some documents, by the document's number, in the order they are read."""
    flat = document_of(index)
    here = np.flatnonzero(np.isin(flat, np.asarray(numbers)) & (flat >= 0))
    here = here[np.argsort(flat[here], kind="stable")]
    found, first = np.unique(flat[here], return_index=True)
    return {int(n): piece for n, piece in zip(found, np.split(here, first[1:]), strict=True)} if len(found) else {}
