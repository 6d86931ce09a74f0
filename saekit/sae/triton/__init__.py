"""A training step's kernels for GPUs, and for each the same in plain PyTorch.

Weights come as rows, one feature each: W_enc_rows [d_sae, d_in] and W_dec [d_sae, d_out], contiguous. `dtype` is the
type in which products are formed, float32 or bfloat16; sums, master weights and results are float32. Weights that are
in `dtype` already (the copy that `adam_` keeps) are taken as they are. A batch of n tokens has k features each:
feature and value are [n, k], and a feature that does not count has value 0. Nothing here differentiates, and nothing
makes the host wait: shapes never depend on data.

Each function runs its kernel where gate.py lets it, on a GPU after a self-check against the references there, and its
reference elsewhere and where a kernel fails. `bytes` and `operations` in their docstrings are what cannot be avoided;
benchmarks/kernels.py holds measured times against them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import ConfigError, MismatchError
from . import gate, tiles
from . import plan as _plan
from . import reference as reference
from .gate import available as available
from .gate import self_check as self_check
from .outcome import KernelCheck as KernelCheck
from .outcome import SelfCheck as SelfCheck
from .plan import Plan as Plan
from .segments import Segments as Segments
from .segments import segments as segments


def top_k(
    x: Float[Tensor, "n d_in"],
    W_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    k: int,
    *,
    dtype: torch.dtype = torch.float32,
    plan: Plan | None = None,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest of x @ W_rows.T + b_enc for each token, as values (not clipped) and features, ascending.

    x has b_dec subtracted already. Of equal values the fused plan takes the lowest features; the dense one takes any.
    Operations 2 n d_in d_sae; bytes w (n d_in + d_sae d_in) + 12 n k, w being the size of dtype. Plan: see plan.py.

    >>> sk.sae.triton.top_k(torch.eye(2), torch.tensor([[3.0, 0], [2, 5], [1, 4]]), torch.zeros(3), 2)[1]
    tensor([[0, 1],
            [1, 2]])
    """
    x, W_rows = _typed(x, dtype), _typed(W_rows, dtype)

    def choose(plan: Plan) -> tuple[Tensor, Tensor]:
        if plan.kind == "dense":
            return reference.top_k(x, W_rows, b_enc, k)
        from . import encode

        return encode.top_k(x, W_rows, b_enc, k, plan)

    return _by_plan("top_k", plan, x, len(W_rows), k, choose)


