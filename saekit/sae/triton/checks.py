"""Every kernel against its reference on the CPU, on small inputs, ragged ones among them, in every type it is used in.

Inputs of a selection are small integers, whose sums are exact in any order, where its features are compared, so that
each must be the reference's; and normal numbers, where its values are. What a reference gives is computed on the CPU,
which shares nothing with the device. Inputs differ from case to case, so that memory used again holds no right result.
`python -m saekit.sae.triton.checks DEVICE DIGEST REPORT` is what isolation.py runs. Needs triton.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import adam, batch, decode, encode, gate, reference, weight_grads
from .device_key import device_key
from .outcome import KernelCheck
from .plan import TILES, Plan
from .segments import CHUNK, segments

SUMS = 1e-4
"""Tolerance of sums of products in float32, relative to the largest; TF32 gives 5e-4, bfloat16 4e-3."""
STEPS = 1e-5
"""Tolerance of elementwise arithmetic in float32."""
ROUNDED = 2.0**-7
"""Tolerance of a copy in bfloat16: one unit of its last place."""
Run = Callable[[torch.device], float]


class WrongResultError(Exception):
    """A result that is wrong in more than a difference of numbers."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kernel on one input; `run` gives the largest relative difference."""

    kernel: str
    case: str
    run: Run
    tolerance: float = SUMS
    tiles: str = ""


def run_checks(
    device: torch.device, cases: Sequence[Case] | None = None, report: Callable[[dict[str, Any]], None] = lambda _: None
) -> tuple[KernelCheck, ...]:
    """Every case on a device, one after another; one that fails does not keep the others from running."""
    done = []
    with gate.checking(device):
        for case in all_cases() if cases is None else cases:
            report({"begun": f"{case.kernel} ({case.case})"})
            difference, error = None, ""
            try:
                found = case.run(device)
                difference = found if math.isfinite(found) else None
            except Exception as e:
                error = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
            done.append(
                KernelCheck(
                    kernel=case.kernel,
                    case=case.case,
                    difference=difference,
                    tolerance=case.tolerance,
                    tiles=case.tiles,
                    error=error,
                )
            )
            report(asdict(done[-1]))
    return tuple(done)


def all_cases() -> list[Case]:
    """Every kernel, in each of its types, on small, ragged and wide inputs."""
    return [*selections(), *decodings(), *gradients(), *adam_steps()]


def selections() -> Iterator[Case]:
    """top_k and top_of_batch, with every choice of tiles; in float32, only taken when asked for, with the smallest."""
    for plan in TILES:
        yield from _selection(plan, torch.bfloat16, "ties", 17, 33, 131, 5)
        yield from _selection(plan, torch.bfloat16, "random", plan.tile_n + 2, 64, plan.tile_f + 88, 9)
        yield from _selection(plan, torch.bfloat16, "one group", 5, 72, 129, 8)
        yield from _selection(plan, torch.bfloat16, "not finite", 4, 20, 70, 3)
        yield from _selection(plan, torch.bfloat16, "random", 3, 16, 2**17, 40)
    yield from _selection(TILES[-1], torch.float32, "ties", 18, 33, 130, 5)
    yield from _selection(TILES[-1], torch.float32, "random", 70, 64, 150, 4)
    yield from _selection(TILES[-1], torch.float32, "one group", 4, 72, 128, 8)


