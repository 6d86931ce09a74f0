"""SAEs that others published and SAELens loads, written as published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from torch import Tensor

from .cases import (
    RELEASES,
    D,
    N,
    Original,
    case,
    json_file,
    normal,
    saelens_weights,
    tensors_file,
    thresholds,
    torch_file,
)
from .saelens import place, published


def npz(root: Path, name: str, **overrides: Any) -> tuple[str, Original]:
    weights = saelens_weights() | {"threshold": thresholds()}
    path = root / place(name) / "params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **{key: tensor.numpy() for key, tensor in weights.items()})
    return published(root, name, d_in=D, d_sae=N, **overrides)


@case("gemma_scope-res", "gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71")
def gemma_scope_res(root: Path) -> tuple[str, Original]:
    return npz(root, "gemma_scope-res")


@case("gemma_scope-canonical", "gemma-scope-9b-it-res-canonical", "layer_9/width_16k/canonical")
def gemma_scope_canonical(root: Path) -> tuple[str, Original]:
    return npz(root, "gemma_scope-canonical")


@case("gemma_scope-att", "gemma-scope-2b-pt-att", "layer_0/width_16k/average_l0_104")
def gemma_scope_att(root: Path) -> tuple[str, Original]:
    return npz(root, "gemma_scope-att")


@case("gemma_scope-transcoder", "gemma-scope-2b-pt-transcoders", "layer_0/width_16k/average_l0_76")
def gemma_scope_transcoder(root: Path) -> tuple[str, Original]:
    return npz(root, "gemma_scope-transcoder", d_out=D)


def gemma_scope_2(root: Path, name: str, layer: int, with_config: bool = True, affine: bool = False) -> Any:
    weights = {k.lower(): v for k, v in saelens_weights().items()} | {"threshold": thresholds()}
    transcoder = "transcoder" in name
    if affine:
        weights["affine_skip_connection"] = normal(D, D)
    tensors_file(root / place(name) / "params.safetensors", weights)
    if with_config:
        before, after = "pre_feedforward_layernorm", "post_feedforward_layernorm"
        cfg = {
            "hf_hook_point_in": f"model.layers.{layer}.{before if transcoder else ''}.output".replace("..", "."),
            "hf_hook_point_out": f"model.layers.{layer}.{after if transcoder else ''}.output".replace("..", "."),
            "width": N,
            "model_name": "gemma-v3-1b-pt",
            "architecture": "jump_relu",
            "l0": 60,
            "affine_connection": affine,
            "type": "transcoder" if transcoder else "sae",
        }
        json_file(root / place(name) / "config.json", cfg)
    return published(root, name)


@case("gemma_scope_2-res", "gemma-scope-2-1b-pt-res", "layer_13_width_16k_l0_medium")
def gemma_scope_2_res(root: Path) -> tuple[str, Original]:
    return gemma_scope_2(root, "gemma_scope_2-res", 13)


@case("gemma_scope_2-without_config", "gemma-scope-2-1b-pt-mlp-all", "layer_5_width_16k_l0_big")
def gemma_scope_2_without_config(root: Path) -> tuple[str, Original]:
    return gemma_scope_2(root, "gemma_scope_2-without_config", 5, with_config=False)


@case("gemma_scope_2-transcoder", "gemma-scope-2-1b-pt-transcoders-all", "layer_7_width_16k_l0_big")
def gemma_scope_2_transcoder(root: Path) -> tuple[str, Original]:
    return gemma_scope_2(root, "gemma_scope_2-transcoder", 7)


@case("gemma_scope_2-transcoder_affine", "gemma-scope-2-1b-pt-transcoders-all", "layer_7_width_16k_l0_big_affine")
def gemma_scope_2_affine(root: Path) -> tuple[str, Original]:
    return gemma_scope_2(root, "gemma_scope_2-transcoder_affine", 7, affine=True)


def torch_weights() -> dict[str, Tensor]:
    """Encoder and decoder as torch.nn.Linear holds them."""
    return {
        "encoder.weight": normal(N, D),
        "encoder.bias": normal(N),
        "decoder.weight": normal(D, N),
        "decoder.bias": normal(D),
    }


def in_units_of_x(path: str, original: Original, scale: float) -> tuple[str, Original]:
    """Features in units of x, as lm-saes has them for inference; SAELens' are in units of x times the scale."""

    def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
        acts, x_hat = original(x)
        return acts / scale, x_hat

    return path, scaled


