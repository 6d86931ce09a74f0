"""How fluent a text is, and how certain a rate or a mean is: the metrics a steering study reports.

Sources: Wilson 1927 (interval of a proportion); Efron & Tibshirani 1993, chapter 13
(percentile bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..models import LanguageModel

MAX_NLL_INCREASE = 1.5
"""Nats per token that a recommended strength may cost."""


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """The fraction of n-grams of tokens that occurred before in the same text; 0 for a text shorter than n.

    >>> from saekit.steering.fluency import repetition
    >>> repetition([1, 2, 3, 4, 5, 6]), repetition([7] * 9)
    (0.0, 0.8333333333333334)
    """
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@torch.inference_mode()
def negative_log_likelihood(
    model: LanguageModel,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int = 16,
    on_progress: Callable[[int], object] | None = None,
) -> list[float]:
    """For each (prompt ids, new ids), the mean of -log p(new token | all before it) under the model, in nats.

    The model runs without edits, over a prompt once for all its texts. nan where there are no new tokens. `on_progress`
    is called with how many more texts are done.

    >>> from saekit.steering.fluency import negative_log_likelihood
    >>> negative_log_likelihood(model, [([0, 5], [6, 7]), ([0, 5], [])])  # doctest: +ELLIPSIS
    [4..., nan]
    """
    out = [math.nan] * len(texts)
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, _) in enumerate(texts):
        by_prompt.setdefault(tuple(prompt), []).append(i)
    for prompt, members in by_prompt.items():
        first, past = model.forward([prompt], use_cache=True)
        members.sort(key=lambda i: len(texts[i][1]))
        for at in range(0, len(members), batch_size):
            chosen = members[at : at + batch_size]
            new = [list(texts[i][1]) for i in chosen]
            logits = first[:, -1:].expand(len(new), -1, -1)
            longest = max(map(len, new))
            if longest > 1:  # causal: what comes after a token, padding included, does not reach it
                read = torch.tensor([row[:-1] + [model.pad_id] * (longest - max(len(row), 1)) for row in new])
                if past is None:
                    whole = torch.cat([torch.tensor([prompt]).expand(len(new), -1), read], 1)
                    later = model.forward(whole)[0][:, len(prompt) :]
                else:
                    later, _ = model.forward(read, past=model.repeat_past(past, len(new)))
                logits = torch.cat([logits, later], 1)
            for i, row, row_logits in zip(chosen, new, logits, strict=True):
                if row:
                    targets = torch.tensor(row, device=logits.device)
                    out[i] = float(torch.nn.functional.cross_entropy(row_logits[: len(row)].float(), targets))
            if on_progress is not None:
                on_progress(len(chosen))
    return out


def wilson_interval(n_hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion of n_hits among n > 0.

    >>> from saekit.steering.fluency import wilson_interval
    >>> wilson_interval(0, 10)[0], round(wilson_interval(0, 10)[1], 3)
    (0.0, 0.278)
    """
    p = n_hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return 0.0 if n_hits == 0 else low, 1.0 if n_hits == n else high  # exactly, where rounding would leave 1e-17


def bootstrap_mean(groups: Sequence[Sequence[float]], n_resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over all values when whole groups are resampled; nan is left out.

    >>> from saekit.steering.fluency import bootstrap_mean
    >>> bootstrap_mean([[1.0, 1.0], [1.0]])
    (1.0, 1.0)
    """
    values = [np.array([v for v in group if not math.isnan(v)]) for group in groups]
    sums = np.array([v.sum() for v in values if len(v)])
    counts = np.array([len(v) for v in values if len(v)])
    if len(sums) == 0:
        return math.nan, math.nan
    picks = np.random.default_rng(seed).integers(0, len(sums), (n_resamples, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
