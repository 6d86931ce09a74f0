"""What the tokens of a text read where their vocabulary alone would say something else.

Some tokenizers change a text before they cut it (lower case, compatibility forms, unknown words, spaces of their own),
and then ids do not give the text back. Where the tokenizer says which characters each token came from, the text itself
does. Most tokenizers need none of this: only the exceptions are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
from jaxtyping import Int64

from .token_text import Vocabulary


@dataclass(frozen=True, eq=False)
class Readings:
    """Tokens that read otherwise than their vocabulary says, by flat position (window * length + place)."""

    position: Int64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int64))
    """Ascending."""
    piece: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.position)

    @cached_property
    def by_position(self) -> Mapping[int, bytes]:
        """The bytes of each such token."""
        return dict(zip(self.position.tolist(), self.piece, strict=True))

    def select(self, windows: Int64[np.ndarray, " n"], length: int) -> Readings:
        """Those in some windows, which are numbered anew in the order given.

        >>> from saekit.models.readings import Readings
        >>> Readings(np.array([3, 9]), [b"a", b"b"]).select(np.array([2, 0]), length=4).position.tolist()
        [1, 7]
        """
        begin = np.searchsorted(self.position, windows * length)
        stop = np.searchsorted(self.position, (windows + 1) * length)
        rows = [np.arange(a, b) for a, b in zip(begin.tolist(), stop.tolist(), strict=True)]
        position = [self.position[r] + (n - w) * length for n, (r, w) in enumerate(zip(rows, windows, strict=True))]
        chosen = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
        return Readings(np.concatenate([*position, np.empty(0, np.int64)]), [self.piece[int(i)] for i in chosen])

    @classmethod
    def concatenate(cls, parts: Sequence[tuple[Readings, int]]) -> Readings:
        """All of them; each part comes with the number of positions that it spans."""
        first = [0, *accumulate(n for _, n in parts)]
        position = [part.position + at for (part, _), at in zip(parts, first, strict=False)]
        return cls(np.concatenate([*position, np.empty(0, np.int64)]), [p for part, _ in parts for p in part.piece])


def find_readings(
    text: str,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    vocabulary: Vocabulary,
    special: Collection[int] = (),
) -> dict[int, bytes]:
    """The bytes of each token, by its place among `ids`, that reads otherwise than the vocabulary says.

    `offsets` are the (start, end) characters of `text` that each token came from. What stands between two tokens
    belongs to the first up to a space (accents and syllables that were composed have the offset of their first
    character) and to the second from there on; what is left at the end belongs to the last. So all tokens are together
    the text. Several tokens of one character keep its bytes where they are its bytes, a space that the tokenizer put in
    front of them aside; otherwise the first has it and the others b"".

    >>> from saekit.models.readings import find_readings
    >>> ids = model.tokenize("a b", bos=False)
    >>> find_readings("A b", ids, [(0, 1), (1, 2), (2, 3)], model.vocabulary)
    {0: b'A'}
    """
    pieces = vocabulary.bytes_of(ids, True, special)
    if not ids or b"".join(pieces) == text.encode("utf8", "surrogatepass"):
        return {}
    ends = list(accumulate((end for _, end in offsets), max))
    for n, (start, _) in enumerate(offsets[1:]):
        while ends[n] < start and not text[ends[n]].isspace():
            ends[n] += 1
    ends = list(accumulate(ends, max))
    ends[-1] = len(text)
    out: dict[int, bytes] = {}
    first = done = 0
    for n, end in enumerate(ends):
        if n + 1 < len(ids) and offsets[n + 1][0] < end:
            continue  # the next token came from the same character
        meant = text[done:end].encode("utf8", "surrogatepass")
        read = b"".join(pieces[first : n + 1])
        if read == b" " + meant:
            out[first] = pieces[first].removeprefix(b" ")
        elif read != meant:
            out[first] = meant
            out |= {i: b"" for i in range(first + 1, n + 1) if pieces[i]}
        first, done = n + 1, end
    return out
