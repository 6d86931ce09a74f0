"""Which features are called something: by label first, then by name.

Names are ranked by how much of the activation they carry, times how well they fit what is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

LABEL, LABEL_WORD, NAME = "label", "label word", "name"
STEM = 4
"""Letters that two forms of a word have in common at least."""
ENDING = 3
"""Letters at most by which they differ."""
WHOLE, FIRST, FURTHER, OTHER_FORM = 1.0, 0.9, 0.6, 0.5
"""How well a name fits: all of it, its first word, another of its words, another form of one."""
Z = 1.96


def search_names(names: pd.DataFrame, made: pd.DataFrame, labels: Mapping[int, str], wanted: str) -> pd.DataFrame:
    """Those features that `wanted` names, a row each, best first: match, fraction, n_documents.

    A label that is the words comes before one that holds them among others, the fewer the better, and both before
    names: by how well they fit, times the harmonic mean of the fraction that the name carries (its lower end) and of
    its coverage. Case plays no part, and a form of a word ("bridges") stands for it.

    >>> import pandas as pd
    >>> from saekit.index.name_search import search_names
    >>> names = pd.DataFrame({"name": ["bridge", "Bridges, span", "rivers"], "fraction": [0.5, 0.9, float("nan")],
    ...     "n_documents": [20, 20, 0], "kind": ["token", "token", "label"]})
    >>> made = pd.DataFrame({"words": [["bridge"], ["bridges", "span"], ["sea"]], "lead": [[], [], []],
    ...     "by": "word", "coverage": [0.9, 0.9, 0.9]})
    >>> search_names(names, made, {2: "rivers and bridges"}, "bridge")["match"].to_dict()
    {2: 'label word', 0: 'name', 1: 'name'}
    """
    query = words_in(wanted)
    rows = {}
    for feature, label in labels.items():
        fit = _fit_of_label(query, words_in(label))
        if fit:
            rows[feature] = (fit, LABEL if fit > 2 else LABEL_WORD)
    fraction, n = names["fraction"].to_numpy(np.float64), names["n_documents"].to_numpy()
    coverage = np.nan_to_num(made["coverage"].to_numpy(np.float64))
    low = _lower_end(fraction, n)
    evidence = 2 * low * coverage / np.maximum(low + coverage, 1e-12)
    kinds = made["by"].where(made["by"].isin(["numbers", "capitalised"]), "")
    texts = [
        words_in(" ".join([kind, *lead[::-1], *words]))
        for kind, lead, words in zip(kinds, made["lead"], made["words"], strict=True)
    ]
    for feature, words in enumerate(texts):
        fit = _fit(query, words) if feature not in rows and feature not in labels else 0.0
        if fit:
            rows[feature] = (fit * evidence[feature] + fit * 1e-6, NAME)
    found = list(rows)
    table = pd.DataFrame(
        {
            "match": [rows[i][1] for i in found],
            "fraction": fraction[found],
            "coverage": made["coverage"].to_numpy()[found],
            "n_documents": n[found],
            "score": [rows[i][0] for i in found],
        },
        index=pd.Index(found, dtype="int64"),
    )
    table["feature"] = table.index
    table = table.sort_values(["score", "n_documents", "feature"], ascending=[False, False, True])
    return table.drop(columns=["score", "feature"])


def words_in(text: str) -> list[str]:
    """The words of a text in lower case; what is between them where it has none.

    >>> from saekit.index.name_search import words_in
    >>> words_in("Golden Gate"), words_in("…")
    (['golden', 'gate'], ['…'])
    """
    text = text.casefold()
    return re.findall(r"\w+", text) or text.split()


def _fit(query: list[str], words: list[str]) -> float:
    """How well a name of these words fits, 0 where it does not; of several words, the part that it has."""
    if query and query == words:
        return WHOLE
    fits = []
    for word in query:
        same = words.index(word) if word in words else -1
        form = next((n for n, other in enumerate(words) if _same_stem(word, other)), -1) if same < 0 else same
        fits.append(0.0 if form < 0 else (FURTHER if form else FIRST) * (1.0 if same >= 0 else OTHER_FORM))
    return float(np.mean(fits)) if fits else 0.0


def _fit_of_label(query: list[str], words: list[str]) -> float:
    """0 for a label of these words that lacks one that is looked for; above 2 for one that is all of them, in any form
    or order, at most 3; else 1 and the part of its words that is looked for.
    """
    hits = np.array([[word == other or _same_stem(word, other) for other in words] for word in query])
    if not hits.size or not hits.any(axis=1).all():
        return 0.0
    same, part = float(np.mean([word in words for word in query])), float(hits.any(axis=0).mean())
    return 2.5 + same / 4 + (query == words) / 4 if part == 1 else 1 + 0.9 * part + 0.05 * same


def _same_stem(a: str, b: str) -> bool:
    n = min(len(a), len(b))
    shared = next((i for i in range(n) if a[i] != b[i]), n)
    return a == b or (shared >= STEM and max(len(a), len(b)) - shared <= ENDING)


def _lower_end(fraction: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The lower end of Wilson's interval of a fraction over so many documents; 0 where there is none."""
    n = np.maximum(n, 1e-9)
    p = np.nan_to_num(fraction)
    middle = p + Z**2 / (2 * n)
    low: np.ndarray = (middle - Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))) / (1 + Z**2 / n)
    return np.where(np.isnan(fraction), 0.0, low)
