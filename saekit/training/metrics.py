"""What one training step reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .displays import metrics_html


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """The metrics of one training step, on its own batch and before the weights moved."""

    step: int
    """Number of the step, from 1."""
    n_tokens: int
    """Tokens trained on so far."""
    loss: float
    """What was minimised: reconstruction in normalised units plus penalty or auxiliary loss."""
    mse: float
    """Mean ||x - x_hat||^2, in the model's units."""
    l0: float
    """Mean number of active features per token, as in training."""
    explained_variance: float
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    dead_features: int
    """Features silent for longer than TrainConfig.dead_after_tokens."""
    aux_loss: float
    """Fraction of the error the dead features leave; 0 while none is dead."""
    penalty: float
    """The sparsity penalty per token, in normalised units, before its coefficient; 0 without one."""
    coefficient: float
    """What the penalty was multiplied by; 0 without one."""
    lr: float
    """Learning rate of the step."""
    grad_norm: float
    """Norm of the gradient before clipping."""

    def __str__(self) -> str:
        return (
            f"step {self.step}: loss {self.loss:.4g}, l0 {self.l0:.1f}, explained variance "
            f"{self.explained_variance:.3f}, dead {self.dead_features}, lr {self.lr:.2g}"
        )

    _repr_html_ = metrics_html

    def to_dict(self) -> dict[str, Any]:
        """The metrics by name."""
        return asdict(self)
