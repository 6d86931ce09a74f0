"""An SAE of tensors that someone has at hand: shapes are checked, and a transposed matrix is called that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, UnknownKeywordError, unknown_name
from .architectures import get_architecture, weight_shapes
from .config import SAEConfig

if TYPE_CHECKING:
    from .base import SAE

ArrayLike: TypeAlias = "Tensor | np.ndarray[Any, Any]"


def as_tensors(given: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """Tensors, numpy arrays and numbers as tensors, by name; ConfigError for what cannot be one."""
    return {name: None if value is None else _as_tensor(name, value) for name, value in given.items()}


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        if isinstance(value, np.ndarray):
            wide = value.dtype.kind == "f" and value.dtype.itemsize >= 8
            return torch.from_numpy(np.array(value, dtype=np.float64 if wide else np.float32))
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise ConfigError(
            f"{name} is not a tensor",
            got=type(value).__name__,
            accepted="a torch tensor or a numpy array of numbers",
            fix=f"pass {name}=torch.as_tensor(...)",
        ) from e


def configuration(tensors: Mapping[str, Tensor | None], activation: str, fields: Mapping[str, Any]) -> SAEConfig:
    """The configuration of an SAE with these tensors; ConfigError where its matrices do not fit each other.

    >>> W = torch.zeros(32, 8)
    >>> sk.SAE.from_tensors(W_enc=W, W_dec=W)
    Traceback (most recent call last):
    saekit.errors.ConfigError: W_enc is transposed
      seen:     W_enc (32, 8), W_dec (32, 8)
      accepted: W_enc [d_in, d_sae], W_dec [d_sae, d_out]
      fix:      pass W_enc=W_enc.T
    """
    W_enc, W_dec = (t if (t := tensors[name]) is not None else torch.empty(0) for name in ("W_enc", "W_dec"))
    if W_enc.ndim != 2 or W_dec.ndim != 2:
        raise ConfigError(
            "W_enc and W_dec are not matrices",
            got=f"W_enc {tuple(W_enc.shape)}, W_dec {tuple(W_dec.shape)}",
            accepted="W_enc [d_in, d_sae], W_dec [d_sae, d_out]",
        )
    (d_in, d_sae), (rows, d_out) = W_enc.shape, W_dec.shape
    turned = _transposed(tensors, W_enc, W_dec)
    if turned or rows != d_sae:
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


def _transposed(tensors: Mapping[str, Tensor | None], W_enc: Tensor, W_dec: Tensor) -> tuple[str, ...]:
    """The names of the matrices that fit each other and the biases when they are transposed; () for none."""
    (d_in, d_sae), (rows, d_out) = W_enc.shape, W_dec.shape

    def fit(n_features: int, width_out: int) -> bool:
        wanted = {"b_enc": n_features, "b_dec": width_out}
        given = {name: t for name in wanted if (t := tensors.get(name)) is not None}
        return all(t.ndim != 1 or len(t) == wanted[name] for name, t in given.items())

    both = ("W_enc", "W_dec") if d_in == d_out and fit(d_in, rows) else ()
    if rows == d_sae:
        return () if fit(d_sae, d_out) else both
    if d_in == rows and d_sae == d_out:  # either may be: a dictionary is wider than what it describes
        one_fits = fit(rows, d_out), fit(d_sae, rows)
        return ("W_enc",) if (one_fits[0] if one_fits[0] != one_fits[1] else rows > d_sae) else ("W_dec",)
    if d_sae == d_out:
        return ("W_dec",)
    known = tensors.get("b_enc") is not None or d_in > max(d_sae, rows)
    return both if known else ()


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
