"""What three SAEs on one stream cost, as a multiple of one: the goal is less than 1.3 end to end.

One run of the model feeds all SAEs. Three kinds of run take turns, so that other work on the machine weighs on all
alike: one SAE; three SAEs at the same hook point; one SAE at each of three hook points, the last of them the same. Each
is timed whole (finding the token filter and filling the pool included) and per step from the first to the last, which
is what a long run costs. Processor time; the fastest of the repetitions counts.

    python benchmarks/many_saes.py [--steps 12] [--batch 2048] [--d-sae 4096] [--repeats 3] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import torch

import saekit as sk

LAYERS = (9, 12, 15)
HOOKS = [f"blocks.{layer}.hook_resid_post" for layer in LAYERS]


class Clock:
    """A logger that notes the time of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def start(self, run: Any) -> None:
        self.times = []

    def record(self, rows: Sequence[Any], densities: Any) -> None:
        self.times.append(time.process_time())

    def finish(self, status: str, message: str) -> None:
        pass

    @property
    def per_step(self) -> float:
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


def measure(
    model: sk.LanguageModel,
    windows: sk.Windows,
    hooks: Sequence[str],
    sae: sk.SAEConfig,
    config: sk.TrainConfig,
    repeats: int,
) -> list[dict[str, Any]]:
    """A row for each kind of run: seconds in all and per step, and both as multiples of those of one SAE."""
    kinds: dict[str, dict[str, Any]] = {
        "one SAE": {"sae": sae, "hook_name": hooks[-1]},
        "three SAEs, one hook point": {"sae": [sae.replace(seed=s) for s in range(3)], "hook_name": hooks[-1]},
        "one SAE at each of three": {"sae": [sae], "hook_name": list(hooks)},
    }
    best = {kind: (float("inf"), float("inf")) for kind in kinds}
    for _ in range(repeats):
        for kind, what in kinds.items():
            clock, began = Clock(), time.process_time()
            sk.train(model, windows, config=config, loggers=[clock], progress=False, **what)
            took = (time.process_time() - began, clock.per_step)
            best[kind] = (min(best[kind][0], took[0]), min(best[kind][1], took[1]))
    one = best["one SAE"]
    return [
        {
            "run": kind,
            "seconds": round(whole, 2),
            "ratio": round(whole / one[0], 3),
            "step_ms": round(1e3 * step, 1),
            "step_ratio": round(step / one[1], 3),
        }
        for kind, (whole, step) in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--activation", default="batchtopk")
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = sk.load_model()
    n_tokens = args.steps * args.batch
    windows = sk.tokenize(sk.load_corpus("demo").shuffle(0), model, max_tokens=2 * n_tokens)
    model.fingerprint, model.hook_width(tuple(HOOKS))  # once a model, not once a run
    sae = sk.SAEConfig(d_in=model.d_model, d_sae=args.d_sae, activation=args.activation, k=args.k)
    config = sk.TrainConfig(n_tokens=n_tokens, batch_size=args.batch, buffer_tokens=2 * args.batch, log_every=1)
    rows = measure(model, windows, HOOKS, sae, config, args.repeats)
    print(
        f"{args.activation}, d_sae {args.d_sae}, k {args.k}, {args.steps} steps of {args.batch} tokens, hook points "
        f"{', '.join(HOOKS)}, {args.threads} threads, torch {torch.__version__}"
    )
    print(f"{'run':28} {'seconds':>8} {'ratio':>6} {'step ms':>9} {'ratio':>6}")
    for row in rows:
        print(f"{row['run']:28} {row['seconds']:8} {row['ratio']:6} {row['step_ms']:9} {row['step_ratio']:6}")
    print(json.dumps({"benchmark": "many_saes", **vars(args), "layers": LAYERS, "rows": rows}))


if __name__ == "__main__":
    main()
