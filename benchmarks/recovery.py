"""What every architecture recovers of features that are known: two synthetic sets, all on the same batches.

    python benchmarks/recovery.py [--set independent hierarchical] [--architectures topk gated] [--steps N] [--quick]

Prints a table for each set and one JSON line. Two rows are for comparison: "true directions" is the dictionary that
is given the answer (what a one-layer encoder with one threshold makes of it), "untrained" a random one. Every kind of
SAE in the registry of architectures is asked for the true number of active features, by k or by target_l0; "off" is how
far its held-out l0 is from that. Scores are on data that none was trained on, by `sk.recovery`, whose docstrings define
them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

import saekit as sk
from saekit.sae.kinds import every_kind


@dataclass(frozen=True, kw_only=True)
class Set:
    """A truth by its seed, and how long SAEs are trained on it."""

    truth: Callable[[int], sk.synthetic.GroundTruth]
    n_steps: int
    batch_size: int


SETS = {
    "independent": Set(
        truth=lambda seed: sk.synthetic.independent(64, 256, 5, seed=seed), n_steps=5_000, batch_size=1024
    ),
    "hierarchical": Set(
        truth=lambda seed: sk.synthetic.hierarchical(256, 2048, 8, zipf_exponent=1.0, seed=seed),
        n_steps=3_000,
        batch_size=1024,
    ),
}

COLUMNS = {
    "mean_max_cosine": "MMCS",
    "matched_correlation": "corr",
    "f1": "F1",
    "precision": "prec",
    "recall": "recall",
    "uniqueness": "unique",
    "shrinkage": "shrink",
    "magnitude_ratio": "magn.",
    "silent": "silent",
    "l0": "l0",
    "l0_off": "off",
    "explained_variance": "EV",
}
PARTS = {
    "absorption": "absorb",
    "missed_alone": "alone",
    **{
        f"{name}_{part}": f"{COLUMNS[name]} {part[:3]}."
        for name in ("mean_max_cosine", "matched_correlation", "f1")
        for part in ("parents", "children")
    },
}


def configurations(truth: sk.synthetic.GroundTruth, seed: int) -> dict[str, sk.SAEConfig]:
    """Every kind of SAE on a truth: as many features as there are, and the true number of active ones."""
    return every_kind(round(truth.n_active), d_in=truth.d_in, d_sae=truth.n_features, seed=seed)


def score(name: str, sae: sk.SAE, truth: sk.synthetic.GroundTruth, n_tokens: int, seed: int) -> dict[str, Any]:
    """One row: every metric of a Recovery, those of the parts of a tree, and how far l0 is off."""
    found = sk.recovery(sae, truth, n_tokens=n_tokens, seed=seed)
    row: dict[str, Any] = {"architecture": name, **found.to_frame().iloc[0].to_dict()}
    row |= {f"{metric}_interval": list(bounds) for metric, bounds in found.intervals.items()}
    for part in found.parts.index.drop("all"):
        row |= {f"{column}_{part}": float(found.parts.loc[part, column]) for column in found.parts.columns}
    return {**row, "l0_off": found.l0 / round(truth.n_active) - 1}


def run(name: str, kinds: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Trains the kinds of SAE side by side on one set and prints their table."""
    chosen = SETS[name]
    truth = chosen.truth(args.seed)
    n_steps, batch = args.steps or (100 if args.quick else chosen.n_steps), args.batch or chosen.batch_size
    n_held_out = 8_192 if args.quick else args.tokens
    trainers: dict[str, sk.Trainer] = {}
    configs = configurations(truth, args.seed)
    config = sk.TrainConfig(n_tokens=n_steps * batch, batch_size=batch, device=args.device, seed=args.seed)
    for kind in kinds:
        trainers[kind] = sk.Trainer(sk.SAE(configs[kind]), config)
    seconds = dict.fromkeys(kinds, 0.0)
    batches = truth.batches(batch, seed=args.seed)
    for step in range(n_steps):
        x = next(batches)
        for kind, trainer in trainers.items():
            began = time.perf_counter()
            trainer.step(x)
            seconds[kind] += time.perf_counter() - began
        if (step + 1) % 500 == 0:
            print(f"{name}: step {step + 1:,} of {n_steps:,}, {sum(seconds.values()):.0f} s", flush=True)
    rows = []
    for kind, trainer in trainers.items():
        row = score(kind, trainer.finish(), truth, n_held_out, args.seed)
        rows.append({**row, "step_ms": 1e3 * seconds[kind] / n_steps})
    random = sk.SAE(next(config for config in configs.values() if config.k is not None))
    rows += [score("true directions", truth.sae(), truth, n_held_out, args.seed)]
    rows += [score("untrained", random, truth, n_held_out, args.seed)]
    print(f"\n{truth}\n{n_steps:,} steps of {batch:,} tokens, scored on {n_held_out:,}, seed {args.seed}")
    table(rows, COLUMNS | ({"step_ms": "step ms"} if kinds else {}))
    if "absorption_parents" in rows[0]:
        table(rows, PARTS)
    return {"set": name, "n_steps": n_steps, "batch_size": batch, "n_tokens": n_held_out, "rows": rows}


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Prints some metrics of the rows under short names."""
    frame = pd.DataFrame(rows).set_index("architecture")[list(columns)].rename(columns=columns)
    forms = {"silent": "{:.0f}", "l0": "{:.2f}", "off": "{:+.1%}", "step ms": "{:.1f}"}
    for name in frame:
        form = forms.get(str(name), "{:.3f}")
        frame[name] = ["-" if pd.isna(v) else form.format(v) for v in frame[name]]
    print(frame.rename_axis(None).to_string(), end="\n\n", flush=True)


def plain(value: Any) -> Any:
    """JSON values: five digits, null for what is not defined."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS))
    kinds = list(every_kind(1, d_in=8, d_sae=64))
    parser.add_argument(
        "--architectures", nargs="*", choices=kinds, default=kinds, metavar="NAME", help=", ".join(kinds)
    )
    parser.add_argument("--steps", type=int, help="default: the set's own")
    parser.add_argument("--batch", type=int, help="default: the set's own")
    parser.add_argument("--tokens", type=int, default=65_536, help="held-out tokens")
    parser.add_argument("--seed", type=int, default=0, help="of directions, data and initial weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="100 steps, 8,192 held-out tokens")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sets = [run(name, args.architectures, args) for name in args.set]
    out = {"benchmark": "recovery", "seed": args.seed, "torch": torch.__version__, "sets": sets}
    print(json.dumps(plain(out)))


if __name__ == "__main__":
    main()
