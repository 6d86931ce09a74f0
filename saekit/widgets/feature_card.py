"""FeatureCard: everything the index holds about one feature, with its neighbours one click away.

The widget is given a function from a feature number to a FeatureRecord; `card_data` turns a record into the plain dict
the front end draws. Only `card` uses an index.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import traitlets as t

from ..arguments import checks_arguments
from ..errors import MismatchError, SaekitError, check_count, check_feature
from .base import Widget, shown, validates

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..index.records import Context, FeatureRecord

Load = Callable[[int], "FeatureRecord"]
Names = Callable[[list[int]], dict[str, str]]
Namings = Callable[[int], dict[str, Any]]
N_EFFECTS = 10


class FeatureCard(Widget):
    """The card of `feature`. Set `feature`, in Python or by clicking a neighbour, and the card changes.

    Made by `card`; `load` gives the record of a feature number, `names` short names, `naming` where a name comes from.
    """

    bundle = "feature_card"

    feature = t.Int(0, help="The feature shown.").tag(sync=True, browser=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    card = t.Dict(help="The card of `feature` as plain values; see card_data.").tag(sync=True)
    cards = t.Dict(help="Cards carried along for pages without a kernel, by feature number as text.").tag(sync=True)
    error = t.Unicode("", help="What went wrong while loading, in words.").tag(sync=True)
    live = t.Bool(True, help="Whether Python is there to answer; False on an offline page.").tag(sync=True)

    def __init__(
        self, load: Load | None = None, *, names: Names | None = None, naming: Namings | None = None, **kwargs: Any
    ) -> None:
        self._load, self._names, self._naming = load, names, naming
        self.record: FeatureRecord | None = None
        super().__init__(**kwargs)
        self.observe(lambda change: self._show(change["new"]), names="feature")
        self._show(self.feature)

    @validates("feature")
    def _feature_exists(self, value: Any) -> int:
        return check_feature(value, self.n_features)

    @validates("n_features")
    def _some_features(self, value: Any) -> int:
        return check_count("n_features", value, least=1)

    def embed(self, features: Iterable[int]) -> FeatureCard:
        """The widget itself, now carrying the cards of `features` for pages without a kernel."""
        self.cards = {**self.cards, **embedded(self._load, self._names, self._naming, features, self.n_features)}
        return self

    def page_state(self) -> dict[str, Any]:
        return {**super().page_state(), "live": False}

    def text(self) -> str:
        """The card as text."""
        if self.error:
            return f"FeatureCard: {self.error}"
        return f"FeatureCard: feature {self.feature}" if self.record is None else str(self.record)

    def static_picture(self) -> str:
        from .pictures import card_picture

        return card_picture(self.card) if self.card else super().static_picture()

    def _show(self, feature: int) -> None:
        if self._load is None:
            return
        self.record, self.card, self.error = load_card(self._load, self._names, self._naming, feature)


def load_card(
    load: Load, names: Names | None, naming: Namings | None, feature: int
) -> tuple[FeatureRecord | None, dict[str, Any], str]:
    """The record, its plain form and "", or None, {} and what went wrong in words."""
    try:
        record = load(feature)
        return record, card_data(record, names, naming), ""
    except SaekitError as e:
        return None, {}, str(e)


def embedded(
    load: Load | None, names: Names | None, naming: Namings | None, features: Iterable[int], n_features: int
) -> dict[str, Any]:
    """Plain cards by feature number as text. Raises what `load` raises, UnknownNameError for numbers out of range."""
    if load is None:
        raise MismatchError("this widget was made without an index", fix="make it with sk.explore or sk.card")
    return {str(i): card_data(load(check_feature(i, n_features)), names, naming) for i in features}


def card_data(record: FeatureRecord, names: Names | None = None, naming: Namings | None = None) -> dict[str, Any]:
    """A FeatureRecord as plain JSON values, not-a-numbers as None."""
    stats = ("density", "n_firings", "n_documents", "max", "mean", "std")
    neighbours = [(int(i), _number(cosine)) for i, cosine in record.neighbours]
    return {
        "feature": int(record.feature),
        "stats": {name: _number(record.stats[name]) for name in stats} | {"silent": bool(record.stats["silent"])},
        "histogram": {
            "edges": [_number(edge) for edge in record.histogram.edges],
            "counts": [int(n) for n in record.histogram.counts],
        },
        "top": [context_data(context) for context in record.top],
        "intervals": [
            {
                "low": _number(b.low),
                "high": _number(b.high),
                "count": int(b.count),
                "share": _number(b.fraction),
                "contexts": [context_data(context) for context in b.contexts],
            }
            for b in record.bins
        ],
        "promoted": [[token, _number(effect)] for token, effect in record.promoted[:N_EFFECTS]],
        "suppressed": [[token, _number(effect)] for token, effect in record.suppressed[:N_EFFECTS]],
        "neighbours": [list(pair) for pair in neighbours],
        "names": names([int(record.feature), *(i for i, _ in neighbours)]) if names is not None else {},
        **({"naming": naming(int(record.feature))} if naming is not None else {}),
    }


def naming(index: FeatureIndex, feature: int) -> dict[str, Any]:
    """Where the name of a feature comes from, as plain JSON values: its label, or what the automatic name carries."""
    name: dict[str, Any] = dict(index.names.loc[feature].items())  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    with contextlib.suppress(SaekitError):  # a damaged file of labels hides the labels alone
        labels = index.labels
        for _, row in labels[labels["feature"] == feature].iterrows():
            given = {str(column): value for column, value in row.items()}
    stars = given.get("stars")
    return {
        "kind": str(name["kind"]),
        "fraction": _number(name["fraction"]),
        "n_documents": int(name["n_documents"]),
        "label": str(given.get("label", "")),
        "note": str(given.get("note", "")),
        "stars": None if stars is None or pd.isna(stars) else int(stars),
        "author": str(given.get("author") or ""),
        "source": str(given.get("source", "")),
    }


def context_data(context: Context) -> dict[str, Any]:
    """A Context as plain JSON values."""
    return {
        "tokens": list(context.tokens),
        "bytes": {str(i): part for i, part in context.bytes.items()},
        "acts": [_number(act) for act in context.acts],
        "centre": int(context.centre),
        "activation": _number(context.activation),
        "document": int(context.document),
        "labels": _labels(context.labels),
    }


def _labels(labels: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): shown(str(value)) for name, value in labels.items() if value is not None}


def _number(value: Any) -> float | None:
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


@checks_arguments
def card(index: FeatureIndex, feature: int) -> FeatureCard:
    """A FeatureCard for one feature of `index`. UnknownNameError for a feature the index does not have."""
    from .token_highlight import names_of

    check_feature(feature, index.d_sae)
    return FeatureCard(
        index.feature,
        names=lambda features: names_of(index, features),
        naming=lambda i: naming(index, i),
        feature=feature,
        n_features=index.d_sae,
    )
