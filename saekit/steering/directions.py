"""Directions in the activations at a hook point: what an SAE's features are compared with. See direction_edits.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..atomic_io import with_current_keys
from ..errors import ConfigError
from ..sae import TokenFilter
from .displays import direction_html
from .where import digest


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
        try:
            with torch.inference_mode(False):
                rows = torch.as_tensor(self.vectors).detach().clone().float().cpu()
        except (TypeError, ValueError, RuntimeError, OverflowError) as e:
            raise ConfigError("not a direction", got=f"{self.vectors!r:.80}: {e}", accepted="a vector [d_in]") from None
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
        with torch.inference_mode(False), torch.no_grad():  # it is cached, and used where gradients are taken too
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

    _repr_html_ = direction_html

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
