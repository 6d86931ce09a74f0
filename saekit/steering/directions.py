"""Directions in the activations at a hook point, and edits along them: what an SAE's features are compared with.

Adding one: Turner et al. 2023, Activation addition. Projecting out: Arditi et al. 2024, Refusal in language models is
mediated by a single direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..atomic_io import with_current_keys
from ..errors import ConfigError, MismatchError, unknown_name
from ..sae import TokenFilter
from .edits import Edit, Unit, amount
from .where import digest

if TYPE_CHECKING:
    from ..models import LanguageModel

DirectionKind = Literal["add", "project_out"]


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """A direction in the activations at a hook point, or several that are handled together.

    >>> sk.Direction(torch.randn(32), hook_name=HOOK, name="mean difference")
    Direction 'mean difference' at blocks.0.hook_resid_post
    """

    vectors: Float[Tensor, "n d_in"] = field(repr=False)
    """One vector [d_in], or several in rows; any length."""
    hook_name: str = ""
    name: str = "a direction"
    token_filter: TokenFilter | None = None
    """Which tokens are left unedited: special ones and sinks, whose norm is thousands of times the others'. None: what
    `sk.resolve_token_filter` finds for an SAE at this hook point."""

    def __post_init__(self) -> None:
        with torch.inference_mode(False):
            rows = torch.as_tensor(self.vectors).detach().clone().float().cpu()
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or not rows.isfinite().all() or not (rows.norm(dim=1) > 0).all():
            raise ConfigError(
                "not a direction",
                got=f"shape {tuple(rows.shape)}, norms {rows.norm(dim=-1).tolist()}",
                accepted="finite vectors [d_in] or [n, d_in], none of them zero",
            )
        object.__setattr__(self, "vectors", rows)
        if not self.hook_name:
            raise ConfigError("a direction needs its hook point", got=repr(self.hook_name), fix="pass hook_name=")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def basis(self) -> Float[Tensor, "rank d_in"]:
        """Orthogonal vectors of length 1 with the same span; of one direction, itself at length 1."""
        with torch.inference_mode(False), torch.no_grad():  # it is kept, and used where gradients are taken too
            unit: Tensor = torch.nn.functional.normalize(self.vectors, dim=1)
            if len(unit) == 1:
                return unit
            _, size, rows = torch.linalg.svd(unit, full_matrices=False)
            independent: Tensor = rows[size > 1e-5 * size[0]]
            return independent

    @property
    def _key(self) -> tuple[Any, ...]:
        return digest(self.vectors), tuple(self.vectors.shape), self.hook_name, self.name, self.token_filter

    def __repr__(self) -> str:
        many = f"{len(self.vectors)} directions" if len(self.vectors) > 1 else "Direction"
        return f"{many} {self.name!r} at {self.hook_name}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "vectors": self.vectors.tolist(),
            "hook_name": self.hook_name,
            "name": self.name,
            "token_filter": self.token_filter.to_dict() if self.token_filter else None,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Direction:
        saved = with_current_keys(saved)
        token_filter = saved["token_filter"]
        return cls(
            torch.tensor(saved["vectors"]),
            saved["hook_name"],
            saved["name"],
            TokenFilter.from_dict(token_filter) if token_filter else None,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class DirectionEdit(Edit):
    """A direction added, or directions projected out, with no SAE. Made by `add_direction` and `project_out`."""

    kind: DirectionKind
    direction: Direction
    value: float = 0.0
    """add: how much, see `unit`; the direction is taken at length 1."""
    unit: Unit = "norm"
    """norm: a share of the token's own residual norm. raw: the activation's own units."""

    def __post_init__(self) -> None:
        for name, value, kinds in (("kind", self.kind, get_args(DirectionKind)), ("unit", self.unit, ("norm", "raw"))):
            if value not in kinds:
                raise unknown_name(name, value, kinds)
        if not math.isfinite(self.value):
            raise ConfigError("the value is not finite", got=self.value, accepted="a finite number, such as 0.4")
        if self.kind == "add" and len(self.direction.vectors) > 1:
            raise ConfigError(
                "one direction is added at a time",
                got=f"{len(self.direction.vectors)} directions",
                accepted="one",
                fix="pass several edits",
            )
        self._check_shared()

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

    def _what(self) -> str:
        if self.kind == "add":
            return f"add {amount(self.value, self.unit, None)} along {self.direction.name!r}"
        return f"project out {self.direction.name!r}"

    def _values(self) -> dict[str, Any]:
        return {"kind": self.kind, "direction": self.direction.to_dict(), "value": self.value, "unit": self.unit}

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        h = x.float()
        basis = self.direction.basis.to(h)
        if self.kind == "project_out":
            return (-(h @ basis.T) @ basis).to(x)
        size = norm.to(h)[:, None] if self.unit == "norm" else h.new_ones(len(h), 1)
        return (self.value * size * basis).to(x)
