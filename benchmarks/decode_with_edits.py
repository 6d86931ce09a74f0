"""What edits cost a token when the default model writes with a key-value cache: the goal is 1.15 of decoding without.

Each kind of edit is timed against none: two decodings of the same prompts take turns token by token, the first place
in a turn changing hands, so that other work on the machine weighs on both alike. A turn gives one ratio. Both decode
greedily to the same length, past the end of a text where the model would stop; the prompt's own pass is left out.
The `where` of each edit is such that nearly every token is edited, and the one on tokens holds for most of the
vocabulary: fewer tokens cost less. The topk SAE is random and as large as the other, which is the default model's; its
features compete, so that every one of them is encoded. "no edits" against none shows how far off such a measurement is.

    python benchmarks/decode_with_edits.py [--tokens 32] [--repeats 3] [--threads N] [--rows 1 8]

Prints a table and a JSON line: the median ratio in processor time and wall time with 95 % bootstrap intervals over
turns. `--threads 1` keeps the waiting of idle threads out of the processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import torch

import saekit as sk
from saekit.steering.decoding import Decoding, Row, make_rows

PROMPTS = (
    "Tell me about a day at the sea.",
    "Why is the sky blue?",
    "Write a short story about a lighthouse and its keeper.",
    "What should I cook tonight with rice, two onions and a tin of tomatoes?",
    "Name three rivers.",
    "How does a bicycle stay upright when nobody holds it?",
    "Describe your room.",
    "Explain what a prime number is.",
)


def cases_of(
    model: sk.LanguageModel, sae: sk.SAE, n_rows: int
) -> dict[str, tuple[sk.LanguageModel, list[list[sk.Edit]]]]:
    """The model and each row's edits, by name."""
    hook, topk = str(sae.config.hook_name), sk.SAE(sae.config.replace(activation="topk"))
    a, b = (model.activations(model.tokenize(text), hook)[0, 1:].mean(0) for text in PROMPTS[:2])
    difference = sk.Direction(a - b, hook_name=hook, name="mean difference", token_filter=sae.config.token_filter)
    word, silent = sk.Where.token(model, "[a-z]+"), ~sk.Where.fires(sae, 9)
    fading = sk.Schedule.linear({0: 1.0, 64: 0.5})

    def clamp(*features: int, of: sk.SAE = sae, **when: Any) -> list[sk.Edit]:
        return [sk.clamp(of, dict.fromkeys(features, 0.1), unit="norm", **when)]

    for_all: dict[str, list[sk.Edit]] = {
        "no edits": [],
        "clamp": clamp(3),
        "clamp five features": clamp(3, 4, 5, 6, 7),
        "clamp where a feature is silent, on a schedule": clamp(3, where=silent, schedule=fading),
        "clamp where the token is a word": clamp(3, where=word),
        "add a mean difference": [sk.add_direction(difference, 0.1)],
        "clamp in a topk SAE": clamp(3, of=topk),
    }
    cases = {name: (model, [edits] * n_rows) for name, edits in for_all.items()}
    cases["clamp, in a steered model"] = (sk.steered(model, clamp(3)), [[]] * n_rows)
    if n_rows > 1:
        for name, of in (("clamp", sae), ("clamp in a topk SAE", topk)):
            cases[f"{name}, another feature in each row"] = (model, [clamp(i, of=of) for i in range(n_rows)])
    return cases


def decoding(model: sk.LanguageModel, edits: Sequence[Sequence[sk.Edit]], n_tokens: int) -> Decoding:
    """A decoding of as many prompts as there are lists of edits, which has written its first token."""
    rows = make_rows(model, PROMPTS[: len(edits)], seed=0, chat=True)
    rows = [Row(prompt=row.prompt, ids=row.ids, seed=0, edits=tuple(own)) for row, own in zip(rows, edits, strict=True)]
    loop = Decoding(model, rows, max_new_tokens=n_tokens + 1, temperature=0.0, use_cache=True)
    loop.step()
    return loop


def seconds(loop: Decoding) -> tuple[float, float]:
    """Processor time and wall time of one step."""
    began = time.process_time(), time.perf_counter()
    loop.step()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def median_and_interval(ratios: torch.Tensor) -> list[float]:
    """The median and its 95 % bootstrap interval."""
    drawn = torch.randint(len(ratios), (2000, len(ratios)), generator=torch.Generator().manual_seed(0))
    low, high = ratios[drawn].quantile(0.5, dim=1).quantile(torch.tensor([0.025, 0.975], dtype=ratios.dtype)).tolist()
    return [round(v, 4) for v in (float(ratios.quantile(0.5)), low, high)]


def measure(model: sk.LanguageModel, sae: sk.SAE, n_rows: int, n_tokens: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each case: milliseconds of a token without edits, and the ratios."""
    cases = cases_of(model, sae, n_rows)
    turns: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in cases}
    for repeat in range(repeats):
        for name, (edited, edits) in cases.items():
            pair = decoding(model, [[]] * n_rows, n_tokens), decoding(edited, edits, n_tokens)
            for i in range(n_tokens):
                first = (i + repeat) % 2
                took = {side: seconds(pair[side]) for side in (first, 1 - first)}
                turns[name].append([took[0], took[1]])
    rows = []
    for name, times in turns.items():
        plain, with_edits = torch.tensor(times, dtype=torch.float64).unbind(1)  # each [turn, processor and wall]
        cpu, wall = (with_edits / plain).unbind(1)
        cpu_ms, wall_ms = (round(1e3 * ms, 2) for ms in plain.median(0).values.tolist())
        rows.append(
            {
                "rows": n_rows,
                "edits": name,
                "cpu_ms": cpu_ms,
                "wall_ms": wall_ms,
                "cpu_ratio": median_and_interval(cpu),
                "wall_ratio": median_and_interval(wall),
                "turns": len(times),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8], help=f"texts at a time, up to {len(PROMPTS)}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, sae = sk.load_model(), sk.load_sae("smollm2-135m-instruct/16k")
    rows = [row for n_rows in args.rows for row in measure(model, sae, n_rows, args.tokens, args.repeats)]
    print(f"{args.tokens} tokens, {args.repeats} repeats, {args.threads} threads, torch {torch.__version__}")
    print(f"{'rows':>4}  {'edits':48}{'CPU ms':>8}{'ratio':>7} {'95 %':16}{'wall ms':>8}{'ratio':>7} 95 %")
    for row in rows:
        (cpu, *cpu_95), (wall, *wall_95) = row["cpu_ratio"], row["wall_ratio"]
        print(
            f"{row['rows']:>4}  {row['edits']:48}{row['cpu_ms']:>8.1f}{cpu:>7.3f} [{cpu_95[0]:.3f}, {cpu_95[1]:.3f}]  "
            f"{row['wall_ms']:>8.1f}{wall:>7.3f} [{wall_95[0]:.3f}, {wall_95[1]:.3f}]"
        )
    print(json.dumps({"benchmark": "decode_with_edits", "model": model.name, **vars(args), "rows": rows}))


if __name__ == "__main__":
    main()
