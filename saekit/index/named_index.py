"""What an index calls its features: labels, which people and judges give, and names, made of what fires.

Names are those that the index stores, or made when they are first asked for. Labels are read with each question, so
that one given in another process holds here too.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..corpus.document_halves import content_hashes, lower_half
from ..errors import SaekitError, check_feature
from . import labels as label_acts
from .labels import FeatureLabels, make_label
from .name_rules import NamedText
from .name_spelling import shortened
from .names import name_features
from .words import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..corpus import Windows
    from .sparse import Sparse
    from .text import TextRun


class NamedIndex:
    """Names and labels of the features of an index."""

    path: Path
    d_sae: int
    sae_fingerprint: str
    n_windows: int
    length: int

    if TYPE_CHECKING:

        @property
        def windows(self) -> Windows: ...
        @property
        def by_feature(self) -> Sparse: ...
        @property
        def kept(self) -> np.ndarray: ...
        @property
        def documents(self) -> pd.DataFrame: ...
        def texts(self) -> Iterator[TextRun]: ...

    def name(self, feature: int) -> str:
        """A short text by which a person knows a feature: its label, or else a name made of what it fires on.

        At most 40 characters. UnknownNameError for a feature that there is not.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.label(3, "gates")
        >>> index.name(3)
        'gates'
        """
        return str(self._current_names[0][check_feature(feature, self.d_sae)])

    @property
    def names(self) -> pd.DataFrame:
        """What every feature is called, a row each, indexed by feature.

        - name: its label, or words that carry its activation, in any case: "bridge", "golden gate", "…ing"; or
          "after: said" or "before: ..." for words near its firings; or "mixed: a, b" where no few words carry half;
          or "silent";
        - kind: "label", "token", "context", "mixed" or "silent";
        - fraction: the part of its activation that the name's words carry, on documents that the name was not made
          from; nan for labels, silent features and those that fire in too few documents;
        - n_documents: how many documents that fraction is of; 0 where the name was made of all documents.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.names.columns.tolist()
        ['name', 'kind', 'fraction', 'n_documents']
        """
        names, kinds = self._current_names
        made = self.automatic_names
        hidden = kinds == "label"
        return pd.DataFrame(
            {
                "name": names,
                "kind": kinds,
                "fraction": made["fraction"].where(~hidden),
                "n_documents": made["n_documents"].where(~hidden, 0),
            },
            index=made.index,
        )

    @cached_property
    def automatic_names(self) -> pd.DataFrame:
        """The names made of what fires, without labels: see `names.name_features` for the columns."""
        return name_features(self.by_feature, self.named_text)

    @cached_property
    def named_text(self) -> NamedText:
        """The tokens that are evaluated, with the words around them."""
        words = words_of(self.texts(), self.n_windows * self.length)
        document = np.asarray(self.windows.documents).reshape(-1)[self.kept]
        rows = self.documents.index.get_indexer(pd.Index(document))
        return NamedText(words, self.kept, rows, lower_half(content_hashes(self.windows)))

    @property
    def labels(self) -> pd.DataFrame:
        """The labels that hold now, one row each: feature, label, note, stars, author, time, source.

        source is "hand" for those of `label`, "card" for those that a packaged SAE brings, else where they were
        imported from. FileError where the file is damaged.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.label(3, "gates", stars=4)
        >>> index.labels[["feature", "label", "stars", "source"]].values.tolist()
        [[3, 'gates', 4, 'hand']]
        """
        return self._labels.frame()

    @checks_arguments
    def label(
        self, feature: int, label: str, note: str = "", *, stars: int | None = None, author: str | None = None
    ) -> None:
        """Labels a feature. It is called so everywhere, here and wherever the index is opened; "" takes a label away.

        `stars` is from 1 to 5. Without `author`, the user's name is kept. Two processes can label at the same time.
        FileError where the folder cannot be written to.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.label(3, "gates", note="also doors")
        >>> sk.load_index(tmp_path / "index").name(3)
        'gates'
        """
        self._labels.put([make_label(feature, label, self.d_sae, note=note, stars=stars, author=author)])

    def undo_label(self) -> pd.DataFrame:
        """Takes the last act of labelling back, and returns what it had put; call it again for the one before.

        An import is one act. ConfigError when there is none left; labels of cards stay.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.label(3, "gates")
        >>> index.undo_label()["label"].tolist(), len(index.labels)
        (['gates'], 0)
        """
        return pd.DataFrame(self._labels.undo(), columns=list(label_acts.COLUMNS))

    # ---- inside -------------------------------------------------------------------------------------------------

    @cached_property
    def _labels(self) -> FeatureLabels:
        return FeatureLabels(self.path, self.sae_fingerprint, self.d_sae)

    @property
    def _current_names(self) -> tuple[np.ndarray, np.ndarray]:
        """Name and kind of every feature; labels go before names. A damaged file of labels does not stop it."""
        version = self._labels.version
        known: dict[str, Any] = self.__dict__
        if known.get("_names_version", self) != version:
            names = self.automatic_names["name"].to_numpy(object, copy=True)
            kinds = self.automatic_names["kind"].to_numpy(object, copy=True)
            try:
                labels = self._labels.labels
            except SaekitError as e:
                warnings.warn(f"features are named without their labels: {e.what}", stacklevel=4)
                labels = []
            for label in labels:
                names[label["feature"]], kinds[label["feature"]] = shortened(label["label"]), "label"
            known["_names"], known["_names_version"] = (names, kinds), version
        return known["_names"]  # type: ignore[no-any-return]
