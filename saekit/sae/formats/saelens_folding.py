"""What SAELens' files leave to run time, brought into the weights: norms, scales, and what only training needs.

A scale of all activations, the norms of decoder rows and the scale of fine-tuning can be folded exactly. A
normalisation of each token cannot, and becomes the configuration's `input_normalisation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import FileError
from .assembly import fold_norms, fold_scale, of_names, per_feature, precise
from .contents import json_at

SCALER = "activation_scaler.json"  # beside a training checkpoint
PER_TOKEN = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "rms_norm"}
TRAINING = ("batchtopk", "matryoshka_batchtopk")
"""Architectures that are saved so only while they train: one threshold for all features, of rows of unit norm."""


def fold(cfg: Mapping[str, Any], weights: dict[str, Tensor], folder: Path, said: Mapping[str, Any]) -> str:
    """Brings the tensors of a file to saekit's definition, in place; returns the normalisation of each token."""
    how = said.get("normalize_activations") or cfg.get("normalize_activations") or "none"
    _check_present(weights, folder)
    for name in weights:
        weights[name] = precise(weights[name])
    if "log_threshold" in weights:
        weights["threshold"] = weights.pop("log_threshold").exp()
    rows_count = bool(cfg.get("rescale_acts_by_decoder_norm"))
    if how not in PER_TOKEN:
        scale = _scale(how, cfg, folder, said)
        fold_scale(weights, scale)
        if rows_count and "topk_threshold" in weights:
            weights["topk_threshold"] = weights["topk_threshold"] / scale
    if rows_count:
        fold_norms(weights)
    if cfg["architecture"] in TRAINING:
        at = of_names(weights, {"topk_threshold": "threshold"}, "SAELens, saved while it trained,", folder)["threshold"]
        del weights["topk_threshold"]
        weights["threshold"] = per_feature(at, len(weights["b_enc"])).to(weights["b_enc"])
    _fold_finetuning(cfg, weights, folder)
    return PER_TOKEN.get(how, "none")


def weight_processing(options: Mapping[str, Any] | None) -> str | None:
    """How the model's weights had been prepared, by the options that it was loaded with; None where they say nothing.

    >>> from saekit.sae.formats.saelens_folding import weight_processing
    >>> weight_processing({"center_writing_weights": True, "fold_ln": False})
    'center_writing_weights'
    """
    names = [name for name in PROCESSING if name in (options or {})]
    if not names:
        return None
    return ", ".join(name for name in names if options and options[name]) or "none"


PROCESSING = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
"""What TransformerLens can do to weights, by the names of its options."""


def _scale(how: str, cfg: Mapping[str, Any], folder: Path, said: Mapping[str, Any]) -> float:
    """What activations are multiplied by before the encoder; FileError where it is not stored."""
    scale = said.get("activation_scale")
    if how == "constant_scalar_rescale":
        scale = scale or cfg.get("activation_normalization_factor")
    elif how == "expected_average_only_in":
        scale = scale or json_at(folder / SCALER, dict[str, Any]).get("scaling_factor")
    else:
        raise FileError(
            f"{folder}: normalize_activations is of a kind that saekit does not read",
            got=how,
            accepted=f"{', '.join(PER_TOKEN)}, expected_average_only_in, constant_scalar_rescale",
            fix="save it with SAELens' save_inference_model, which folds it, or use another SAE",
        )
    if scale is None:
        raise FileError(
            f"{folder}: normalize_activations is not folded into the weights, and the scale is not stored",
            got=how,
            accepted=f"the scale in {SCALER} or given",
            fix="pass activation_scale=sqrt(d_in) / (mean norm of the activations) to sk.load_sae",
        )
    return float(scale)


def _fold_finetuning(cfg: Mapping[str, Any], weights: dict[str, Tensor], folder: Path) -> None:
    """Each feature's scale of fine-tuning multiplies what it writes, not its activation."""
    name = next((n for n in ("scaling_factor", "finetuning_scaling_factor") if n in weights), None)
    if name is None:
        return
    scale = weights.pop(name)
    if bool((scale == 1).all()):
        return
    if not cfg.get("finetuning_scaling_factor"):
        raise FileError(
            f"{folder} contradicts itself: features have a scale of fine-tuning that is not to be used",
            got=f"{name} from {float(scale.min()):g} to {float(scale.max()):g}, finetuning_scaling_factor false",
            accepted="both or neither",
            fix="say finetuning_scaling_factor true in cfg.json if the SAE was fine-tuned",
        )
    weights["W_dec"] = weights["W_dec"] * scale[:, None]


def _check_present(weights: Mapping[str, Tensor], folder: Path) -> None:
    """What folding touches has to be there, as matrices; what else is missing the caller says."""
    if missing := [name for name in ("W_enc", "W_dec", "b_dec") if name not in weights]:
        raise FileError(
            f"{folder} does not hold the tensors of an SAE",
            got=f"missing: {', '.join(missing)}; there: {', '.join(sorted(weights))}",
            accepted="W_enc, W_dec, b_dec, ...",
            fix="copy the whole SAE folder",
        )
