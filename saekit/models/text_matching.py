"""The text of tokens, and which tokens a match in it covers: the one place where text is matched to tokens.

Tokens of a byte-level vocabulary can hold part of a character; joining their bytes before decoding gives the text as
it was. What to show for each token comes from `LanguageModel.token_strings` or from an index's vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..errors import ConfigError

_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")


class TokenText(NamedTuple):
    """A text and the (start, end) characters of it that each token covers; start == end for tokens without text."""

    text: str
    spans: Int[np.ndarray, "n 2"]


def token_bytes(shown: Sequence[str]) -> list[bytes]:
    """The bytes of each token from what is shown for it, where <0xE2> stands for a byte that is no whole character.

    >>> from saekit.models.text_matching import token_bytes
    >>> token_bytes([" a", "<0xE2><0x80>"])
    [b' a', b'\\xe2\\x80']
    """
    return [_BYTE.sub(lambda m: bytes([int(m[1], 16)]), s.encode("utf8", "surrogatepass")) for s in shown]


def join_tokens(pieces: Sequence[bytes]) -> TokenText:
    """The text of tokens given as bytes; a byte that is part of no character is kept as one undecodable character.

    >>> from saekit.models.text_matching import join_tokens
    >>> text, spans = join_tokens([b"a", b"\\xe2\\x80", b"\\x99", b"", b"s"])
    >>> text, spans.tolist()
    ('a’s', [[0, 1], [1, 2], [1, 2], [2, 2], [2, 3]])
    """
    text = b"".join(pieces).decode("utf8", "surrogateescape")
    first_byte = _first_bytes(text)
    ends = np.cumsum([len(p) for p in pieces], dtype=np.int64)
    starts = ends - [len(p) for p in pieces]
    begin = np.searchsorted(first_byte, starts, side="right") - 1
    stop = np.searchsorted(first_byte, ends, side="left")
    return TokenText(text, np.stack([begin, np.where(ends > starts, stop, begin)], axis=1))


def first_characters(text: str, pieces: Sequence[bytes]) -> Int[np.ndarray, " n"]:
    """For each token, the first character of `text` (that of `join_tokens`) which begins in it or after it.

    >>> from saekit.models.text_matching import first_characters
    >>> first_characters("a’s", [b"a", b"\\xe2\\x80", b"\\x99", b"s"]).tolist()
    [0, 1, 2, 2]
    """
    starts = np.cumsum([0, *(len(p) for p in pieces[:-1])], dtype=np.int64)[: len(pieces)]
    return np.searchsorted(_first_bytes(text), starts, side="left")


def _first_bytes(text: str) -> Int[np.ndarray, " n_characters_and_one"]:
    """The first byte of each character in UTF-8, and the number of bytes; an undecodable byte is one."""
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    wide = 1 + (code >= 0x80).astype(np.int64) + (code >= 0x800) + (code >= 0x10000)
    wide[(code >= 0xDC80) & (code <= 0xDCFF)] = 1
    return np.concatenate([[0], np.cumsum(wide)])


def compiled(pattern: str, ignore_case: bool = True) -> re.Pattern[str]:
    """The pattern for Python's `re`; ConfigError that shows where it is wrong.

    >>> from saekit.models.text_matching import compiled
    >>> compiled("(golden")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.ConfigError: not a regular expression: missing ), unterminated subpattern at position 0
    ...
    """
    try:
        return _compiled(pattern, ignore_case)
    except re.error as e:
        where = f" at position {e.pos}" if e.pos is not None else ""
        arrow = "\n" + " " * (12 + e.pos) + "^" if e.pos is not None and "\n" not in pattern else ""
        raise ConfigError(
            f"not a regular expression: {e.msg}{where}",
            got=pattern + arrow,
            accepted="a pattern of Python's re module",
            fix="escape special characters, or use Concept.keywords",
        ) from e


@lru_cache(maxsize=256)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE if ignore_case else 0)


def matches(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """The (start, end) characters of each match in `text`; empty matches do not count."""
    return [m.span() for m in pattern.finditer(text) if m.end() > m.start()]


def tokens_of_matches(text: TokenText, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """For each (start, end) of `text`'s characters, the first token that shares one of them and the one after the last.

    >>> from saekit.models.text_matching import compiled, join_tokens, matches, tokens_of_matches
    >>> text = join_tokens([b"the", b" Gol", b"den", b" Gate"])
    >>> list(tokens_of_matches(text, matches(compiled("golden"), text.text)))
    [(1, 3)]
    """
    starts, ends = text.spans[:, 0], text.spans[:, 1]
    for start, end in spans:
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(starts, end, side="left"))
        if last > first:
            yield first, last


def ids_that_read(pattern: re.Pattern[str], vocabulary: Iterable[str]) -> list[int]:
    """The ids of the tokens whose whole text matches, a leading space aside, given what to show for each.

    >>> from saekit.models.text_matching import compiled, ids_that_read
    >>> ids_that_read(compiled("a|b"), ["a", " B", "ab"])
    [0, 1]
    """
    return [i for i, text in enumerate(vocabulary) if pattern.fullmatch(text.removeprefix(" "))]
