"""What building an index costs beyond running the model: the goal is 25 % at 4,096 features on two CPU cores.

Rounds of the truncated forward pass alone and of the index's pass over the same windows take turns, the one that goes
first changing each time, so that whatever else the machine does weighs on both; the medians are compared. The work
after the pass (statistics, contexts, logit effects, neighbours, files) is timed once, on all the windows: most of it
does not grow with the corpus, so the whole is also given for the demo corpus.

On a busy machine take --cpu-time: processor seconds on one thread, which other processes hardly change.

    python benchmarks/index_build.py [--windows 32] [--rounds 8] [--d-sae 4096] [--k 32] [--cpu-time]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

import saekit as sk
from saekit.index import build, parts

HOOK = "blocks.15.hook_resid_post"
BATCH = 32


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    if args.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if args.cpu_time else time.perf_counter

    model = sk.load_model()
    demo = sk.tokenize(sk.load_corpus("demo"), model)
    order = torch.randperm(len(demo), generator=torch.Generator().manual_seed(0))[: args.windows * args.rounds]
    windows = demo.select(order.sort().values)
    sae = sk.SAE(
        sk.SAEConfig(
            d_in=model.d_model, d_sae=args.d_sae, activation="topk", k=args.k, hook_name=HOOK, model_name=model.name,
            weight_processing=model.weight_processing, token_rule=sk.find_token_rule(model, demo, HOOK, n_windows=16),
        )
    )  # fmt: skip

    slices = [windows.select(slice(n * args.windows, (n + 1) * args.windows)) for n in range(args.rounds)]
    encoder = parts.Encoder(model, sae, HOOK, sae.config.token_rule, BATCH)

    def forward(part: sk.Windows) -> None:
        for tokens, mask, _ in part.batches(BATCH):
            model.activations(tokens, HOOK, mask)

    def index_pass(part: sk.Windows, folder: Path) -> None:
        parts.encode_all(parts.Source(part, model, part.length), encoder, folder, tqdm(disable=True))

    forward(slices[0])
    forward_s, pass_s = [], []
    print("round  forward s  pass s")
    with tempfile.TemporaryDirectory() as folder:
        for n, part in enumerate(slices):
            turns = [
                lambda part=part: forward_s.append(seconds(lambda: forward(part), clock)),
                lambda part=part, n=n: pass_s.append(seconds(lambda: index_pass(part, Path(folder) / str(n)), clock)),
            ]
            for turn in turns if n % 2 else reversed(turns):
                turn()
            print(f"{n:>5} {forward_s[-1]:>10.2f} {pass_s[-1]:>7.2f}", flush=True)

    after: list[float] = []
    finish = build._write
    build._write = lambda *a: after.append(seconds(lambda: finish(*a), clock))  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        sk.build_index(model, sae, windows, out=Path(folder) / "index", batch_size=BATCH, progress=False)

    alone, during = statistics.median(forward_s), statistics.median(pass_s)
    scale = demo.n_tokens / (windows.n_tokens / args.rounds)
    demo_ratio = (during * scale + after[0]) / (alone * scale) - 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{windows.n_tokens:,} tokens in {args.rounds} rounds, {args.d_sae:,} features, k {args.k}")
    print(f"forward alone       {windows.n_tokens / sum(forward_s):,.0f} tokens/s")
    print(f"beyond the forward  {during / alone - 1:.1%} during the pass; {after[0]:.1f} s after it")
    print(f"on the demo corpus  {demo_ratio:.1%} in all ({demo.n_tokens:,} tokens)")
    print(f"peak memory         {peak:.1f} GB with the model")
    record = {
        "benchmark": "index_build", "d_sae": args.d_sae, "k": args.k, "n_tokens": windows.n_tokens,
        "rounds": args.rounds,
        "forward_s": round(alone, 3), "pass_s": round(during, 3), "after_s": round(after[0], 2),
        "overhead_pass": round(during / alone - 1, 4), "overhead_demo": round(demo_ratio, 4),
        "demo_tokens": demo.n_tokens, "peak_gb": round(peak, 2), "threads": torch.get_num_threads(),
        "clock": "cpu" if args.cpu_time else "wall",
    }  # fmt: skip
    print(json.dumps(record))


if __name__ == "__main__":
    main()
