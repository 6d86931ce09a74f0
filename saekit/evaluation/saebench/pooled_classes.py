"""The documents of a label's classes, pooled: what sparse probing and probe perturbation begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from ...errors import DataError, unknown_name
from ...sae import SAE
from .pooled import Pooled, choose_documents, label_values, pool

if TYPE_CHECKING:
    from ...corpus import Corpus
    from ...models import LanguageModel


def pool_classes(
    model: LanguageModel,
    saes: Sequence[SAE],
    corpus: Corpus,
    label: str,
    wanted: Sequence[Any],
    *,
    hook_name: Any,
    length: int,
    n_each: int | None,
    seed: int,
    progress: bool,
) -> tuple[Pooled, Int[np.ndarray, " documents"]]:
    """Documents of the wanted classes, pooled, and the class of each row from 0."""
    number = {value: n for n, value in enumerate(wanted)}
    documents, keys = choose_documents(corpus, lambda labels: number.get(labels.get(label)), n_each, seed)
    pooled = pool(model, saes, documents, hook_name=hook_name, length=length, seed=seed, progress=progress)
    return pooled, np.array(keys, dtype=np.int64)[pooled.document]


def choose_classes(
    corpus: Corpus, label: str, classes: Sequence[Any] | None, min_each: int
) -> tuple[list[Any], list[str]]:
    """The values to classify, and a note on those left out."""
    seen = label_values(corpus, label)
    if classes is not None:
        for value in classes:
            if value not in seen:
                raise unknown_name(f"value of label {label!r}:", value, seen)
        wanted, notes = list(dict.fromkeys(classes)), []
    else:
        counts = dict.fromkeys(seen, 0)
        for document in corpus:
            if label in document.labels:
                counts[document.labels[label]] += 1
        wanted = [value for value in seen if counts[value] >= min_each]
        n = len(seen) - len(wanted)
        notes = [f"{n} values with fewer than {min_each} documents are left out"] if n else []
    if len(wanted) < 2:
        raise DataError(
            f"label {label!r} has too few classes to classify",
            got=len(wanted),
            accepted="at least 2",
            fix=f"choose another label, or pass min_each below {min_each}",
        )
    return wanted, notes
