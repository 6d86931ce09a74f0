"""Llama Scope and later SAEs of OpenMOSS' lm-saes: the configuration in hyperparams.json or config.json.

Trained on x * s, where s brings the mean norm over the data set to sqrt(d_model), with activations that are compared
with the threshold times the norm of the decoder row:

    pre = (x * s_in) @ W_E + b_E
    f = pre where pre * ||W_D|| > threshold
    x_hat = (f @ W_D + b_D) / s_out

s is folded into the weights, so that activations are in units of x, and the norms into the thresholds; topk alone,
which has none, gets decoder rows of unit norm. Llama Scope's own threshold (hyperparams.json) is in units of x already;
a threshold for each feature (log_jumprelu_threshold) is in units of x * s. Source: He et al. 2024, arXiv:2410.20526;
github.com/OpenMOSS/Language-Model-SAEs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required

from typing_extensions import TypedDict

from ...errors import FileError
from ...json_files import Count, Finite, checked
from .assembly import Tensors, fold_norms, of_names, per_feature, read_safetensors, saved
from .contents import folder_of, json_at
from .family import Family
from .saved import SavedSAE

CONFIGS = ("hyperparams.json", "config.json")
WEIGHTS = ("checkpoints/final.safetensors", "final.safetensors", "sae_weights.safetensors")
NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
NEW_NAMES = {"W_E": "W_enc", "b_E": "b_enc", "W_D": "W_dec"}
"""Since lm-saes 2, where matrices lie as saekit has them."""
THRESHOLD = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")


class Config(TypedDict, total=False):
    """What is read of hyperparams.json or config.json."""

    d_model: Required[Count]
    hook_point_in: Required[str]
    act_fn: Required[str]
    hook_point_out: str | None
    apply_decoder_bias_to_pre_encoder: bool | None
    jump_relu_threshold: Finite | None
    sparsity_include_decoder_norm: bool | None
    top_k: Count
    use_glu_encoder: bool | None
    sae_type: str
    norm_activation: str | None
    dataset_average_activation_norm: dict[str, Finite] | None


def recognises(path: Path) -> bool:
    """Whether there is a configuration with d_model, hook_point_in and act_fn."""
    return _config(path) is not None


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE or transcoder; FileError for gated linear encoders and norms that the files do not have."""
    found = _config(path)
    assert found is not None
    config, cfg = found
    checked(cfg, Config, config)
    file = _weights(path, config)
    tensors = read_safetensors(file)
    _check(cfg, file)
    weights = _weights_of(tensors, file)
    if cfg.get("apply_decoder_bias_to_pre_encoder"):
        weights["b_enc"] = weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]
    fields: dict[str, Any] = {"activation": "relu"}
    into, out, normalisation = _scales(cfg, tensors, said, file)
    by_feature = next((tensors[name] for name in THRESHOLD if name in tensors), None)
    threshold = cfg.get("jump_relu_threshold")
    norms_count = bool(cfg.get("sparsity_include_decoder_norm"))
    if by_feature is not None or threshold:
        at = (
            float(threshold or 0) if by_feature is None else per_feature(by_feature, len(weights["b_enc"])).exp() / into
        )
        at = per_feature(at, len(weights["b_enc"]))
        weights["threshold"] = at / weights["W_dec"].norm(dim=1) if norms_count else at
        fields = {"activation": "jumprelu"}
    elif cfg["act_fn"] == "topk":
        fields = {"activation": "topk", "k": int(cfg["top_k"])}
    elif cfg["act_fn"] == "jumprelu":
        of_names(tensors, {THRESHOLD[0]: "threshold"}, FAMILY.name, file)
    weights["b_enc"], weights["b_dec"] = weights["b_enc"] / into, weights["b_dec"] / out
    weights["W_dec"] = weights["W_dec"] * (into / out)
    if norms_count and fields["activation"] == "topk":
        fold_norms(weights)
    hook, hook_out = cfg["hook_point_in"], cfg.get("hook_point_out")
    return saved(
        FAMILY.name,
        file,
        weights,
        apply_b_dec_to_input=False,
        input_normalisation=normalisation,
        hook_name=hook,
        hook_out=None if hook_out in (None, hook) else hook_out,
        **fields,
    )


