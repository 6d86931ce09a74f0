"""Which prompts of a study choose the strength and which report what it does: never the same, where there are enough.

The best of several strengths looks better on the prompts that it was chosen by than on others. The prompts are split
by a hash of their text, so that neither their order nor a look at the result moves one from side to side. Source of
the protocol: Wu et al. 2025, AxBench (a steering factor is chosen on some
instructions and reported on others).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import DataError
from ..statistics import MIN_UNITS
from .displays import prompt_split_html

CHOOSE_FRACTION = 1 / 3
"""Of the prompts: a choice among a few strengths needs fewer than an interval."""
MIN_CHOOSE = 2


@dataclass(frozen=True, kw_only=True)
class PromptSplit:
    """The prompts that choose a strength and those that report what it does."""

    choose: tuple[str, ...]
    report: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys([*self.choose, *self.report]))

    @property
    def held_out(self) -> bool:
        """Whether no prompt that reports had a part in the choice."""
        return not set(self.choose) & set(self.report)

    def __str__(self) -> str:
        n_choose, n_report = len(self.choose), len(self.report)
        if not n_choose:
            return f"no prompt chooses a strength; figures from {n_report} prompts"
        if self.held_out:
            return f"strength chosen on {n_choose} prompts, figures from {n_report} others"
        return (
            f"strength chosen on the {n_report} prompts that report it, so its figures are too good; "
            f"{smallest()} prompts are needed to keep them apart"
        )

    _repr_html_ = prompt_split_html


def smallest() -> int:
    """How many prompts it takes for two to choose and `MIN_UNITS` to report."""
    n = MIN_CHOOSE + MIN_UNITS
    while not _enough(n):
        n += 1
    return n


def split_prompts(prompts: Sequence[str], choose: Sequence[str] | None = None) -> PromptSplit:
    """The prompts in two parts: a third chooses, by a hash of the text, or `choose` does and all of `prompts` report.

    With fewer than seven prompts all of them do both. DataError for a prompt of both kinds, or twice in `choose`.

    >>> from saekit.steering.prompt_split import split_prompts
    >>> len(split_prompts([f"question {n}" for n in range(9)]).choose), split_prompts(["Who?", "Why?"]).held_out
    (3, False)
    """
    if choose is not None:
        if both := [p for p in choose if p in set(prompts)]:
            raise DataError(
                "a prompt cannot both choose the strength and report it",
                got=both,
                accepted="prompts in choose= that are not among the others",
            )
        if len(set(choose)) < len(choose):
            raise DataError("prompts that choose the strength, each once", got=list(choose), accepted="each once")
        return PromptSplit(choose=tuple(choose), report=tuple(prompts))
    if not _enough(len(prompts)):
        return PromptSplit(choose=tuple(prompts), report=tuple(prompts))
    drawn = set(sorted(prompts, key=_digest)[: _n_choose(len(prompts))])
    return PromptSplit(
        choose=tuple(p for p in prompts if p in drawn), report=tuple(p for p in prompts if p not in drawn)
    )


def _n_choose(n: int) -> int:
    return int(n * CHOOSE_FRACTION + 1e-9)


def _enough(n: int) -> bool:
    return _n_choose(n) >= MIN_CHOOSE and n - _n_choose(n) >= MIN_UNITS


def _digest(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode("utf8", "surrogatepass")).digest()
