"""A concept in words, as it is typed and as a sentence, and where it is in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MismatchError
from ..models.text_matching import compiled, matches
from .concept_grammar import write_label, write_regex, write_words

if TYPE_CHECKING:
    from .concepts import Concept

MAX_NAME = 120
"""Letters of a name that is put together from those of its parts."""


def word_pattern(words: Iterable[str], whole: bool) -> str:
    """The pattern of any of some words or phrases, the longest first."""
    longest_first = sorted(words, key=len, reverse=True)
    choices = "|".join(r"\s+".join(re.escape(part) for part in word.split()) for word in longest_first)
    return rf"(?<!\w)(?:{choices})(?!\w)" if whole else f"(?:{choices})"


def joint_name(kind: str, parts: Sequence[Concept]) -> str:
    """The name of a composed concept."""
    called = [f"({p.name})" if p.kind in ("and", "or") and p.kind != kind else p.name for p in parts]
    name = f"not {called[0]}" if kind == "not" else f" {kind} ".join(called)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def written(concept: Concept) -> str:
    """The form that is typed."""
    c = concept
    if c.kind == "regex":
        return write_regex(c.pattern, c.ignore_case, c.after)
    if c.kind == "keywords":
        plain = c.ignore_case and not c.after and c.pattern == word_pattern(c.words, True)
        return write_words(c.words) if plain else write_regex(c.pattern, c.ignore_case, c.after)
    if c.kind == "labels":
        return " and ".join(write_label(label, values) for label, values in c.wanted)
    if c.kind == "examples":
        return f"{{{c.name}}}"
    parts = [f"{{{p.name}}}" if p.marks else _within(p, c.kind) for p in c.parts]
    return f"not {parts[0]}" if c.kind == "not" else f" {c.kind} ".join(parts)


def described(concept: Concept) -> str:
    """Which tokens those are, as the rest of a sentence."""
    counts = sum(m.counts for m in concept.marks)
    said = [f"{n} {'counts' if n == 1 else 'count'}" for n in [counts] if n]
    said += [f"{n} {'does' if n == 1 else 'do'} not" for n in [len(concept.marks) - counts] if n]
    marks = f"; of {len(concept.marks)} marked by hand {', '.join(said)}" if concept.marks else ""
    return f"{_described(concept)}{marks}"


def spans(concept: Concept, text: str) -> list[tuple[int, int]]:
    """The characters of a text that are of the concept; MismatchError for what a text does not carry."""
    if concept.kind in ("labels", "examples"):
        about = "document labels" if concept.kind == "labels" else "marked examples"
        raise MismatchError(
            f"the concept {concept.name!r} is about {about} and cannot be found in a text",
            got=text[:80],
            accepted="a concept made by Concept.regex or Concept.keywords",
            fix="use document_mask(index) or token_mask(index) for labels",
        )
    if not concept.parts:
        return matches(compiled(concept.pattern, concept.ignore_case), text)
    inside = np.zeros((len(concept.parts), len(text)), dtype=bool)
    for row, part in zip(inside, concept.parts, strict=True):
        for start, end in spans(part, text):
            row[start:end] = True
    of = ~inside[0] if concept.kind == "not" else inside.all(0) if concept.kind == "and" else inside.any(0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], of, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _within(part: Concept, kind: str) -> str:
    """A part as it is typed inside another concept, where its own words bind less."""
    binds_less = len(part.parts) > 1 or (len(part.wanted) > 1 and kind != "and")
    return f"({written(part)})" if binds_less else written(part)


def _described(c: Concept) -> str:
    if c.kind == "examples":
        return "marked by hand"
    if c.kind == "not":
        return f"not {_part(c.parts[0])}"
    if c.parts:
        return f" {c.kind} ".join(map(_part, c.parts))
    if c.kind == "labels":
        return f"of documents {' and '.join(f'whose {k} is {_choice(values)}' for k, values in c.wanted)}"
    case = " (any case)" if c.ignore_case else " (exact case)"
    behind = f", and the {c.after} tokens behind each match" if c.after > 1 else ""
    behind = ", and the token behind each match" if c.after == 1 else behind
    what = f"one of the words {', '.join(c.words)}" if c.kind == "keywords" else f"/{c.pattern}/"
    return f"in text that matches {what}{case}{behind}"


def _choice(values: Sequence[object]) -> str:
    return " or ".join(map(repr, values))


def _part(part: Concept) -> str:
    text = _described(part) + (f" (and {len(part.marks)} marked by hand)" if part.marks else "")
    return f"({text})" if len(part.parts) > 1 else text
