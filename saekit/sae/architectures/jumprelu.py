"""JumpReLU: a pre-activation above its feature's own threshold theta passes unchanged.

    f = pre where pre > theta and pre > 0
    loss = mean ||x - x_hat||^2 + lambda * L0                        (l0_penalty "linear")
    loss = mean ||x - x_hat||^2 + lambda * (L0 / target_l0 - 1)^2    (l0_penalty "quadratic")

Neither f nor L0 has a useful derivative in theta. Their expectations have one, and it is estimated from the pairs whose
pre-activation lies within a window of width epsilon around theta (kernel K, a rectangle of height 1):

    df/dtheta  = -(theta / epsilon) K((pre - theta) / epsilon)
    dL0/dtheta = -(1 / epsilon) K((pre - theta) / epsilon)

The window is on pre-activations: those just below theta count as much as those just above. theta starts at its paper's
0.001 and epsilon is as wide, in units of the root mean square of ||x - mean||. A negative theta acts as zero, as in
SAELens. Dead features are revived by the auxiliary loss of topk, which the paper does without: on 256 known features in
64 dimensions it is the difference between 35 dead ones and none. Source: Rajamanoharan et al. 2024, "Jumping ahead",
arXiv:2407.14435, sections 3 and 4, appendix on the quadratic penalty.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import ConfigError
from ..sparse.pairs import pairs_above
from ..sparse.selection import Chosen, above
from .architecture import Architecture, TrainingForward

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig

THRESHOLD_PACE = 0.25  # rate of the thresholds over lr * sqrt(d_in)


class Thresholded(Architecture):
    """f = pre where pre > threshold and pre > 0."""

    has_threshold = True

    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Pre-activations above the threshold; the rest 0."""
        return pre_acts.relu() * (pre_acts > (sae.threshold if features is None else sae.threshold[features]))

    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """Pre-activations above the threshold as a list."""
        return above(sae.encoder, x, sae.threshold.detach().clamp(min=0.0))


class JumpReLU(Thresholded):
    """A threshold per feature, trained through straight-through gradients, with an L0 penalty."""

    name = "jumprelu"
    options = ("sparsity_coefficient", "target_l0", "l0_penalty", "bandwidth")
    extra_parameters = ("threshold",)
    auxiliary_loss = True
    resampling = True
    saelens_name = "jumprelu"
    saelens_transcoders = True

    def check(self, config: SAEConfig) -> None:
        """The quadratic penalty is about a target."""
        super().check(config)
        if config.l0_penalty == "quadratic" and config.target_l0 is None:
            raise ConfigError(
                "the quadratic L0 penalty needs its target",
                got="target_l0 = None",
                accepted="a number",
                fix="leave target_l0 out, or pass, for example, target_l0=32",
            )

    def fixes_sparsity(self, config: SAEConfig) -> bool:
        """Not with the quadratic penalty, which has a target whatever its weight."""
        return config.l0_penalty != "quadratic" and super().fixes_sparsity(config)

    def variants(self, d_sae: int) -> dict[str, dict[str, Any]]:
        """Both penalties."""
        return {"linear": {}, "quadratic": {"l0_penalty": "quadratic"}}

    def steered_l0(self, config: SAEConfig) -> float | None:
        """None for the quadratic penalty, which holds its own target."""
        return None if config.l0_penalty == "quadratic" else config.target_l0

    def sparsity_warmup_fraction(self, config: SAEConfig) -> float:
        """0.3 for the quadratic penalty, which kills features when it begins at full strength."""
        return 0.3 if config.l0_penalty == "quadratic" else super().sparsity_warmup_fraction(config)

    def lr_factor(self, parameter: str, config: SAEConfig) -> float:
        """Thresholds grow with sqrt(d_in), and so does their rate."""
        return THRESHOLD_PACE * config.d_in**0.5 if parameter == "threshold" else 1.0

    def begin(self, sae: SAE) -> None:
        """Thresholds as high as the window is wide."""
        sae.threshold.fill_(bandwidth(sae))

    def constrain(self, sae: SAE) -> None:
        """No threshold below 0."""
        sae.threshold.clamp_(min=0.0)

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """1 for the linear penalty; 2 d_in for the quadratic one, which then gives way by a few hundredths of L0."""
        return 2.0 * config.d_in if config.l0_penalty == "quadratic" else 1.0

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """The squared error, and L0 per token or its squared distance from target_l0 as the penalty."""
        epsilon = bandwidth(sae)
        pairs = pairs_above(sae, x, sae.threshold.detach() - epsilon / 2)
        theta = pairs.of_feature(sae.threshold)
        acts = jump(pairs.pre, theta, epsilon)
        error = target - sae.reconstruct(pairs.decode(acts, sae.W_dec), x)
        l0 = step(pairs.pre, theta, epsilon).sum() / len(x)
        wanted = sae.config.target_l0
        penalty = (l0 / wanted - 1).square() if sae.config.l0_penalty == "quadratic" and wanted else l0
        return TrainingForward(error, error.square().sum(), pairs.counts(acts), penalty)


def bandwidth(sae: SAE) -> float:
    """epsilon, in the units of normalised activations, whose root mean square is sqrt(d_in)."""
    width = 0.001 if sae.config.bandwidth is None else sae.config.bandwidth
    return width * math.sqrt(sae.config.d_in)


def jump(pre: Float[Tensor, "*pairs"], theta: Float[Tensor, "*pairs"], epsilon: float) -> Float[Tensor, "*pairs"]:
    """pre where it is above theta, else 0; with the estimated gradient in theta."""
    out: Tensor = _Jump.apply(pre, theta, epsilon)  # type: ignore[no-untyped-call]
    return out


def step(pre: Float[Tensor, "*pairs"], theta: Float[Tensor, "*pairs"], epsilon: float) -> Float[Tensor, "*pairs"]:
    """1 where pre is above theta, else 0; with the estimated gradient in theta and none in pre."""
    out: Tensor = _Step.apply(pre, theta, epsilon)  # type: ignore[no-untyped-call]
    return out


def _window(pre: Tensor, theta: Tensor, epsilon: float) -> Tensor:
    """K((pre - theta) / epsilon) / epsilon."""
    return ((pre - theta).abs() < epsilon / 2).to(pre.dtype) / epsilon


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.epsilon = epsilon
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, theta = ctx.saved_tensors
        return grad * (pre > theta), -grad * theta * _window(pre, theta, ctx.epsilon), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.epsilon = epsilon
        return (pre > theta).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        pre, theta = ctx.saved_tensors
        return None, -grad * _window(pre, theta, ctx.epsilon), None
