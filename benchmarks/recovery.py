"""What every architecture recovers of features that are known: two synthetic sets, over several seeds.

    python benchmarks/recovery.py [--set independent hierarchical] [--architectures topk gated] [--seeds 0 1 2]
                                  [--quick] [--out FOLDER]

A seed is one of directions, data and initial weights; within one, all architectures see the same batches. Prints a
table for each seed, one of the means over seeds with the lowest and highest of them, and one JSON line with every row;
`--out` keeps each seed's rows as soon as they are there, and what is kept is not run again. Two rows are for
comparison: "true directions" is the dictionary that is given the answer (what a one-layer encoder with one threshold
makes of it), "untrained" a random one. Every kind of SAE in the registry of architectures is asked for the true number
of active features, by k or by target_l0; "off" is how far its held-out l0 is from that. Scores are on data that none
was trained on, by `sk.recovery`, whose docstrings define them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
    row: dict[str, Any] = {"architecture": name}
    row |= {str(key): value for key, value in found.to_frame().iloc[0].items()}
    row |= {f"{metric}_interval": list(bounds) for metric, bounds in found.intervals.items()}
    for part in found.parts.index.drop("all"):
        row |= {f"{column}_{part}": float(found.parts.loc[part, column]) for column in found.parts.columns}
    return {**row, "l0_off": found.l0 / round(truth.n_active) - 1}


def run(name: str, kinds: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """One set over all seeds: prints the table of each and that of their means."""
    per_seed = []
    n_steps, _, n_held_out = sizes(name, args)
    asked = {"n_steps": n_steps, "n_tokens": n_held_out, "architectures": [*kinds, "true directions", "untrained"]}
    for seed in args.seeds:
        kept = Path(args.out) / f"{name}-{seed}.json" if args.out else None
        if kept is not None and kept.exists():
            found = json.loads(kept.read_text())
            found["architectures"] = [row["architecture"] for row in found["rows"]]
            if all(found[key] == value for key, value in asked.items()):
                per_seed.append(found)
                continue
        per_seed.append(plain(run_seed(name, kinds, args, seed)))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(per_seed[-1]))
    first = per_seed[0]
    print(f"\n{name}: {first['n_steps']:,} steps of {first['batch_size']:,} tokens; seeds {args.seeds}")
    rows = [one["rows"] for one in per_seed]
    summary(rows, COLUMNS)
    if "absorption_parents" in first["rows"][0]:
        summary(rows, PARTS)
    return {"set": name, "seeds": per_seed}


def sizes(name: str, args: argparse.Namespace) -> tuple[int, int, int]:
    """Steps, batch size and held-out tokens of a set."""
    steps = args.steps or (100 if args.quick else SETS[name].n_steps)
    return steps, args.batch or SETS[name].batch_size, 8_192 if args.quick else args.tokens


def run_seed(name: str, kinds: list[str], args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Trains the kinds of SAE side by side on one set and prints their table."""
    truth = SETS[name].truth(seed)
    n_steps, batch, n_held_out = sizes(name, args)
    trainers: dict[str, sk.Trainer] = {}
    configs = configurations(truth, seed)
    config = sk.TrainConfig(n_tokens=n_steps * batch, batch_size=batch, device=args.device, seed=seed)
    for kind in kinds:
        trainers[kind] = sk.Trainer(sk.SAE(configs[kind]), config)
    seconds = dict.fromkeys(kinds, 0.0)
    batches = truth.batches(batch, seed=seed)
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
        row = score(kind, trainer.finish(), truth, n_held_out, seed)
        rows.append({**row, "step_ms": 1e3 * seconds[kind] / n_steps})
    random = sk.SAE(next(config for config in configs.values() if config.k is not None))
    rows += [score("true directions", truth.sae(), truth, n_held_out, seed)]
    rows += [score("untrained", random, truth, n_held_out, seed)]
    print(f"\n{truth}\n{n_steps:,} steps of {batch:,} tokens, scored on {n_held_out:,}, seed {seed}")
    table(rows, COLUMNS | ({"step_ms": "step ms"} if kinds else {}))
    if "absorption_parents" in rows[0]:
        table(rows, PARTS)
    return {"seed": seed, "n_steps": n_steps, "batch_size": batch, "n_tokens": n_held_out, "rows": rows}


def summary(per_seed: list[list[dict[str, Any]]], columns: dict[str, str]) -> None:
    """Prints the mean over seeds of each metric, with the lowest and highest seed, as rows of Markdown."""
    print("| | " + " | ".join(columns.values()) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for i, row in enumerate(per_seed[0]):
        cells = []
        for name in columns:
            values = [rows[i].get(name) for rows in per_seed]
            known = [float("nan") if v is None else float(v) for v in values]
            form = {"silent": "{:.0f}", "l0": "{:.2f}", "l0_off": "{:+.1%}"}.get(name, "{:.3f}")
            mean, low, high = (form.format(v) for v in (sum(known) / len(known), min(known), max(known)))
            cells.append("-" if math.isnan(sum(known)) else mean if low == high else f"{mean} ({low} to {high})")
        print(f"| {row['architecture']} | " + " | ".join(cells) + " |")
    print(flush=True)


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
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="each of directions, data and initial weights"
    )
    parser.add_argument("--out", help="folder for the rows of each seed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="100 steps, 8,192 held-out tokens")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sets = [run(name, args.architectures, args) for name in args.set]
    out = {"benchmark": "recovery", "torch": torch.__version__, "sets": sets}
    print(json.dumps(plain(out)))


if __name__ == "__main__":
    main()
