"""Which features cause a concept: how much clamping each raises the concept's words as the next token.

Firing for a concept is not causing it, so a feature to steer with is chosen by its output. The words are the caller's,
so a feature is measured by what is wanted of it; `output_scores` measures it by the words that it writes itself. One
forward pass measures a batch of features: every row is the same text with another feature clamped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from ..arguments import checks_arguments
from ..errors import ConfigError, DataError
from ..models import LanguageModel
from ..sae import SAE
from ..statistics import jackknife_bounds
from .edit_hooks import Span
from .make_edits import clamp

STARTS = (
    ("Who are you?", "I am"),
    ("Tell me about your day.", "This morning I saw"),
    ("What is your favourite thing?", "My favourite thing is the"),
    ("Describe what is around you.", "Here I can see a"),
    ("What did you dream of?", "Last night I dreamt of a"),
    ("What would you like to draw?", "I would like to draw the"),
    ("Tell me a secret.", "Nobody knows that behind my house there is a"),
    ("What is on the postcard?", "The postcard shows a"),
    ("What do you miss most?", "What I miss most is the"),
    ("How does the story begin?", "Once upon a time there was a"),
)
"""Unrelated questions and beginnings of answers after which nearly any noun could follow."""


@checks_arguments
def word_effects(
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
    an answer; `effect` is the mean over `starts` and `words`, with the ends of its 95 % interval over the `n_starts`
    (effect_low, effect_high; jackknife t, nan below five), and each word has its column. A word counts by its first
    token: give it with its leading space. The question goes through the chat template where the model has one. 0 is a
    feature that does nothing. Special tokens and attention sinks are left unedited. Raises DataError without words or
    starts, and what `clamp` raises for features.

    >>> found = sk.word_effects(model, sae, [3, 7], [" gate"], starts=[("Who?", "I")], progress=False)
    >>> found.columns.tolist()
    ['effect', 'effect_low', 'effect_high', 'n_starts', ' gate']
    """
    changes = word_changes(
        model, sae, features, words, strength=strength, starts=starts, batch_size=batch_size, progress=progress
    )
    table = effects_table(changes, features, words)
    return table.sort_values("effect", ascending=False, kind="stable")


def effects_table(changes: Float[np.ndarray, "n f w"], features: Sequence[int], words: Sequence[str]) -> pd.DataFrame:
    """The mean changes over starts, a row per feature in the order given."""
    n_starts = len(changes)
    table = pd.DataFrame(changes.mean(0), columns=list(words), index=pd.Index(list(map(int, features)), name="feature"))
    each = changes.mean(2)
    low = high = np.full(len(table), np.nan)
    if n_starts > 1:
        left_out = (each.sum(0) - each) / (n_starts - 1)
        low, high = jackknife_bounds(each.mean(0), left_out.T, scale="identity")
    for name, column in (("n_starts", n_starts), ("effect_high", high), ("effect_low", low), ("effect", each.mean(0))):
        table.insert(0, name, column)
    return table


def word_changes(
    model: LanguageModel,
    sae: SAE,
    features: Sequence[int],
    words: Sequence[str],
    *,
    strength: float,
    starts: Sequence[tuple[str, str]],
    batch_size: int,
    progress: bool,
) -> Float[np.ndarray, "n_starts n_features n_words"]:
    """The change of each word's log-probability after each start under each feature's clamp, in nats."""
    first = {word: model.tokenize_next(word)[:1] for word in words}
    if not words or not starts or not all(first.values()):
        raise DataError("nothing to score", got=list(words), accepted='words such as " bridge", and at least one start')
    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="1 or more")
    sae.check(model)
    features = [int(f) for f in features]
    edits = [(clamp(sae, {f: strength}, unit="norm"),) for f in features]
    ids = torch.tensor([tokens[0] for tokens in first.values()])
    changes = torch.zeros(len(starts), len(features), len(words))
    with tqdm(total=len(features) * len(starts), unit="pass", desc="word effects", disable=not progress) as bar:
        for n, (question, answer) in enumerate(starts):
            chat = getattr(model.tokenizer, "chat_template", None) is not None
            text = model.chat_prompt(question) + answer if chat else f"{question} {answer}"
            tokens = torch.tensor([model.tokenize(text, bos=False if chat else sae.config.prepend_bos)])
            clean = model.forward(tokens)[0][0, -1].float().log_softmax(-1)[ids]
            for at in range(0, len(features), batch_size):
                part = edits[at : at + batch_size]
                rows = tokens.expand(len(part), -1)
                hooks = Span(rows, torch.ones_like(rows, dtype=torch.bool)).hooks(part, model)
                logits, _ = model.forward(rows, hooks=hooks)
                changes[n, at : at + len(part)] = (logits[:, -1].float().log_softmax(-1)[:, ids] - clean).cpu()
                bar.update(len(part))
    return changes.double().numpy()
