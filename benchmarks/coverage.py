"""How often the intervals that saekit prints hold the truth, on data made by formula.

    python benchmarks/coverage.py [--repetitions 1000] [--seed 0] [--kinds specificity fidelity rates means scaling]

A row is a kind of interval, a setting and a number of units (documents, prompts or features): the fraction of
repetitions in which the interval was printed and, of these, held the true value, with the standard error of a
simulation. Nominal is 95 %. The generators are written here and share nothing with saekit; true values are those of a
corpus thirty times larger than any that is scored, or known from the formula. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from saekit.evaluation.accumulators import FidelityAccumulator
from saekit.specificity.estimates import estimates
from saekit.specificity.leave_one_out import ScoredFirings, leave_one_out
from saekit.statistics import LEVEL, Estimate, clustered_mean, clustered_proportion

N_UNITS = (5, 10, 20, 100)
Interval = tuple[str, float, Estimate]
"""What it is of, the true value, and what was printed."""


# ---- one feature and a concept: documents of tokens, some of them of the concept ----

FEATURES = {
    "good": {"on": 2.0, "between": 0.7},
    "nearly perfect": {"on": 3.5, "between": 0.7},
    "poor": {"on": 1.0, "between": 1.2},
}
"""Mean activation on the concept in standard deviations above the threshold's 1, and how much documents differ."""
F1_AT, TOP_AT = 1.0, 2.2


def documents(rng: np.random.Generator, n_with: int, n: int, on: float, between: float) -> tuple[Any, Any, Any]:
    """The document, whether it is of the concept, and the activation of each token."""
    size = rng.poisson(40, n) + 5
    document = np.repeat(np.arange(n), size)
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])
    of_concept = np.zeros(len(document), dtype=bool)
    for d in range(n_with):
        some = rng.choice(size[d], min(1 + rng.poisson(1.5), size[d]), replace=False)
        of_concept[starts[d] + some] = True
    off, shift = rng.normal(0, between, n)[document], rng.normal(0, between, n)[document]
    drive = np.where(of_concept, on + shift, -1.2 + off) + rng.normal(0, 1, len(document))
    return document, of_concept, np.maximum(drive - 1.0, 0).astype(np.float32)


def plain_statistics(of_concept: Any, act: Any) -> dict[str, float]:
    """The statistics of a corpus, by their definitions."""
    order = np.argsort(-act, kind="stable")
    hit, fires = of_concept[order], act[order] > 0
    n_fires, n_with = int(fires.sum()), int(hit.sum())
    tp = np.cumsum(hit[:n_fires])
    precision = tp / np.arange(1, n_fires + 1)
    found = int(tp[-1])
    n_without = len(hit) - n_with
    below = (n_without - (np.arange(1, n_fires + 1) - tp))[hit[:n_fires]].sum()
    silent = (n_with - found) * (n_without - (n_fires - found))

    def at(threshold: float) -> tuple[int, int]:
        chosen = act >= threshold
        return int(chosen.sum()), int((chosen & of_concept).sum())

    n_f1, hits_f1 = at(F1_AT)
    n_top, hits_top = at(TOP_AT)
    return {
        "auroc": (below + 0.5 * silent) / (n_with * n_without),
        "average_precision": (precision[hit[:n_fires]].sum() + (n_with - found) * n_with / len(hit)) / n_with,
        "f1": 2 * hits_f1 / (n_f1 + n_with),
        "precision": found / n_fires,
        "recall": found / n_with,
        "precision at 2.2": hits_top / n_top if n_top else np.nan,
    }


def specificity_intervals(setting: str) -> Callable[[int, np.random.Generator], Iterator[Interval]]:
    """Intervals of one feature over about n documents with the concept and four times as many without it."""
    options = FEATURES[setting]
    _, match, act = documents(np.random.default_rng(1), 20_000, 100_000, **options)
    truth = plain_statistics(match, act)

    def draw(n: int, rng: np.random.Generator) -> Iterator[Interval]:
        n_with = max(int(rng.binomial(5 * n, 0.2)), 1)
        document, match, act = documents(rng, n_with, 5 * n, **options)
        fires = act > 0
        firings = ScoredFirings(
            value=act[fires],
            match=match[fires],
            document=document[fires],
            bin=np.zeros(int(fires.sum()), dtype=np.int64),
            positives=np.bincount(document[match], minlength=5 * n),
            negatives=np.bincount(document[~match], minlength=5 * n),
        )
        without = leave_one_out(firings, np.array([TOP_AT]), 1, F1_AT)
        points = plain_statistics(match, act)
        top = points.pop("precision at 2.2")
        found = estimates(points, without, {}, LEVEL)
        yield from ((name, truth[name], found[name]) for name in points)
        # A bin is an interval of activation; the top one is here what reaches a fixed value, as the truth needs.
        high = act >= TOP_AT
        if high.any():
            firings = ScoredFirings(**{**firings.__dict__, "bin": (act[fires] >= TOP_AT).astype(np.int64)})
            without = leave_one_out(firings, np.array([TOP_AT]), 2, F1_AT)
            yield (
                "precision, top bin",
                truth["precision at 2.2"],
                estimates({"top_precision": top}, without, {}, LEVEL)["top_precision"],
            )

    return draw


# ---- fidelity: documents of activations with their reconstructions, and sums of cross-entropy ----


