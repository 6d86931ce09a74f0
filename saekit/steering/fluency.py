"""How fluent a text is: the metrics of text that a steering study reports. Knows nothing of features or edits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
