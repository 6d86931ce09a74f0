"""What a person means by a concept: a pattern in the text, a label of the document, places marked by hand, and these
together.

A Concept says which indexed tokens, and which documents, belong to it. Text is matched in each window as it was
decoded from its tokens, document by document: what a model never read together is never one match. `concept_masks` says
where a concept is in an index, `concept_marks` what is marked by hand, `concept_grammar` how a concept is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arguments import checks_arguments
from ..errors import ConfigError, unknown_name
from ..models.text_matching import compiled
from .concept_grammar import Term, read
from .concept_marks import Mark, marks_of, merged
from .concept_masks import Mask, absent, documents_with, tokens_with
from .concept_text import described, joint_name, spans, word_pattern, written
from .displays import concept_html

if TYPE_CHECKING:
    from ..index import FeatureIndex

MAX_PATTERN = 100_000
"""Letters of what is looked for at most: compiling a pattern takes time with its length."""
Label = str | int | float | bool
Kind = Literal["regex", "keywords", "labels", "examples", "and", "or", "not"]


@dataclass(frozen=True, kw_only=True)
class Concept:
    """What to look for. Made by `Concept.regex`, `Concept.keywords`, `Concept.labels`, `Concept.examples` or, as it is
    written, by `Concept.parse`.

    `a & b`, `a | b` and `~a` are concepts too, and `marked` counts single tokens and documents by hand. Tokens are
    sets: `a & b` are the tokens of both, `~a` all others. A document holds `a & b` when it holds both, wherever, and
    `~a` when it does not hold a.

    >>> bridge, chat = sk.Concept.keywords(["bridge", "gate"], name="crossings"), sk.Concept.labels(style="chat")
    >>> bridge
    Concept 'crossings': tokens in text that matches one of the words bridge, gate (any case)
    >>> bridge & ~chat  # doctest: +NORMALIZE_WHITESPACE
    Concept 'crossings and not style=chat': tokens in text that matches one of the words bridge, gate (any case) and
    not of documents whose style is 'chat'
    """

    name: str
    """Its name in tables and plots."""
    kind: Kind
    pattern: str = ""
    """The regular expression; empty for what is not text."""
    words: tuple[str, ...] = ()
    """The keywords as given."""
    ignore_case: bool = True
    after: int = 0
    """Tokens behind each match, in the same window and document, that belong to the concept too."""
    wanted: tuple[tuple[str, tuple[Label, ...]], ...] = ()
    """Label names with the accepted values of each; a document must satisfy all of them."""
    parts: tuple[Concept, ...] = ()
    """What `and`, `or` and `not` are of."""
    marks: tuple[Mark, ...] = ()
    """Tokens and documents that count, or do not, whatever else the concept says."""

    def __post_init__(self) -> None:
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 0:
            raise ConfigError(
                "after is not a number of tokens", got=self.after, accepted="an integer of at least 0", fix="after=5"
            )
        if self.kind in ("regex", "keywords"):
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
        return cls(
            name=name or ", ".join(given),
            kind="keywords",
            pattern=word_pattern(given, whole_words),
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

    @classmethod
    @checks_arguments
    def examples(
        cls,
        index: FeatureIndex,
        tokens: Mapping[Any, bool | None] | None = None,
        *,
        documents: Mapping[int, bool | None] | None = None,
        name: str = "examples",
    ) -> Concept:
        """The concept of what is marked by hand and of nothing else; arguments as of `marked`.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> int(sk.Concept.examples(index, {(0, 3): True, (0, 4): True}).token_mask(index).sum())
        2
        """
        return cls(name=name, kind="examples").marked(index, tokens, documents=documents)

    @classmethod
    def parse(cls, written: str, *, given: Mapping[str, Concept] | None = None) -> Concept:
        """The concept of a written form: words, "phrases", /patterns/, label:value, and, or, not, parentheses.

        `given` are concepts that are written {name}. ConfigError says at which letter something is wrong.

        >>> sk.Concept.parse('bridge or golden gate').name
        'bridge or golden gate'
        >>> sk.Concept.parse("/bridges?/ and not (style:chat or fog)").written
        '/bridges?/ and not (style:chat or fog)'
        """
        if not isinstance(written, str):
            raise ConfigError("a written concept is no text", got=written, accepted="a string", fix='"bridge or gate"')
        return cls._of(read(written), given or {})

    @classmethod
    def _of(cls, term: Term, given: Mapping[str, Concept]) -> Concept:
        if term.kind == "words":
            return cls.keywords(term.words)
        if term.kind == "regex":
            return cls.regex(term.pattern, ignore_case=term.ignore_case, after=term.after)
        if term.kind == "label":
            return cls.labels({term.words[0]: term.values})
        if term.kind == "given":
            if term.words[0] not in given:
                raise unknown_name("given concept", term.words[0], given)
            return given[term.words[0]]
        parts = tuple(cls._of(part, given) for part in term.parts)
        return cls._together(term.kind, parts)

    @classmethod
    def _together(cls, kind: Literal["and", "or", "not"], parts: tuple[Concept, ...]) -> Concept:
        name = joint_name(kind, parts)
        flat = tuple(q for p in parts for q in (p.parts if p.kind == kind != "not" and not p.marks else (p,)))
        return cls(name=name, kind=kind, parts=flat)

    def __and__(self, other: Concept) -> Concept:
        return self._together("and", (self, other)) if isinstance(other, Concept) else NotImplemented

    def __or__(self, other: Concept) -> Concept:
        return self._together("or", (self, other)) if isinstance(other, Concept) else NotImplemented

    def __invert__(self) -> Concept:
        return self._together("not", (self,))

    def __bool__(self) -> bool:
        raise ConfigError(
            "a concept is neither true nor false: Python's and, or and not would drop one of two concepts",
            got=self.name,
            fix="a & b, a | b, ~a; concept.present(text) for a text",
        )

    @checks_arguments
    def marked(
        self,
        index: FeatureIndex,
        tokens: Mapping[Any, bool | None] | None = None,
        *,
        documents: Mapping[int, bool | None] | None = None,
    ) -> Concept:
        """The concept with single tokens and documents that count (True), do not (False), or lose their mark (None).

        Tokens are named by flat position or (window, pos), as contexts name them, documents by their number. Marks
        stay with the text: they mean the same in another index that holds these documents, and MismatchError is raised
        by one that does not. A marked document counts when documents are scored.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> gate = sk.Concept.keywords("gate")
        >>> more = gate.marked(index, {(0, 3): True})
        >>> int(more.token_mask(index).sum() - gate.token_mask(index).sum()), len(more.marks), more.unmarked == gate
        (1, 1, True)
        """
        return replace(self, marks=merged(self.marks, marks_of(index, tokens or {}, documents or {})))

    @property
    def unmarked(self) -> Concept:
        """The concept without what is marked by hand."""
        return replace(self, marks=()) if self.marks else self

    @property
    def written(self) -> str:
        """The form that `Concept.parse` reads, without marks; a part that has none is written {name}."""
        return written(self)

    def __repr__(self) -> str:
        return f"Concept {self.name!r}: tokens {described(self)}"

    _repr_html_ = concept_html

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The (start, end) characters of each match in `text`; empty matches do not count.

        Of a composed concept the characters that belong to it, as sets; marks are of an index and not of a text.
        MismatchError for a concept of labels, which a text does not carry.
        """
        return spans(self, text)

    def present(self, text: str) -> bool:
        """Whether `text` holds the concept, as a document does.

        >>> sk.Concept.regex("bridge$").present("cross the Bridge")
        True
        """
        if self.kind == "not":
            return not self.parts[0].present(text)
        if self.parts:
            return (all if self.kind == "and" else any)([part.present(text) for part in self.parts])
        return bool(self.spans(text))

    def token_mask(self, index: FeatureIndex) -> Mask:
        """True for each kept token of the index [n_kept] that belongs to the concept, in the order of `index.kept`.

        DataError when no token does; UnknownNameError for labels or values that the corpus does not have;
        MismatchError for marks in documents that the index does not hold.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> mask = sk.Concept.regex("golden gate bridge").token_mask(index)
        >>> "".join(index.token_strings(index.kept[mask][:18]))
        'golden gate bridge'
        """
        mask: Mask = self.flat_mask(index)[np.asarray(index.kept)]
        if not mask.any():
            raise absent(self, index, "matches no indexed token")
        return mask

    def document_mask(self, index: FeatureIndex) -> Mask:
        """True for each document of the index [n_documents] that holds the concept, in the order of `index.documents`.

        A document holds a text concept when one of its windows does, so a match cut in two by a window's edge is not
        seen, neither here nor by the model. Raises as `token_mask`.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> int(sk.Concept.labels(topic="bridge").document_mask(index).sum())
        10
        """
        mask = documents_with(self, index)
        if not mask.any():
            raise absent(self, index, "matches no document")
        return mask

    def flat_mask(self, index: FeatureIndex) -> Mask:
        """True at each token of the windows [n_windows * length] that belongs to the concept, special ones included.

        Found once for an index and remembered; not to be written to.
        """
        return tokens_with(self, index)


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