def top_of_batch(
    x: Float[Tensor, "n d_in"],
    W_rows: Float[Tensor, "d_sae d_in"],
    b_enc: Float[Tensor, " d_sae"],
    count: int,
    *,
    dtype: torch.dtype = torch.float32,
    plan: Plan | None = None,
) -> tuple[Float[Tensor, " count"], Int[Tensor, " count"]]:
    """The `count` largest of x @ W_rows.T + b_enc over the batch, as values and positions token * d_sae + feature.

    Positions ascend; of equal values the first positions are taken. Operations and bytes as `top_k` with k = count / n.

    >>> sk.sae.triton.top_of_batch(torch.eye(2), torch.tensor([[3.0, 0], [2, 5], [1, 4]]), torch.zeros(3), 3)[1]
    tensor([0, 4, 5])
    """
    x, W_rows = _typed(x, dtype), _typed(W_rows, dtype)

    def choose(plan: Plan) -> tuple[Tensor, Tensor]:
        if plan.kind == "dense":
            return reference.top_of_batch(x, W_rows, b_enc, count)
        from . import batch

        return batch.top_of_batch(x, W_rows, b_enc, count, plan)

    return _by_plan("top_of_batch", plan, x, len(W_rows), -(-count // max(1, len(x))), choose)


def decode_error(
    feature: Int[Tensor, "n k"],
    value: Float[Tensor, "n k"],
    W_dec: Float[Tensor, "d_sae d"],
    b_dec: Float[Tensor, " d"],
    target: Float[Tensor, "n d"],
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n k"]]:
    """The error target - b_dec - sum of value * W_dec[feature], and its product with each of these rows.

    The gradient of the squared error is -2 error for the reconstruction and -2 times the products for the values.
    Operations 4 n k d; bytes w (d_sae d) + 8 n d + 16 n k from memory, w n k d out of the cache: each row once.

    >>> sk.sae.triton.decode_error(torch.tensor([[1]]), torch.tensor([[2.0]]), torch.eye(2), torch.zeros(2), torch.ones(1, 2))
    (tensor([[ 1., -1.]]), tensor([[-1.]]))
    """  # noqa: E501
    W_dec = _typed(W_dec, dtype)

    def kernel() -> tuple[Tensor, Tensor]:
        from . import decode

        return decode.decode_error(None, *(t.contiguous() for t in (feature, value, W_dec, b_dec, target)))

    return gate.run(W_dec.device, kernel, lambda: reference.decode_error(feature, value, W_dec, b_dec, target))


def decode_error_of_pairs(
    start: Int[Tensor, " n_plus_1"],
    feature: Int[Tensor, " nnz"],
    value: Float[Tensor, " nnz"],
    W_dec: Float[Tensor, "d_sae d"],
    b_dec: Float[Tensor, " d"],
    target: Float[Tensor, "n d"],
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " nnz"]]:
    """`decode_error` for tokens of unequal numbers of features: token i has the pairs from start[i] to start[i + 1].

    Rows are read once where a token has at most about twice the mean number of pairs, and twice beyond.

    >>> start, row = torch.tensor([0, 0, 2]), torch.eye(2)
    >>> sk.sae.triton.decode_error_of_pairs(start, torch.tensor([0, 1]), torch.ones(2), row, torch.zeros(2), 3 * row)
    (tensor([[ 3.,  0.],
            [-1.,  2.]]), tensor([-1.,  2.]))
    """
    W_dec = _typed(W_dec, dtype)
    given = (start, feature, value, W_dec, b_dec, target)

    def kernel() -> tuple[Tensor, Tensor]:
        from . import decode

        return decode.decode_error(*(t.contiguous() for t in given))

    return gate.run(W_dec.device, kernel, lambda: reference.decode_error_of_pairs(*given))


def weight_grad(
    feature: Int[Tensor, " nnz"],
    value: Float[Tensor, " nnz"],
    rows: Float[Tensor, "n d"],
    token: Int[Tensor, " nnz"],
    d_sae: int,
    out: Float[Tensor, "d_sae d"] | None = None,
    *,
    sorted_: Segments | None = None,
) -> Float[Tensor, "d_sae d"]:
    """Per feature, the sum of value * rows[token] over its pairs: bit for bit the same in every run.

    `sorted_` is `segments(feature, d_sae)` when that was made already, for the other weight or for `segment_counts`.
    rows may be bfloat16; sums are float32. Operations 2 nnz d; bytes 4 d_sae d + w n d + 20 nnz, w nnz d out of the
    cache, w being the size of a number in rows.

    >>> sk.sae.triton.weight_grad(torch.tensor([1, 1]), torch.tensor([2.0, 3.0]), torch.eye(2), torch.tensor([0, 1]), 2)
    tensor([[0., 0.],
            [2., 3.]])
    """
    sorted_ = segments(feature, d_sae) if sorted_ is None else sorted_
    if out is None:
        out = torch.empty(d_sae, rows.shape[1], dtype=torch.float32, device=rows.device)
    _in_place(out)
    given = (value.reshape(-1).contiguous(), rows.contiguous(), token.reshape(-1).contiguous(), d_sae, sorted_, out)

    def kernel() -> Tensor:
        from . import weight_grads

        return weight_grads.weight_grad(*given)

    return gate.run(rows.device, kernel, lambda: reference.weight_grad(*given))


def segment_counts(
    feature: Int[Tensor, " nnz"], value: Float[Tensor, " nnz"], d_sae: int, *, sorted_: Segments | None = None
) -> Int[Tensor, " d_sae"]:
    """Per feature, the number of pairs with a value above 0: the tokens it was active on. Bytes 20 nnz + 16 d_sae.

    >>> sk.sae.triton.segment_counts(torch.tensor([1, 1, 2]), torch.tensor([2.0, 0.0, 3.0]), 3).tolist()
    [0, 1, 1]
    """
    sorted_ = segments(feature, d_sae) if sorted_ is None else sorted_
    active = value.reshape(-1)[sorted_.order] > 0
    before = torch.nn.functional.pad(active.cumsum(0), (1, 0))
    return before[sorted_.start].diff()


def adam_(
    param: Float[Tensor, "*shape"],
    grad: Float[Tensor, "*shape"],
    exp_avg: Float[Tensor, "*shape"],
    exp_avg_sq: Float[Tensor, "*shape"],
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    step: Tensor,
    scale: Float[Tensor, ""],
    skip: Tensor,
    unit_rows: bool = False,
    copy: Float[Tensor, "*shape"] | None = None,
) -> None:
    """Moves param and both moments in place by torch.optim.Adam's formula, with scale * grad as the gradient.

    `step` is the number of this step, from 1, on the device: the caller has added 1 to it unless the batch is skipped.
    Where `skip`, a bool or a number, is not 0, everything stays. `unit_rows` divides each row by its norm afterwards.
    `copy` receives the new weights in its own type. All tensors contiguous and of one shape. Bytes 28 a weight, 30 with
    a bfloat16 copy.

    >>> w, moments = torch.ones(1, 2), torch.zeros(2, 1, 2)
    >>> one = torch.tensor(1)
    >>> sk.sae.triton.adam_(w, w.clone(), *moments, lr=0.5, step=one, scale=torch.tensor(1.0), skip=one > 1)
    >>> w
    tensor([[0.5000, 0.5000]])
    """
    _in_place(param, grad, exp_avg, exp_avg_sq, *(() if copy is None else (copy,)))
    tensors = (param, grad, exp_avg, exp_avg_sq)
    numbers: dict[str, Any] = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "step": step, "scale": scale}
    numbers |= {"skip": skip, "unit_rows": unit_rows, "copy": copy}

    def kernel() -> None:
        from . import adam

        return adam.adam_(*tensors, **numbers)

    gate.run(param.device, kernel, lambda: reference.adam_(*tensors, **numbers))


def project_(param: Float[Tensor, "rows d"], grad: Float[Tensor, "rows d"]) -> Float[Tensor, ""]:
    """The sum of squares of grad, after each of its rows has lost its part along param's row, in place.

    Rows of param have unit norm. The same bits in every run. Bytes 12 a weight.

    >>> sk.sae.triton.project_(torch.tensor([[1.0, 0.0]]), torch.tensor([[5.0, 2.0]]))
    tensor(4.)
    """
    _in_place(param, grad)

    def kernel() -> Tensor:
        from . import adam

        return adam.project_(param, grad)

    return gate.run(param.device, kernel, lambda: reference.project_(param, grad))


def _typed(t: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype not in (torch.float32, torch.bfloat16):
        raise ConfigError("products are formed in another type", got=dtype, accepted="torch.float32 or torch.bfloat16")
    return t.to(dtype).contiguous()


def _in_place(first: Tensor, *others: Tensor) -> None:
    """Kernels write through bare pointers: MismatchError for tensors that lie otherwise in memory than they assume."""
    for t in (first, *others):
        if not t.is_contiguous() or t.shape != first.shape:
            raise MismatchError(
                "tensors that are changed in place do not match",
                got=f"{tuple(t.shape)}, strides {t.stride()}",
                accepted=f"contiguous tensors of shape {tuple(first.shape)}",
                fix="pass rows: W_enc.T, not W_enc",
            )


def _by_plan(
    operation: str, plan: Plan | None, x: Tensor, d_sae: int, k: int, choose: Callable[[Plan], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Chooses by the plan asked for or the quickest; without kernels by the dense one."""
    if plan is None:
        plan = tiles.quickest(operation, x, d_sae, k, x.dtype, choose)
    elif plan.kind == "fused" and not _plan.possible(len(x), d_sae, k):
        raise ConfigError(
            "the fused kernels cannot choose that many",
            got=f"k = {k} of {d_sae} features on {len(x)} tokens",
            accepted=f"k of at most a sixteenth of d_sae, and at most {16 * _plan.MOST_GROUPS} features",
            fix="leave plan= out, or pass Plan(kind='dense')",
        )
    if plan.kind == "dense":
        return choose(plan)
    return gate.run(x.device, lambda: choose(plan), lambda: choose(_plan.DENSE))
