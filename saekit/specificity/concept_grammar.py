"""The written form of concepts: what a person types, read into terms and written from a concept.

    bridge                        the word, in any case
    golden gate, "bay bridge"     words beside each other are a phrase; a comma stands between words of one list
    /\\bbridges?\\b/              a regular expression; /Gate/c in exact case, /gate/+2 with two tokens behind it
    topic:bridge  year:1999|2001  documents with this value of a label, or one of several
    {name}                        a concept that was given by name
    and, or, not, ( )             `not` binds closest, then `and`, then `or`

A quoted number or word is text: `year:"1999"` is the text, `year:1999` the number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError

MAX_WRITTEN = 10_000
"""Letters of a written concept at most."""
MAX_DEPTH = 50
"""Parentheses and nots inside each other at most."""
RESERVED = {"and", "or", "not"}
ACCEPTED = 'words, "phrases", /patterns/, label:value, combined by and, or, not and ( )'
QUOTES = '"\u201c\u201d'
_SPECIAL = set("(),|:{}") | set(QUOTES)
_BARE = re.compile(r"[^\s(),{}:/|\\\"\u201c\u201d][^\s(),{}:|\\\"\u201c\u201d]*")

Kind = Literal["words", "regex", "label", "given", "and", "or", "not"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A part of a written concept."""

    kind: Kind
    words: tuple[str, ...] = ()
    """The words of a list; the name of a label or of a given concept."""
    pattern: str = ""
    ignore_case: bool = True
    after: int = 0
    values: tuple[Any, ...] = ()
    """Accepted values of a label."""
    parts: tuple[Term, ...] = ()


def read(text: str) -> Term:
    """The terms of a written concept; ConfigError that says at which letter it cannot be read.

    >>> from saekit.specificity.concept_grammar import read
    >>> [part.kind for part in read("bridge or not /gates?/").parts]
    ['words', 'not']
    >>> read("topic:cats and (dog or)")
    Traceback (most recent call last):
    saekit.errors.ConfigError: something is missing after "or" at letter 23
      seen:     topic:cats and (dog or)
                                      ^
      accepted: words, "phrases", /patterns/, label:value, combined by and, or, not and ( )
    """
    if not text.strip():
        raise ConfigError("no concept is written", accepted=ACCEPTED, fix="write a word, such as bridge")
    if len(text) > MAX_WRITTEN:
        raise ConfigError("the concept is too long", got=f"{len(text):,} letters", accepted=f"at most {MAX_WRITTEN:,}")
    return _Reader(text).whole()


def write_words(words: Sequence[str]) -> str:
    """A list of words or phrases as they are typed."""
    return ", ".join(map(_quoted, words))


def write_regex(pattern: str, ignore_case: bool, after: int) -> str:
    """A regular expression as it is typed."""
    escaped = re.sub(r"(\\[\s\S])|/", lambda m: m[1] or r"\/", pattern)
    return f"/{escaped}/{'' if ignore_case else 'c'}{f'+{after}' if after else ''}"


def write_label(label: str, values: Sequence[Any]) -> str:
    """A label and its accepted values as they are typed."""
    return f"{_quoted(label)}:{'|'.join(_value(v) for v in values)}"


def _quoted(word: str) -> str:
    if _BARE.fullmatch(word) and word.lower() not in RESERVED:
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    return _quoted(value) if isinstance(_plain(value), str) and value.lower() not in RESERVED else f'"{value}"'


