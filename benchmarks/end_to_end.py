"""Tokens/s from text to SAE, and who takes the time: the goal on a CPU is less than 25 % for one 4,096-feature SAE.

One `sk.train` on the packaged text for each architecture, at the middle layer of the default model. Clocks run around
every run of the model, every step of the SAE and the whole. A token's cost is the model's time over the tokens it gave,
the time of all steps but the first (which also takes b_dec from the data) over the tokens they took, and the rest,
tokenising included, over the tokens trained on. So neither the pool's filling nor its remainder shifts the fractions,
and tokens/s is what a long run reaches. On a GPU each clock waits for the device, which undoes the overlap; there a
second run without clocks inside gives the tokens/s, from its first logged row to its last.

    python benchmarks/end_to_end.py [--d-sae 4096] [--k 32] [--tokens 8192] [--threads N] [--device auto]
                                    [--repeats 1] [--processor-time] [--plain]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import saekit as sk
from saekit.sae.architectures import with_option

LAYER = 15
HOOK = f"blocks.{LAYER}.hook_resid_post"
ARCHITECTURES = with_option("k")


class Clock:
    """Seconds inside each call of the functions it is wound around, the device's work for them included."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.calls: list[float] = []

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self.now()
            result = work(*args, **kwargs)
            self.calls.append(self.now() - began)
            return result

        return timed

    @property
    def seconds(self) -> float:
        return sum(self.calls)


class Rows:
    """A logger that notes when each row came."""

    def __init__(self) -> None:
        self.came: list[tuple[int, float]] = []

    def start(self, run: Any) -> None:
        self.came = []

    def record(self, rows: Sequence[Any], densities: Any) -> None:
        self.came.append((rows[0]["n_tokens"], time.perf_counter()))

    def finish(self, status: str, message: str) -> None:
        pass

    @property
    def tokens_per_second(self) -> float:
        (n_first, first), (n_last, last) = self.came[0], self.came[-1]
        return (n_last - n_first) / (last - first)


def now(device: torch.device, processor_time: bool) -> Callable[[], float]:
    """A reading of the clock, after all work that the device was given."""
    clock = time.process_time if processor_time else time.perf_counter

    def read() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock()

    return read


def measure(
    model: sk.LanguageModel, windows: sk.Windows, sae: sk.SAEConfig, config: sk.TrainConfig, processor_time: bool
) -> dict[str, float]:
    """Microseconds per token in the model, in the SAE's steps and in all the rest."""
    read = now(config.torch_device, processor_time)
    forward, steps, whole = Clock(read), Clock(read), Clock(read)
    advance, take = sk.Trainer.advance, type(model).activations
    given = [0]

    def activations(self: sk.LanguageModel, *args: Any, **kwargs: Any) -> torch.Tensor:
        x: torch.Tensor = forward.around(take)(self, *args, **kwargs)
        mask = kwargs.get("attention_mask")
        given[0] += x.shape[0] * x.shape[1] if mask is None else int(mask.sum())
        return x

    sk.Trainer.advance = steps.around(advance)  # type: ignore[method-assign]
    type(model).activations = activations  # type: ignore[method-assign]
    try:
        whole.around(sk.train)(model, windows, hook_name=HOOK, sae=sae, config=config, progress=False)
    finally:
        sk.Trainer.advance, type(model).activations = advance, take  # type: ignore[method-assign]
    n_trained = config.n_steps * config.batch_size
    rest = whole.seconds - forward.seconds - steps.seconds
    return {
        "model": 1e6 * forward.seconds / given[0],
        "sae": 1e6 * sum(steps.calls[1:]) / (n_trained - config.batch_size),
        "rest": 1e6 * rest / n_trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens that each SAE is trained on")
    parser.add_argument(
        "--repeats", type=int, default=1, help="rounds of both architectures in turn; the fastest counts"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processor-time", action="store_true", help="for a machine with other work; pass --threads 1")
    parser.add_argument("--plain", action="store_true", help="also tokens/s without clocks inside, as on a GPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = sk.load_model(device=args.device)
    corpus = sk.load_corpus("demo").shuffle(0)
    model.fingerprint, model.hook_width(HOOK), model.activations([[0] * 128] * 32, HOOK)  # once a model, not once a run
    read = now(torch.device("cpu"), args.processor_time)
    tokenising = Clock(read)
    windows = tokenising.around(sk.tokenize)(corpus, model, max_tokens=args.tokens + 4 * args.batch)
    config = sk.TrainConfig(
        n_tokens=args.tokens,
        batch_size=args.batch,
        buffer_tokens=2 * args.batch,
        device=args.device,
        log_every=max(1, args.tokens // args.batch // 4),
    )
    cuda = config.torch_device.type == "cuda"
    device = torch.cuda.get_device_name(config.torch_device) if cuda else "cpu"
    saes = {
        architecture: sk.SAEConfig(d_in=model.d_model, d_sae=args.d_sae, activation=architecture, k=args.k)
        for architecture in ARCHITECTURES
    }
    found: dict[str, list[dict[str, float]]] = {architecture: [] for architecture in ARCHITECTURES}
    for _ in range(args.repeats):
        for architecture, sae in saes.items():
            found[architecture].append(measure(model, windows, sae, config, args.processor_time))
    print(
        f"d_sae {args.d_sae}, k {args.k}, batch {args.batch}, {HOOK}, {device}, {args.threads} threads, "
        f"{'processor' if args.processor_time else 'wall'} time, torch {torch.__version__}"
    )
    print(f"{'architecture':12} {'tokens/s':>9}  fraction of time: {'model':>7} {'SAE':>7} {'rest':>7}")
    rows = []
    for architecture, costs in found.items():
        best = {part: min(cost[part] for cost in costs) for part in costs[0]}
        best["rest"] += 1e6 * tokenising.seconds / windows.n_tokens
        whole = sum(best.values())
        row: dict[str, Any] = {"architecture": architecture, "tokens_per_second": round(1e6 / whole)}
        row |= {f"{part}_us": round(cost, 2) for part, cost in best.items()}
        row |= {f"{part}_share": round(cost / whole, 4) for part, cost in best.items()}
        if cuda or args.plain:
            log = Rows()
            sk.train(
                model, windows, hook_name=HOOK, sae=saes[architecture], config=config, progress=False, loggers=[log]
            )
            row["clocked_tokens_per_second"] = row["tokens_per_second"]
            row["tokens_per_second"] = round(log.tokens_per_second)
        rows.append(row)
        shares = " ".join(f"{100 * row[f'{part}_share']:6.1f}%" for part in best)
        print(f"{architecture:12} {row['tokens_per_second']:9,}                 {shares}")
    print(
        json.dumps(
            {
                "benchmark": "end_to_end",
                **vars(args),
                "device": device,
                "torch": torch.__version__,
                "layer": LAYER,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
