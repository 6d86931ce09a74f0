"""What an activation rule is: the step from pre-activations to a few active features.

One file per rule. A rule reads weights only through the SAE it is given and keeps no state of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from .base import SAE


class ActivationRule(ABC):
    """One way of choosing the active features."""

    architecture: ClassVar[str]
    """Its name in SAELens' files."""
    unit_decoder: ClassVar[bool]
    """Whether decoder rows are held at unit norm during training."""
    auxiliary: ClassVar[bool]
    """Whether dead features are revived by an auxiliary loss."""
    elementwise: ClassVar[bool] = True
    """Whether at inference a feature's activation depends on its own pre-activation alone."""
    has_threshold: ClassVar[bool] = False
    """Whether inference uses `sae.threshold`."""
    trainable: ClassVar[bool] = True

    @abstractmethod
    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Feature activations at inference, with their zeros; `features` are the columns given, None for all."""

    @abstractmethod
    def select(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """The non-zero numbers of `acts`: token, feature (ascending in both) and value."""

    def select_training(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE
    ) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
        """What `select` gives, by the rule that holds within a training batch."""
        return self.select(pre_acts, sae)


def nonzero(
    acts: Float[Tensor, "n d_sae"],
) -> tuple[Int[Tensor, " nnz"], Int[Tensor, " nnz"], Float[Tensor, " nnz"]]:
    """Token, feature and value of what is not zero, in order."""
    flat = acts.reshape(-1)
    position = flat.nonzero().squeeze(1)
    token = torch.div(position, acts.shape[1], rounding_mode="floor")
    return token, position - token * acts.shape[1], flat[position]
