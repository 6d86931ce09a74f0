"""Words in a short prompt, the letter each begins with, and the activation at the word.

The probe of feature absorption needs many words of every letter. A word is put into a template and read at its last
token; the template after the word cannot reach it, so the model is not run on that. By default the words are
tokens of the vocabulary that begin with a space and hold only letters, one token each as in the published measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from ...errors import ConfigError, DataError
from ...models import LanguageModel
from ...models.text_matching import compiled, ids_that_read
from ...sae import TokenFilter

TEMPLATE = "These words are spelled by letters:{word}"
"""Enough text before the word that it is at none of the first positions, which are attention sinks in many models."""
SHORTEST = 3
"""Letters in a word of the vocabulary; shorter ones are often pieces of words."""


@dataclass(frozen=True, eq=False)
class Words:
    """Words with their first letters and activations; the rows of all are the same."""

    words: tuple[str, ...]
    letters: tuple[str, ...]
    x: Float[np.ndarray, "words d_in"]
    n_left_out: int
    """Words whose token does not count under the SAE's token filter."""


def first_letter(word: str) -> str:
    """The letter a word begins with, in lower case; ConfigError when it does not begin with one.

    >>> from saekit.evaluation.saebench.letters import first_letter
    >>> first_letter(" Bridge")
    'b'
    """
    bare = word.strip()
    if not bare or not bare[0].isalpha():
        raise ConfigError("a word does not begin with a letter", got=repr(word), accepted="words such as ' bridge'")
    return bare[0].lower()


def vocabulary_words(model: LanguageModel, n: int, seed: int = 0) -> list[str]:
    """Up to `n` tokens of the vocabulary that are a space and at least three letters a to z, drawn with `seed`."""
    strings = model.vocabulary.shown
    whole = ids_that_read(compiled(f"[A-Za-z]{{{SHORTEST},}}", ignore_case=False), strings)
    known = sorted({strings[i] for i in whole if strings[i].startswith(" ")})
    if not known:
        raise DataError(
            f"the vocabulary of {model.name} holds no whole words",
            got=0,
            accepted="tokens such as ' bridge'",
            fix="pass words=[...]",
        )
    order = np.random.default_rng(seed).permutation(len(known))[:n]
    return [known[int(i)] for i in np.sort(order)]


def read_words(
    model: LanguageModel,
    words: Sequence[str],
    hook_name: str,
    token_filter: TokenFilter,
    *,
    template: str = TEMPLATE,
    prepend_bos: bool | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Words:
    """The activation at the last token of every word in the template. ConfigError for a template without {word}.

    >>> from saekit.evaluation.saebench.letters import read_words
    >>> read_words(model, ["cat", "dog"], HOOK, sk.TokenFilter(), template="a {word} is", progress=False).letters
    ('c', 'd')
    """
    if template.count("{word}") != 1:
        raise ConfigError("the template does not hold {word} once", got=template, accepted="text with one {word}")
    before = template.split("{word}")[0]
    letters = [first_letter(w) for w in words]
    ids = [model.tokenize(before + w, prepend_bos) for w in words]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    x = torch.zeros(len(ids), model.hook_width(hook_name))
    keep = torch.zeros(len(ids), dtype=torch.bool)
    with tqdm(total=len(ids), desc="reading words", unit=" words", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            width = max(len(ids[i]) for i in rows)
            tokens = torch.tensor([ids[i] + [model.pad_id] * (width - len(ids[i])) for i in rows])
            last = torch.tensor([len(ids[i]) - 1 for i in rows])
            mask = (torch.arange(width) <= last[:, None]).long()
            found = model.activations(tokens, hook_name, attention_mask=mask).float()
            at = found[torch.arange(len(rows)), last.to(found.device)].cpu()
            x[rows] = at
            keep[rows] = token_filter.keep(tokens[torch.arange(len(rows)), last], at)
            bar.update(len(rows))
    chosen = keep.nonzero()[:, 0].tolist()
    if not chosen:
        raise DataError(
            "no word counts under the SAE's token filter", got=token_filter.describe(), fix="pass other words"
        )
    return Words(
        tuple(words[i] for i in chosen),
        tuple(letters[i] for i in chosen),
        x[chosen].double().numpy(),
        len(ids) - len(chosen),
    )
