"""What every kernel computes, in plain PyTorch: for devices without triton, for small sizes, and to compare with.

Fixed shapes throughout: no function here makes the host wait for a device. They hold the pre-activations of a batch
in memory, `CHUNK_ELEMENTS` of them at a time where tokens are independent. Products of bfloat16 numbers are summed in
float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .segments import Segments

CHUNK_ELEMENTS = 2**28  # pre-activations held at once: 1 GB


def pre_acts(x: Tensor, W_rows: Tensor, b_enc: Tensor) -> Tensor:
    """x @ W_rows.T + b_enc in float32, [n, d_sae]."""
    if x.dtype == torch.float32:
        return torch.addmm(b_enc, x, W_rows.T)
    if x.device.type == "cuda":
        return torch.mm(x, W_rows.T, out_dtype=torch.float32).add_(b_enc)
    return torch.addmm(b_enc, x.float(), W_rows.float().T)  # products of bfloat16 numbers are exact in float32


def top_k(x: Tensor, W_rows: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and features of each token's k largest pre-activations, features ascending."""
    values, features = [], []
    for part in torch.split(x, max(1, CHUNK_ELEMENTS // len(W_rows))):
        value, feature = pre_acts(part, W_rows, b_enc).topk(k, dim=1, sorted=False)
        feature, order = feature.sort(dim=1)
        values.append(value.gather(1, order))
        features.append(feature)
    return torch.cat(values), torch.cat(features)


def top_of_batch(x: Tensor, W_rows: Tensor, b_enc: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and flat positions of the largest of all pre-activations, positions ascending; of equals the first."""
    flat = pre_acts(x, W_rows, b_enc).reshape(-1)
    bound = flat.topk(count, sorted=False).values.amin()
    above, equal = flat > bound, flat == bound
    chosen = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    slot = torch.where(chosen, chosen.cumsum(0) - 1, count)
    places = torch.arange(flat.numel(), device=x.device)
    position = places.new_zeros(count + 1).scatter_(0, slot, places)[:count]
    return flat[position], position


def decode_error(feature: Tensor, value: Tensor, W_dec: Tensor, b_dec: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """target - b_dec - sum value * W_dec[feature], and its products with these rows."""
    tokens = max(1, CHUNK_ELEMENTS // 4 // max(1, feature.shape[1] * W_dec.shape[1]))
    errors, d_values = [], []
    for chosen, weight, goal in zip(*(torch.split(t, tokens) for t in (feature, value, target)), strict=True):
        rows = W_dec[chosen].to(value.dtype)
        errors.append(goal - b_dec - torch.bmm(weight[:, None, :], rows)[:, 0])
        d_values.append(torch.bmm(rows, errors[-1][:, :, None])[:, :, 0])
    return torch.cat(errors), torch.cat(d_values)


def decode_error_of_pairs(
    start: Tensor, feature: Tensor, value: Tensor, W_dec: Tensor, b_dec: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The same where token i has the pairs from start[i] to start[i + 1]."""
    rows = W_dec.to(value.dtype)
    error = target - b_dec - torch.embedding_bag(rows, feature, start, False, 0, False, value, True)[0]
    pairs = torch.arange(len(feature), device=feature.device)
    token = torch.searchsorted(start[1:], pairs, right=True)
    parts = zip(*(torch.split(t, max(1, CHUNK_ELEMENTS // 4 // rows.shape[1])) for t in (feature, token)), strict=True)
    return error, torch.cat([torch.einsum("pd,pd->p", rows[f], error[t]) for f, t in parts])


def weight_grad(value: Tensor, rows: Tensor, token: Tensor, d_sae: int, sorted_: Segments, out: Tensor) -> Tensor:
    """Per feature, the sum of value * rows[token] over its pairs, into `out`."""
    order = sorted_.order
    bag = torch.embedding_bag(rows.float(), token[order], sorted_.start, False, 0, False, value[order], True)[0]
    return out.copy_(bag)


def adam_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: Tensor,
    scale: Tensor,
    skip: Tensor,
    unit_rows: bool,
    copy: Tensor | None,
) -> None:
    """torch.optim.Adam's step in place, and each row divided by its norm."""
    skipped = skip != 0
    step = step.double()
    grad = grad * scale
    mean = torch.lerp(exp_avg, grad, 1.0 - beta1)
    square = exp_avg_sq * beta2 + (1.0 - beta2) * grad * grad
    size = (lr / (1.0 - beta1**step)).to(param.dtype)
    correction = (1.0 - beta2**step).sqrt().to(param.dtype)
    moved = param - size * mean / (square.sqrt() / correction + eps)
    if unit_rows:
        moved = moved / moved.norm(dim=1, keepdim=True).clamp(min=torch.finfo(moved.dtype).tiny)
    for old, new in ((param, moved), (exp_avg, mean), (exp_avg_sq, square)):
        old.copy_(torch.where(skipped, old, new))
    if copy is not None:
        copy.copy_(torch.where(skipped, copy, moved.to(copy.dtype)))


def project_(param: Tensor, grad: Tensor) -> Tensor:
    """Takes from each row of grad its part along param's row, in place; the sum of squares of what remains."""
    grad.addcmul_(param, (grad * param).sum(dim=1, keepdim=True), value=-1.0)
    return grad.square().sum()
