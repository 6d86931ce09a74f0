"""Which features cause a concept: how much clamping each raises the concept's words as the next token.

Firing for a concept is not causing it, so a feature to steer with is chosen by its output. One forward pass scores a
batch of features: every row is the same text with another feature clamped.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..errors import ConfigError, DataError
from ..models import LanguageModel
from ..sae import SAE
from .edit_hooks import Span
from .make_edits import clamp

STARTS = (
    ("Who are you?", "I am"),
    ("Tell me about your day.", "This morning I saw"),
    ("What is your favourite thing?", "My favourite thing is the"),
    ("Describe what is around you.", "Here I can see a"),
)
"""Unrelated questions and beginnings of answers after which nearly any noun could follow."""


def output_scores(
    model: LanguageModel,
    sae: SAE,
    features: Sequence[int],
    words: Sequence[str],
    *,
    strength: float = 0.5,
    starts: Sequence[tuple[str, str]] = STARTS,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """A row per feature, best first: mean change, in nats, of the words' log-probability as the next token.

    Each feature is clamped to `strength` times the residual norm while the model reads a question and the beginning of
    an answer; `score` is the mean over `starts` and `words`, and each word has its column. A word counts by its first
    token: give it with its leading space. The question goes through the chat template where the model has one. 0 is a
    feature that does nothing. Special tokens and attention sinks are left unedited. Raises DataError without words or
    starts, and what `clamp` raises for features.

    >>> sk.output_scores(model, sae, [3, 7], [" gate"], starts=[("Who?", "I")], progress=False).columns.tolist()
    ['score', ' gate']
    """
    first = {word: model.tokenize_next(word)[:1] for word in words}
    if not words or not starts or not all(first.values()):
        raise DataError("nothing to score", got=list(words), accepted='words such as " bridge", and at least one start')
    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="1 or more")
    sae.check(model)
    features = [int(f) for f in features]
    edits = [(clamp(sae, {f: strength}, unit="norm"),) for f in features]
    ids = torch.tensor([tokens[0] for tokens in first.values()])
    total = torch.zeros(len(features), len(words))
    with tqdm(total=len(features) * len(starts), unit="pass", desc="output scores", disable=not progress) as bar:
        for question, answer in starts:
            chat = getattr(model.tokenizer, "chat_template", None) is not None
            text = model.chat_prompt(question) + answer if chat else f"{question} {answer}"
            tokens = torch.tensor([model.tokenize(text, bos=False if chat else sae.config.prepend_bos)])
            clean = model.forward(tokens)[0][0, -1].float().log_softmax(-1)[ids]
            for at in range(0, len(features), batch_size):
                part = edits[at : at + batch_size]
                rows = tokens.expand(len(part), -1)
                hooks = Span(rows, torch.ones_like(rows, dtype=torch.bool)).hooks(part, model)
                logits, _ = model.forward(rows, hooks=hooks)
                total[at : at + len(part)] += (logits[:, -1].float().log_softmax(-1)[:, ids] - clean).cpu()
                bar.update(len(part))
    table = pd.DataFrame(
        (total / len(starts)).numpy(), columns=list(words), index=pd.Index(features, name="feature")
    ).astype(float)
    table.insert(0, "score", table.mean(axis=1))
    return table.sort_values("score", ascending=False, kind="stable")
