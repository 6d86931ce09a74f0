"""How strongly an edit applies as the generated text grows.

A value that can be compared, written as JSON and read as a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError
from .displays import schedule_html


@dataclass(frozen=True, kw_only=True, repr=False)
class Schedule:
    """How much of an edit applies as the model writes: 0 none of it, 1 all, by the number of new tokens before.

    The prompt's tokens get what new token 0 gets. Made by `steps` and `linear`.

    >>> sk.Schedule.linear({0: 1, 8: 0}).factor(torch.tensor([-1, 0, 4, 20])).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """

    points: tuple[tuple[int, float], ...]
    """(new tokens, factor), ascending."""
    between: bool
    """Whether factors in between lie on a line; else each holds until the next."""

    def __post_init__(self) -> None:
        at = [n for n, _ in self.points]
        if not at or at != sorted(set(at)) or at[0] < 0:
            raise ConfigError(
                "a schedule needs numbers of new tokens, ascending from 0 or more",
                got=dict(self.points),
                accepted="such as {0: 1.0, 20: 0.0}",
            )
        if not all(torch.tensor([factor for _, factor in self.points]).isfinite()):
            raise ConfigError(
                "a schedule's factors are finite", got=dict(self.points), accepted="such as {0: 1.0, 20: 0.0}"
            )

    @classmethod
    def steps(cls, points: Mapping[int, float]) -> Schedule:
        """Each factor from its token on, until the next.

        >>> sk.Schedule.steps({0: 1, 8: 0})
        in full, from new token 8 not at all
        """
        return cls(points=tuple((int(n), float(f)) for n, f in sorted(points.items())), between=False)

    @classmethod
    def linear(cls, points: Mapping[int, float]) -> Schedule:
        """Straight lines between the points; level before the first and after the last.

        >>> sk.Schedule.linear({0: 0, 16: 1})
        not at all, rising to in full at new token 16
        """
        return cls(points=tuple((int(n), float(f)) for n, f in sorted(points.items())), between=True)

    def factor(self, step: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The factor after `step` new tokens; a negative step is a token of the prompt."""
        at = torch.tensor([n for n, _ in self.points], device=step.device)
        factor = torch.tensor([f for _, f in self.points], device=step.device)
        step = step.clamp_min(0)
        last = (torch.bucketize(step, at, right=True) - 1).clamp_min(0)
        if not self.between:
            return factor[last]
        following = (last + 1).clamp_max(len(at) - 1)
        width = (at[following] - at[last]).clamp_min(1)
        fraction = ((step - at[last]).clamp_min(0) / width).clamp_max(1.0)
        return factor[last] + fraction * (factor[following] - factor[last])

    def __repr__(self) -> str:
        def words(factor: float) -> str:
            return {0.0: "not at all", 1.0: "in full"}.get(factor, f"{factor:g} times")

        text, before = words(self.points[0][1]), self.points[0][1]
        for n, factor in self.points[1:]:
            if self.between:
                text += f", {'rising' if factor > before else 'falling'} to {words(factor)} at new token {n}"
            else:
                text += f", from new token {n} {words(factor)}"
            before = factor
        return text

    _repr_html_ = schedule_html

    def to_dict(self) -> dict[str, Any]:
        return {"points": [list(point) for point in self.points], "between": self.between}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Schedule:
        return cls(points=tuple((int(n), float(f)) for n, f in saved["points"]), between=bool(saved["between"]))
