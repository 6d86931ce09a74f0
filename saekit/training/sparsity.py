"""The weight of a sparsity penalty: fixed, or steered until the features active per token are as many as asked for.

Knows the rule's L0 and nothing else of the SAE.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..sae import SAEConfig
from ..sae.architectures import ARCHITECTURES
from .config import TrainConfig
from .schedules import ramp

MEMORY = 20  # steps over which the L0 of single batches is averaged
INTEGRAL = 0.4  # what an L0 that is off by a factor e adds to the weight's logarithm per step, over sqrt(n_steps)
PROPORTIONAL = 1.0  # what a change of L0 by a factor e adds to it at once: L0 on its way down needs no more weight


class SparsityController:
    """The coefficient of one SAE's penalty over a run.

    With `target_l0` its logarithm follows log(L0 / target), so the weight is right whatever the data's scale: too many
    active features and it grows, too few and it shrinks (a PI controller in velocity form; its gains were set on the
    default model's activations, where 400 steps end within 5 % of 32 for all four rules). The quadratic L0 penalty
    holds its own target and is left alone.
    """

    def __init__(self, sae: SAEConfig, config: TrainConfig, device: torch.device) -> None:
        own = ARCHITECTURES[sae.activation].default_sparsity_coefficient(sae)
        start = own if sae.sparsity_coefficient is None else sae.sparsity_coefficient
        start = 0.0 if own is None or start is None else float(start)
        self.coefficient = torch.tensor(start, dtype=torch.float64, device=device)
        self.target = None if sae.l0_penalty == "quadratic" else sae.target_l0
        self.l0: Float[Tensor, ""] | None = None
        default_fraction = 0.3 if sae.l0_penalty == "quadratic" else 0.05
        self._n_steps = config.n_steps
        self._share = default_fraction if config.sparsity_warmup_fraction is None else config.sparsity_warmup_fraction

    def at(self, step: int) -> Float[Tensor, ""]:
        """The coefficient at a step, counted from 0: it rises from 0 over the warm-up."""
        return self.coefficient * ramp(step, n_steps=self._n_steps, share=self._share)

    def update(self, step: int, l0: Float[Tensor, ""]) -> None:
        """Takes in the L0 of a batch."""
        if self.target is None:
            return
        before, l0 = self.l0, l0.double()
        self.l0 = l0 if before is None else before + (l0 - before) / MEMORY
        if step < self._share * self._n_steps or before is None:
            return
        least = 1e-3 * self.target
        off = (self.l0.clamp(min=least) / self.target).log()
        moved = (self.l0.clamp(min=least) / before.clamp(min=least)).log()
        change = INTEGRAL / self._n_steps**0.5 * off.clamp(-1.0, 1.0) + PROPORTIONAL * moved
        self.coefficient = self.coefficient * change.exp()

    def state_dict(self) -> dict[str, Tensor | None]:
        """All that moves."""
        return {"coefficient": self.coefficient, "l0": self.l0}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Goes on from a saved state."""
        kept = {name: None if v is None else v.to(self.coefficient.device) for name, v in state.items()}
        assert kept["coefficient"] is not None
        self.coefficient, self.l0 = kept["coefficient"], kept["l0"]
