"""The weight of a sparsity penalty: fixed, or steered until the active features per token are as many as asked for."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import SaekitError
from ..sae import SAEConfig
from ..sae.precision import widest
from .config import TrainConfig
from .schedules import ramp

MEMORY = 20  # steps over which the L0 of single batches is averaged
INTEGRAL = 0.4  # what an L0 that is off by a factor e adds to the weight's logarithm per step, over sqrt(n_steps)
PROPORTIONAL = 1.0  # what a change of L0 by a factor e adds to it at once: L0 on its way down needs no more weight
TOLERANCE = 0.1  # how far from its target L0 may end without a warning


class SparsityController:
    """The coefficient of one SAE's penalty over a run.

    With `target_l0` its logarithm follows log(L0 / target), so the weight is right whatever the data's scale: too many
    active features and it grows, too few and it shrinks (a PI controller in velocity form; its gains were set on the
    default model's activations, where 400 steps end within 5 % of 32 for all four architectures with a penalty).
    The quadratic L0 penalty of jumprelu holds its own target and is left alone.
    """

    def __init__(self, sae: SAEConfig, config: TrainConfig, device: torch.device) -> None:
        architecture = sae.architecture
        default = architecture.default_sparsity_coefficient(sae)
        start = default if sae.sparsity_coefficient is None else sae.sparsity_coefficient
        start = 0.0 if default is None or start is None else float(start)
        self.coefficient = torch.tensor(start, dtype=widest(device), device=device)
        self.target_l0 = sae.target_l0
        self.steered = architecture.steered_l0(sae) is not None
        self.l0: Float[Tensor, ""] | None = None
        self._n_steps = config.n_steps
        fraction = config.sparsity_warmup_fraction
        self._warmup = architecture.sparsity_warmup_fraction(sae) if fraction is None else fraction

    def at(self, step: int) -> Float[Tensor, ""]:
        """The coefficient at a step, counted from 0: it rises from 0 over the warm-up."""
        return self.coefficient * ramp(step, n_steps=self._n_steps, fraction=self._warmup)

    def update(self, step: int, l0: Float[Tensor, ""]) -> None:
        """Takes in the L0 of a batch."""
        if self.target_l0 is None:
            return
        before, l0 = self.l0, l0.to(self.coefficient.dtype)
        self.l0 = l0 if before is None else before + (l0 - before) / MEMORY
        if step < self._warmup * self._n_steps or before is None or not self.steered:
            return
        least = 1e-3 * self.target_l0
        off = (self.l0.clamp(min=least) / self.target_l0).log()
        moved = (self.l0.clamp(min=least) / before.clamp(min=least)).log()
        change = INTEGRAL / self._n_steps**0.5 * off.clamp(-1.0, 1.0) + PROPORTIONAL * moved
        self.coefficient = self.coefficient * change.exp()

    def summary(self) -> dict[str, Any]:
        """The L0 of the last steps, its target and whether that was missed; {} where there is no target."""
        if self.target_l0 is None or self.l0 is None:
            return {}
        l0 = float(self.l0)
        return {"l0_at_end": l0, "target_l0": self.target_l0, "missed_target_l0": self._off(l0) > TOLERANCE}

    def missed(self) -> str | None:
        """What to say of an L0 that ended more than a tenth from its target; None where it did not."""
        if self.target_l0 is None or self.l0 is None or self._off(l0 := float(self.l0)) <= TOLERANCE:
            return None
        return str(
            SaekitError(
                "the run has ended and its L0 has missed the target",
                got=f"L0 {l0:.3g} over the last {MEMORY} steps",
                accepted=f"target_l0 = {self.target_l0:g}, give or take {TOLERANCE:.0%}",
                fix="train for more tokens, so that the penalty has time to settle, or pass another target_l0; "
                "until then compare this SAE by the L0 that it has",
            )
        )

    def _off(self, l0: float) -> float:
        assert self.target_l0 is not None
        return abs(l0 / self.target_l0 - 1)

    def state_dict(self) -> dict[str, Tensor | None]:
        """All that moves."""
        return {"coefficient": self.coefficient, "l0": self.l0}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Resumes from a saved state."""
        kept = {name: None if v is None else v.to(self.coefficient.device) for name, v in state.items()}
        assert kept["coefficient"] is not None
        self.coefficient, self.l0 = kept["coefficient"], kept["l0"]
