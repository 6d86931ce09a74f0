"""Marks: single tokens and documents that a person counts to a concept, or takes away from it.

A mark names a document by its content and a token by its number there, never by where it stands in an index: so it
means the same when the index is opened again, and in any index that holds the document, read by the same tokenizer.
Copies of a text are marked together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, MismatchError
from .document_content import content_of, document_of, rows_of, tokens_of

if TYPE_CHECKING:
    from ..index import FeatureIndex

Place = int | tuple[int, int]
"""A flat position, window * length + pos, or (window, pos)."""
WHOLE = -1
"""In place of a token's number: the document itself, which counts when documents are scored."""


class Mark(NamedTuple):
    """One token, or one document, that counts or does not."""

    document: int
    """A hash of the document's tokens."""
    token: int
    """The token's number in the document, from 0; -1 for the document itself."""
    counts: bool


class Placed(NamedTuple):
    """Where marks stand in an index."""

    tokens: dict[int, bool]
    """By flat position."""
    documents: dict[int, bool]
    """By document number."""


def marks_of(
    index: FeatureIndex, tokens: Mapping[Any, bool | None], documents: Mapping[Any, bool | None]
) -> dict[tuple[int, int], bool | None]:
    """By (document's content, token's number), what is said of some tokens and documents of an index.

    ConfigError for what is not True, False or None, or no place of a document.
    """
    for value in (*tokens.values(), *documents.values()):
        if value is not None and not isinstance(value, (bool, np.bool_)):
            raise ConfigError(
                "a mark is neither True nor False", got=value, accepted="True: counts; False: does not; None: no mark"
            )
    flat = document_of(index)
    positions = {_position(index, place): counts for place, counts in tokens.items()}
    for position in positions:
        if not 0 <= position < len(flat) or flat[position] < 0:
            raise ConfigError(
                "no token of a document stands there",
                got=f"position {position}",
                accepted=f"window * {index.length} + pos of a document's token",
                fix="take window and pos from a context: {(context.window, context.pos): True}",
            )
    known = set(np.asarray(index.documents.index).tolist())
    for number in documents:
        if number not in known:
            raise ConfigError("no such document", got=number, accepted="a number of index.documents")
    out: dict[tuple[int, int], bool | None] = {}
    of = {position: int(flat[position]) for position in positions}
    places = tokens_of(index, sorted(set(of.values())))
    content = content_of(index)
    for position, counts in positions.items():
        token = int(np.searchsorted(places[of[position]], position))
        out[int(content[rows_of(index, [of[position]])[0]]), token] = counts
    for number, counts in documents.items():
        out[int(content[rows_of(index, [number])[0]]), WHOLE] = counts
    return out


def merged(marks: Iterable[Mark], more: Mapping[tuple[int, int], bool | None]) -> tuple[Mark, ...]:
    """The marks with some set anew; None takes one away. Sorted, so that the order of marking makes no difference."""
    known: dict[tuple[int, int], bool | None] = {(m.document, m.token): m.counts for m in marks}
    known |= more
    return tuple(sorted(Mark(d, t, bool(c)) for (d, t), c in known.items() if c is not None))


def placed(index: FeatureIndex, marks: Iterable[Mark]) -> Placed:
    """Where the marks stand in an index; MismatchError for one that holds none of a mark's document."""
    marks = tuple(marks)
    content, numbers = content_of(index), np.asarray(index.documents.index)
    wanted = np.array(sorted({m.document for m in marks}), dtype=np.uint64)
    absent = len(wanted) - len(np.intersect1d(wanted, content))
    if absent:
        raise MismatchError(
            f"{absent} of the {len(wanted)} documents that the concept's marks are in are not in this index",
            got="an index of other documents, or of another tokenizer",
            accepted="an index of the documents that were marked",
            fix="concept.unmarked is the concept without its marks",
        )
    copies: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.isin(content, wanted)):
        copies.setdefault(int(content[row]), []).append(int(numbers[row]))
    of_token = [n for m in marks if m.token != WHOLE for n in copies[m.document]]
    places: dict[int, npt.NDArray[np.int64]] = tokens_of(index, sorted(set(of_token))) if of_token else {}
    found = Placed({}, {})
    for document, token, counts in marks:
        for number in copies[document]:
            if token == WHOLE:
                found.documents[number] = counts
            else:
                found.tokens[int(places[number][token])] = counts
    return found


def _position(index: FeatureIndex, place: Any) -> int:
    try:
        window, pos = place if isinstance(place, tuple) else (0, place)
        at, inside = int(window), int(pos)
    except (TypeError, ValueError):
        raise ConfigError("not a place of a token", got=place, accepted="a flat position or (window, pos)") from None
    return at * index.length + inside if not isinstance(place, tuple) or inside < index.length else -1
