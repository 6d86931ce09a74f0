"""Whatever someone has to train on, as a source of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..corpus import AnyCorpus, Corpus, Windows, as_corpus
from ..errors import ConfigError
from ..models import LanguageModel
from .arrays import of_arrays, unpacked
from .source import ActivationSource, ModelActivations, Provenance

Activations = (
    Tensor | np.ndarray | str | Path | Iterable[Tensor] | Iterable[np.ndarray] | Callable[[], Iterable[Tensor]]
)
"""Activations as they are: an array or its file, batches, or a function that returns batches."""


def as_source(
    model: LanguageModel | None,
    text_or_source: AnyCorpus | Windows | ActivationSource | Activations,
    *,
    length: int,
    buffer_tokens: int,
    prepend_bos: bool | None = None,
) -> ActivationSource:
    """What to train on as a source: text becomes that of `model`. ConfigError for text without a model and for others.

    >>> from saekit.activations.sources import as_source
    >>> as_source(model, corpus, length=16, buffer_tokens=256).at(HOOK).provenance.dataset
    'tiny'
    """
    missing = [name for name in MEMBERS if not hasattr(text_or_source, name)]
    source: Any = text_or_source
    if missing == MEMBERS and not isinstance(source, Corpus | Windows):
        is_text = False
        if isinstance(source, Iterator):  # can be read once: what is looked at is put back
            first = list(islice(source, 1))
            is_text, source = not (first and isinstance(unpacked(first[0]), Tensor | np.ndarray)), chain(first, source)
        if not is_text and (made := of_arrays(source, model, buffer_tokens)) is not None:
            return made
        source = as_corpus(source, also=f"Windows, activations, or a source of them ({', '.join(MEMBERS)})")
    if isinstance(source, Corpus | Windows):
        if model is None:
            raise ConfigError(
                "training on text needs a model and a hook_name",
                got="model=None",
                accepted="both, or an ActivationSource instead of text",
                fix="pass sk.load_model(name)",
            )
        return ModelActivations(
            model=model, text=source, length=length, buffer_tokens=buffer_tokens, prepend_bos=prepend_bos
        )
    if isinstance(source, ActivationSource):
        if not isinstance(source.provenance, Provenance):
            raise ConfigError(
                "the provenance of the activations is of another type",
                got=type(source.provenance).__name__,
                accepted="sk.activations.Provenance",
                fix="give the source provenance = sk.activations.Provenance(model_name=...)",
            )
        return source
    raise ConfigError(
        "not a corpus, and no source of activations",
        got=f"{type(source).__name__} without {', '.join(missing)}",
        accepted=f"a Corpus, Windows, an ActivationCache, an array or batches of activations, or an ActivationSource "
        f"of your own ({', '.join(MEMBERS)})",
        fix="make one with sk.load_corpus(text)",
    )


MEMBERS = ["hook_name", "provenance", "at", "batches"]
"""Of an ActivationSource."""
