"""The weight of a sparsity penalty: fixed, or steered until the features active per token are as many as asked for.

Knows the rule's L0 and nothing else of the SAE.
"""

from __future__ import annotations

import math

from ..sae import SAEConfig
from ..sae.base import RULES
from .config import TrainConfig
from .schedules import ramp

MEMORY = 20  # steps over which the L0 of single batches is averaged
FASTEST = 10.0  # the run is long enough for the weight to follow an L0 that is off by a factor e by this, in logarithm


class Sparsity:
    """The coefficient of one SAE's penalty over a run.

    With `target_l0` its logarithm follows log(L0 / target), so the weight is right whatever the data's scale: too many
    active features and it grows, too few and it shrinks, in proportion. The quadratic L0 penalty holds its own target
    and is left alone.
    """

    def __init__(self, sae: SAEConfig, config: TrainConfig) -> None:
        own = RULES[sae.activation].own_coefficient(sae)
        start = own if sae.sparsity_coefficient is None else sae.sparsity_coefficient
        self.coefficient = 0.0 if own is None or start is None else float(start)
        self.target = None if sae.l0_penalty == "quadratic" else sae.target_l0
        self.l0: float | None = None
        self._gain = FASTEST / max(config.n_steps, 1)
        self._n_steps, self._share = config.n_steps, config.sparsity_warmup_share

    def at(self, step: int) -> float:
        """The coefficient at a step, counted from 0: it rises from 0 over the warm-up."""
        return self.coefficient * ramp(step, n_steps=self._n_steps, share=self._share)

    def update(self, step: int, l0: float) -> None:
        """Takes in the L0 of a batch."""
        if self.target is None:
            return
        self.l0 = l0 if self.l0 is None else self.l0 + (l0 - self.l0) / MEMORY
        if step >= self._share * self._n_steps:
            off = math.log(max(self.l0, 1e-3 * self.target) / self.target)
            self.coefficient *= math.exp(self._gain * max(-1.0, min(1.0, off)))

    def state_dict(self) -> dict[str, float | None]:
        """All that moves."""
        return {"coefficient": self.coefficient, "l0": self.l0}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Goes on from a saved state."""
        assert state["coefficient"] is not None
        self.coefficient, self.l0 = state["coefficient"], state["l0"]
