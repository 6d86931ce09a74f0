"""Time per new token on the default model with features clamped, against none.

    python benchmarks/decode_with_edits.py [--tokens 24] [--repeats 5] [--threads 2]

Prints a table and a JSON line. Runs alternate between the settings and medians are taken, so that a busy machine slows
all of them alike; the processor's own time is given too, which other programs disturb least (use --threads 1 then).
SAEs are random: the cost does not depend on what their features mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time

import torch

import saekit as sk

HOOK = "blocks.15.hook_resid_post"
PROMPT = "Tell me about a day at the sea."


def random_sae(model: sk.LanguageModel, activation: str, d_sae: int) -> sk.SAE:
    rule = sk.TokenRule(special_ids=tuple(sorted(model.special_ids)), max_norm=600.0)
    config = sk.SAEConfig(
        d_in=model.d_model, d_sae=d_sae, activation=activation, k=None if activation == "relu" else 32, hook_name=HOOK,
        model_name=model.name, weight_processing=model.weight_processing, token_rule=rule,
    )  # fmt: skip
    return sk.SAE(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = sk.load_model()
    settings: dict[str, list[sk.Edit]] = {"none": []}
    for activation, d_sae in (("batchtopk", 16384), ("topk", 4096), ("topk", 16384)):
        sae = random_sae(model, activation, d_sae)
        settings[f"{activation} {d_sae}"] = [sk.clamp(sae, {3: 0.3, 5: 0.1}, unit="norm")]
    wall: dict[str, list[float]] = {name: [] for name in settings}
    cpu: dict[str, list[float]] = {name: [] for name in settings}
    for repeat in range(args.repeats + 1):
        for name, edits in settings.items():
            ticks = []
            for _ in sk.stream(model, PROMPT, edits=edits, max_new_tokens=args.tokens, chat=True):
                ticks.append((time.perf_counter(), time.process_time()))
            if repeat:  # the first round warms up; the first token of each is the prompt's
                wall[name] += [b[0] - a[0] for a, b in itertools.pairwise(ticks)]
                cpu[name] += [b[1] - a[1] for a, b in itertools.pairwise(ticks)]
    rows = {}
    print(f"{'edit':<18}{'ms per token':>13}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}")
    for name in settings:
        times = [statistics.median(of[name]) for of in (wall, cpu)]
        base = [statistics.median(of["none"]) for of in (wall, cpu)]
        ratio = [t / b for t, b in zip(times, base, strict=True)]
        print(f"{name:<18}{1000 * times[0]:>13.1f}{ratio[0]:>8.3f}{1000 * times[1]:>9.1f}{ratio[1]:>8.3f}")
        rows[name] = {
            "ms_per_token": round(1000 * times[0], 2),
            "ratio": round(ratio[0], 3),
            "cpu_ratio": round(ratio[1], 3),
        }
    result = {"benchmark": "decode_with_edits", "model": model.name, "threads": args.threads, "results": rows}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
