"""What a training batch must be: as wide as the SAE, paired for a transcoder, and finite."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError, MismatchError
from ..sae import SAEConfig


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
