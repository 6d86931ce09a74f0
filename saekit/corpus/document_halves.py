"""Two halves of documents, by their text: what is chosen or named on one is reported on the other.

A document's side depends on its tokens, by their hash, and not on where it stands; a text that stands in a corpus twice
is on one side.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Bool, UInt64

from .windows import Windows


def content_hashes(windows: Windows) -> UInt64[np.ndarray, " n_documents"]:
    """A hash of the tokens of each document, in the order of `windows.labels`; equal for equal texts.

    >>> from saekit.corpus.document_halves import content_hashes
    >>> one, other = content_hashes(sk.tokenize(sk.load_corpus(["a cat", "a cat"]), model, length=16))
    >>> bool(one == other)
    True
    """
    flat = np.asarray(windows.documents).reshape(-1)
    tokens = np.asarray(windows.tokens).reshape(-1)
    inside = np.flatnonzero(flat >= 0)
    order = inside[np.argsort(flat[inside], kind="stable")]
    number, first = np.unique(flat[order], return_index=True)
    pieces = np.split(tokens[order].astype("<i8"), first[1:]) if len(number) else []
    digests = {
        int(n): int.from_bytes(hashlib.blake2b(piece.tobytes(), digest_size=8).digest(), "little")
        for n, piece in zip(number, pieces, strict=True)
    }
    hashes = np.array([digests.get(int(n), 0) for n in windows.labels.index], dtype=np.uint64)
    hashes.setflags(write=False)
    return hashes


def lower_half(text: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which hashes are the lower ones: as near to half of all as whole texts allow, and fewer rather than more.

    >>> import numpy as np
    >>> from saekit.corpus.document_halves import lower_half
    >>> lower_half(np.array([7, 3, 3, 9], dtype=np.uint64)).tolist()
    [False, True, True, False]
    """
    values, n = np.unique(text, return_counts=True)
    below = np.concatenate([[0], np.cumsum(n)])
    cut = int(np.argmin(np.abs(2 * below - len(text))))
    lower: np.ndarray = np.isin(text, values[:cut])
    return lower