@case("llama_scope-res", "llama_scope_lxr_8x", "l8r_8x")
def llama_scope(root: Path) -> tuple[str, Original]:
    at = root / place("llama_scope-res")
    hook = "blocks.8.hook_resid_post"
    cfg = {
        "d_model": D,
        "d_sae": N,
        "hook_point_in": hook,
        "hook_point_out": hook,
        "expansion_factor": N // D,
        "act_fn": "jumprelu",
        "apply_decoder_bias_to_pre_encoder": False,
        "use_decoder_bias": True,
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": False,
        "jump_relu_threshold": 0.52734375,
        "dataset_average_activation_norm": {"in": 9.25, "out": 9.25},
        "dtype": "torch.bfloat16",
        "top_k": 50,
    }
    json_file(at / "hyperparams.json", cfg)
    tensors_file(at / "checkpoints" / "final.safetensors", torch_weights())
    release, sae_id = RELEASES["llama_scope-res"]
    scales = get_pretrained_saes_directory()[release].norm_scaling_factor
    scales[sae_id] = math.sqrt(D) / 9.25  # the list has that of the real file
    return in_units_of_x(*published(root, "llama_scope-res"), scales[sae_id])


@case("llama_scope_r1-res", "llama_scope_r1_distill", "l8r_800m_slimpajama")
def llama_scope_r1(root: Path) -> tuple[str, Original]:
    at = root / place("llama_scope_r1-res")
    hook = "blocks.8.hook_resid_post"
    cfg = {
        "sae_type": "sae",
        "d_model": D,
        "expansion_factor": N // D,
        "hook_point_in": hook,
        "hook_point_out": hook,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "dtype": "torch.float32",
    }
    json_file(at / "config.json", cfg)
    weights = torch_weights() | {"log_jumprelu_threshold": thresholds().log()}
    weights["decoder.weight"] /= weights["decoder.weight"].norm(dim=0)  # SAELens leaves decoder norms out
    tensors_file(at / "sae_weights.safetensors", weights)
    release, sae_id = RELEASES["llama_scope_r1-res"]
    scale = get_pretrained_saes_directory()[release].norm_scaling_factor[sae_id]
    return in_units_of_x(*published(root, "llama_scope_r1-res"), scale)


@case("qwen_scope", "qwen-scope-3-1.7b-base-w32k-l50", "layer9")
def qwen_scope(root: Path) -> tuple[str, Original]:
    weights = {"W_enc": normal(N, D), "W_dec": normal(D, N), "b_enc": normal(N), "b_dec": normal(D)}
    torch_file(root / place("qwen_scope"), weights)
    return published(root, "qwen_scope", d_in=D, d_sae=N)


@case("qresearch", "deepseek-r1-distill-llama-8b-qresearch", "blocks.19.hook_resid_post")
def qresearch(root: Path) -> tuple[str, Original]:
    torch_file(root / place("qresearch"), torch_weights())
    return published(root, "qresearch", d_in=D, d_sae=N)


@case("goodfire", "goodfire-llama-3.1-8b-instruct", "layer_19")
def goodfire(root: Path) -> tuple[str, Original]:
    weights = {name.replace(".", "_linear."): tensor for name, tensor in torch_weights().items()}
    torch_file(root / place("goodfire"), weights)
    return published(root, "goodfire", d_in=D, d_sae=N)


@case("attn_saes_gpt2", "gpt2-small-hook-z-kk", "blocks.5.hook_z")
def attn_saes_gpt2(root: Path) -> tuple[str, Original]:
    path = root / place("attn_saes_gpt2")
    torch_file(path, saelens_weights())
    cfg = {
        "act_size": D,
        "dict_size": N,
        "act_name": "blocks.5.attn.hook_z",
        "model_name": "gpt2-small",
        "seq_len": 128,
    }
    json_file(path.with_name(path.name.split(".pt")[0] + "_cfg.json"), cfg)
    return published(root, "attn_saes_gpt2")
