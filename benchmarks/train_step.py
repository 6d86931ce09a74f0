"""What one training step costs, as a multiple of the encoder product x @ W_enc alone.

    python benchmarks/train_step.py [--threads 2] [--steps 8] [--batch 2048] [--d-sae 4096 16384]
        [--architectures topk batchtopk] [--device auto] [--peers] [--peer-env FOLDER]

The product is `x @ W_enc` in float32, as a user would write it: same process, same threads, same SAE's weights, its
output allocated again. The step is `Trainer.step(x)` whole: checks, forward, auxiliary loss (no feature is dead in so
few steps), backward, clipping, Adam, decoder norms, bookkeeping and its metrics. Both are timed in turn after two steps
to warm up; the fastest of each is kept, so that other work on the machine disturbs the ratio as little as it can, and
the median, which is what a run would see.

Peak memory is measured in a fresh process (peers/worker.py): the most resident (on a GPU, allocated) during a step less
what was held before the SAE was made, as a multiple of weights + Adam's two moments + one float32 [batch, d_sae].

The floor is what a step in float32 cannot do without: 2 * batch * d_in * d_sae operations, at the rate the product runs
at into memory that is at hand; weights and moments read and written and x read once, at the rate of a copy.

With a GPU: 16,384 tokens a step at two sizes, ten `Trainer.advance` and one `.metrics` between two CUDA events, in turn
with the float32 product; operations there are at the rate of a large bfloat16 product.

With --peers the same case runs in SAELens, dictionary_learning and sparsify too (topk, the last of --d-sae), each in an
environment of its own below --peer-env and a process of its own, all in turn: see peers/worker.py for what is called.

Prints tables and one JSON line. `load_before` is the number of processes that wanted a core in the minute before: read
ratios of a run that began with other work on the machine with care.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peers.environments import DEFAULT
from peers.race import Worker, race, summary

import saekit as sk
from saekit.sae.architectures import with_option

ROOT = Path(__file__).resolve().parents[1]
D_IN, K = 576, 32
ON_CUDA = (
    {"d_in": 576, "d_sae": 16_384, "k": 32, "batch": 16_384},
    {"d_in": 2304, "d_sae": 65_536, "k": 64, "batch": 16_384},
)
WARM_UP, PER_READING = 2, 10


def measure(case: dict[str, Any], n_steps: int) -> dict[str, Any]:
    """The row of a CPU: product and step in turn, and the floor."""
    trainer, batches = trainer_of(case), batches_of(case)
    product, step, bare = [], [], []
    out = torch.empty(case["batch"], case["d_sae"])
    for i in range(n_steps + WARM_UP):
        x, W_enc = batches[i % len(batches)], trainer._sae.W_enc
        with torch.no_grad():
            times = [time.perf_counter()]
            x @ W_enc
            times.append(time.perf_counter())
            torch.mm(x, W_enc, out=out)
            times.append(time.perf_counter())
        trainer.step(x)
        times.append(time.perf_counter())
        if i >= WARM_UP:
            for kept, a, b in zip((product, bare, step), times, times[1:], strict=False):
                kept.append(1e3 * (b - a))
    row = {**case, **summary(product, step)}
    row |= floor(case, rate=operations(case) / (min(bare) / 1e3), bandwidth=copy_rate("cpu"))
    return row


def measure_on_cuda(case: dict[str, Any], n_rounds: int) -> dict[str, Any]:
    """The row of a GPU: ten steps and one reading in turn with the product, and the roofline."""
    trainer, batches = trainer_of(case), batches_of(case)

    @torch.no_grad()
    def multiply() -> None:
        batches[0] @ trainer._sae.W_enc

    def ten() -> None:
        for j in range(PER_READING):
            trainer.advance(batches[j % len(batches)])
        trainer.metrics()

    times = [(events(multiply), events(ten) / PER_READING) for _ in range(n_rounds + WARM_UP)][WARM_UP:]
    product, step = ([t[i] for t in times] for i in range(2))
    row = {**case, **summary(product, step), "tokens_per_second": round(case["batch"] / (min(step) / 1e3))}
    device = case["device"]
    return row | floor(case, rate=product_rate(device), bandwidth=copy_rate(device))


def floor(case: dict[str, Any], *, rate: float, bandwidth: float) -> dict[str, Any]:
    """What a step cannot do without, and the milliseconds it takes at the rates of this machine."""
    state = state_bytes(case)
    moved = 2 * state + 4 * case["batch"] * case["d_in"]
    return {
        "operations": operations(case),
        "operations_per_second": round(rate),
        "bytes": moved,
        "bytes_per_second": round(bandwidth),
        "floor_operations_ms": round(1e3 * operations(case) / rate, 2),
        "floor_bytes_ms": round(1e3 * moved / bandwidth, 2),
    }


def operations(case: dict[str, Any]) -> int:
    """Multiplications and additions of one encoder product."""
    return int(2 * case["batch"] * case["d_in"] * case["d_sae"])


def state_bytes(case: dict[str, Any]) -> int:
    """Weights and Adam's two moments in float32."""
    return int(3 * 4 * (2 * case["d_in"] * case["d_sae"] + case["d_in"] + case["d_sae"]))


