"""Which documents the model is asked to write: topics crossed with styles, aspects and prompts.

Every fourth document is a question and answer, and half of the chat documents open with a question too; the rest are
asked for by style. The random choices come from the caller, so that each corpus keeps the text that its seed gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Strings = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Topic:
    """What documents are about."""

    label: str
    group: str
    name: str
    """As it stands in a prompt."""
    n_documents: int


@dataclass(frozen=True)
class Prompts:
    """How documents are asked for."""

    by_style: Strings
    """Templates of {name} and {aspect} for each style; "qa" has none of its own."""
    in_language: Sequence[str]
    """Templates for topics of the group "language"."""
    questions: Strings
    """Templates of {name} for each group of topics."""
    aspects: Strings
    """For each group of topics."""
    fallback_group: str = "thing"
    """Whose questions and aspects serve a group that has none."""


def plan_documents(
    topics: Iterable[Topic], prompts: Prompts, pick: Callable[[Sequence[str]], str]
) -> list[dict[str, str]]:
    """A row per document in the order of topics: topic, group, style, and the prompt that asks for it."""
    styles = list(prompts.by_style)
    rows = []
    for topic in topics:
        group = topic.group if topic.group in prompts.questions else prompts.fallback_group
        for i in range(topic.n_documents):
            style = styles[i % len(styles)]
            if style == "qa" or (style == "chat" and i % 8 < 4):
                templates = prompts.questions[group]
            elif topic.group == "language":
                templates = prompts.in_language
            else:
                templates = prompts.by_style[style]
            prompt = pick(templates).format(name=topic.name, aspect=pick(prompts.aspects[group]))
            rows.append({"topic": topic.label, "group": topic.group, "style": style, "prompt": prompt})
    return rows