def _plain(word: str) -> Any:
    """An unquoted value of a label: a number or a truth value where it reads like one."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if repr(number) == word:
            return number
    return word


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth, self.last = text, 0, 0, ""

    def whole(self) -> Term:
        term = self.either()
        if self.more():
            if self.text[self.at] == ")":
                raise self.error("a ) without its (")
            raise self.error("and, or or a comma is missing")
        return term

    def either(self) -> Term:
        return self.joined("or", lambda: self.joined("and", self.one))

    def joined(self, word: Literal["and", "or"], read: Any) -> Term:
        parts = [read()]
        while self.takes(word):
            parts.append(read())
        return parts[0] if len(parts) == 1 else Term(kind=word, parts=tuple(parts))

    def one(self) -> Term:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} parentheses or nots inside each other")
        try:
            if self.takes("not"):
                return Term(kind="not", parts=(self.one(),))
            if not self.more() or self.text[self.at] == ")" or self.word_here() in RESERVED:
                behind = f' after "{self.last}"' if self.last else " here"
                raise self.error(f"something is missing{behind}")
            if self.text[self.at] == "(":
                begin = self.at
                self.step("(")
                term = self.either()
                if not self.more() or self.text[self.at] != ")":
                    raise self.error("a ( without its )", begin)
                self.step(")")
                return term
            return self.term()
        finally:
            self.depth -= 1

    def term(self) -> Term:
        here = self.text[self.at]
        if here == "/":
            return self.regex()
        if here == "{":
            end = self.text.find("}", self.at)
            if end < 0:
                raise self.error("a { without its }")
            name = self.text[self.at + 1 : end]
            self.at, self.last = end + 1, "}"
            return Term(kind="given", words=(name,))
        words = [self.phrase()]
        if isinstance(words[0], Term):
            return words[0]
        while self.more() and self.text[self.at] == ",":
            self.step(",")
            words.append(self.phrase())
            if isinstance(words[-1], Term):
                raise self.error("a list has words only: put or before a label")
        return Term(kind="words", words=tuple(words))

    def phrase(self) -> Any:
        """Words beside each other, a quoted phrase, or a label with its values, which is a Term."""
        if not self.more() or self.text[self.at] in ",)(/{|:" or self.word_here() in RESERVED:
            raise self.error("a word is missing" + (f' after "{self.last}"' if self.last else ""))
        begin, quoted = self.at, self.text[self.at] in QUOTES
        words = [self.quoted() if quoted else self.bare()]
        if self.text[self.at : self.at + 1] == ":":
            return self.label(words[0])
        while not quoted and self.more() and self.text[self.at] not in "(),/{" and self.word_here() not in RESERVED:
            if self.text[self.at] in QUOTES or self.text[self.at] in "|:}":
                break
            before = self.at
            words.append(self.bare())
            if self.text[self.at : self.at + 1] == ":":
                raise self.error("and, or or a comma is missing", before)
        if not quoted and self.more() and self.text[self.at] in QUOTES:
            raise self.error("and, or or a comma is missing")
        phrase = " ".join(words)
        if not phrase.strip():
            raise self.error("an empty phrase", begin)
        return phrase

    def label(self, name: str) -> Term:
        self.at, values = self.at + 1, []
        while True:
            here = self.text[self.at : self.at + 1]
            if not here or here.isspace() or here in ",()|:/{}":
                raise self.error(f"a value of the label {name} is missing")
            values.append(self.quoted() if here in QUOTES else _plain(self.bare()))
            if self.text[self.at : self.at + 1] != "|":
                return Term(kind="label", words=(name,), values=tuple(values))
            self.at += 1

    def regex(self) -> Term:
        found = re.compile(r"/((?:\\[\s\S]|[^/\\])+)/(c?)(?:\+(\d{1,6}))?").match(self.text, self.at)
        if found is None:
            raise self.error("a / without the one that ends the pattern; quote a word that begins with it")
        self.at, self.last = found.end(), found[0]
        pattern = found[1].replace(r"\/", "/")
        return Term(kind="regex", pattern=pattern, ignore_case=not found[2], after=int(found[3] or 0))

    def quoted(self) -> str:
        found = re.compile(rf"[{QUOTES}]((?:\\[\s\S]|[^\\{QUOTES}])*)[{QUOTES}]").match(self.text, self.at)
        if found is None:
            raise self.error("a quotation mark without the second")
        self.at, self.last = found.end(), found[0]
        return re.sub(r"\\([\s\S])", r"\1", found[1])

    def bare(self) -> str:
        begin = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace() and self.text[self.at] not in _SPECIAL:
            self.at += 1
        if self.at == begin:
            raise self.error(f'"{self.text[begin]}" cannot stand here; quote a word that holds it')
        self.last = self.text[begin : self.at]
        return self.last

    def word_here(self) -> str:
        """The operator that stands here, if one does."""
        found = re.compile(r"(and|or|not)(?=[\s(),{\"\u201c\u201d]|$)", re.IGNORECASE).match(self.text, self.at)
        return found[1].lower() if found else ""

    def takes(self, word: str) -> bool:
        if not self.more() or self.word_here() != word:
            return False
        self.step(self.text[self.at : self.at + len(word)])
        return True

    def step(self, text: str) -> None:
        self.at, self.last = self.at + len(text), text

    def more(self) -> bool:
        """Whether anything but white space is left; moves to it."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at < len(self.text)

    def error(self, what: str, at: int | None = None) -> ConfigError:
        at = self.at if at is None else at
        arrow = "\n" + " " * (12 + at) + "^" if len(self.text) <= 100 and "\n" not in self.text else ""
        return ConfigError(f"{what} at letter {at + 1}", got=self.text + arrow, accepted=ACCEPTED)
