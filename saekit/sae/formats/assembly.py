"""From a file's tensors to an SAE as saekit defines it: shapes, folds, and errors that name the family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import FileError, SaekitError
from ...json_files import damaged
from ..architectures import weight_shapes
from ..config import SAEConfig
from .saved import SavedSAE

Tensors = dict[str, Tensor]


def read_safetensors(path: Path) -> Tensors:
    """The tensors in a file; FileError where it is missing or damaged."""
    if not path.is_file():
        raise FileError(f"no file {path}", got="missing", accepted="a file of tensors", fix="copy the whole SAE folder")
    try:
        with damaged(path):
            return load_file(path)
    except SafetensorError as e:
        raise FileError(
            f"{path} is not a whole safetensors file",
            got=e,
            accepted="a file that was written to its end",
            fix="it is truncated or altered: fetch or copy it again",
        ) from e


def precise(tensor: Tensor) -> Tensor:
    """The tensor as float32, or float64 where it is that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def of_names(tensors: Mapping[str, Any], names: Mapping[str, str], family: str, path: Path) -> Tensors:
    """The tensors under saekit's names, `names` by the file's; FileError for a missing one."""
    missing = [name for name in names if not isinstance(tensors.get(name), Tensor)]
    if missing:
        raise FileError(
            f"{path} is an SAE of {family} without some of its tensors",
            got=f"missing: {', '.join(missing)}; there: {', '.join(sorted(tensors))}",
            accepted=", ".join(names),
            fix="fetch or copy the file again, or pass the tensors to sk.SAE.from_tensors",
        )
    return {mine: precise(tensors[theirs]) for theirs, mine in names.items()}


def saved(family: str, path: Path, weights: Tensors, **fields: Any) -> SavedSAE:
    """An SAE of these weights, whose sizes are those of W_enc and W_dec; FileError, naming the family, for others."""
    for name in ("W_enc", "W_dec"):
        if weights[name].ndim != 2:
            raise FileError(
                f"{path} is an SAE of {family} whose {name} has {weights[name].ndim} dimensions",
                got=tuple(weights[name].shape),
                accepted="a matrix",
                fix="pass the tensors of one SAE to sk.SAE.from_tensors",
            )
    d_in, d_sae = weights["W_enc"].shape
    d_out = weights["W_dec"].shape[1]
    dtype = "float64" if weights["W_enc"].dtype == torch.float64 else "float32"
    try:
        if d_out != d_in or fields.get("hook_out") or fields.get("skip"):
            fields |= {"d_out": d_out}
        config = SAEConfig(d_in=d_in, d_sae=d_sae, dtype=dtype, **{"target_l0": None, **fields})
    except SaekitError as e:
        raise FileError(
            f"{path} is an SAE of {family} with a value that is not accepted: {e.what}",
            got=e.got,
            accepted=e.accepted,
            fix="restore the file, or pass its tensors to sk.SAE.from_tensors",
        ) from e
    for name, shape in weight_shapes(config).items():
        if name not in weights or tuple(weights[name].shape) != shape:
            raise FileError(
                f"{path} is an SAE of {family} whose {name} does not fit the rest",
                got=tuple(weights[name].shape) if name in weights else "missing",
                accepted=shape,
                fix="fetch or copy the file again",
            )
    return SavedSAE(config=config, weights={name: weights[name] for name in weight_shapes(config)}, path=path)


def fold_norms(weights: Tensors) -> None:
    """Decoder rows of unit norm, in place, with their norms in the encoder: the same reconstruction."""
    norm = weights["W_dec"].norm(dim=1)
    norm = torch.where(norm > 0, norm, torch.ones_like(norm))
    weights["W_dec"] = weights["W_dec"] / norm[:, None]
    for name in ("W_enc", "b_enc", "threshold", "b_mag"):
        if name in weights:
            weights[name] = weights[name] * norm


def fold_scale(weights: Tensors, into: float, out: float | None = None) -> None:
    """x * into before the encoder and / out after the decoder as weights, in place; activations keep their units."""
    out = into if out is None else out
    weights["W_enc"] = weights["W_enc"] * into
    weights["W_dec"], weights["b_dec"] = weights["W_dec"] / out, weights["b_dec"] / out


def per_feature(value: Tensor | float, d_sae: int) -> Tensor:
    """A threshold for each feature, of one number for all or one for each."""
    return precise(torch.as_tensor(value)).reshape(-1).expand(d_sae).clone()
