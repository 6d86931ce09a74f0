"""What each GPU kernel of a training step costs, against its plain PyTorch reference and against its floor.

    python benchmarks/kernels.py [--tokens 16384] [--repeats 20] [--dtype bfloat16] [--tiles 128x256x64x8x3 ...]

Two sizes: d_in 576, 16,384 features, k 32, and d_in 2,304, 65,536 features, k 64. The choice of features is timed with
both plans (saekit/sae/triton/plan.py) and, for the fused one, every --tiles given (tokens x features x dimensions x
warps x stages). The floor of a kernel is the longer of its operations at the rate of a large product of this type and
its bytes at the bandwidth of a large copy, both measured in the same run; rows out of the L2 cache count as none.
Times are medians between CUDA events. Without a CUDA device there is nothing to measure. Prints a table and one JSON
line.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from saekit.sae import triton as triton_kernels
from saekit.sae.triton import reference as reference

SIZES = ((576, 16_384, 32), (2304, 65_536, 64))


@dataclass(frozen=True)
class Rates:
    """What this device reaches on the two simplest things."""

    bandwidth: float
    """Bytes a second of a large copy, read and written."""
    product: float
    """Operations a second of a large product."""


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The median time of one call."""
    for _ in range(3):
        run()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    times = sorted(begin.elapsed_time(end) for begin, end in events)
    return 1e-3 * times[len(times) // 2]


def rates(dtype: torch.dtype, repeats: int) -> Rates:
    """Of this device, now."""
    source = torch.empty(2**30, dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), repeats)
    del source, target
    a, b = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
    return Rates(8.0 * 2**30 / copy, 2.0 * 8192**3 / seconds(lambda: a @ b, repeats))


def cases(
    d_in: int, d_sae: int, k: int, n: int, dtype: torch.dtype, tiles: list[triton_kernels.Plan]
) -> list[dict[str, Any]]:
    """What is timed: a name, the kernel, its reference or None, its operations and its bytes."""
    g = torch.Generator(device="cuda").manual_seed(0)
    random = lambda *shape: torch.randn(*shape, generator=g, device="cuda")  # noqa: E731
    x, b_enc, b_dec = random(n, d_in), torch.zeros(d_sae, device="cuda"), random(d_in)
    W = torch.nn.functional.normalize(random(d_sae, d_in))
    low, copy, w = x.to(dtype), W.to(dtype), dtype.itemsize
    value, feature = triton_kernels.top_k(low, copy, b_enc, k, dtype=dtype)
    value = value.relu()
    token = torch.arange(n, device="cuda").repeat_interleave(k)
    pairs = triton_kernels.segments(feature, d_sae)
    grad, moments, out = torch.empty_like(W), torch.zeros(2, d_sae, d_in, device="cuda"), torch.empty_like(W)
    step, scale = torch.ones((), dtype=torch.int64, device="cuda"), torch.ones((), device="cuda")
    skip = torch.zeros((), dtype=torch.bool, device="cuda")
    product, inputs = 2.0 * n * d_in * d_sae, float(w * (n + d_sae) * d_in)
    dense = triton_kernels.Plan(kind="dense")
    adam = {"lr": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "step": step, "scale": scale, "skip": skip}
    adam |= {"unit_rows": True, "copy": copy}
    found = []

    def case(name: str, kernel: Any, reference: Any, operations: float, moved: float) -> None:
        found.append({"name": name, "kernel": kernel, "reference": reference, "operations": operations, "bytes": moved})

    case("product alone (library)", lambda: low @ copy.T, None, product, inputs + w * n * d_sae)
    for plan in tiles:
        shape = f"{plan.tile_n}x{plan.tile_f}x{plan.tile_k}x{plan.warps}x{plan.stages}"
        for name, choose, count in (
            ("top_k", triton_kernels.top_k, k),
            ("top_of_batch", triton_kernels.top_of_batch, n * k),
        ):

            def run(choose: Any = choose, count: int = count, plan: triton_kernels.Plan = plan) -> Any:
                return choose(low, copy, b_enc, count, dtype=dtype, plan=plan)

            def plain(choose: Any = choose, count: int = count) -> Any:
                return choose(low, copy, b_enc, count, dtype=dtype, plan=dense)

            case(f"{name} {shape}", run, plain, product, inputs + 12.0 * n * k)
    case(
        "decode_error",
        lambda: triton_kernels.decode_error(feature, value, copy, b_dec, x, dtype=dtype),
        lambda: reference.decode_error(feature, value, copy, b_dec, x),
        4.0 * n * k * d_in,
        w * d_sae * d_in + 8.0 * n * d_in + 16.0 * n * k,
    )
    case("segments", lambda: triton_kernels.segments(feature, d_sae), None, 0.0, 16.0 * n * k + 24.0 * d_sae)
    case(
        "weight_grad",
        lambda: triton_kernels.weight_grad(feature, value, low, token, d_sae, out, sorted_=pairs),
        lambda: reference.weight_grad(value.reshape(-1), low, token, d_sae, pairs, out),
        2.0 * n * k * d_in,
        4.0 * d_sae * d_in + w * n * d_in + 20.0 * n * k,
    )
    case(
        "segment_counts",
        lambda: triton_kernels.segment_counts(feature, value, d_sae, sorted_=pairs),
        None,
        0.0,
        20.0 * n * k + 16.0 * d_sae,
    )
    case(
        "project_",
        lambda: triton_kernels.project_(W, grad),
        lambda: reference.project_(W, grad),
        0.0,
        12.0 * d_sae * d_in,
    )
    case(
        "adam_ with unit rows",
        lambda: triton_kernels.adam_(W, grad, *moments, **adam),
        lambda: reference.adam_(W, grad, *moments, **adam),
        0.0,
        (28.0 + w) * d_sae * d_in,
    )
    return found


