"""The architectures: how an SAE chooses its active features, one file each, and the registry."""

from __future__ import annotations

from ..config import SAEConfig
from .architecture import ActivationRule as ActivationRule
from .architecture import TrainingForward as TrainingForward
from .batchtopk import BatchTopK
from .gated import Gated
from .jumprelu import JumpReLU
from .kl import KL
from .relu import ReLU
from .topk import TopK

ARCHITECTURES: dict[str, ActivationRule] = {
    "relu": ReLU(),
    "kl": KL(),
    "topk": TopK(),
    "batchtopk": BatchTopK(),
    "jumprelu": JumpReLU(),
    "gated": Gated(),
}


def weight_shapes(config: SAEConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that make up an SAE of this configuration, and their shapes."""
    rule, n = ARCHITECTURES[config.activation], config.d_sae
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (config.d_in, n), "W_dec": (n, config.width_out)}
    shapes |= {"b_enc": (n,), "b_dec": (config.width_out,)}
    shapes |= dict.fromkeys((*(("threshold",) if rule.has_threshold else ()), *rule.own_weights), (n,))
    return shapes | ({"W_skip": (config.d_in, config.width_out)} if config.skip else {})