def fidelity_intervals(between: float) -> Callable[[int, np.random.Generator], Iterator[Interval]]:
    """Intervals of an Evaluation over n documents that differ by a factor of exp(between) in what is lost."""
    d_in, grown = 8, np.exp(between**2 / 2)
    truth = {
        "l0": 6.0,
        "explained_variance": 1 - 0.2 * grown,
        "mse": 0.2 * grown,
        "ce_loss_recovered": 1 - 0.1 * grown / 7.0,
        "kl": 0.12 * grown,
    }

    def draw(n: int, rng: np.random.Generator) -> Iterator[Interval]:
        sums = FidelityAccumulator(n, d_in, 64)
        for d in range(n):
            size = 10 + int(rng.poisson(40))
            lost = float(np.exp(rng.normal(0, between)))
            x = rng.normal(0, 1, (size, d_in))
            x_hat = x + rng.normal(0, np.sqrt(0.2 * lost), (size, d_in))
            n_active = rng.poisson(6.0 * np.exp(rng.normal(-0.005, 0.1)), size)
            token = np.repeat(np.arange(size), n_active)
            unit = torch.full((size,), d)
            sums.add_activations(
                unit,
                torch.tensor(x),
                torch.tensor(x_hat),
                torch.zeros(len(token), dtype=torch.long),
                torch.tensor(token),
            )
            clean, noise = rng.normal(3.5, 0.4), rng.normal(0, 0.02)
            kl = 0.12 * lost * size
            ce = np.array([clean, clean + 0.1 * lost + noise, 0, clean + 0.1 * lost, 0, clean + 7.0, 0]) * size
            ce[[2, 4, 6]] = kl, kl, 7.5 * size
            sums.add_scores(d, size, torch.tensor(ce))
        found = sums.metrics("documents")["estimates"]
        yield from ((name, value, found[name]) for name, value in truth.items())

    return draw


# ---- steering: texts to prompts, and control features ----


def rate_intervals(rate: float, icc: float, n_texts: int) -> Callable[[int, np.random.Generator], Iterator[Interval]]:
    """The interval of a rate over n prompts with n_texts each, whose rates are beta distributed."""

    def draw(n: int, rng: np.random.Generator) -> Iterator[Interval]:
        spread = (1 - icc) / icc
        of_prompt = rng.beta(rate * spread, (1 - rate) * spread, n)
        yield "rate", rate, clustered_proportion(rng.binomial(n_texts, of_prompt), np.full(n, n_texts))

    return draw


def mean_intervals(skewed: bool) -> Callable[[int, np.random.Generator], Iterator[Interval]]:
    """The interval of a mean over n prompts with three to five texts each."""

    def draw(n: int, rng: np.random.Generator) -> Iterator[Interval]:
        of_prompt = rng.lognormal(0, 0.6, n) - np.exp(0.18) if skewed else rng.normal(0, 0.5, n)
        groups = [mean + rng.normal(0, 1, int(rng.integers(3, 6))) for mean in of_prompt]
        yield "mean", 0.0, clustered_mean(groups)

    return draw


SETTINGS: dict[str, dict[str, Callable[[], Callable[[int, np.random.Generator], Iterator[Interval]]]]] = {
    "specificity": {name: (lambda name=name: specificity_intervals(name)) for name in FEATURES},
    "fidelity": {
        "documents differ by 20 %": lambda: fidelity_intervals(0.2),
        "documents differ by 50 %": lambda: fidelity_intervals(0.5),
    },
    "rates": {
        "0.5, icc 0.2, 4 texts": lambda: rate_intervals(0.5, 0.2, 4),
        "0.2, icc 0.2, 4 texts": lambda: rate_intervals(0.2, 0.2, 4),
        "0.5, icc 0.6, 16 texts": lambda: rate_intervals(0.5, 0.6, 16),
        "0.05, icc 0.2, 4 texts": lambda: rate_intervals(0.05, 0.2, 4),
        "0.05, icc 0.6, 16 texts": lambda: rate_intervals(0.05, 0.6, 16),
        "0.2, one text (control features)": lambda: rate_intervals(0.2, 0.1, 1),
    },
    "means": {"normal": lambda: mean_intervals(False), "skewed": lambda: mean_intervals(True)},
}


def coverage(kind: str, setting: str, n_repetitions: int, seed: int) -> pd.DataFrame:
    """A row for each quantity and number of units: fraction printed, coverage, its standard error, mean width."""
    draw = SETTINGS[kind][setting]()
    rows = []
    for n in N_UNITS:
        seen: dict[str, list[tuple[bool, bool, float]]] = {}
        for repetition in range(n_repetitions):
            for name, truth, found in draw(n, np.random.default_rng([seed, n, repetition])):
                printed = not np.isnan(found.low)
                held = printed and found.low <= truth <= found.high
                seen.setdefault(name, []).append((printed, held, found.high - found.low))
        for name, drawn in seen.items():
            n_printed = sum(printed for printed, _, _ in drawn)
            share = sum(held for _, held, _ in drawn) / n_printed if n_printed else np.nan
            rows.append(
                {
                    "kind": kind,
                    "setting": setting,
                    "of": name,
                    "n_units": n,
                    "printed": n_printed / n_repetitions,
                    "coverage": share,
                    "se": np.sqrt(share * (1 - share) / n_printed) if n_printed else np.nan,
                    "width": float(np.mean([w for printed, _, w in drawn if printed])) if n_printed else np.nan,
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    args = parser.parse_args()
    frames = []
    for kind in args.kinds:
        for setting in SETTINGS[kind]:
            frame = coverage(kind, setting, args.repetitions, args.seed)
            frames.append(frame)
            table = frame.pivot(index="of", columns="n_units", values="coverage").round(3)
            print(f"\n{kind}, {setting}: coverage of nominal {LEVEL:.0%} intervals by number of units")
            print(table.to_string(na_rep="none printed"), flush=True)
    table = pd.concat(frames, ignore_index=True)
    print(json.dumps({"repetitions": args.repetitions, "rows": table.round(4).to_dict("records")}))


if __name__ == "__main__":
    main()
