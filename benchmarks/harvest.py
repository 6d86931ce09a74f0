"""What harvesting activations costs beyond running the model: the goal is 5 % over the bare truncated forward pass.

Within one harvest, the time spent in the truncated forward pass is counted apart from all the rest (tokens, the
token_filter, the pool, shards and checksums), so that other work on the machine, which weighs on both, leaves the ratio
alone. It is processor time; `--threads 1` keeps the waiting of idle threads out of it. Then one shuffled epoch is read
from a cache of random numbers of the size of the demo corpus.

    python benchmarks/harvest.py [--windows 64] [--rounds 1] [--threads N] [--epoch-tokens 300000] [--sizes]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import saekit as sk
from saekit.activations.shards import FORMAT, SHARD_TOKENS, write_shard

LAYER = 15
HOOK = f"blocks.{LAYER}.hook_resid_post"


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def harvest(model: sk.LanguageModel, windows: sk.Windows, rounds: int) -> dict[str, float]:
    """Seconds of processor time over the windows: in all, and in the forward pass alone."""
    token_filter = sk.fit_token_filter(model, windows, HOOK, n_windows=8)
    forward, passes = model.activations, [0.0]

    def timed(*args: Any, **kwargs: Any) -> torch.Tensor:
        start = time.process_time()
        x = forward(*args, **kwargs)
        passes[0] += time.process_time() - start
        return x

    def batches() -> None:
        list(sk.activation_batches(model, windows, HOOK, batch_size=1024, token_filter=token_filter, n_epochs=1))

    def cache() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sk.cache_activations(model, windows, HOOK, folder, token_filter=token_filter, progress=False)

    result: dict[str, float] = {}
    model.fingerprint, model.hook_width(HOOK)  # once a model, not once a harvest
    model.activations = timed  # type: ignore[method-assign]
    for name, work in {"batches": batches, "cache": cache}.items():
        passes[0], start = 0.0, time.process_time()
        for _ in range(rounds):
            work()
        result[name], result[f"{name}_forward"] = time.process_time() - start, passes[0]
    model.activations = forward  # type: ignore[method-assign]
    return result


def epoch(n_tokens: int, d_in: int) -> dict[str, float]:
    """Seconds of processor time to write, verify and read a shuffled epoch of `n_tokens` random activations."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["one two three"] * 8
        windows = sk.tokenize(sk.load_corpus(words), sk.load_model(), length=8)
        windows.save(folder)
        manifest = {
            "format": FORMAT,
            "model_name": "",
            "model_fingerprint": "",
            "weight_processing": "none",
            "hook_name": HOOK,
            "d_in": d_in,
            "dtype": "float32",
            "text": windows.digest,
            "length": 8,
            "token_filter": sk.TokenFilter().to_dict(),
            "windows_per_shard": 1,
            "n_shards": 0,
            "shards": [],
        }
        start = time.process_time()
        for n, at in enumerate(torch.arange(n_tokens).split(SHARD_TOKENS)):
            write_shard(folder, n, torch.randn(len(at), d_in), at, manifest)
        written = time.process_time() - start
        verified = seconds(lambda: sk.open_activations(folder))
        cache = sk.open_activations(folder, verify=False)
        read = min(seconds(lambda: [x.sum() for x in cache.batches(2048, n_epochs=1)]) for _ in range(2))
    return {"written": written, "verified": verified, "read": read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epoch-tokens", type=int, default=300_000)
    parser.add_argument("--sizes", action="store_true", help="also tokens/s by windows in one run of the model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = sk.load_model()
    tokenized = time.process_time()
    windows = sk.tokenize(sk.load_corpus("demo").shuffle(0), model)
    tokenized = time.process_time() - tokenized
    print(f"tokenized {windows.n_tokens:,} tokens in {tokenized:.2f} s ({windows.n_tokens / tokenized:,.0f} a second)")
    windows = windows.select(slice(args.windows))
    found = harvest(model, windows, args.rounds)
    ratios = {name: found[name] / found[f"{name}_forward"] for name in ("batches", "cache")}
    for name, ratio in ratios.items():
        print(f"{name:>8}: {found[name]:6.2f} s, {ratio:.4f} of its forward passes")
    if args.sizes:
        for size in (4, 8, 16, 32, 64):
            runs = list(windows.batches(size))
            start = time.process_time()
            for tokens, mask, _ in runs:
                model.activations(tokens, HOOK, attention_mask=mask)
            s = time.process_time() - start
            print(f"{size:>4} windows a run: {windows.n_tokens / s:,.0f} tokens per second of processor time")
    disk = epoch(args.epoch_tokens, model.d_model)
    print(f"{args.epoch_tokens:,} tokens: {', '.join(f'{name} in {s:.2f} s' for name, s in disk.items())}")
    result = {"n_tokens": windows.n_tokens, "threads": torch.get_num_threads(), "seconds": found, "disk": disk}
    result["ratio"] = ratios
    print(json.dumps(result))


if __name__ == "__main__":
    main()
