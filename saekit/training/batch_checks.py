"""What a Trainer must be given: an SAE, a configuration, and batches as wide, paired for a transcoder, and finite."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, MismatchError
from ..sae import SAE, SAEConfig
from .config import TrainConfig

Batch: TypeAlias = "Tensor | np.ndarray[Any, Any]"


def check_kinds(sae: object, config: object) -> None:
    """Raises ConfigError unless these are an SAE, or the configuration of one, and a TrainConfig."""
    for what, value, kinds, fix in (
        ("an SAE, nor the configuration of one", sae, (SAE, SAEConfig), "sk.SAEConfig(d_in=..., d_sae=...)"),
        ("a TrainConfig", config, (TrainConfig,), "sk.TrainConfig(n_tokens=...)"),
    ):
        if not isinstance(value, kinds):
            raise ConfigError(
                f"not {what}",
                got=type(value).__name__,
                accepted=", ".join(k.__name__ for k in kinds),
                fix=f"pass {fix}",
            )


def as_batch(x: object) -> Tensor:
    """A batch as a tensor; an array is copied, into floating point. ConfigError for anything else."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind in "fiu":
        return torch.from_numpy(np.array(x, dtype=np.float64 if x.dtype.itemsize >= 8 else np.float32))
    raise ConfigError(
        "a batch is neither a tensor nor an array of numbers",
        got=f"array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__,
        accepted="[batch, width], a torch tensor or a numpy array",
        fix="pass torch.as_tensor(batch)",
    )


def check_batch(sae: SAEConfig, x: Tensor, target: Tensor | None) -> None:
    """Raises MismatchError for a batch of another width, and for a target that is missing or one too many."""
    _check_width(x, sae.d_in, "reads")
    if not sae.is_transcoder:
        if target is not None:
            raise MismatchError("only a transcoder has a target", got=tuple(target.shape), fix="pass step(x)")
        return
    if target is None or len(target) != len(x):
        raise MismatchError(
            "a transcoder is trained on pairs",
            got="no target" if target is None else tuple(target.shape),
            accepted="as many activations of its output as of its input",
            fix="pass step(x, target)",
        )
    _check_width(target, sae.width_out, "writes")


def check_finite(x: Tensor, number: int) -> None:
    """Raises DataError for NaN or infinity; `number` is the batch's, from 1."""
    if torch.isfinite(x.sum()):
        return
    bad = (~torch.isfinite(x).all(dim=1)).nonzero().squeeze(1)
    if len(bad):
        raise DataError(
            f"activations contain NaN or infinity in batch {number}",
            got=f"{bad.numel()} of {len(x)} tokens, the first at row {int(bad[0])}",
            accepted="finite numbers",
            fix="the weights are as before this batch: leave it out, or run the model in float32",
        )


def loss_not_finite(value: float, number: int) -> DataError:
    """The error for a batch, counted from 1, whose loss is not finite."""
    return DataError(
        f"the loss is not finite at batch {number}",
        got=value,
        accepted="a finite number",
        fix="the weights are as before this batch: lower lr, or look for activations of extreme size",
    )


def _check_width(x: Tensor, width: int, does: str) -> None:
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        raise MismatchError(
            "a batch does not fit this SAE",
            got=tuple(x.shape),
            accepted=f"[batch, {width}], what it {does}",
            fix="pass activations of the hook point the SAE is for",
        )
