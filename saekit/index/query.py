"""Asking an index: what it holds on a feature, where it fires, what fires here.

A FeatureIndex reads from its Store only what a question needs; opening one costs milliseconds. The model and the SAE
are remembered only by an index that was built in this session; searches that run the model say so when they have none.
Searches themselves are in `search`, records in `feature_records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy import sparse

from ..activations.excluded import ExcludedTokens, ExclusionCounter
from ..arguments import checks_arguments
from ..corpus import Windows
from ..display import in_doubles
from ..errors import UnknownNameError, check_feature
from ..hook_points import HookPoint, hook_names, hook_text
from ..models.text_matching import token_bytes
from ..models.token_text import Vocabulary
from ..sae import TokenFilter
from . import search
from .displays import index_html
from .feature_records import make_context, make_record
from .matched_features import matched_features
from .named_index import NamedIndex
from .records import Active, Context, FeatureRecord, Firings
from .sparse import Sparse
from .store import Store
from .text import IndexText, TextRun

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..models import LanguageModel
    from ..sae import SAE

SHOWN_BEFORE, SHOWN_AFTER = 24, 12


@checks_arguments
def load_index(path: str | Path, *, verify: bool = True) -> FeatureIndex:
    """The index in a folder that `build_index` wrote; read lazily, so that a large one opens in milliseconds.

    File sizes are checked at once; with `verify`, contents too: those of small files at once, of large ones the first
    time they are used (`FeatureIndex.verify` reads everything). FileError names a file that is missing, truncated or
    altered.

    >>> built = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
    >>> sk.load_index(tmp_path / "index").n_tokens == built.n_tokens
    True
    """
    return FeatureIndex(Store(path, verify=verify))


class FeatureIndex(NamedIndex):
    """What every feature of an SAE does on a corpus. Made by `build_index` and `load_index`.

    Positions are flat: window * length + pos. Only the tokens that the token filter keeps have activations: `kept`.
    """

    def __init__(self, store: Store, *, model: LanguageModel | None = None, sae: SAE | None = None) -> None:
        self._store = store
        self.model, self.sae = model, sae
        m = store.manifest
        self.manifest: dict[str, Any] = m
        self.path = store.folder
        self.sae_fingerprint, self.model_fingerprint = str(m["sae"]["fingerprint"]), str(m["model"]["fingerprint"])
        self.model_name, self.corpus_name = str(m["model"]["name"]), str(m["corpus"])
        hook = m["hook_name"]
        self.hook_name: HookPoint = hook if isinstance(hook, str) else tuple(hook)
        counts = m["counts"]
        self.n_tokens, self.n_documents = int(counts["n_tokens"]), int(counts["n_documents"])
        self.d_sae, self.length, self.n_windows = int(counts["d_sae"]), int(counts["length"]), int(counts["n_windows"])
        self.n_silent, self.n_firings = int(counts["n_silent"]), int(counts["n_firings"])

    def __repr__(self) -> str:
        dead = self.manifest["counts"].get("n_dead_in_training")
        in_training = "" if dead is None else f", {dead:,} dead in training"
        return (
            f"FeatureIndex of {self.d_sae:,} features ({self.n_silent:,} silent here{in_training}) at "
            f"{hook_text(self.hook_name)} of {self.model_name}\n"
            f"  corpus {self.corpus_name!r}: {self.n_tokens:,} tokens of {self.n_documents:,} documents "
            f"in {self.n_windows:,} windows of {self.length}\n"
            f"  {self.n_firings / max(self.n_tokens, 1):.1f} features active per token\n"
            f"{self._left_out()}"
            f"  SAE {self.sae_fingerprint}; in {self.path}"
        )

    _repr_html_ = index_html

    def __len__(self) -> int:
        return self.d_sae

    @cached_property
    def excluded(self) -> ExcludedTokens:
        """What the token filter left out of the text; of an older index without the norms.

        >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
        >>> index.excluded.n_tokens - index.excluded.n_excluded == index.n_tokens
        True
        """
        if "excluded" in self.manifest:
            return ExcludedTokens.from_dict(self.manifest["excluded"])
        names = hook_names(self.hook_name)
        counter = ExclusionCounter(TokenFilter.from_dict(self.manifest["token_filter"]), names, [0] * len(names))
        counter.count_windows(self.windows, self.kept)
        return counter.result(self._vocabulary)

    def _left_out(self) -> str:
        """A line for the repr; an older index would have to read its files for it."""
        return f"  {self.excluded}\n" if "excluded" in self.manifest else ""

    # ---- tables -------------------------------------------------------------------------------------------------

    @cached_property
    def _statistics(self) -> pd.DataFrame:
        """What `features` holds of an index, whose names and labels are added there."""
        frame = in_doubles(self._table[list(self.statistics)])
        for name in ("promoted", "suppressed"):
            frame[name] = [[self._vocabulary[i] for i in ids] for ids in self._table[name]]
        frame["nearest"] = [int(ids[0]) if len(ids) else -1 for ids in self._table["neighbours"]]
        frame["nearest_cosine"] = [float(c[0]) if len(c) else 0.0 for c in self._table["cosines"]]
        return frame

    @cached_property
    def windows(self) -> Windows:
        """The corpus as the model read it; memory-mapped."""
        for name in ("windows.safetensors", "documents.parquet"):
            self._store.ready(name)
        return Windows.load(self.path)

    @property
    def documents(self) -> pd.DataFrame:
        """The labels of every document, one row each, indexed by document number."""
        return self.windows.labels

    # ---- activations --------------------------------------------------------------------------------------------

    @property
    def kept(self) -> Int[np.ndarray, " n_tokens"]:
        """The flat position of each token that was evaluated, ascending."""
        return self._store.tensors("by_token.safetensors")["position"]

    @cached_property
    def by_token(self) -> Sparse:
        """The activations by token, one row for each of `kept`; memory-mapped."""
        t = self._store.tensors("by_token.safetensors")
        return Sparse(t["start"], t["column"], t["value"])

    @cached_property
    def by_feature(self) -> Sparse:
        """The activations by feature; their column is the token's number in `kept`. Memory-mapped."""
        t = self._store.tensors("by_feature.safetensors")
        return Sparse(t["start"], t["column"], t["value"])

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """The activations as a scipy matrix [n_tokens, d_sae], for scans over everything."""
        rows = self.by_token
        return sparse.csr_matrix((rows.value, rows.column, rows.start), shape=(self.n_tokens, self.d_sae))

    def firings(self, feature: int) -> Firings:
        """Every token on which the feature fires: (position, value), ascending by position. A lookup.

        >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
        >>> position, value = index.firings(3)
        >>> len(position) - index.feature(3).stats["n_firings"]
        0
        """
        i, columns = check_feature(feature, self.d_sae), self.by_feature
        here = slice(int(columns.start[i]), int(columns.start[i + 1]))
        return Firings(self.kept[columns.column[here]], columns.value[here])

    def at(self, position: int) -> Active:
        """The features that fire on the token at a flat position: (feature, value). A lookup.

        Empty for a token that the token filter leaves out. UnknownNameError for a position outside the windows.
        """
        n = self.n_windows * self.length
        if not 0 <= int(position) < n:
            raise UnknownNameError(f"no token at position {position}", got=position, accepted=f"0 to {n - 1}")
        row, rows = int(np.searchsorted(self.kept, position)), self.by_token
        found = row < self.n_tokens and self.kept[row] == position
        here = slice(int(rows.start[row]), int(rows.start[row + 1])) if found else slice(0)
        return Active(rows.column[here], rows.value[here])

    # ---- text ---------------------------------------------------------------------------------------------------

    def token_strings(self, positions: Sequence[int] | Int[np.ndarray, " n"]) -> list[str]:
        """One string for each of the tokens at flat positions; those of a stretch of text are together that text.

        A character spelt in several tokens belongs to the first of them, and the others are empty.
        """
        return self._text.strings(np.asarray(positions, dtype=np.int64), self._token_ids(positions))

    def token_bytes(self, positions: Sequence[int] | Int[np.ndarray, " n"]) -> dict[int, str]:
        """By number, the bytes as <0xE2> of those of the tokens at flat positions that hold part of a character."""
        ids, vocabulary = self._token_ids(positions), self._text.vocabulary
        return {n: vocabulary.shown[i] for n, i in enumerate(ids) if vocabulary.partial[i]}

    def texts(self) -> Iterator[TextRun]:
        """The text of every stretch of a document within a window, in order."""
        return self._text.runs()

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of the statistics of each feature, which are columns of `features`."""
        return self._store.statistics

    @property
    def vocabulary(self) -> list[str]:
        """Each token of the model's vocabulary on its own, leading space kept."""
        return self._vocabulary

    # ---- one feature --------------------------------------------------------------------------------------------

    @checks_arguments
    def feature(self, feature: int, *, before: int = SHOWN_BEFORE, after: int = SHOWN_AFTER) -> FeatureRecord:
        """All that is known of a feature. Contexts show `before` and `after` tokens around the firing one.

        >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
        >>> len(index.feature(3).bins)
        10
        """
        i = check_feature(feature, self.d_sae)
        row: dict[str, Any] = {str(k): v for k, v in self._table.iloc[i].items()}
        contexts = self._contexts[int(self._context_start[i]) : int(self._context_start[i + 1])]
        return make_record(self, i, row, contexts, before, after)

    @checks_arguments
    def context(self, feature: int, position: int, *, before: int = SHOWN_BEFORE, after: int = SHOWN_AFTER) -> Context:
        """The token at a flat position with those around it, and a feature's activation on each; 0 where it is silent.

        >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
        >>> top = index.feature(3).top[0]
        >>> index.context(3, top.window * index.length + top.pos) == top
        True
        """
        self._token_ids([position])
        if position % self.length >= int(self.windows.lengths[position // self.length]):
            raise UnknownNameError(
                f"no token at position {position}: it is padding", got=position, accepted="a real token"
            )
        return make_context(self, int(position), self.firings(feature), before, after)

    @checks_arguments
    def matched_features(self, feature: int, n: int = 10, seed: int = 0) -> list[int]:
        """n firing features of nearly the same density and maximum, for controls; drawn from the nearest dozens.

        Distance is Euclidean in log density and log maximum, each divided by its standard deviation over live ones.
        DataError for a silent feature, ConfigError when there are fewer than n others.
        """
        return matched_features(self._table, check_feature(feature, self.d_sae), n, seed)

    @checks_arguments
    def search(
        self,
        *,
        prompt: str | None = None,
        contrast: tuple[Sequence[str], Sequence[str]] | None = None,
        text: str | None = None,
        token: str | None = None,
        name: str | None = None,
        model: LanguageModel | None = None,
        sae: SAE | None = None,
        n: int = 20,
    ) -> pd.DataFrame:
        """The n features that answer one question best, one row each, best first. Ask exactly one of

        - prompt: which features fire on this text, by their largest activation;
        - contrast=(positives, negatives): which fire on these texts and not on those, by the mean difference of their
          largest activations;
        - text: which fire where this text stands in the corpus and little elsewhere, ignoring case;
        - token: which promote this token most; without a model, which have it among the ten they promote most;
        - name: which are called so, by a label or by the name made of what they fire on.

        Each row has the feature's name. The first two run the model and the SAE: those the index was built with, or
        those passed here, which must be the same ones (MismatchError). ConfigError for no question or several.

        >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
        >>> index.search(text="golden gate", n=3).columns[0]
        'feature'
        """
        question = search.Question(prompt=prompt, contrast=contrast, text=text, token=token, name=name)
        return search.answer(self, question, n, model, sae)

    def plot(self) -> go.Figure:
        """The densities of all features as a plotly histogram."""
        from .plots import density_histogram

        return density_histogram(self)

    def verify(self) -> None:
        """Reads every file and compares it with the manifest; FileError names the first that differs."""
        self._store.check_all()

    def promoted_ids(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each feature: its number, the ids of the tokens it promotes most, and its effects on them."""
        table = self._table
        return zip(table.index.tolist(), table["promoted"], table["promoted_effect"], strict=True)

    def strongest(self) -> pd.DataFrame:
        """The strongest context of every live feature, one row each, indexed by feature: window, pos, activation."""
        first = self._contexts[self._contexts["bin"] == -1].drop_duplicates("feature")
        return in_doubles(first.set_index("feature")[["window", "pos", "activation"]])

    # ---- inside -------------------------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self._store.frame("features.parquet")

    @cached_property
    def _contexts(self) -> pd.DataFrame:
        return self._store.frame("contexts.parquet")

    @cached_property
    def _context_start(self) -> np.ndarray:
        return np.searchsorted(self._contexts["feature"].to_numpy(), np.arange(self.d_sae + 1))

    @cached_property
    def _vocabulary(self) -> list[str]:
        return list(self._store.frame("vocabulary.parquet")["token"])

    @cached_property
    def _text(self) -> IndexText:
        frame, model = self._store.frame("vocabulary.parquet"), self.manifest["model"]
        pieces = list(frame["bytes"]) if "bytes" in frame else token_bytes(self._vocabulary)  # older ones lack them
        spaces = [bool(model.get(name, False)) for name in ("begins_without_space", "ends_without_space")]
        vocabulary = Vocabulary(pieces, *spaces)
        return IndexText(self.windows, vocabulary, frozenset(model.get("special_ids", ())))

    def _token_ids(self, positions: Sequence[int] | np.ndarray) -> list[int]:
        at = np.asarray(positions, dtype=np.int64)
        n = self.n_windows * self.length
        if at.size and not 0 <= at.min() <= at.max() < n:
            raise UnknownNameError(
                "no token at some positions", got=f"{at.min()} to {at.max()}", accepted=f"0 to {n - 1}"
            )
        ids: list[int] = self.windows.tokens.reshape(-1).numpy()[at].tolist()
        return ids