def product_rate(device: str, n: int = 8192) -> float:
    """Operations in a second of a large bfloat16 product."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / (min(events(lambda: a @ b) for _ in range(10)) / 1e3)


def copy_rate(device: str) -> float:
    """Bytes read and written in a second by a copy far larger than any cache."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(6):
        if device == "cuda":
            ms = events(lambda: target.copy_(source))
        else:
            began = time.perf_counter()
            target.copy_(source)
            ms = 1e3 * (time.perf_counter() - began)
        best = min(best, ms)
    return 2 * 4 * source.numel() / (best / 1e3)


def peak_memory(case: dict[str, Any]) -> dict[str, Any]:
    """Peak megabytes of a step in a fresh process, and as a multiple of weights, moments and pre-activations."""
    worker = Worker(sys.executable, {**case, "library": "saekit", "variant": ""})
    try:
        worker.step(4)
        peak = worker.peak_bytes()
    finally:
        worker.close()
    whole = state_bytes(case) + 4 * case["batch"] * case["d_sae"]
    return {"peak_mb": round(peak / 1e6), "peak_ratio": round(peak / whole, 2)}


def trainer_of(case: dict[str, Any]) -> sk.Trainer:
    sizes = {name: case[name] for name in ("d_in", "d_sae", "k")}
    config = sk.TrainConfig(n_tokens=10**6 * case["batch"], batch_size=case["batch"], device=case["device"])
    return sk.Trainer(sk.SAE(sk.SAEConfig(**sizes, activation=case["architecture"])), config)


