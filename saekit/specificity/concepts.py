"""What a person means by a concept: a pattern in the text, or a label of the document.

A Concept says which indexed tokens, and which documents, belong to it. Text is matched in each window as it was
decoded from its tokens, document by document: what a model never read together is never one match.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ..arguments import checks_arguments
from ..errors import ConfigError, DataError, MismatchError, unknown_name
from ..models.text_matching import compiled, matches, tokens_of_matches
from .displays import concept_html

if TYPE_CHECKING:
    from ..index import FeatureIndex

MAX_PATTERN = 100_000
"""Letters of what is looked for at most: compiling a pattern takes time with its length."""
Mask = npt.NDArray[np.bool_]
Label = str | int | float | bool

_MASKS: WeakKeyDictionary[Any, dict[Concept, Mask]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Concept:
    """What to look for. Made by `Concept.regex`, `Concept.keywords` or `Concept.labels`.

    >>> sk.Concept.keywords(["bridge", "gate"], name="crossings")
    Concept 'crossings': tokens in text that matches one of the words bridge, gate (any case)
    """

    name: str
    """Its name in tables and plots."""
    kind: Literal["regex", "keywords", "labels"]
    pattern: str = ""
    """The regular expression; empty for labels."""
    words: tuple[str, ...] = ()
    """The keywords as given."""
    ignore_case: bool = True
    after: int = 0
    """Tokens behind each match, in the same window and document, that belong to the concept too."""
    wanted: tuple[tuple[str, tuple[Label, ...]], ...] = ()
    """Label names with the accepted values of each; a document must satisfy all of them."""

    def __post_init__(self) -> None:
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 0:
            raise ConfigError(
                "after is not a number of tokens", got=self.after, accepted="an integer of at least 0", fix="after=5"
            )
        if self.kind != "labels":
            compiled(self.pattern, self.ignore_case)

    @classmethod
    @checks_arguments
    def regex(cls, pattern: str, *, name: str | None = None, after: int = 0, ignore_case: bool = True) -> Concept:
        """The concept of all tokens that overlap a match of a regular expression (Python's `re`).

        `after` adds the tokens behind each match: a model has only read "Golden Gate Bridge" at its last token. A
        look-behind, "(?<=Golden Gate )Bridge", counts that last word alone. ConfigError for a bad pattern.

        >>> sk.Concept.regex(r"golden gate( bridge)?").spans("The Golden Gate Bridge")
        [(4, 22)]
        """
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError("no pattern to look for", got=repr(pattern), accepted="a regular expression as text")
        if len(pattern) > MAX_PATTERN:
            raise ConfigError(
                "the pattern is too long", got=f"{len(pattern):,} letters", accepted=f"at most {MAX_PATTERN:,} letters"
            )
        return cls(name=name or pattern, kind="regex", pattern=pattern, ignore_case=ignore_case, after=after)

    @classmethod
    @checks_arguments
    def keywords(
        cls,
        words: str | Iterable[str],
        *,
        name: str | None = None,
        after: int = 0,
        ignore_case: bool = True,
        whole_words: bool = True,
    ) -> Concept:
        """The concept of all tokens in any of some words or phrases; a space in a phrase matches any white space.

        >>> whole, part = sk.Concept.keywords(["gate"]), sk.Concept.keywords(["gate"], whole_words=False)
        >>> whole.present("a tollgate"), part.present("a tollgate")
        (False, True)
        """
        given = (words,) if isinstance(words, str) else tuple(words)
        if not given or any(not isinstance(w, str) or not w.strip() for w in given):
            raise ConfigError(
                "no keywords to look for",
                got=list(given),
                accepted="words that are not empty",
                fix='Concept.keywords(["bridge", "Golden Gate"])',
            )
        if sum(map(len, given)) > MAX_PATTERN:
            raise ConfigError(
                "too many keywords",
                got=f"{len(given):,} words of {sum(map(len, given)):,} letters",
                accepted=f"at most {MAX_PATTERN:,} letters together",
                fix="look for fewer words, or label the documents and use Concept.labels",
            )
        longest_first = sorted(given, key=len, reverse=True)
        choices = "|".join(r"\s+".join(re.escape(part) for part in word.split()) for word in longest_first)
        pattern = rf"(?<!\w)(?:{choices})(?!\w)" if whole_words else f"(?:{choices})"
        return cls(
            name=name or ", ".join(given),
            kind="keywords",
            pattern=pattern,
            words=given,
            ignore_case=ignore_case,
            after=after,
        )

    @classmethod
    def labels(
        cls,
        labels: Mapping[str, Label | Collection[Label]] | None = None,
        /,
        *,
        name: str | None = None,
        **more: Label | Collection[Label],
    ) -> Concept:
        """The concept of all tokens of documents with these labels; a collection of values accepts any of them.

        Several labels must all hold. A label that is itself called "name" goes into the mapping.

        >>> sk.Concept.labels(topic=["cats", "dogs"], style="chat", name="pets")
        Concept 'pets': tokens of documents whose topic is 'cats' or 'dogs' and whose style is 'chat'
        """
        both = {**(labels or {}), **more}
        wanted = tuple((key, _values(key, value)) for key, value in both.items())
        if not wanted:
            raise ConfigError("no labels to look for", accepted="at least one", fix='Concept.labels(topic="cats")')
        label = ", ".join(f"{key}={' or '.join(map(str, values))}" for key, values in wanted)
        return cls(name=name or label, kind="labels", wanted=wanted)

    def __repr__(self) -> str:
        case = " (any case)" if self.ignore_case else " (exact case)"
        behind = f", and the {self.after} tokens behind each match" if self.after > 1 else ""
        behind = ", and the token behind each match" if self.after == 1 else behind
        if self.kind == "labels":
            clauses = [f"whose {key} is {' or '.join(map(repr, values))}" for key, values in self.wanted]
            return f"Concept {self.name!r}: tokens of documents {' and '.join(clauses)}"
        what = f"one of the words {', '.join(self.words)}" if self.kind == "keywords" else f"/{self.pattern}/"
        return f"Concept {self.name!r}: tokens in text that matches {what}{case}{behind}"

    _repr_html_ = concept_html

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The (start, end) characters of each match in `text`; empty matches do not count.

        MismatchError for a concept of labels, which a text does not carry.
        """
        if self.kind == "labels":
            raise MismatchError(
                f"the concept {self.name!r} is about document labels and cannot be found in a text",
                got=text[:80],
                accepted="a concept made by Concept.regex or Concept.keywords",
                fix="use document_mask(index) or token_mask(index) for labels",
            )
        return matches(compiled(self.pattern, self.ignore_case), text)

    def present(self, text: str) -> bool:
        """Whether `text` holds the concept.

        >>> sk.Concept.regex("bridge$").present("cross the Bridge")
        True
        """
        return bool(self.spans(text))

    def token_mask(self, index: FeatureIndex) -> Mask:
        """True for each kept token of the index [n_kept] that belongs to the concept, in the order of `index.kept`.

        DataError when no token does; UnknownNameError for labels or values that the corpus does not have.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> mask = sk.Concept.regex("golden gate bridge").token_mask(index)
        >>> "".join(index.token_strings(index.kept[mask][:18]))
        'golden gate bridge'
        """
        mask: Mask = self.flat_mask(index)[np.asarray(index.kept)]
        if not mask.any():
            raise self._absent(index, "matches no indexed token")
        return mask

    def document_mask(self, index: FeatureIndex) -> Mask:
        """True for each document of the index [n_documents] that holds the concept, in the order of `index.documents`.

        A document holds a text concept when one of its windows does, so a match cut in two by a window's edge is not
        seen, neither here nor by the model. Raises as `token_mask`.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> int(sk.Concept.labels(topic="bridge").document_mask(index).sum())
        10
        """
        numbers = np.asarray(index.documents.index)
        if self.kind == "labels":
            mask = self._label_mask(index)
        else:
            documents = np.asarray(index.windows.documents).reshape(-1)
            mask = np.isin(numbers, np.unique(documents[self.flat_mask(index)]))
        if not mask.any():
            raise self._absent(index, "matches no document")
        return mask

    def flat_mask(self, index: FeatureIndex) -> Mask:
        """True at each token of the windows [n_windows * length] that belongs to the concept, special ones included.

        Found once for an index and remembered as long as the index lives; not to be written to.
        """
        known = _MASKS.setdefault(index, {})
        if self not in known:
            documents = np.asarray(index.windows.documents).reshape(-1)
            if self.kind == "labels":
                chosen = np.asarray(index.documents.index)[self._label_mask(index)]
                known[self] = np.isin(documents, chosen) & (documents >= 0)
            else:
                known[self] = self._text_mask(index)
            known[self].setflags(write=False)
        return known[self]

    def _text_mask(self, index: FeatureIndex) -> Mask:
        mask: Mask = np.zeros(np.asarray(index.windows.tokens).size, dtype=bool)
        for begin, stop, text in index.texts():
            for first, last in tokens_of_matches(text, self.spans(text.text)):
                mask[begin + first : min(begin + last + self.after, stop)] = True
        return mask

    def _label_mask(self, index: FeatureIndex) -> Mask:
        frame = index.documents
        mask: Mask = np.ones(len(frame), dtype=bool)
        for key, values in self.wanted:
            if key not in frame.columns:
                raise unknown_name("label", key, frame.columns, fix="index.documents shows every document's labels")
            known = sorted(frame[key].dropna().unique().tolist(), key=str)
            for value in values:
                if value not in known:
                    raise unknown_name(f"value of the label {key!r}", value, known)
            mask &= frame[key].isin(values).to_numpy()
        return mask

    def _absent(self, index: FeatureIndex, what: str) -> DataError:
        has = f"{len(index.documents):,} documents, {len(np.asarray(index.kept)):,} indexed tokens"
        if self.kind == "labels":
            clauses = " and ".join(f"{k} = {' or '.join(map(str, v))}" for k, v in self.wanted)
            return DataError(
                f"the concept {self.name!r} {what} of this corpus",
                got=clauses,
                accepted=has,
                fix="no indexed document has all of these labels: ask for fewer",
            )
        if self.flat_mask(index).any():
            return DataError(
                f"the concept {self.name!r} {what} of this corpus: it is only at special tokens and attention sinks, "
                "which are not indexed",
                got=self.pattern,
                accepted=has,
                fix="pass after=1 to count the next token",
            )
        near = _near_words(index, self.words or re.findall(r"[^\W\d_]{3,}", self.pattern))
        fix = f"words of the corpus that look alike: {', '.join(near)}" if near else "try a shorter or looser pattern"
        return DataError(
            f"the concept {self.name!r} {what} of this corpus",
            got=" | ".join(self.words) or self.pattern,
            accepted=f"text in the corpus ({has})",
            fix=fix,
        )


def _values(key: str, value: Label | Collection[Label]) -> tuple[Label, ...]:
    several = isinstance(value, Collection) and not isinstance(value, str)
    values: tuple[Label, ...] = (
        tuple(sorted(value, key=str))
        if isinstance(value, (set, frozenset))
        else (
            tuple(value) if several else (value,)  # type: ignore[arg-type, assignment]
        )
    )
    if not values:
        raise ConfigError(f"no value of the label {key!r} to look for", got=value, accepted="a value or several")
    return values


def _near_words(index: FeatureIndex, words: Iterable[str]) -> list[str]:
    """Words of the corpus (of its first texts, where it is large) that look like the ones asked for."""
    texts = (text.text for _, _, text in islice(index.texts(), 5000))
    known: dict[str, str] = {}
    for word in (w for text in texts for w in re.findall(r"[^\W\d_]{3,}", text)):
        known.setdefault(word.lower(), word)
    near = [difflib.get_close_matches(w.lower(), list(known), n=2, cutoff=0.6) for word in words for w in word.split()]
    return [known[w] for group in near for w in group][:5]
