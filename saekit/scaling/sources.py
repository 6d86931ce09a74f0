"""What a study trains on and what it measures on: activations that share no document, or fresh draws from a function.

The model runs over a text once and its activations are kept on disk, because every token budget is a run of its own. A
function `(batch_size, seed) -> iterator of batches`, such as `truth.batches` of synthetic data, is a StreamActivations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from ..activations import ActivationCache, ActivationSource, StreamActivations, cache_activations
from ..activations.batches import mixed_seed
from ..activations.stream import BatchFunction
from ..corpus import AnyCorpus, Corpus, Windows, as_corpus, tokenize
from ..errors import ConfigError, DataError
from ..hook_points import HookPoint
from ..models import LanguageModel

CHUNK = 4096
"""Tokens measured at a time."""
SPARE = 1.05
"""Text taken, as a multiple of the tokens needed: some are special tokens or sinks."""


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """Where the batches of every run come from, and the tokens that none of them sees."""

    training: ActivationSource
    d_in: int
    """Width of its activations."""
    held_out: Callable[[], Iterator[Float[Tensor, "n d_in"]]]
    """The held-out activations in chunks, the same each time."""
    n_unique: int | None
    """Distinct tokens to train on; None: fresh ones without end."""
    described: str
    """What was measured, in words."""


def open_study_data(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationCache | BatchFunction,
    stack: ExitStack,
    *,
    hook_name: HookPoint | None,
    n_tokens: int,
    n_held_out: int,
    length: int,
    seed: int,
    out: Path | None,
    progress: bool,
) -> StudyData:
    """The source for runs of up to `n_tokens`; what it holds on disk outside `out` goes when the stack is closed."""
    if n_held_out < 2:
        raise ConfigError("n_held_out is too small", got=n_held_out, accepted="at least 2 tokens; thousands are usual")
    if not isinstance(corpus, Windows | ActivationCache) and not callable(corpus):
        corpus = as_corpus(corpus, also="Windows, an ActivationCache or a function (batch_size, seed) -> batches")
    if isinstance(corpus, Corpus | Windows):
        if model is None or hook_name is None:
            raise ConfigError(
                "a study on text needs a model and a hook_name",
                got=f"model={model}, hook_name={hook_name}",
                accepted="both, or an ActivationCache instead of text",
                fix='pass hook_name="blocks.15.hook_resid_post"',
            )
        if isinstance(corpus, Corpus):
            corpus = tokenize(corpus, model, length=length, max_tokens=int(SPARE * (n_tokens + n_held_out)))
        folder = out / "activations" if out else Path(stack.enter_context(TemporaryDirectory(prefix="saekit-")))
        corpus = cache_activations(model, corpus, hook_name, folder, progress=progress)
    if isinstance(corpus, ActivationCache):
        return _of_cache(corpus if hook_name is None else corpus.at(hook_name), n_held_out, seed)
    return _of_function(corpus, n_held_out, seed)


def _of_cache(cache: ActivationCache, n_held_out: int, seed: int) -> StudyData:
    if n_held_out > cache.n_tokens // 2:
        raise DataError(
            "n_held_out leaves too little to train on",
            got=f"{n_held_out} of {cache.n_tokens} tokens",
            accepted=f"at most half, {cache.n_tokens // 2}",
            fix="pass a smaller n_held_out, or more text",
        )
    training, held_out = cache.split(n_held_out / cache.n_tokens, seed)
    if held_out.n_tokens < 2 or not training.n_tokens:
        raise DataError(
            "no document was left for one side of the split",
            got=f"{held_out.n_tokens} held-out tokens",
            accepted="documents on both sides",
            fix="pass a larger n_held_out, another seed or more documents",
        )
    n_documents = held_out.windows.n_documents
    return StudyData(
        training=training,
        d_in=training.d_in,
        held_out=lambda: (x for _, x in held_out.chunks(CHUNK)),
        n_unique=training.n_tokens,
        described=f"{held_out.n_tokens:,} held-out tokens of {n_documents:,} documents never trained on",
    )


def _of_function(batches: BatchFunction, n_held_out: int, seed: int) -> StudyData:
    apart = mixed_seed(seed, 1) % 2**31
    first, other = next(batches(2, seed)), next(batches(2, apart))
    if first.shape == other.shape and torch.equal(first, other):
        raise DataError(
            "the batches do not depend on the seed, so held-out data would be training data",
            got=f"the same batch for seeds {seed} and {apart}",
            accepted="a function (batch_size, seed) -> batches",
            fix="seed a torch.Generator with the second argument",
        )
    size = min(n_held_out, CHUNK)

    def held_out() -> Iterator[Tensor]:
        drawn, left = batches(size, apart), n_held_out
        while left > 0:
            yield next(drawn)[:left]
            left -= size

    return StudyData(
        training=(stream := StreamActivations(batches, seed)),
        d_in=stream.d_in,
        held_out=held_out,
        n_unique=None,
        described=f"{n_held_out:,} fresh tokens never trained on",
    )
