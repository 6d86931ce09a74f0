"""What an index calls its features: labels, which people and judges give, and names, made of what fires.

Names are those that the index stores, or made when they are first asked for. Labels are read with each question, so
that one given in another process holds here too.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..arguments import checks_arguments
from ..errors import SaekitError, check_feature
from . import label_files, store
from . import labels as label_acts
from .labels import FeatureLabels, make_label
from .name_rules import NamedText, named_text
from .name_spelling import shortened
from .names import RULE, name_features, stored_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..corpus import Windows
    from .sparse import Sparse
    from .store import Store
    from .text import TextRun


class NamedIndex:
    """Names and labels of the features of an index."""

    path: Path
    d_sae: int
    sae_fingerprint: str
    _store: Store

    if TYPE_CHECKING:

        @property
        def windows(self) -> Windows: ...
        @property
        def by_feature(self) -> Sparse: ...
        @property
        def kept(self) -> np.ndarray: ...
        @property
        def _statistics(self) -> pd.DataFrame: ...
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
          "numbers: 1, 2", "capitalised: Paris, Ada" for words of a kind; "after: said" or "before: ..." for words near
          its firings; "mixed: a, b" where no few words carry half; or "silent";
        - kind: "label", "token", "context", "mixed" or "silent";
        - fraction: the part of its activation that the name's words carry, on documents that the name was not made
          from; nan for labels, silent features and those that fire in too few documents;
        - coverage: the part of the places that its words stand at, in these documents, on which it fires;
        - n_documents: how many documents these are; 0 where the name was made of all documents.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.names.columns.tolist()
        ['name', 'kind', 'fraction', 'coverage', 'n_documents']
        """
        names, kinds = self._current_names
        made = self.automatic_names
        hidden = kinds == "label"
        return pd.DataFrame(
            {
                "name": names,
                "kind": kinds,
                "fraction": made["fraction"].where(~hidden),
                "coverage": made["coverage"].where(~hidden),
                "n_documents": made["n_documents"].where(~hidden, 0),
            },
            index=made.index,
        )

    @property
    def features(self) -> pd.DataFrame:
        """One row per feature: name (see `names`), density, n_firings, n_documents, max, mean (when active), std,
        silent and what else was registered (`register_statistic`), promoted, suppressed (lists of token strings),
        nearest, nearest_cosine and label ("" for none). A silent feature's max, mean and std are 0.
        """
        frame, (names, kinds) = self._statistics, self._current_names
        known: dict[str, Any] = self.__dict__
        if known.get("_named") is not names:
            frame = frame.copy(deep=False)
            frame.insert(0, "name", pd.Series(names, frame.index, dtype=object))
            frame["label"] = np.where(kinds == "label", names, "")
            known["_features"], known["_named"] = frame, names
        return known["_features"]  # type: ignore[no-any-return]

    @cached_property
    def automatic_names(self) -> pd.DataFrame:
        """The names made of what fires, without labels: see `names.name_features` for the columns.

        Read where the index has them by the rule of today, else made.
        """
        if store.NAMES in self._store.files and self._store.manifest.get("names_rule") == RULE:
            return stored_names(self._store)
        return name_features(self.by_feature, self.named_text)

    @cached_property
    def named_text(self) -> NamedText:
        """The tokens that are evaluated, with the words around them."""
        return named_text(self.windows, self.texts(), self.kept)

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

    @checks_arguments
    def export_labels(self, path: str | Path) -> Path:
        """Writes the labels to a file and returns its path: .csv, .jsonl, .json or .parquet, by its name.

        Those of a card are left out: they come with the SAE.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> index.label(3, "gates")
        >>> index.export_labels(tmp_path / "labels.csv").name
        'labels.csv'
        """
        path, labels = Path(path).expanduser(), self.labels
        label_files.write_labels(path, labels[labels["source"] != label_acts.CARD], self.sae_fingerprint)
        return path

    @checks_arguments
    def import_labels(self, path: str | Path, *, sae_id: str | None = None, replace: bool = False) -> int:
        """Labels features as a file says, in one act, and returns how many: one of `export_labels`, or Neuronpedia's.

        Neuronpedia's explanations are .json or .jsonl, also .gz or a folder of such files, with `index` (or `feature`)
        and `description`; of several for a feature the last counts. Features with a label by hand keep it unless
        `replace`. What a file says that it is of has to be this SAE: its fingerprint, or `sae_id`, which for
        Neuronpedia is "modelId/layer", such as "gpt2-small/6-res-jb".

        FileError for a file that holds something else, MismatchError for labels of another SAE.

        >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
        >>> _ = (tmp_path / "a.jsonl").write_text('{"modelId": "tiny", "layer": "0-res", "index": "3", '
        ...     '"description": "gates", "explanationModelName": "judge"}')
        >>> index.import_labels(tmp_path / "a.jsonl", sae_id="tiny/0-res"), index.name(3)
        (1, 'gates')
        """
        path = Path(path).expanduser()
        found = label_files.read_labels(path, self.d_sae)
        label_files.check_saes(found.saes, [self.sae_fingerprint, *([] if sae_id is None else [sae_id])], path)
        labelled = self.labels
        by_hand = set(labelled["feature"][labelled["source"] == label_acts.HAND])
        labels = [label for label in found.labels if replace or label["feature"] not in by_hand]
        if labels:
            self._labels.put(labels)
        return len(labels)

    def name_fraction(self, feature: int) -> float:
        """The fraction that `names` states of a feature, nan for none."""
        labelled = self._current_names[1][feature] == "label"
        return math.nan if labelled else float(self.automatic_names["fraction"].to_numpy()[feature])

    @property
    def labels_by_feature(self) -> dict[int, str]:
        """The whole label of each feature that has one; none where their file is damaged."""
        _ = self._current_names
        return dict(self.__dict__["_label_texts"])

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
            known["_label_texts"] = {label["feature"]: label["label"] for label in labels}
            known["_names"], known["_names_version"] = (names, kinds), version
        return known["_names"]  # type: ignore[no-any-return]
