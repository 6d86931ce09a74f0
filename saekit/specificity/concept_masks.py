"""Where a concept is in an index: which tokens are of it, and which documents hold it.

Tokens are sets: `a & b` are the tokens of both, `~a` all tokens of documents that are not of a. Documents hold a
concept or not: `a & b` those that hold both, `~a` those that do not hold a. The two are asked separately, so a
document can hold `bridge & fog` although no token is of both.

A token marked by hand is of the concept or not, whatever the words say; a document gains the concept with its first
such token and loses it with its last. A document marked by hand holds it or not, whatever its tokens say.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..errors import DataError, unknown_name
from ..models.text_matching import tokens_of_matches
from .concept_marks import placed
from .document_content import document_of

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from .concepts import Concept

Mask = npt.NDArray[np.bool_]

MAX_MASKS = 64
"""Concepts of an index whose tokens are remembered; a concept that is typed leaves one behind with every pause."""
_MASKS: WeakKeyDictionary[Any, dict[Concept, Mask]] = WeakKeyDictionary()


def tokens_with(concept: Concept, index: FeatureIndex) -> Mask:
    """True at each token of the windows [n_windows * length] that is of the concept; not to be written to."""
    known = _MASKS.setdefault(index, {})
    mask = known.get(concept)
    if mask is None:
        mask = _keep(known, concept, _tokens(concept, index))
    return mask


def documents_with(concept: Concept, index: FeatureIndex) -> Mask:
    """True for each document of the index, in the order of `index.documents`, that holds the concept."""
    numbers = np.asarray(index.documents.index)
    if concept.marks:
        plain = concept.unmarked
        holds, flat = documents_with(plain, index), document_of(index)
        before, after = (np.isin(numbers, np.unique(flat[tokens_with(c, index)])) for c in (plain, concept))
        holds = (holds | (after & ~before)) & ~(before & ~after)
        for number, counts in placed(index, concept.marks).documents.items():
            holds[numbers == number] = counts
        return holds
    if concept.kind == "labels":
        return _labelled(concept, index)
    if concept.kind == "not":
        return ~documents_with(concept.parts[0], index)
    if concept.parts:
        join = np.logical_and if concept.kind == "and" else np.logical_or
        mask: Mask = join.reduce([documents_with(part, index) for part in concept.parts])
        return mask
    found: Mask = np.isin(numbers, np.unique(document_of(index)[tokens_with(concept, index)]))
    return found


def absent(concept: Concept, index: FeatureIndex, what: str) -> DataError:
    """Why a concept that is nowhere is nowhere, and what is near it."""
    has = f"{len(index.documents):,} documents, {len(np.asarray(index.kept)):,} indexed tokens"
    asked = concept.words or re.findall(r"[^\W\d_]{3,}", concept.pattern)
    got, accepted, why = concept.written, has, ""
    if concept.kind == "labels":
        got = " and ".join(f"{k} = {' or '.join(map(str, v))}" for k, v in concept.wanted)
        fix = "no indexed document has all of these labels: ask for fewer"
    elif tokens_with(concept, index).any() and "token" in what:
        why = ": it is only at special tokens and attention sinks, which are not indexed"
        fix = "pass after=1 to count the next token"
        got = concept.pattern or got
    elif concept.kind == "and" and not any(_nowhere(part, index) for part in concept.parts):
        fix = 'its parts are there, never together: unit="document" asks for documents that hold all of them'
        if "document" in what:
            fix = "its parts are there, but no document holds all of them"
    else:
        accepted = f"text in the corpus ({has})"
        got = " | ".join(concept.words) or concept.pattern or got
        asked = asked or [w for part in _atoms(concept) if _nowhere(part, index) for w in part.words]
        near = _near_words(index, asked)
        fix = f"words of the corpus that look alike: {', '.join(near)}" if near else "try a shorter or looser pattern"
    return DataError(f"the concept {concept.name!r} {what} of this corpus{why}", got=got, accepted=accepted, fix=fix)


def _tokens(concept: Concept, index: FeatureIndex) -> Mask:
    documents = document_of(index)
    if concept.marks:
        mask: Mask = tokens_with(concept.unmarked, index).copy()
        found = placed(index, concept.marks).tokens
        mask[np.array(list(found), dtype=np.int64)] = np.array(list(found.values()), dtype=bool)
        return mask
    if concept.kind == "labels":
        chosen = np.asarray(index.documents.index)[_labelled(concept, index)]
        return np.isin(documents, chosen) & (documents >= 0)
    if concept.kind == "not":
        return ~tokens_with(concept.parts[0], index) & (documents >= 0)
    if concept.parts:
        known = _MASKS.setdefault(index, {})
        texts = {atom for atom in _atoms(concept) if atom.pattern and not atom.marks and atom not in known}
        if 1 < len(texts) < MAX_MASKS:  # in one pass, since most of the time goes into decoding
            for atom, mask in _matched(list(texts), index).items():
                _keep(known, atom, mask)
        join = np.logical_and if concept.kind == "and" else np.logical_or
        together: Mask = join.reduce([tokens_with(part, index) for part in concept.parts])
        return together
    if concept.kind == "examples":
        return np.zeros(documents.size, dtype=bool)
    return _matched([concept], index)[concept]


def _matched(concepts: list[Concept], index: FeatureIndex) -> dict[Concept, Mask]:
    """The tokens of some text concepts, all found while the text is decoded once."""
    found: dict[Concept, Mask] = {c: np.zeros(document_of(index).size, dtype=bool) for c in concepts}
    for begin, stop, text in index.texts():
        for concept, mask in found.items():
            for first, last in tokens_of_matches(text, concept.spans(text.text)):
                mask[begin + first : min(begin + last + concept.after, stop)] = True
    return found


def _keep(known: dict[Concept, Mask], concept: Concept, mask: Mask) -> Mask:
    mask.setflags(write=False)
    while len(known) >= MAX_MASKS:
        known.pop(next(iter(known)), None)
    known[concept] = mask
    return mask


def _labelled(concept: Concept, index: FeatureIndex) -> Mask:
    frame = index.documents
    mask: Mask = np.ones(len(frame), dtype=bool)
    for key, values in concept.wanted:
        if key not in frame.columns:
            raise unknown_name("label", key, frame.columns, fix="index.documents shows every document's labels")
        known = sorted(frame[key].dropna().unique().tolist(), key=str)
        for value in values:
            if value not in known:
                raise unknown_name(f"value of the label {key!r}", value, known)
        mask &= frame[key].isin(values).to_numpy()
    return mask


def _atoms(concept: Concept) -> list[Concept]:
    return [atom for part in concept.parts for atom in _atoms(part)] if concept.parts else [concept]


def _nowhere(concept: Concept, index: FeatureIndex) -> bool:
    return not tokens_with(concept, index).any()


def _near_words(index: FeatureIndex, words: Iterable[str]) -> list[str]:
    """Words of the corpus (of its first texts, where it is large) that look like the ones asked for."""
    texts = (text.text for _, _, text in islice(index.texts(), 5000))
    known: dict[str, str] = {}
    for word in (w for text in texts for w in re.findall(r"[^\W\d_]{3,}", text)):
        known.setdefault(word.lower(), word)
    near = [difflib.get_close_matches(w.lower(), list(known), n=2, cutoff=0.6) for word in words for w in word.split()]
    return [known[w] for group in near for w in group][:5]
