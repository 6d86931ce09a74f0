"""What a file of any family says an SAE is: its configuration and weights, before an SAE is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..config import SAEConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSAE:
    """An SAE as read from disk; `loading` makes an SAE of it."""

    config: SAEConfig
    weights: dict[str, Tensor]
    """Tensors by saekit's names and in saekit's shapes; see `SAE.weight_names`."""
    path: Path
    """The file to name in errors."""
    density: Float[Tensor, " d_sae"] | None = None
    """Fraction of tokens on which each feature fires, where the file says so."""
    training: dict[str, Any] = field(default_factory=dict)
    """The training summary, where the file has one."""
    fingerprint: str | None = None
    """What the SAE's fingerprint has to be, where the file says so."""
