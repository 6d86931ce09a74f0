"""What building an index costs.

Beyond running the model (the goal is 25 % at 4,096 features on two CPU cores): rounds of the truncated forward pass
alone and of the index's pass over the same windows take turns, the one that goes first changing each time, so that
whatever else the machine does weighs on both; the medians are compared. The work after the pass (statistics, contexts,
logit effects, neighbours, files) is timed once, on all the windows: most of it does not grow with the corpus, so the
whole is also given for the demo corpus. On a busy machine take --cpu-time: processor seconds on one thread, which other
processes hardly change.

From stored activations, with --stored-tokens (the goal is 60 s and 4 GB for 1,000,000 tokens and 16,384 features on two
CPU cores): one whole build from a cache in a temporary folder, by phases. The activations are made up: sums of 24
directions, a third of them chosen by the token, a third by the token before and a third at random, with noise; the
tokens are Zipf's, so that the densities of features have a long tail; the SAE's decoder holds these directions.

    python benchmarks/index_build.py [--windows 32] [--rounds 8] [--d-sae 4096] [--k 32] [--cpu-time]
    python benchmarks/index_build.py --stored-tokens 1000000 [--d-sae 16384] [--activation topk|batchtopk] [--k 32]
        [--dtype float32|float16]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import saekit as sk
from saekit.activations import shards
from saekit.corpus import Windows
from saekit.index import build, directions, index_files, parts
from saekit.index.sparse import Sparse
from saekit.sae.architectures import with_option

HOOK = "blocks.15.hook_resid_post"
BATCH, LENGTH, ACTIVE = 32, 128, 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stored-tokens", type=int)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--d-sae", type=int)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--activation", choices=with_option("k"), default="topk")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--cpu-time", action="store_true")
    args = parser.parse_args()
    args.d_sae = args.d_sae or (16_384 if args.stored_tokens else 4096)
    (stored if args.stored_tokens else beyond_the_forward)(args, sk.load_model())


def config(model: sk.LanguageModel, args: argparse.Namespace, token_filter: sk.TokenFilter) -> sk.SAEConfig:
    return sk.SAEConfig(
        d_in=model.d_model,
        d_sae=args.d_sae,
        activation=args.activation,
        k=args.k,
        hook_name=HOOK,
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=token_filter,
    )


# ---- a build from stored activations ------------------------------------------------------------------------------


def stored(args: argparse.Namespace, model: sk.LanguageModel) -> None:
    generator = torch.Generator().manual_seed(0)
    sae = sk.SAE(config(model, args, sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)))))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "index"
        windows = make_windows(args.stored_tokens, model)
        make_cache(Path(folder) / "acts", windows, sae, model, args.dtype, generator)
        os.sync()  # what was just written must not be on its way to the disk while the build is timed
        cache = sk.open_activations(Path(folder) / "acts", verify=False)
        if sae.architecture.has_threshold:
            set_threshold(sae, cache.x(slice(2048)))
        spent = Phases()
        with Memory() as memory:
            start = time.perf_counter()
            index = sk.build_index(model, sae, cache, out=out, progress=False)
            total = time.perf_counter() - start
        size = sum(file.stat().st_size for file in out.iterdir()) / 1e9
        phases = spent.table(total)
        median = int(index.features["n_firings"].median())

    print(f"{cache.n_tokens:,} tokens in {args.dtype}, {args.d_sae:,} features, {args.activation} k {args.k}")
    print(f"{index.n_firings:,} firings, median of a feature {median:,}, {index.n_silent:,} features silent")
    for phase, seconds in phases.items():
        print(f"  {phase:<42}{seconds:8.2f} s")
    print(f"  {'in all':<42}{total:8.2f} s")
    print(f"  {'(writing parts, in its own thread)':<42}{spent.aside['writing parts']:8.2f} s")
    print(f"{cache.n_tokens / total:,.0f} tokens/s, {index.n_firings / total:,.0f} firings/s")
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"peak memory {memory.peak:.2f} GB, of it {memory.own:.2f} GB not mapped files; {size:.2f} GB on disk")
    print(f"the whole process, with making the activations: {process:.2f} GB")
    record = {
        "benchmark": "index_build_stored",
        "d_sae": args.d_sae,
        "k": args.k,
        "activation": args.activation,
        "dtype": args.dtype,
        "n_tokens": cache.n_tokens,
        "n_firings": index.n_firings,
        "total_s": round(total, 2),
        "phases_s": {phase: round(seconds, 2) for phase, seconds in phases.items()},
        "tokens_per_s": round(cache.n_tokens / total),
        "firings_per_s": round(index.n_firings / total),
        "peak_gb": round(memory.peak, 2),
        "peak_own_gb": round(memory.own, 2),
        "process_peak_gb": round(process, 2),
        "disk_gb": round(size, 2),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(record))


def make_windows(n_tokens: int, model: sk.LanguageModel) -> Windows:
    """Windows with this many tokens besides BOS, of a Zipf distribution; three windows to a document."""
    n, ids = -(-n_tokens // (LENGTH - 1)), np.setdiff1d(np.arange(model.d_vocab), sorted(model.special_ids))
    cumulative = np.cumsum(1 / np.arange(1, len(ids) + 1))
    drawn = np.searchsorted(cumulative / cumulative[-1], np.random.default_rng(0).random((n, LENGTH)))
    tokens = torch.from_numpy(ids[drawn].astype(np.int32))
    documents = torch.arange(n, dtype=torch.int32).div(3, rounding_mode="floor")[:, None].repeat(1, LENGTH)
    tokens[:, 0], documents[:, 0] = model.bos_id, -1
    labels = pd.DataFrame({"source": ["made up"] * (int(documents.max()) + 1)})
    return Windows(tokens, documents, torch.full((n,), LENGTH, dtype=torch.int32), labels)


def make_cache(
    path: Path, windows: Windows, sae: sk.SAE, model: sk.LanguageModel, dtype: str, generator: torch.Generator
) -> None:
    """Activations that are sums of the SAE's decoder directions, which its encoder then looks for."""
    with torch.no_grad():
        sae.W_enc.copy_(sae.W_dec.T)
    identity = {
        "model_name": model.name,
        "model_fingerprint": model.fingerprint,
        "weight_processing": model.weight_processing,
        "hook_name": HOOK,
        "d_in": sae.config.d_in,
        "dtype": dtype,
        "text": windows.digest,
        "length": LENGTH,
    }
    manifest = shards.begin(path, windows, identity, lambda: sae.config.token_filter)
    d_sae, third = sae.config.d_sae, ACTIVE // 3
    slot = torch.arange(third) * 104_729
    for number in range(manifest["n_shards"]):
        rows = torch.arange(len(windows))[number * manifest["windows_per_shard"] :][: manifest["windows_per_shard"]]
        tokens = windows.tokens[rows].long()
        chosen = torch.cat(
            [
                (tokens[:, 1:, None] * 7919 + slot) % d_sae,
                (tokens[:, :-1, None] * 6271 + slot + 1) % d_sae,
                torch.randint(d_sae, (len(rows), LENGTH - 1, ACTIVE - 2 * third), generator=generator),
            ],
            dim=2,
        ).flatten(0, 1)
        strength = 4 - torch.rand(chosen.shape, generator=generator).log()
        x = torch.nn.functional.embedding_bag(chosen, sae.W_dec.detach(), per_sample_weights=strength, mode="sum")
        x += 0.1 * torch.randn(x.shape, generator=generator)
        position = (rows[:, None] * LENGTH + torch.arange(1, LENGTH)).flatten()
        shards.write_shard(path, number, x, position, manifest)