def _selection(plan: Plan, dtype: torch.dtype, kind: str, n: int, d_in: int, d_sae: int, k: int) -> Iterator[Case]:
    x, W, b = _selection_inputs(kind, n, d_in, d_sae)
    x, W = x.to(dtype), W.to(dtype)
    case = f"{_name(dtype)}, {kind}, {n} tokens, d_in {d_in}, {d_sae} features, k {k}"

    def top_k(device: torch.device) -> float:
        value, feature = encode.top_k(x.to(device), W.to(device), b.to(device), k, plan)
        rows = torch.arange(n)[:, None].expand(n, k)
        return _compare_chosen(kind, value, feature, rows, feature.cpu(), (x, W, b, k))

    def top_of_batch(device: torch.device) -> float:
        value, position = batch.top_of_batch(x.to(device), W.to(device), b.to(device), n * k, plan)
        places = position.cpu()
        return _compare_chosen(kind, value, position, places // d_sae, places % d_sae, (x, W, b, None))

    yield Case(kernel="top_k", case=case, run=top_k, tiles=plan.label)
    yield Case(kernel="top_of_batch", case=case, run=top_of_batch, tiles=plan.label)


def _selection_inputs(kind: str, n: int, d_in: int, d_sae: int) -> tuple[Tensor, Tensor, Tensor]:
    x, W, b = _random(n, d_in), _random(d_sae, d_in), _random(d_sae)
    if kind == "ties":  # small integers: many equal sums, exact in every order
        return x.sign() * (x.abs() > 0.7), W.sign() * (W.abs() > 0.7), torch.zeros(d_sae)
    if kind == "one group":  # the largest are neighbours, which two candidates cannot hold
        b[17:31] += 50.0
    if kind == "not finite":
        x[1, 3], x[2] = float("nan"), float("inf")
    return x, W, b


def _compare_chosen(kind: str, value: Tensor, index: Tensor, token: Tensor, feature: Tensor, given: Any) -> float:
    """Chosen pre-activations against the reference; k is None where they were chosen over the whole batch."""
    x, W, b, k = given
    inside = (feature >= 0) & (feature < len(W)) & (token >= 0) & (token < len(x))
    if not bool(inside.all()):
        raise WrongResultError(f"{int((~inside).sum())} of {inside.numel()} indices are out of bounds")
    if kind == "not finite":  # what is chosen then has no meaning, but must be within bounds
        return 0.0
    if not bool((index.diff(dim=-1) > 0).all()):
        raise WrongResultError("the indices do not ascend")
    if k is None:
        want, where = reference.top_of_batch(x, W, b, value.numel())
    else:  # of a batch of one token: unlike torch.topk, that takes the first of equals
        rows = [reference.top_of_batch(row[None], W, b, k) for row in (x if kind == "ties" else x[:0])]
        want = torch.stack([v for v, _ in rows]) if rows else reference.top_k(x, W, b, k)[0]
        where = torch.stack([f for _, f in rows]) if rows else index.cpu()
    if kind == "ties" and not torch.equal(index.cpu(), where):
        raise WrongResultError(f"{int((index.cpu() != where).sum())} of {index.numel()} indices are others")
    there = reference.pre_acts(x, W, b)[token, feature]
    ordered = value.cpu().sort(dim=-1).values
    return max(_difference(value, there), _difference(ordered, want.sort(dim=-1).values))


def decodings() -> Iterator[Case]:
    """decode_error, with few, many and one feature a token, and decode_error_of_pairs, with none and all of them."""
    for dtype in (torch.float32, torch.bfloat16):
        for n, k, d_sae, d in ((7, 3, 20, 33), (3, 20, 20, 130), (4, 1, 5, 1), (2, decode.MOST_PAIRS + 21, 300, 37)):
            feature, value = _pairs(n, k, d_sae)
            weights = (_random(d_sae, d).to(dtype), _random(d), _random(n, d))
            case = f"{_name(dtype)}, {n} tokens, k {k}, {d_sae} features, d {d}"
            run = _decoding(None, feature, value, *weights)
            yield Case(kernel="decode_error", case=case, run=run)
        acts = _random(5, 70) * (_random(5, 70) > 1.0)
        acts[1], acts[3] = _random(70), 0.0
        token, feature = acts.nonzero().unbind(1)
        start = torch.nn.functional.pad((acts != 0).sum(1).cumsum(0), (1, 0))
        weights = (_random(70, 37).to(dtype), _random(37), _random(5, 37))
        run = _decoding(start, feature, acts[token, feature], *weights)
        case = f"{_name(dtype)}, 5 tokens with 0 to 70 of 70 features, d 37"
        yield Case(kernel="decode_error_of_pairs", case=case, run=run)


def _decoding(start: Tensor | None, *given: Tensor) -> Run:
    def run(device: torch.device) -> float:
        want: tuple[Tensor, ...]
        if start is None:
            want = reference.decode_error(*given)
        else:
            want = reference.decode_error_of_pairs(start, *given)
        begins = None if start is None else start.to(device)
        found = decode.decode_error(begins, *(t.to(device) for t in given))
        return max(_difference(f, w) for f, w in zip(found, want, strict=True))

    return run


def gradients() -> Iterator[Case]:
    """weight_grad over one chunk and several, and the sorting and counting before it."""
    for dtype in (torch.float32, torch.bfloat16):
        for n, k, d_sae, d in ((9, 3, 40, 33), (1, 1, 3, 5), (2 * CHUNK + 7, 2, 5, 160)):
            feature, value = _pairs(n, k, d_sae - 1)  # the last feature is never active
            feature[:, 0] = 0 if n > CHUNK else feature[:, 0]
            rows, token = _random(n, d).to(dtype), torch.arange(n).repeat_interleave(k)
            case = f"{n} tokens, k {k}, {d_sae} features, d {d}"
            run = _gradient(feature.reshape(-1), value.reshape(-1), rows, token, d_sae)
            yield Case(kernel="weight_grad", case=f"{_name(dtype)}, {case}", run=run)
            if dtype == torch.float32:
                yield Case(kernel="segments", case=case, run=_sorting(feature, d_sae), tolerance=0.0)


def _gradient(feature: Tensor, value: Tensor, rows: Tensor, token: Tensor, d_sae: int) -> Run:
    def run(device: torch.device) -> float:
        def out(on: Tensor) -> Tensor:
            return torch.full((d_sae, rows.shape[1]), float("nan"), device=on.device)

        want = reference.weight_grad(value, rows, token, d_sae, segments(feature, d_sae), out(feature))
        f, v, r, t = (tensor.to(device) for tensor in (feature, value, rows, token))
        sorted_ = segments(f, d_sae)
        found = weight_grads.weight_grad(v, r, t, d_sae, sorted_, out(f))
        if not torch.equal(found, weight_grads.weight_grad(v, r, t, d_sae, sorted_, out(f))):
            raise WrongResultError("two runs give different bits")
        return _difference(found, want)

    return run


def _sorting(feature: Tensor, d_sae: int) -> Run:
    def run(device: torch.device) -> float:
        found, want = segments(feature.to(device), d_sae), segments(feature, d_sae)
        names = ("order", "start", "chunk_end", "chunk_feature", "partial_start")
        return max(float((getattr(found, n).cpu() != getattr(want, n)).sum()) for n in names)

    return run


def adam_steps() -> Iterator[Case]:
    """adam_ over three steps, the second of them skipped, with and without unit rows and a copy; project_."""
    shapes: tuple[tuple[tuple[int, ...], bool], ...] = (((5, 33), True), ((3, 1100), True), ((70,), False))
    for shape, unit_rows in (*shapes, ((1100,), False), ((3, 64), False)):
        case = f"{'x'.join(map(str, shape))}{', rows of unit norm' if unit_rows else ''}"
        yield Case(kernel="adam_", case=case, run=_adam(shape, unit_rows, False), tolerance=STEPS)
        run = _adam(shape, unit_rows, True)
        yield Case(kernel="adam_, bfloat16 copy", case=case, run=run, tolerance=ROUNDED)
    for rows, d in ((6, 33), (3, 1500)):
        yield Case(kernel="project_", case=f"{rows}x{d}", run=_project(rows, d), tolerance=STEPS)


def _adam(shape: tuple[int, ...], unit_rows: bool, of_copy: bool) -> Run:
    state, grads = _random(3, *shape), [_random(*shape) for _ in range(3)]
    state[2] = state[2].square()

    def moved(device: torch.device, step: Callable[..., None]) -> list[Tensor]:
        param, mean, square = (t.clone() for t in state.to(device))
        copy = param.bfloat16() if of_copy else None
        for i, grad in enumerate(grads, 1):
            options: dict[str, Any] = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 6.25e-10, "copy": copy}
            options["step"] = torch.tensor(i, device=device)
            options["scale"], options["skip"] = torch.tensor(0.3, device=device), torch.tensor(i == 2, device=device)
            step(param, grad.to(device), mean, square, unit_rows=unit_rows, **options)
        return [param, mean, square] if copy is None else [copy]

    def run(device: torch.device) -> float:
        want = moved(torch.device("cpu"), reference.adam_)
        return max(_difference(f, w) for f, w in zip(moved(device, adam.adam_), want, strict=True))

    return run


