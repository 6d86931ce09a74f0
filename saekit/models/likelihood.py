"""The negative log-likelihood of tokens under a model, the one that fidelity, fluency and readouts report, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .language_model import LanguageModel


def token_nll(log_p: Float[Tensor, "n d_vocab"], tokens: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log p of each token, from the log-probabilities at the position before it.

    >>> from saekit.models.likelihood import token_nll
    >>> token_nll(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0])).exp()
    tensor([4.])
    """
    return -log_p.gather(1, tokens[:, None].to(log_p.device))[:, 0]


@torch.no_grad()
def negative_log_likelihood(
    model: LanguageModel,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int = 16,
    on_progress: Callable[[int], object] | None = None,
) -> list[float]:
    """For each (prompt ids, new ids), the mean of -log p(new token | all before it) under the model, in nats.

    The model runs without edits, over a prompt once for all its texts. nan where there are no new tokens. `on_progress`
    is given how many texts are newly done.

    >>> from saekit.models.likelihood import negative_log_likelihood
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
            if longest > 1:  # what stands right of a token, padding included, does not reach it
                read = torch.tensor([row[:-1] + [model.pad_id] * (longest - max(len(row), 1)) for row in new])
                if past is None:
                    whole = torch.cat([torch.tensor([prompt]).expand(len(new), -1), read], 1)
                    later = model.forward(whole)[0][:, len(prompt) :]
                else:
                    later, _ = model.forward(read, past=model.repeat_past(past, len(new)))
                logits = torch.cat([logits, later], 1)
            for i, row, row_logits in zip(chosen, new, logits, strict=True):
                if row:
                    log_p = row_logits[: len(row)].float().log_softmax(-1)
                    out[i] = float(token_nll(log_p, torch.tensor(row)).mean())
            if on_progress is not None:
                on_progress(len(chosen))
    return out