@torch.no_grad()
def set_threshold(sae: sk.SAE, x: torch.Tensor) -> None:
    """The threshold at which k features fire on a token of `x` in the mean."""
    pre = sae.pre_acts(x).flatten()
    sae.threshold.fill_(float(pre.topk(sae.k * len(x)).values[-1]))


class Phases:
    """Wall seconds spent in the phases of a build, by wrapping its functions; those of other threads apart."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.aside: Counter[str] = Counter()
        for owner, name, phase in (
            (parts.IndexEncoder, "read", "reading and encoding"),
            (build, "encode_all", "the pass"),
            (index_files, "join_parts", "join and transpose"),
            (Sparse, "transpose", "join and transpose"),
            (index_files, "endings", "statistics and contexts"),
            (index_files, "summarise", "statistics and contexts"),
            (index_files, "_contexts", "statistics and contexts"),
            (directions, "neighbours", "neighbours"),
            (directions, "logit_effects", "logit effects"),
            (build, "write_index", "after the pass"),
            (parts, "_write_part", "writing parts"),
        ):
            self._wrap(owner, name, phase)

    def _wrap(self, owner: Any, name: str, phase: str) -> None:
        work = getattr(owner, name)

        @functools.wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                here = threading.current_thread() is threading.main_thread()
                (self.seconds if here else self.aside)[phase] += time.perf_counter() - start

        setattr(owner, name, timed)

    def table(self, total: float) -> dict[str, float]:
        s = self.seconds
        inner = ("join and transpose", "statistics and contexts", "neighbours", "logit effects")
        return {
            "reading and encoding": s["reading and encoding"],
            "parts, beyond their thread": s["the pass"] - s["reading and encoding"],
            **{phase: s[phase] for phase in inner},
            "files, beyond their thread": s["after the pass"] - sum(s[phase] for phase in inner),
            "checks before and after": total - s["the pass"] - s["after the pass"],
        }


class Memory:
    """The most memory the process holds in a block, in GB, looked at four times a second: all of it, with the pages of
    the stored activations that it has read, and what of it is not mapped from a file. Linux."""

    def __enter__(self) -> Memory:
        self.peak = self.own = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.25):
            held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.peak = max(self.peak, int(held["VmRSS"].split()[0]) * 1024 / 1e9)
            self.own = max(self.own, int(held["RssAnon"].split()[0]) * 1024 / 1e9)


# ---- beyond the forward pass --------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def beyond_the_forward(args: argparse.Namespace, model: sk.LanguageModel) -> None:
    if args.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if args.cpu_time else time.perf_counter

    demo = sk.tokenize(sk.load_corpus("demo"), model)
    order = torch.randperm(len(demo), generator=torch.Generator().manual_seed(0))[: args.windows * args.rounds]
    windows = demo.select(order.sort().values)
    sae = sk.SAE(config(model, args, sk.fit_token_filter(model, demo, HOOK, n_windows=16)))

    slices = [windows.select(slice(n * args.windows, (n + 1) * args.windows)) for n in range(args.rounds)]
    encoder = parts.IndexEncoder(model, sae, HOOK, sae.config.token_filter, BATCH)

    def forward(part: sk.Windows) -> None:
        for tokens, mask, _ in part.batches(BATCH):
            model.activations(tokens, HOOK, mask)

    def index_pass(part: sk.Windows, folder: Path) -> None:
        parts.encode_all(parts.IndexInput(part, model, part.length), encoder, folder, tqdm(disable=True))

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
    finish = build.write_index
    build.write_index = lambda *a: after.append(seconds(lambda: finish(*a), clock))  # type: ignore[assignment]
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
        "benchmark": "index_build",
        "d_sae": args.d_sae,
        "k": args.k,
        "n_tokens": windows.n_tokens,
        "rounds": args.rounds,
        "forward_s": round(alone, 3),
        "pass_s": round(during, 3),
        "after_s": round(after[0], 2),
        "overhead_pass": round(during / alone - 1, 4),
        "overhead_demo": round(demo_ratio, 4),
        "demo_tokens": demo.n_tokens,
        "peak_gb": round(peak, 2),
        "threads": torch.get_num_threads(),
        "clock": "cpu" if args.cpu_time else "wall",
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
