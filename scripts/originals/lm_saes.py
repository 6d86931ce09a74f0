"""SAEs of OpenMOSS' lm-saes (llamascopium on PyPI, its name now), the library of Llama Scope."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from llamascopium.models.sae import SAEConfig, SparseAutoEncoder
from torch import Tensor

from .cases import D, K, N, Original, case, json_file, normal, thresholds

HOOK = "blocks.8.hook_resid_post"
NORM = 9.25
"""Mean norm of the activations over the data set; training saw them times sqrt(d_model) / NORM."""


def lm_saes(root: Path, **options: Any) -> tuple[str, Original]:
    """A folder that the library wrote, loaded by it.

    Activations are scaled before encoding and reconstructions scaled back, as in its training. Features are given in
    units of x, as its standardize_parameters_of_dataset_norm does. It is not called here: it leaves the thresholds of
    jumprelu as they are, in units of the scaled activations, so that other features are active afterwards.
    """
    config = SAEConfig(hook_point_in=HOOK, hook_point_out=HOOK, d_model=D, expansion_factor=N / D, **options)
    sae: Any = SparseAutoEncoder(config)
    with torch.no_grad():
        for name, weight in sae.named_parameters():
            weight.copy_(thresholds().log() if "threshold" in name else normal(*weight.shape))
    sae.set_dataset_average_activation_norm({HOOK: NORM})
    sae.save_pretrained(root / "sae")
    json_file(root / "sae" / "config.json", config.model_dump())
    loaded: Any = SparseAutoEncoder.from_pretrained(str(root / "sae"))

    def original(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = math.sqrt(D) / NORM
        scaled = loaded.normalize_activations({HOOK: x})[HOOK]
        assert torch.allclose(scaled, x * scale)
        acts = loaded.encode(scaled)
        return acts / scale, loaded.decode(acts) / scale

    return "sae", original


@case("lm_saes-jumprelu")
def jumprelu(root: Path) -> tuple[str, Original]:
    return lm_saes(root, act_fn="jumprelu", sparsity_include_decoder_norm=False)


@case("lm_saes-jumprelu_by_norm")
def jumprelu_by_norm(root: Path) -> tuple[str, Original]:
    return lm_saes(root, act_fn="jumprelu")


@case("lm_saes-relu_by_norm")
def relu_by_norm(root: Path) -> tuple[str, Original]:
    return lm_saes(root, act_fn="relu")


@case("lm_saes-topk")
def topk(root: Path) -> tuple[str, Original]:
    return lm_saes(root, act_fn="topk", top_k=K, sparsity_include_decoder_norm=False)
