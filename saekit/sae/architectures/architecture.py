"""What an activation rule is: the step from pre-activations to a few active features, and the loss that teaches it.

One file per rule. A rule reads weights only through the SAE it is given and keeps no state of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from ..sparse.selection import Chosen

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig


@dataclass(frozen=True, eq=False)
class TrainingForward:
    """One batch through an SAE by its training rule; gradients flow to the weights."""

    error: Float[Tensor, "n d_out"]
    """What the reconstruction leaves: target - x_hat."""
    squared_error: Float[Tensor, ""]
    """What is to be minimised of it, summed over the batch: ||error||^2, and what the rule adds."""
    counts: Int[Tensor, " d_sae"]
    """Number of tokens each feature was active on."""
    penalty: Float[Tensor, ""] | None = None
    """The sparsity penalty per token, before its coefficient; None for rules that choose a number of features."""
    smallest: Float[Tensor, ""] | None = None
    """The smallest activation that was kept, where the threshold is to follow it; infinity for none."""


class Architecture(ABC):
    """One way of choosing the active features."""

    saelens_name: ClassVar[str]
    """Its name in SAELens' files."""
    unit_decoder: ClassVar[bool]
    """Whether decoder rows are held at unit norm during training."""
    auxiliary: ClassVar[bool]
    """Whether dead features are revived by an auxiliary loss."""
    elementwise: ClassVar[bool] = True
    """Whether at inference a feature's activation depends on its own pre-activation alone."""
    has_threshold: ClassVar[bool] = False
    """Whether inference uses `sae.threshold`."""
    extra_parameters: ClassVar[tuple[str, ...]] = ()
    """Vectors over features, besides b_enc, that training moves."""

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """Weight of the sparsity penalty unless the configuration says otherwise; None where there is no penalty."""
        return None

    @abstractmethod
    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Feature activations at inference, with their zeros; `features` are the columns given, None for all."""

    @abstractmethod
    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """The non-zero activations of x: token, feature (ascending in both) and value; no matrix of all is held."""

    @abstractmethod
    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """One batch by the training rule: how well `target` (x itself, but for a transcoder) is reconstructed."""