def tile(text: str) -> triton_kernels.Plan:
    """A plan from 128x256x64x8x3."""
    tile_n, tile_f, tile_k, warps, stages = (int(part) for part in text.split("x"))
    return triton_kernels.Plan(kind="fused", tile_n=tile_n, tile_f=tile_f, tile_k=tile_k, warps=warps, stages=stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--tiles", nargs="*", type=tile, default=[triton_kernels.Plan(kind="fused")])
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    if not triton_kernels.available("cuda"):
        print(triton_kernels.self_check("cuda"), "nothing is measured but kernels that are right", sep="\n")
        return
    warnings.simplefilter("error")  # of a kernel whose reference has taken its place
    dtype = getattr(torch, args.dtype)
    top = rates(dtype, args.repeats)
    name = torch.cuda.get_device_name()
    print(
        f"{name}, torch {torch.__version__}: copy {top.bandwidth / 1e12:.2f} TB/s, {args.dtype} product "
        f"{top.product / 1e12:.0f} TFLOP/s, {args.tokens} tokens"
    )
    rows = []
    for d_in, d_sae, k in SIZES:
        print(f"\nd_in {d_in}, {d_sae} features, k {k}")
        print(f"{'kernel':32} {'ms':>8} {'ref. ms':>8} {'floor ms':>9} {'of floor':>9} {'GFLOP':>9} {'MB':>8}")
        for case in cases(d_in, d_sae, k, args.tokens, dtype, args.tiles):
            took = seconds(case["kernel"], args.repeats)
            reference = seconds(case["reference"], args.repeats) if case["reference"] else None
            floor = max(case["operations"] / top.product, case["bytes"] / top.bandwidth)
            rows.append(
                {
                    "d_in": d_in,
                    "d_sae": d_sae,
                    "k": k,
                    "kernel": case["name"],
                    "ms": round(1e3 * took, 3),
                    "reference_ms": None if reference is None else round(1e3 * reference, 3),
                    "floor_ms": round(1e3 * floor, 3),
                    "operations": case["operations"],
                    "bytes": case["bytes"],
                }
            )
            beside = "" if reference is None else f"{1e3 * reference:.3f}"
            print(
                f"{case['name']:32} {1e3 * took:8.3f} {beside:>8} {1e3 * floor:9.3f} {took / floor:8.1f}x"
                f" {case['operations'] / 1e9:9.1f} {case['bytes'] / 1e6:8.0f}",
                flush=True,
            )
    print(
        json.dumps(
            {
                "benchmark": "kernels",
                "device": name,
                "torch": torch.__version__,
                "tokens": args.tokens,
                "dtype": args.dtype,
                "copy_bytes_per_second": top.bandwidth,
                "product_operations_per_second": top.product,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
