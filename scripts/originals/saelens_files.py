"""Files of SAELens itself: before version 6, of version 6 with normalisation, and training saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.saes import batchtopk_sae as bt
from sae_lens.saes import matryoshka_batchtopk_sae as mb
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from torch import Tensor

from .cases import D, K, N, Original, case, filled, json_file, normal, saelens_weights, tensors_file, thresholds
from .saelens import by_saelens, place, published

OLD = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "context_size": 128,
    "d_in": D,
    "d_sae": N,
    "dtype": "torch.float32",
    "device": "mps",
    "l1_coefficient": 8e-05,
    "lr": 0.0004,
}
"""cfg.json as SAELens wrote it before it named architectures."""
FLAT = {
    "architecture": "standard",
    "d_in": D,
    "d_sae": N,
    "activation_fn_str": "relu",
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "context_size": 256,
    "model_name": "gemma-2b",
    "hook_name": "blocks.6.hook_resid_post",
    "hook_layer": 6,
    "hook_head_index": None,
    "prepend_bos": True,
    "dataset_path": "HuggingFaceFW/fineweb",
    "dataset_trust_remote_code": True,
    "normalize_activations": "none",
    "dtype": "float32",
    "device": "cuda",
    "sae_lens_training_version": "3.22.1",
    "activation_fn_kwargs": {},
    "neuronpedia_id": None,
    "model_from_pretrained_kwargs": {},
}
"""cfg.json of SAELens 3 to 5."""


def old(root: Path, cfg: dict[str, Any], weights: dict[str, Tensor]) -> tuple[str, Original]:
    """A folder of SAELens before 6, loaded by SAELens."""
    json_file(root / "sae" / "cfg.json", cfg)
    tensors_file(root / "sae" / "sae_weights.safetensors", weights)
    return "sae", by_saelens(SAE.load_from_disk(root / "sae"))


def old_published(root: Path, name: str, cfg: dict[str, Any], weights: dict[str, Tensor]) -> tuple[str, Original]:
    json_file(root / place(name) / "cfg.json", cfg)
    tensors_file(root / place(name) / "sae_weights.safetensors", weights)
    tensors_file(root / place(name) / "sparsity.safetensors", {"sparsity": -4 * torch.rand(N)})
    return published(root, name)


@case("saelens_old-first_layout", "gpt2-small-res-jb", "blocks.8.hook_resid_pre")
def first_layout(root: Path) -> tuple[str, Original]:
    return old_published(root, "saelens_old-first_layout", OLD, saelens_weights())


@case("saelens_old-topk_layer_norm", "gpt2-small-resid-post-v5-32k", "blocks.3.hook_resid_post")
def topk_layer_norm(root: Path) -> tuple[str, Original]:
    cfg = {k: v for k, v in FLAT.items() if k != "architecture"}
    cfg |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": "layer_norm"}
    cfg |= {"model_name": "gpt2-small", "hook_name": "blocks.3.hook_resid_post", "prepend_bos": False}
    return old_published(root, "saelens_old-topk_layer_norm", cfg, saelens_weights())


@case("saelens_old-expected_average", "gpt2-small-mlp-tm", "blocks.3.hook_mlp_out")
def expected_average(root: Path) -> tuple[str, Original]:
    cfg = FLAT | {"normalize_activations": "expected_average_only_in", "hook_name": "blocks.3.hook_mlp_out"}
    return old_published(root, "saelens_old-expected_average", cfg, saelens_weights())


@case("saelens_old-constant_norm", "mistral-7b-res-wg", "blocks.16.hook_resid_pre")
def constant_norm(root: Path) -> tuple[str, Original]:
    cfg = FLAT | {"model_name": "mistral-7b", "hook_name": "blocks.16.hook_resid_pre"}
    return old_published(root, "saelens_old-constant_norm", cfg, saelens_weights())


@case("saelens_old-without_b_dec")
def without_b_dec(root: Path) -> tuple[str, Original]:
    return old(root, FLAT | {"apply_b_dec_to_input": False}, saelens_weights())


@case("saelens_old-topk")
def old_topk(root: Path) -> tuple[str, Original]:
    return old(root, FLAT | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}, saelens_weights())


@case("saelens_old-jumprelu")
def old_jumprelu(root: Path) -> tuple[str, Original]:
    return old(root, FLAT | {"architecture": "jumprelu"}, saelens_weights() | {"threshold": thresholds()})


@case("saelens_old-gated")
def old_gated(root: Path) -> tuple[str, Original]:
    weights = saelens_weights()
    del weights["b_enc"]
    weights |= {"b_gate": normal(N), "b_mag": normal(N), "r_mag": normal(N)}
    return old(root, FLAT | {"architecture": "gated"}, weights)


@case("saelens_old-hook_z")
def old_hook_z(root: Path) -> tuple[str, Original]:
    return old(root, FLAT | {"hook_name": "blocks.6.attn.hook_z"}, saelens_weights())


@case("saelens_old-scaling_factor_of_ones")
def scaling_factor_of_ones(root: Path) -> tuple[str, Original]:
    return old(root, FLAT, saelens_weights() | {"scaling_factor": torch.ones(N)})


def by_version_6(root: Path, sae: Any, hook_name: str = "blocks.1.hook_resid_post") -> tuple[str, Original]:
    """A folder that SAELens 6 wrote."""
    filled(sae)
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = hook_name, "gpt2"
    sae.save_model(root / "sae")
    return "sae", by_saelens(SAE.load_from_disk(root / "sae"))


@case("saelens_6-layer_norm")
def layer_norm(root: Path) -> tuple[str, Original]:
    return by_version_6(root, TopKSAE(TopKSAEConfig(d_in=D, d_sae=N, k=K, normalize_activations="layer_norm")))


@case("saelens_6-constant_norm")
def constant_norm_6(root: Path) -> tuple[str, Original]:
    config = StandardSAEConfig(d_in=D, d_sae=N, normalize_activations="constant_norm_rescale")
    return by_version_6(root, StandardSAE(config))


@case("saelens_6-hook_z")
def hook_z_6(root: Path) -> tuple[str, Original]:
    config = StandardSAEConfig(d_in=D, d_sae=N, reshape_activations="hook_z")
    return by_version_6(root, StandardSAE(config), "blocks.1.attn.hook_z")


def trained(root: Path, sae: Any) -> tuple[str, Original]:
    """A training save, and the SAE for inference that SAELens makes of the same weights."""
    filled(sae)
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = "blocks.1.hook_resid_post", "gpt2"
    sae.topk_threshold.fill_(1.25)
    sae.save_model(root / "sae")
    sae.save_inference_model(root.parent / "inference")
    return "sae", by_saelens(SAE.load_from_disk(root.parent / "inference"))


@case("saelens_training-batchtopk")
def training_batchtopk(root: Path) -> tuple[str, Original]:
    return trained(root, bt.BatchTopKTrainingSAE(bt.BatchTopKTrainingSAEConfig(d_in=D, d_sae=N, k=K)))


@case("saelens_training-matryoshka")
def training_matryoshka(root: Path) -> tuple[str, Original]:
    config = mb.MatryoshkaBatchTopKTrainingSAEConfig(d_in=D, d_sae=N, k=K, matryoshka_widths=[16, N])
    return trained(root, mb.MatryoshkaBatchTopKTrainingSAE(config))