def _weights_of(tensors: Tensors, file: Path) -> Tensors:
    """The tensors by saekit's names, with b_dec of zeros where there is none."""
    names, bias = (NEW_NAMES, "b_D") if "W_E" in tensors else (NAMES, "decoder.bias")
    weights = of_names(tensors, names, FAMILY.name, file)
    if names is NAMES:
        weights["W_enc"], weights["W_dec"] = weights["W_enc"].T, weights["W_dec"].T
    weights["b_dec"] = weights["W_dec"].new_zeros(weights["W_dec"].shape[1])
    if bias in tensors:
        weights |= of_names(tensors, {bias: "b_dec"}, FAMILY.name, file)
    return weights


def _config(path: Path) -> tuple[Path, dict[str, Any]] | None:
    folder = folder_of(path)
    places = [folder, folder.parent] if folder.name == "checkpoints" or not path.is_dir() else [folder]
    for file in (place / name for place in places for name in CONFIGS):
        cfg = json_at(file)
        if {"d_model", "hook_point_in", "act_fn"} <= cfg.keys():
            return file, cfg
    return None


def _weights(path: Path, config: Path) -> Path:
    if path.is_file() and path.suffix == ".safetensors":
        return path
    return next((f for name in WEIGHTS if (f := config.parent / name).is_file()), config.parent / WEIGHTS[0])


def _check(cfg: Mapping[str, Any], file: Path) -> None:
    """FileError for what saekit has no like of."""
    lacking = {
        "an encoder with a gated linear unit": cfg.get("use_glu_encoder"),
        f"the activation {cfg['act_fn']}": cfg["act_fn"].lower() not in ("relu", "jumprelu", "topk"),
        f"{cfg.get('sae_type')} as sae_type": cfg.get("sae_type", "sae") != "sae",
    }
    for what, there in lacking.items():
        if there:
            raise FileError(
                f"{file} is of {FAMILY.name} and has {what}, which saekit does not read",
                got=what,
                accepted="an SAE or transcoder with relu, jumprelu or topk",
            )


def _scales(cfg: Mapping[str, Any], tensors: Tensors, said: Mapping[str, Any], file: Path) -> tuple[float, float, str]:
    """What x is multiplied by, what the reconstruction is divided by, and the normalisation of each token."""
    how = cfg.get("norm_activation", "inference")
    if how in ("inference", "none"):
        return 1.0, 1.0, "none"
    if how == "token-wise" and cfg.get("hook_point_out") in (None, cfg["hook_point_in"]):
        return 1.0, 1.0, "rms_norm"
    root = math.sqrt(cfg["d_model"])
    if scale := said.get("activation_scale"):
        return float(scale), float(scale), "none"
    norms = dict(cfg.get("dataset_average_activation_norm") or {})
    prefix = "dataset_average_activation_norm."
    norms |= {n.removeprefix(prefix): float(t) for n, t in tensors.items() if n.startswith(prefix)}
    into = norms.get("in", norms.get(cfg["hook_point_in"]))
    out = norms.get("out", norms.get(cfg.get("hook_point_out") or cfg["hook_point_in"], into))
    if how != "dataset-wise" or not into or not out:
        raise FileError(
            f"{file} is of {FAMILY.name} and lacks the mean norm of the activations it was trained on",
            got=f"norm_activation {how}, norms of {', '.join(norms) or 'nothing'}",
            accepted="dataset-wise, with dataset_average_activation_norm",
            fix="pass activation_scale=sqrt(d_model) / (mean norm of the activations) to sk.load_sae",
        )
    return root / into, root / out, "none"


FAMILY = Family(
    name="Llama Scope", recognises=recognises, read=read, beside=(*CONFIGS, "../hyperparams.json", *WEIGHTS)
)
