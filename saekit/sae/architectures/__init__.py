"""The architectures: how an SAE chooses its active features, one file each, and the registry."""

from __future__ import annotations

from ..config import SAEConfig
from .architecture import Architecture as Architecture
from .architecture import TrainingForward as TrainingForward
from .batchtopk import BatchTopK
from .gated import Gated
from .jumprelu import JumpReLU
from .kl import KL
from .relu import ReLU
from .topk import TopK

ARCHITECTURES: dict[str, Architecture] = {
    "relu": ReLU(),
    "kl": KL(),
    "topk": TopK(),
    "batchtopk": BatchTopK(),
    "jumprelu": JumpReLU(),
    "gated": Gated(),
}


def weight_shapes(config: SAEConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that make up an SAE of this configuration, and their shapes."""
    architecture, n = ARCHITECTURES[config.activation], config.d_sae
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (config.d_in, n), "W_dec": (n, config.width_out)}
    shapes |= {"b_enc": (n,), "b_dec": (config.width_out,)}
    shapes |= dict.fromkeys(
        (*(("threshold",) if architecture.has_threshold else ()), *architecture.extra_parameters), (n,)
    )
    return shapes | ({"W_skip": (config.d_in, config.width_out)} if config.skip else {})
