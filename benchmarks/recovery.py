"""What every rule recovers of features that are known: two synthetic sets, all rules on the same batches.

    python benchmarks/recovery.py [--set independent hierarchical] [--rules topk gated] [--steps N] [--seed 0] [--quick]

Prints a table for each set and one JSON line. Two rows are for comparison: "true directions" is the dictionary that
knows the answer (what a one-layer encoder with one threshold makes of it), "untrained" a random one. Every rule is
asked for the true number of active features, by k or by target_l0; "off" is how far its held-out l0 is from that.
Scores are on data that no rule was trained on, by `sk.recovery`, whose docstrings define them.
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

ACTIVE = "the true number of active features"
PREFIXES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of d_sae

RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: fields of SAEConfig, fields of TrainConfig where not the rule's own
    "relu": ({"activation": "relu", "target_l0": ACTIVE}, {}),
    "kl": ({"activation": "kl", "target_l0": ACTIVE}, {}),
    "topk": ({"activation": "topk", "k": ACTIVE}, {}),
    "topk multi-k": ({"activation": "topk", "k": ACTIVE, "multi_k_coefficient": 1 / 8}, {}),
    "topk matryoshka": ({"activation": "topk", "k": ACTIVE, "matryoshka": PREFIXES}, {}),
    "batchtopk": ({"activation": "batchtopk", "k": ACTIVE}, {}),
    "batchtopk matryoshka": ({"activation": "batchtopk", "k": ACTIVE, "matryoshka": PREFIXES}, {}),
    "jumprelu linear": ({"activation": "jumprelu", "target_l0": ACTIVE}, {}),
    "jumprelu quadratic": ({"activation": "jumprelu", "l0_penalty": "quadratic", "target_l0": ACTIVE}, {}),
    "gated": ({"activation": "gated", "target_l0": ACTIVE}, {}),
}


@dataclass(frozen=True, kw_only=True)
class Set:
    """A truth by its seed, and how long its rules are trained."""

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
    "dead": "dead",
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


def configuration(fields: dict[str, Any], truth: sk.synthetic.GroundTruth, seed: int) -> sk.SAEConfig:
    """A rule's SAEConfig on a truth: as many features as there are, sparsity and prefixes filled in."""
    sizes = {"d_in": truth.d_in, "d_sae": truth.n_features, "seed": seed}
    filled = {name: round(truth.n_active) if value == ACTIVE else value for name, value in fields.items()}
    if "matryoshka" in filled:
        filled["matryoshka"] = tuple(round(share * truth.n_features) for share in filled["matryoshka"])
    return sk.SAEConfig(**sizes, **filled)


def score(name: str, sae: sk.SAE, truth: sk.synthetic.GroundTruth, n_tokens: int, seed: int) -> dict[str, Any]:
    """One row: every figure of a Recovery, those of the parts of a tree, and how far l0 is off."""
    found = sk.recovery(sae, truth, n_tokens=n_tokens, seed=seed)
    row: dict[str, Any] = {"rule": name, **found.to_frame().iloc[0].to_dict()}
    row |= {f"{metric}_interval": list(bounds) for metric, bounds in found.intervals.items()}
    for part in found.parts.index.drop("all"):
        row |= {f"{column}_{part}": float(found.parts.loc[part, column]) for column in found.parts.columns}
    return {**row, "l0_off": found.l0 / round(truth.n_active) - 1}


def run(name: str, rules: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Trains the rules side by side on one set and prints their table."""
    chosen = SETS[name]
    truth = chosen.truth(args.seed)
    n_steps, batch = args.steps or (100 if args.quick else chosen.n_steps), args.batch or chosen.batch_size
    n_held_out = 8_192 if args.quick else args.tokens
    trainers: dict[str, sk.Trainer] = {}
    for rule in rules:
        fields, overrides = RULES[rule]
        settings = {"n_tokens": n_steps * batch, "batch_size": batch, "device": args.device, "seed": args.seed}
        sae = sk.SAE(configuration(fields, truth, args.seed))
        trainers[rule] = sk.Trainer(sae, sk.TrainConfig(**{**settings, **overrides}))
    seconds = dict.fromkeys(rules, 0.0)
    batches = truth.batches(batch, seed=args.seed)
    for step in range(n_steps):
        x = next(batches)
        for rule, trainer in trainers.items():
            began = time.perf_counter()
            trainer.step(x)
            seconds[rule] += time.perf_counter() - began
        if (step + 1) % 500 == 0:
            print(f"{name}: step {step + 1:,} of {n_steps:,}, {sum(seconds.values()):.0f} s", flush=True)
    rows = []
    for rule, trainer in trainers.items():
        row = score(rule, trainer.finish(), truth, n_held_out, args.seed)
        rows.append({**row, "step_ms": 1e3 * seconds[rule] / n_steps})
    random = sk.SAE(configuration(RULES["topk"][0], truth, args.seed))
    rows += [score("true directions", truth.sae(), truth, n_held_out, args.seed)]
    rows += [score("untrained", random, truth, n_held_out, args.seed)]
    print(f"\n{truth}\n{n_steps:,} steps of {batch:,} tokens, scored on {n_held_out:,}, seed {args.seed}")
    table(rows, COLUMNS | ({"step_ms": "step ms"} if rules else {}))
    if "absorption_parents" in rows[0]:
        table(rows, PARTS)
    return {"set": name, "n_steps": n_steps, "batch_size": batch, "n_tokens": n_held_out, "rows": rows}


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Prints some figures of the rows under short names."""
    frame = pd.DataFrame(rows).set_index("rule")[list(columns)].rename(columns=columns)
    forms = {"dead": "{:.0f}", "l0": "{:.2f}", "off": "{:+.1%}", "step ms": "{:.1f}"}
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
    parser.add_argument("--rules", nargs="*", choices=list(RULES), default=list(RULES), metavar="RULE")
    parser.add_argument("--steps", type=int, help="default: the set's own")
    parser.add_argument("--batch", type=int, help="default: the set's own")
    parser.add_argument("--tokens", type=int, default=65_536, help="held-out tokens")
    parser.add_argument("--seed", type=int, default=0, help="of directions, data and initial weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="100 steps, 8,192 held-out tokens")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sets = [run(name, args.rules, args) for name in args.set]
    out = {"benchmark": "recovery", "seed": args.seed, "torch": torch.__version__, "sets": sets}
    print(json.dumps(plain(out)))


if __name__ == "__main__":
    main()
