"""Adam's step in one pass over the weights, with the unit norm of rows, and the projection of their gradient.

Step and scale are read on the device, so a step may be queued before the host has the norm of its gradient, and
`skip` leaves everything as it was. Needs triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import cdiv, launch, power_of_two

BLOCK = 1024
TINY = tl.constexpr(1.1754943508222875e-38)  # the smallest normal float


@triton.jit
def _one_minus_power(step, BASE: tl.constexpr):
    """1 - BASE ** step in double precision, by repeated squaring."""
    power, square = tl.full((), 1.0, tl.float64), tl.full((), BASE, tl.float64)
    for _ in tl.range(0, 31):
        power = tl.where(step % 2 == 1, power * square, power)
        square = square * square
        step = step // 2
    return 1.0 - power


@triton.jit
def _moved(
    param_ptr,
    grad_ptr,
    exp_avg_ptr,
    exp_avg_sq_ptr,
    step_ptr,
    scale_ptr,
    at,
    inside,
    lr,
    eps,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
):
    """Adam's formula as torch.optim.Adam has it: the moments are stored, the moved weights returned."""
    step = tl.load(step_ptr).to(tl.int32)
    size = (lr / _one_minus_power(step, BETA1)).to(tl.float32)
    correction = tl.sqrt(_one_minus_power(step, BETA2)).to(tl.float32)
    grad = tl.load(grad_ptr + at, mask=inside, other=0.0) * tl.load(scale_ptr)
    mean = tl.load(exp_avg_ptr + at, mask=inside, other=0.0)
    mean += (grad - mean) * (1.0 - BETA1)
    square = tl.load(exp_avg_sq_ptr + at, mask=inside, other=0.0) * BETA2 + (1.0 - BETA2) * grad * grad
    tl.store(exp_avg_ptr + at, mean, mask=inside)
    tl.store(exp_avg_sq_ptr + at, square, mask=inside)
    return tl.load(param_ptr + at, mask=inside, other=0.0) - size * mean / (tl.sqrt(square) / correction + eps)


@triton.jit
def _adam(
    param_ptr,
    grad_ptr,
    exp_avg_ptr,
    exp_avg_sq_ptr,
    copy_ptr,
    step_ptr,
    scale_ptr,
    skip_ptr,
    lr,
    eps,
    row,
    n,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    UNIT: tl.constexpr,
    COPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a block of `row` numbers; with UNIT a block is a row of weights and is divided by its norm."""
    if tl.load(skip_ptr) != 0:
        return
    i = tl.arange(0, BLOCK)
    at = tl.program_id(0).to(tl.int64) * row + i
    inside = (i < row) & (at < n)
    param = _moved(
        param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, step_ptr, scale_ptr, at, inside, lr, eps, BETA1, BETA2
    )
    if UNIT:
        param = param / tl.maximum(tl.sqrt(tl.sum(param * param)), TINY)
    tl.store(param_ptr + at, param, mask=inside)
    if COPY:
        tl.store(copy_ptr + at, param.to(copy_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _project(param_ptr, grad_ptr, squares_ptr, d, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    param = tl.load(param_ptr + row * d + i, mask=i < d, other=0.0)
    grad = tl.load(grad_ptr + row * d + i, mask=i < d, other=0.0)
    grad -= param * tl.sum(grad * param)
    tl.store(grad_ptr + row * d + i, grad, mask=i < d)
    tl.store(squares_ptr + row, tl.sum(grad * grad))


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
    """`reference.adam_` by a kernel."""
    row = param.shape[-1] if unit_rows else BLOCK
    block = power_of_two(row)
    launch(
        _adam,
        (cdiv(param.numel(), row),),
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        param if copy is None else copy,
        step,
        scale,
        skip,
        lr,
        eps,
        row,
        param.numel(),
        beta1,
        beta2,
        unit_rows,
        copy is not None,
        block,
        num_warps=warps(block),
    )


def project_(param: Tensor, grad: Tensor) -> Tensor:
    """`reference.project_` by a kernel."""
    rows, d = param.shape
    squares = torch.empty(rows, dtype=torch.float32, device=param.device)
    block = power_of_two(d)
    launch(_project, (rows,), param, grad, squares, d, block, num_warps=warps(block))
    return squares.sum()


def warps(block: int) -> int:
    """Eight numbers a thread, or up to 16 warps."""
    return min(16, max(1, block // 256))
