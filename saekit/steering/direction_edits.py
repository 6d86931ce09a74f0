"""Edits along a direction, without an SAE: adding one, or projecting out what lies along it.

Adding: Turner et al. 2023, Activation addition. Projecting out: Arditi et al. 2024, Refusal in language models is
mediated by a single direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError, MismatchError, check_number, unknown_name
from ..sae import SAE, TokenFilter
from .directions import Direction
from .edits import Edit, register_edit
from .strength_units import StrengthUnit, raw_strengths, strength_text

if TYPE_CHECKING:
    from ..models import LanguageModel


@dataclass(frozen=True, kw_only=True, repr=False)
class DirectionEdit(Edit):
    """A change along a direction, or in the span of several."""

    parts: ClassVar[tuple[str, ...]] = ("direction",)

    direction: Direction

    @property
    def hook_name(self) -> str:
        """The direction's hook point."""
        return self.direction.hook_name

    @property
    def token_filter(self) -> TokenFilter | None:
        return self.direction.token_filter

    def check(self, model: LanguageModel) -> None:
        width, d_in = model.hook_width(self.hook_name), self.direction.vectors.shape[1]
        if width != d_in:
            raise MismatchError(
                "the direction does not fit the hook point",
                got=f"{d_in} dimensions",
                accepted=f"{width} at {self.hook_name} of {model.name}",
                fix="take a direction of this model's activations",
            )

    def to_parts(self) -> dict[str, Any]:
        return {"direction": self.direction.to_dict()}

    @classmethod
    def from_parts(cls, saved: Mapping[str, Any], saes: Sequence[SAE], **shared: Any) -> Self:
        return cls(direction=Direction.from_dict(saved["direction"]), **shared)


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class AddDirection(DirectionEdit):
    """Adds a direction, taken at length 1. Made by `add_direction`."""

    kind = "add_direction"
    parts = ("direction", "value", "unit")

    value: float
    """How much is added, in `unit`."""
    unit: StrengthUnit = "norm"
    """norm: a fraction of the token's own residual norm. raw: the activation's own units. There is no maximum."""

    def __post_init__(self) -> None:
        if self.unit not in ("norm", "raw"):
            raise unknown_name("unit", self.unit, ("norm", "raw"))
        check_number("the value", self.value)
        if len(self.direction.vectors) > 1:
            raise ConfigError(
                "one direction is added at a time",
                got=f"{len(self.direction.vectors)} directions",
                accepted="one",
                fix="pass several edits",
            )
        super().__post_init__()

    def in_words(self) -> str:
        return f"add {strength_text(self.value, self.unit)} along {self.direction.name!r}"

    def to_parts(self) -> dict[str, Any]:
        return {**super().to_parts(), "value": self.value, "unit": self.unit}

    @classmethod
    def from_parts(cls, saved: Mapping[str, Any], saes: Sequence[SAE], **shared: Any) -> Self:
        return cls(
            direction=Direction.from_dict(saved["direction"]), value=float(saved["value"]), unit=saved["unit"], **shared
        )

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        h = x.float()
        return (raw_strengths(self.value, self.unit, h, norm) * self.direction.basis.to(h)).to(x)


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class ProjectOut(DirectionEdit):
    """Removes what lies along a direction, or in the span of several. Made by `project_out`."""

    kind = "project_out"
    earlier_parts = ("value", "unit")

    def in_words(self) -> str:
        return f"project out {self.direction.name!r}"

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        h = x.float()
        basis = self.direction.basis.to(h)
        return (-(h @ basis.T) @ basis).to(x)
