"""The words of an index's text, by characters: which word each token lies in, and which words stand before and after.

A word is a run of letters, marks and digits. Where a script is written without spaces (Chinese, Japanese, Thai), a
token's own characters are its word, and so are punctuation and emoji. Forms of a word that differ in case or in the
space before them count as one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..models.token_text import show_undecoded
from .text import TextRun

LONGEST_WORD = 60
"""Characters: of what is longer, such as an encoded file, a token's own characters are its word."""
N_CODE_POINTS = 0x110000
OTHER, SPACE, LETTER, ALONE, MARK, UNKNOWN = range(6)
ZWJ = 0x200D
"""Joins the emoji on both sides of it, and the letters of some scripts."""
WITHOUT_SPACES = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x3FFFF)),
)
"""Thai and Lao, Tibetan, Burmese, Khmer, kana, and Chinese characters."""

_KINDS = np.full(N_CODE_POINTS, UNKNOWN, np.uint8)


class Words(NamedTuple):
    """The words of every token of an index. Forms are numbered in the order in which they are first met."""

    word: Int[np.ndarray, " positions"]
    """The form of the word around each token, by flat position; 0, an empty one, for what is of no document."""
    piece: Int[np.ndarray, " positions"]
    """The form of the token by itself: `…` stands where the word goes on."""
    place: Int[np.ndarray, " positions"]
    """Which of the words of the text each token lies in; those of one stretch follow each other."""
    text_of: Int[np.ndarray, " places"]
    """The form at each place; 0 before, between and after stretches."""
    forms: list[str]
    folded: Int[np.ndarray, " forms"]
    """Equal for forms that differ in case."""

    def beside(self, place: np.ndarray, distance: int) -> np.ndarray:
        """The form so many words after each of these places, before for a negative distance; 0 beyond the stretch."""
        out, step = np.zeros(len(place), np.int64), 1 if distance > 0 else -1
        inside = place > 0
        for n in range(1, abs(distance) + 1):
            out = self.text_of[np.where(inside, place + n * step, 0)]
            inside = inside & (out > 0)
            out = np.where(inside, out, 0)
        return out


def words_of(runs: Iterable[TextRun], n_positions: int) -> Words:
    """The Words of stretches of text, whose tokens are numbered up to `n_positions`.

    >>> from saekit.index.words import words_of
    >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
    >>> words = words_of(index.texts(), index.n_windows * index.length)
    >>> words.forms[words.word[1]], words.forms[words.piece[1]]
    ('bay', 'b…')
    """
    word, piece = np.zeros(n_positions, np.int32), np.zeros(n_positions, np.int32)
    place = np.zeros(n_positions, np.int64)
    number = {"": 0}
    text_of, n_places = [np.zeros(1, np.int32)], 1
    for begin, stop, (text, spans) in runs:
        low, high, first, last = _cut(text, spans)
        bounds = list(zip(low.tolist(), high.tolist(), first.tolist(), last.tolist(), strict=True))
        forms = np.array([number.setdefault(text[a:b], len(number)) for a, b, _, _ in bounds], np.int32)
        word[begin:stop] = forms
        piece[begin:stop] = [
            number.setdefault(f"{'…' if a < c else ''}{text[c:d]}{'…' if d < b else ''}", len(number))
            for a, b, c, d in bounds
        ]
        new = np.ones(stop - begin, bool)
        new[1:] = low[1:] != low[:-1]
        new &= forms > 0
        place[begin:stop] = n_places + np.maximum(np.cumsum(new) - 1, 0)
        text_of += [forms[new], np.zeros(1, np.int32)]
        n_places += int(new.sum()) + 1
    folded: dict[str, int] = {}
    fold = np.array([folded.setdefault(form.casefold(), len(folded)) for form in number], np.int32)
    return Words(word, piece, place, np.concatenate(text_of), [show_undecoded(form) for form in number], fold)


def _cut(text: str, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each token the characters of its word (from, to), and its own without spaces around them."""
    n = len(text)
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = _kinds(code)
    base = np.maximum.accumulate(np.where(kind != MARK, np.arange(n), 0))
    letter = kind[base] == LETTER
    joined = letter[1:] & letter[:-1] | (kind[1:] == MARK) | (code[:-1] == ZWJ)
    bounds = np.flatnonzero(np.concatenate([[True], ~joined])) if n else np.zeros(0, np.int64)
    ends = np.append(bounds[1:], n)
    solid = np.flatnonzero(kind != SPACE)
    begin, stop = spans[:, 0].astype(np.int64), spans[:, 1].astype(np.int64)
    at = np.searchsorted(solid, begin)
    first = np.append(solid, n)[at]
    before = np.searchsorted(solid, stop) - 1
    last = np.where(before >= 0, np.append(solid, -1)[before], -1) + 1
    blank = first >= stop
    first, last = np.where(blank, begin, first), np.where(blank, stop, last)
    if not n:
        return first, last, first, last
    low = np.where(blank, begin, bounds[np.searchsorted(bounds, first, side="right") - 1])
    high = np.where(blank, stop, ends[np.searchsorted(ends, np.maximum(last - 1, 0), side="right")])
    long = high - low > LONGEST_WORD
    return np.where(long, first, low), np.where(long, last, high), first, last


def _kinds(code: np.ndarray) -> np.ndarray:
    """The kind of each character; what is looked up once is remembered."""
    kind: np.ndarray = _KINDS[code]
    if (kind == UNKNOWN).any():
        for point in np.unique(code[kind == UNKNOWN]).tolist():
            _KINDS[point] = _kind(point)
        kind = _KINDS[code]
    return kind


def _kind(point: int) -> int:
    character = chr(point)
    category = unicodedata.category(character)
    if character.isspace():
        return SPACE
    if category[0] == "M" or category == "Cf" or 0x1F3FB <= point <= 0x1F3FF:  # the last are skin tones
        return MARK
    if category[0] not in "LN" and character != "_":
        return OTHER
    return ALONE if any(a <= point <= b for a, b in WITHOUT_SPACES) else LETTER
