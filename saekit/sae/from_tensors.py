"""An SAE of tensors that someone has at hand: shapes are checked, and a transposed matrix is called that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ConfigError, UnknownKeywordError, unknown_name
from .architectures import get_architecture, weight_shapes
from .config import SAEConfig

if TYPE_CHECKING:
    from .base import SAE


def configuration(W_enc: Tensor, W_dec: Tensor, activation: str, fields: Mapping[str, Any]) -> SAEConfig:
    """The configuration of an SAE with these matrices; ConfigError where they do not fit each other.

    >>> W = torch.zeros(32, 8)
    >>> sk.SAE.from_tensors(W_enc=W, W_dec=W)
    Traceback (most recent call last):
    saekit.errors.ConfigError: W_enc is transposed
      seen:     W_enc (32, 8), W_dec (32, 8)
      accepted: W_enc [d_in, d_sae], W_dec [d_sae, d_out]
      fix:      pass W_enc=W_enc.T
    """
    if W_enc.ndim != 2 or W_dec.ndim != 2:
        raise ConfigError(
            "W_enc and W_dec are not matrices",
            got=f"W_enc {tuple(W_enc.shape)}, W_dec {tuple(W_dec.shape)}",
            accepted="W_enc [d_in, d_sae], W_dec [d_sae, d_out]",
        )
    (d_in, d_sae), (rows, d_out) = W_enc.shape, W_dec.shape
    if rows != d_sae:
        turned = next(
            (
                names
                for names, fits in (
                    (("W_enc",), d_in == rows and d_sae == d_out),
                    (("W_dec",), d_sae == d_out),
                    (("W_enc", "W_dec"), d_in == d_out),
                )
                if fits
            ),
            (),
        )
        verb = "are" if len(turned) > 1 else "is"
        raise ConfigError(
            f"{' and '.join(turned)} {verb} transposed" if turned else "W_enc and W_dec do not fit each other",
            got=f"W_enc {(d_in, d_sae)}, W_dec {(rows, d_out)}",
            accepted="W_enc [d_in, d_sae], W_dec [d_sae, d_out]",
            fix="pass " + (", ".join(f"{n}={n}.T" for n in turned) or "the matrices of one SAE"),
        )
    chosen = {"target_l0": None, **fields}
    if d_out != d_in or fields.get("hook_out") or fields.get("skip"):
        chosen["d_out"] = d_out
    if "target_l0" not in get_architecture(activation).options:
        chosen.pop("target_l0")
    try:
        return SAEConfig(d_in=d_in, d_sae=d_sae, activation=activation, dtype=dtype_of(W_enc), **chosen)
    except TypeError as e:
        known = SAEConfig.__dataclass_fields__
        wrong = next((name for name in fields if name not in known), None)
        if wrong is None:
            raise
        raise UnknownKeywordError(str(unknown_name("keyword of SAE.from_tensors", wrong, known))) from e


def fill(sae: SAE, tensors: Mapping[str, Tensor | None]) -> SAE:
    """The SAE with these weights and without gradients; ConfigError for a tensor of another shape, or one too many."""
    shapes = weight_shapes(sae.config)
    for name, value in tensors.items():
        if value is None:
            if name == "threshold" and name in shapes:
                raise ConfigError(
                    f"the {sae.config.activation} architecture needs a threshold",
                    got="threshold=None",
                    accepted=f"a number, or one for each of {sae.config.d_sae} features",
                )
            continue
        if name not in shapes:
            raise ConfigError(
                f"this {sae.config.activation} SAE has no {name}",
                got=f"{name} {tuple(value.shape)}",
                accepted=", ".join(shapes),
                fix=f"leave {name} out, or choose another activation" + (" or skip=True" if name == "W_skip" else ""),
            )
        wanted, there = shapes[name], tuple(value.shape)
        if value.ndim == 0:
            value = value.expand(wanted)
        elif there != wanted:
            raise ConfigError(
                f"{name} is transposed" if there == wanted[::-1] else f"{name} has the wrong shape",
                got=there,
                accepted=wanted,
                fix=f"pass {name}={name}.T" if there == wanted[::-1] else "pass the tensors of one SAE",
            )
        with torch.no_grad():
            getattr(sae, name).copy_(value)
    with torch.no_grad():
        for name in ("b_enc", "b_dec"):
            if tensors.get(name) is None:
                getattr(sae, name).zero_()
    return sae.requires_grad_(False)


def dtype_of(tensor: Tensor) -> str:
    """float64 where the tensor is that; half precision becomes float32."""
    return "float64" if tensor.dtype == torch.float64 else "float32"