def _project(rows: int, d: int) -> Run:
    param, grad = torch.nn.functional.normalize(_random(rows, d)), _random(rows, d)

    def run(device: torch.device) -> float:
        found, want = grad.to(device, copy=True), grad.clone()
        squared = adam.project_(param.to(device), found)
        return max(_difference(squared, reference.project_(param, want)), _difference(found, want))

    return run


_generator = torch.Generator().manual_seed(0)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_generator)


def _pairs(n: int, k: int, d_sae: int) -> tuple[Tensor, Tensor]:
    """k different features for each token, some of them with value 0."""
    return _random(n, d_sae).topk(k, dim=1).indices.sort(dim=1).values, _random(n, k).relu()


def _difference(found: Tensor, want: Tensor) -> float:
    """The largest difference over the largest number wanted; infinite for NaN, which Python's max passes over."""
    found, want = found.detach().cpu().double(), want.detach().double()
    if not want.numel():
        return 0.0
    far = float((found - want).abs().max() / want.abs().max().clamp(min=1e-30))
    return far if math.isfinite(far) else math.inf


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> int:
    """Writes each check into the report as it begins and as it ends."""
    device, digest, path = torch.device(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if device_key(device).digest != digest:
        print(f"the check sees another device or version: {device_key(device)}", file=sys.stderr)
        return 1
    with path.open("a", encoding="utf8") as report:

        def line(value: dict[str, Any]) -> None:
            report.write(json.dumps(value) + "\n")
            report.flush()

        run_checks(device, report=line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
