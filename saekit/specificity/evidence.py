"""The contexts behind the numbers: some of each kind, and where the activation goes by document label."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .examples import Activations, ClassifiedExamples, activation_bin_of
from .result import EvidenceContext, Group
from .sparse_statistics import Ints

N_CONTEXTS = 10
"""Contexts of each kind."""
N_PER_BIN = 5
WIDTH = 12
"""Tokens shown on each side."""
MAX_LABEL_VALUES = 500
"""A label with more values than this, or with one for most documents (an identifier), is not broken down."""


def evidence_contexts(
    examples: ClassifiedExamples, feature: int, example: Ints, value: Activations, position: Ints, seed: int
) -> tuple[EvidenceContext, ...]:
    """The strongest firings on and off the concept, silent places of it, and a sample of each activation bin.

    Each kind has at most one context a document. `example`, `value` and `position` are what
    `ClassifiedExamples.scored` gave for the feature.
    """
    rng, show = np.random.default_rng(seed), examples.index.context
    match, document, activation_bin = examples.match[example], examples.document[example], activation_bin_of(value)
    out: list[EvidenceContext] = []

    def add(group: Group, chosen: Ints) -> None:
        for i in chosen.tolist():
            context = show(feature, int(position[i]), before=WIDTH, after=WIDTH)
            out.append(
                EvidenceContext(group=group, bin=int(activation_bin[i]), matches=bool(match[i]), context=context)
            )

    strongest = np.argsort(-value, kind="stable")
    add("true positive", _spread(strongest[match[strongest]], document, N_CONTEXTS))
    add("false positive", _spread(strongest[~match[strongest]], document, N_CONTEXTS))
    silent = examples.match.copy()
    silent[example] = False
    missed = _spread(rng.permutation(np.flatnonzero(silent)), examples.document, N_CONTEXTS)
    for i in missed.tolist():
        context = show(feature, int(examples.position[i]), before=WIDTH, after=WIDTH)
        out.append(EvidenceContext(group="miss", bin=-1, matches=True, context=context))
    for n in range(int(activation_bin.max(initial=-1)) + 1):
        add("bin sample", _spread(rng.permutation(np.flatnonzero(activation_bin == n)), document, N_PER_BIN))
    return tuple(out)


def by_label(examples: ClassifiedExamples, example: Ints, value: Activations) -> pd.DataFrame:
    """For each value of each label: examples, firings, matches, precision and fraction of the activation."""
    frames = []
    documents = examples.index.documents.loc[examples.document_numbers]
    match = examples.match[example]
    for label in documents.columns:
        codes, values = pd.factorize(documents[label], use_na_sentinel=True)
        if not 2 <= len(values) <= min(MAX_LABEL_VALUES, max(2, len(documents) // 2)):
            continue
        of_all, of_firing = codes[examples.document], codes[examples.document[example]]

        def count(code: npt.NDArray[Any], weights: npt.NDArray[Any] | None = None, k: int = len(values)) -> Any:
            known = code >= 0
            return np.bincount(code[known], None if weights is None else weights[known], minlength=k)

        n, fired = count(of_all), count(of_firing)
        hits = count(of_firing, match.astype(np.float64)).astype(np.int64)
        frame = pd.DataFrame({"label": label, "value": values, "n": n, "n_firings": fired, "n_matches": hits})
        frame["density"] = fired / np.maximum(n, 1)
        frame["precision"] = np.where(fired > 0, hits / np.maximum(fired, 1), np.nan)
        total = float(value.sum(dtype=np.float64))
        mass = count(of_firing, value.astype(np.float64))
        frame["activation_fraction"] = mass / total if total else np.nan
        frames.append(frame.sort_values("activation_fraction", ascending=False, kind="stable"))
    columns = ["label", "value", "n", "n_firings", "n_matches", "density", "precision", "activation_fraction"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _spread(candidates: Ints, document: Ints, n: int) -> Ints:
    """The first n candidates that are from different documents."""
    _, first = np.unique(document[candidates], return_index=True)
    return candidates[np.sort(first)][:n]
