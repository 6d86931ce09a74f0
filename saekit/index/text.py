"""The text of a run of tokens, and which characters of it each token covers.

Tokens of a byte-level vocabulary can hold part of a character; joining their bytes before decoding gives the text as
it was. Knows nothing of the index: given what to show for each token, it does string work only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")


class TokenText(NamedTuple):
    """A text and the (start, end) characters of it that each token covers; start == end for tokens without text."""

    text: str
    spans: Int[np.ndarray, "n 2"]


def token_bytes(shown: Sequence[str]) -> list[bytes]:
    """The bytes of each token from what is shown for it, where <0xE2> stands for a byte that is no whole character.

    >>> from saekit.index.text import token_bytes
    >>> token_bytes([" a", "<0xE2><0x80>"])
    [b' a', b'\\xe2\\x80']
    """
    return [_BYTE.sub(lambda m: bytes([int(m[1], 16)]), s.encode("utf8", "surrogatepass")) for s in shown]


def join_tokens(pieces: Sequence[bytes]) -> TokenText:
    """The text of tokens given as bytes; a byte that is part of no character is kept as one undecodable character.

    >>> from saekit.index.text import join_tokens
    >>> text, spans = join_tokens([b"a", b"\\xe2\\x80", b"\\x99", b"", b"s"])
    >>> text, spans.tolist()
    ('a’s', [[0, 1], [1, 2], [1, 2], [2, 2], [2, 3]])
    """
    text = b"".join(pieces).decode("utf8", "surrogateescape")
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    wide = 1 + (code >= 0x80).astype(np.int64) + (code >= 0x800) + (code >= 0x10000)
    wide[(code >= 0xDC80) & (code <= 0xDCFF)] = 1
    first_byte = np.concatenate([[0], np.cumsum(wide)])
    ends = np.cumsum([len(p) for p in pieces], dtype=np.int64)
    starts = ends - [len(p) for p in pieces]
    begin = np.searchsorted(first_byte, starts, side="right") - 1
    stop = np.searchsorted(first_byte, ends, side="left")
    return TokenText(text, np.stack([begin, np.where(ends > starts, stop, begin)], axis=1))


def tokens_of_matches(pattern: re.Pattern[str], text: TokenText) -> Iterator[tuple[int, int]]:
    """For each match of the pattern, the first token that shares a character with it and the one after the last."""
    starts, ends = text.spans[:, 0], text.spans[:, 1]
    for match in pattern.finditer(text.text):
        first = int(np.searchsorted(ends, match.start(), side="right"))
        last = int(np.searchsorted(starts, match.end(), side="left"))
        if last > first:
            yield first, last
