"""A feature index made from arrays, with everything that concepts and scoring read, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from saekit.corpus import Windows
from saekit.index import FeatureIndex, Firings
from saekit.index.sparse import Sparse
from saekit.index.text import IndexText, TextRun
from saekit.models.text_matching import token_bytes
from saekit.models.token_text import Vocabulary

BOS, PAD = 0, 1


def pieces(text: str) -> list[str]:
    """Tokens as a byte-level vocabulary shows them: words with their space, and the bytes of what is not ASCII."""
    out: list[str] = []
    for part in re.findall(r"<\|\w+\|>| ?[A-Za-z]+|[^A-Za-z]", text):
        out += [part] if part.isascii() else [f"<0x{b:02X}>" for b in part.encode()]
    return out


class ArrayIndex:
    """`documents` as text, cut into windows of `length` that begin with BOS; `acts` [n_kept, d_sae] or a function of
    (tokens, documents) of the kept ones that gives them. `unkept` are token strings that the token filter leaves out.
    """

    def __init__(
        self,
        documents: Sequence[str],
        labels: dict[str, Sequence[Any]] | None = None,
        *,
        length: int = 16,
        acts: Any = None,
        unkept: Sequence[str] = (),
    ) -> None:
        self.vocabulary = ["<bos>", "<pad>"]
        rows, numbers, lengths = [], [], []
        for number, text in enumerate(documents):
            shown = pieces(text)
            self.vocabulary += sorted(set(shown) - set(self.vocabulary))
            ids = [self.vocabulary.index(s) for s in shown]
            for first in range(0, len(ids), length - 1):
                part = ids[first : first + length - 1]
                gap = length - 1 - len(part)
                rows.append([BOS, *part, *[PAD] * gap])
                numbers.append([-1, *[number] * len(part), *[-1] * gap])
                lengths.append(1 + len(part))
        self.windows = Windows(
            torch.tensor(rows, dtype=torch.int32),
            torch.tensor(numbers, dtype=torch.int32),
            torch.tensor(lengths, dtype=torch.int32),
            pd.DataFrame(labels or {}, index=pd.RangeIndex(len(documents), name="document")),
        )
        flat = self.windows.documents.reshape(-1).numpy()
        left_out = [self.vocabulary.index(s) for s in unkept if s in self.vocabulary]
        self.kept = np.flatnonzero((flat >= 0) & ~np.isin(self.windows.tokens.reshape(-1).numpy(), left_out))
        if acts is None:
            acts = np.zeros((len(self.kept), 1))
        elif callable(acts):
            acts = acts(np.array(self.token_strings(self.kept)), flat[self.kept])
        self.acts = np.asarray(acts, dtype=np.float32)
        self.d_sae = self.acts.shape[1]
        by_feature = [np.flatnonzero(column) for column in self.acts.T]
        self.by_feature = Sparse(
            np.concatenate([[0], np.cumsum([len(r) for r in by_feature])]),
            np.concatenate(by_feature).astype(np.int32),
            np.concatenate([self.acts[r, f] for f, r in enumerate(by_feature)]),
        )
        self.features = pd.DataFrame({"promoted": [[f"p{f}"] for f in range(self.d_sae)]})
        self.n_windows = len(rows)

    length = property(lambda self: self.windows.length)
    context, _token_ids = FeatureIndex.context, FeatureIndex._token_ids

    def firings(self, feature: int) -> Firings:
        here = slice(*self.by_feature.start[feature : feature + 2].tolist())
        return Firings(self.kept[self.by_feature.column[here]], self.by_feature.value[here])

    @property
    def documents(self) -> pd.DataFrame:
        return self.windows.labels

    @property
    def n_documents(self) -> int:
        return len(self.documents)

    def token_strings(self, positions: Any) -> list[str]:
        at = np.asarray(positions)
        return self._text.strings(at, self.windows.tokens.reshape(-1).numpy()[at].tolist())

    def token_bytes(self, positions: Any) -> dict[int, str]:
        at, vocabulary = np.asarray(positions), self._text.vocabulary
        ids = self.windows.tokens.reshape(-1).numpy()[at].tolist()
        return {n: vocabulary.shown[i] for n, i in enumerate(ids) if vocabulary.partial[i]}

    def texts(self) -> Iterator[TextRun]:
        return self._text.runs()

    @property
    def _text(self) -> IndexText:
        return IndexText(self.windows, Vocabulary(token_bytes(self.vocabulary)), frozenset())

    def check_feature(self, feature: int) -> int:
        if not 0 <= feature < self.d_sae:
            raise LookupError(f"no feature {feature}")
        return int(feature)

    def matched_features(self, feature: int, n: int = 10, seed: int = 0) -> list[int]:
        live = np.flatnonzero((self.acts > 0).any(0))
        return [int(f) for f in live if f != feature][:n]
