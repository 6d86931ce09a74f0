"""The text of an index: what its tokens read, and the stretches of documents in which text is matched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from ..corpus import Windows
from ..models.text_matching import TokenText, join_tokens
from ..models.token_text import Vocabulary, show_bytes, strings_of

LONGEST = 3
"""Tokens beside one that can hold the rest of its last character: UTF-8 has at most four bytes."""


class TextRun(NamedTuple):
    """A stretch of one document within a window."""

    begin: int
    """Flat position of its first token."""
    stop: int
    """Flat position after its last token."""
    text: TokenText


class IndexText:
    """Windows as text. `special` are ids that stand before a text without being part of it."""

    def __init__(self, windows: Windows, vocabulary: Vocabulary, special: frozenset[int]) -> None:
        self.vocabulary = vocabulary
        self._windows, self._special = windows, special
        self._ids = windows.tokens.reshape(-1).numpy()

    def runs(self) -> Iterator[TextRun]:
        """Every stretch of a document within a window, in order."""
        begins, stops, is_first = self._stretches
        for begin, stop, first in zip(begins.tolist(), stops.tolist(), is_first.tolist(), strict=True):
            ids = self._ids[begin:stop].tolist()
            yield TextRun(begin, stop, join_tokens(self._read(begin, ids, first)))

    def strings(self, positions: Int[np.ndarray, " n"], ids: list[int]) -> list[str]:
        """One string for each of the tokens at flat positions, whose ids are given, read where they stand."""
        out = [self.vocabulary.shown[i] for i in ids]
        if self.vocabulary.begins_without_space:
            for n in np.flatnonzero(np.isin(positions, self._first_words)).tolist():
                out[n] = out[n].removeprefix(" ")
        if len(self._windows.readings):
            known = self._windows.readings.by_position
            out = [show_bytes(known[p]) if p in known else o for p, o in zip(positions.tolist(), out, strict=True)]
        broken = self.vocabulary.partial[ids] if len(ids) else np.empty(0, bool)
        if not broken.any():
            return out
        bounds = np.flatnonzero((np.diff(positions) != 1) | (positions[1:] % self._windows.length == 0)) + 1
        for begin, stop in zip([0, *bounds.tolist()], [*bounds.tolist(), len(ids)], strict=True):
            if broken[begin:stop].any():
                here = self._around(int(positions[begin]), stop - begin)
                for n in range(begin, stop):
                    out[n] = here[n - begin] if broken[n] else out[n]
        return out

    def _around(self, position: int, n: int) -> list[str]:
        """The strings of n tokens of one window, those beside them being known."""
        window = position // self._windows.length * self._windows.length
        begin = max(window, position - LONGEST)
        stop = min(window + self._windows.length, position + n + LONGEST)
        return strings_of(self._read(begin, self._ids[begin:stop].tolist(), first=False))[
            position - begin : position - begin + n
        ]

    def _read(self, begin: int, ids: list[int], first: bool) -> list[bytes]:
        """The bytes of the tokens from a flat position on; `first` says that a document begins with them."""
        pieces = self.vocabulary.bytes_of(ids, first, self._special)
        if len(self._windows.readings):
            known = self._windows.readings.by_position
            pieces = [known.get(begin + n, piece) for n, piece in enumerate(pieces)]
        return pieces

    @cached_property
    def _stretches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each stretch begins and stops, and whether its document begins there."""
        document = self._windows.documents.reshape(-1).numpy()
        new = np.ones(len(document), dtype=bool)
        new[1:] = document[1:] != document[:-1]
        new[:: self._windows.length] = True
        begins = np.flatnonzero(new)
        stops = np.append(begins[1:], len(document))
        inside = document[begins] >= 0
        begins, stops = begins[inside], stops[inside]
        of = document[begins]
        return begins, stops, np.concatenate([[True], of[1:] != of[:-1]])[: len(of)]

    @cached_property
    def _first_words(self) -> np.ndarray:
        """The flat position of the first ordinary token of each document."""
        begins, stops, is_first = self._stretches
        special = np.array(sorted(self._special), dtype=self._ids.dtype)
        out = []
        for begin, stop in zip(begins[is_first].tolist(), stops[is_first].tolist(), strict=True):
            ordinary = np.flatnonzero(~np.isin(self._ids[begin:stop], special))
            if len(ordinary):
                out.append(begin + int(ordinary[0]))
        return np.array(out, dtype=np.int64)