def batches_of(case: dict[str, Any]) -> list[torch.Tensor]:
    """Four batches of activations with correlated dimensions, as a model's are."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(512, case["d_in"], generator=generator)
    made = [torch.randn(case["batch"], 512, generator=generator).relu() @ directions for _ in range(4)]
    return [x.to(case["device"]) for x in made]


def events(act: Any) -> float:
    """Milliseconds on the GPU from beginning to end of what `act` asks of it."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    act()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def machine(device: str) -> dict[str, Any]:
    """What the times were measured on; a commit with a + had changes on top that were not committed."""
    commit, changes = (
        subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        for command in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "saekit", "benchmarks/*.py"))
    )
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
    name = torch.cuda.get_device_name() if device == "cuda" else cpu
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit + ("+" if changes else ""),
        "load_before": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=8, help="steps timed, and rounds with --peers")
    parser.add_argument("--batch", type=int, default=2048, help="on a CPU")
    parser.add_argument("--d-sae", type=int, nargs="+", default=[4096, 16_384], help="on a CPU")
    parser.add_argument("--architectures", nargs="+", default=with_option("k"), choices=with_option("k"))
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peer-env", type=Path, default=DEFAULT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    sizes = (
        ON_CUDA if device == "cuda" else [{"d_in": D_IN, "d_sae": n, "k": K, "batch": args.batch} for n in args.d_sae]
    )
    cases = [
        {"architecture": a, **s, "device": device, "threads": args.threads} for a in args.architectures for s in sizes
    ]
    about = machine(device)
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    for case in cases:
        row = measure_on_cuda(case, args.steps) if device == "cuda" else measure(case, args.steps)
        rows.append(row | peak_memory(case))
        if len(rows) == 1:
            print(HEAD)
        print(line(rows[-1]), flush=True)
    for row in rows[: len(sizes)]:
        print(floor_line(row))
    peers = []
    if args.peers:
        for size in sizes if device == "cuda" else sizes[-1:]:
            case = {**size, "architecture": "topk", "device": device, "threads": args.threads}
            peers.append({**case, "rows": race(case, args.peer_env, args.steps)})
            print_peers(peers[-1])
    print(json.dumps({"benchmark": "train_step", **about, "rows": rows, "peers": peers}))


HEAD = (
    f"{'':34}{'fastest of each':^26}  {'median of each':^26}  {'peak memory':^16}\n"
    f"{'architecture':12} {'d_in':>5} {'d_sae':>6} {'k':>3} {'batch':>6}  {'product ms':>10} "
    f"{'step ms':>8} {'ratio':>6}  {'product ms':>10} {'step ms':>8} {'ratio':>6}  {'MB':>7} {'multiple':>8}"
)


def line(row: dict[str, Any]) -> str:
    out = (
        f"{row['architecture']:12} {row['d_in']:5} {row['d_sae']:6} {row['k']:3} {row['batch']:6}  "
        f"{row['product_ms']:10.2f} {row['step_ms']:8.2f} {row['ratio']:6.2f}  "
        f"{row['product_median_ms']:10.2f} {row['step_median_ms']:8.2f} "
        f"{row['ratio_median']:6.2f}  {row['peak_mb']:7} {row['peak_ratio']:8.2f}"
    )
    return out + (f"  {row['tokens_per_second'] / 1e6:.2f} M tokens/s" if "tokens_per_second" in row else "")


def floor_line(row: dict[str, Any]) -> str:
    return (
        f"floor at d_in {row['d_in']}, d_sae {row['d_sae']}: {row['operations'] / 1e9:.1f} G operations at "
        f"{row['operations_per_second'] / 1e9:.0f} G/s, {row['floor_operations_ms']:.2f} ms; "
        f"{row['bytes'] / 1e6:.0f} MB at {row['bytes_per_second'] / 1e9:.1f} GB/s, {row['floor_bytes_ms']:.2f} ms"
    )


def print_peers(case: dict[str, Any]) -> None:
    print(f"in turn: topk, d_in {case['d_in']}, d_sae {case['d_sae']}, k {case['k']}, batch {case['batch']}")
    print(
        f"{'library':24} {'version':>9}  {'product ms':>10} {'step ms':>8} {'ratio':>6}  {'product ms':>10} "
        f"{'step ms':>8} {'ratio':>6}  {'peak MB':>7}"
    )
    for row in case["rows"]:
        named = f"{row['library']:24} {row.get('version', ''):>9}  "
        if "reason" in row:
            print(f"{named}{row['reason']}")
            continue
        print(
            f"{named}{row['product_ms']:10.2f} {row['step_ms']:8.2f} {row['ratio']:6.2f}  "
            f"{row['product_median_ms']:10.2f} {row['step_median_ms']:8.2f} {row['ratio_median']:6.2f}  "
            f"{row['peak_mb']:7}"
        )


if __name__ == "__main__":
    main()
