"""The twenty named concepts that the default SAEs are evaluated by: what their examples are, in text and in answers.

Each concept states in advance what is scored: tokens where a word or a few mark it, whole documents (by their strongest
token) where the text as a whole is an example. `judging` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

import saekit as sk


@dataclass(frozen=True)
class NamedConcept:
    """A concept: its examples in text, what shows that an answer mentions it, and what is scored."""

    in_text: sk.Concept
    in_answer: sk.Concept
    unit: Literal["token", "document"] = "token"

    @property
    def name(self) -> str:
        return self.in_text.name

    def holds(self, document: pd.Series) -> bool:
        """Whether a document, a row of text and labels, holds the concept."""
        if self.in_text.kind == "labels":
            return all(document[label] in values for label, values in self.in_text.wanted)
        return self.in_text.present(document["text"])


def word(name: str, pattern: str, in_answer: str | None = None) -> NamedConcept:
    """A concept of the tokens that match; `in_answer` is the pattern for answers where it differs."""
    return NamedConcept(sk.Concept.regex(pattern, name=name), sk.Concept.regex(in_answer or pattern, name=name))


def language(name: str, code: str, function_words: str) -> NamedConcept:
    """A concept of the documents in a language; an answer must hold at least two of its function words."""
    either = rf"\b({function_words})\b"
    return NamedConcept(
        sk.Concept.labels(language=code, name=name), sk.Concept.regex(rf"(?s){either}.*{either}", name=name), "document"
    )


NAMED_CONCEPTS = (
    # At its last word the name has been read; every other bridge, gate and golden thing is a negative.
    word("Golden Gate Bridge", r"(?<=golden gate )bridge", r"golden gate"),
    word("bridges", r"\bbridges?\b"),
    word("Paris", r"\bparis\b|(?<=eiffel )tower", r"\bparis(ian)?\b|eiffel"),
    word("China", r"\bchina\b|\bchinese\b", r"\bchina\b|\bchinese\b|great wall"),
    word("Egypt", r"\begypt(ians?)?\b", r"\begypt(ians?)?\b|\bpyramids?\b|\bpharaohs?\b"),
    word("Japan", r"\bjapan(ese)?\b", r"\bjapan(ese)?\b|\btokyo\b"),
    word("Germany", r"\bgerman(y|s)?\b", r"\bgerman(y|s)?\b|\bberlin\b"),
    word("India", r"\bindians?\b|\bindia\b", r"\bindians?\b|\bindia\b|\bhindus?\b"),
    word("Russia", r"\brussians?\b|\brussia\b", r"\brussians?\b|\brussia\b|\bmoscow\b"),
    NamedConcept(
        sk.Concept.labels(language="python", name="Python code"),
        sk.Concept.regex(r"\bdef \w+\(|\bimport \w+|\bself\.|```python|\bprint\(", name="Python code"),
        "document",
    ),
    word("numbers", r"\d", r"\d"),
    language("French", "fr", "le|les|des|est|une|dans|pour|avec"),
    language("Spanish", "es", "el|los|las|una|por|con|del|para"),
    language("German", "de", "der|das|und|ist|nicht|ein|eine|mit"),
    word("anger", r"\banger\b|\bangry\b|\bangrily\b", r"\banger\b|\bangr(y|ily)\b|\brage\b|\bfur(y|ious)\b"),
    word("love", r"\blov(e|es|ed|ing|ers?)\b"),
    word("fear", r"\bfear(s|ed|ful)?\b|\bafraid\b", r"\bfear(s|ed|ful)?\b|\bafraid\b|\bterr(or|ified)\b|\bscared\b"),
    word("sadness", r"\bsad(ness|ly)?\b|\bsorrow\b|\bgrief\b"),
    word("markup", r"</?[a-z][a-z0-9]*(\s[^<>\n]*)?/?>"),
    word("music", r"\bmusic(al|ians?)?\b", r"\bmusic(al|ians?)?\b|\bsongs?\b|\bmelod(y|ies)\b"),
)
