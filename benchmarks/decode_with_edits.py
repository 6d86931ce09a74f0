"""Seconds per new token on the default model with features clamped, against none.

    python benchmarks/decode_with_edits.py [--tokens 24] [--repeats 5]

Prints a table and a JSON line. Runs alternate between the settings and the median of each is taken, so that a busy
machine slows all of them alike. SAEs are random: the cost does not depend on what their features mean.
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
    args = parser.parse_args()
    model = sk.load_model()
    settings: dict[str, list[sk.Edit]] = {"none": []}
    for activation, d_sae in (("batchtopk", 16384), ("topk", 4096), ("topk", 16384)):
        sae = random_sae(model, activation, d_sae)
        settings[f"{activation} {d_sae}"] = [sk.clamp(sae, {3: 0.3, 5: 0.1}, unit="norm")]
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for repeat in range(args.repeats + 1):
        for name, edits in settings.items():
            ticks = []
            for _ in sk.stream(model, PROMPT, edits=edits, max_new_tokens=args.tokens, chat=True):
                ticks.append(time.perf_counter())
            if repeat and len(ticks) > 2:  # the first round warms up; the first token is the prompt's
                seconds[name] += [b - a for a, b in itertools.pairwise(ticks)]
    median = {name: statistics.median(s) for name, s in seconds.items()}
    ratio = {name: median[name] / median["none"] for name in settings}
    print(f"{'edit':<18}{'ms per token':>13}{'ratio':>8}")
    for name in settings:
        print(f"{name:<18}{1000 * median[name]:>13.1f}{ratio[name]:>8.3f}")
    print(json.dumps({"benchmark": "decode_with_edits", "model": model.name, "threads": torch.get_num_threads(),
                      "ms_per_token": {k: round(1000 * v, 2) for k, v in median.items()},
                      "ratio": {k: round(v, 3) for k, v in ratio.items()}}))  # fmt: skip


if __name__ == "__main__":
    main()
