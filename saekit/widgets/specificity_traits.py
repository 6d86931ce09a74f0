"""The state that a specificity panel shares with its front end, and what each part of it may be."""

from __future__ import annotations

from typing import Any

import traitlets as t

from ..errors import ConfigError, check_count, check_feature, check_number
from ..specificity.concept_grammar import MAX_WRITTEN
from ..specificity.concepts import Concept
from .base import Widget, check_choice, validates
from .specificity_request import MEASURES, UNITS, check_mark

MAX_ROWS = 1000
MAX_MARKS = 10_000


class SpecificityTraits(Widget):
    """The live traits of a SpecificityPanel."""

    concept = t.Instance(Concept, allow_none=True, help="The concept, marks included; None while nothing is written.")
    query = t.Unicode("", help="The concept as it is written; see Concept.parse.").tag(sync=True, browser=True)
    query_error = t.Unicode("", help="Why `query` cannot be read; empty when it can.").tag(sync=True)
    unit = t.Unicode("token", help="What is scored: token, or document by its strongest token.").tag(
        sync=True, browser=True
    )
    by = t.Unicode(
        "average_precision", help="What features are ranked by: average_precision, auroc, f1, precision."
    ).tag(sync=True, browser=True)
    n = t.Int(20, help="Features in the ranking.").tag(sync=True)
    feature = t.Int(-1, help="The feature whose scores are shown; -1 before there is one.").tag(sync=True, browser=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    threshold = t.Float(0.0, help="The activation at and above which the feature says yes.").tag(
        sync=True, browser=True
    )
    marks = t.List(
        t.Dict(), help="What is marked by hand, in order: at (a flat position or document), unit, counts."
    ).tag(sync=True)
    n_undo = t.Int(0, help="Marks that `undo` can take back.").tag(sync=True)
    labels = t.Dict(help="Labels of documents to pick from: for each its values, as shown and as written.").tag(
        sync=True
    )
    corpus = t.Dict(help="What is searched: name, n_tokens, n_documents.").tag(sync=True)
    preview = t.Dict(help="What the concept holds for: n_tokens, n_documents, snippets, and why nothing.").tag(
        sync=True
    )
    rows = t.List(t.Dict(), help="The ranking, a row a feature; `ranked` is the DataFrame.").tag(sync=True)
    ranking = t.Dict(help="What the ranking is of: by, unit, level, documents, few, test in words.").tag(sync=True)
    names = t.Dict(help="Short names of features, by number as text.").tag(sync=True)
    scores = t.Dict(help="The feature's activations where it fires, as bytes, and the band of matched features.").tag(
        sync=True
    )
    contexts = t.List(t.Dict(), help="Contexts of the feature to read and to mark.").tag(sync=True)
    measures = t.Dict(help="`result` in figures: rows, protocol, test, notes.").tag(sync=True)
    status = t.Unicode("", help="What is being done, in words.").tag(sync=True)
    progress = t.Float(-1.0, help="The fraction of it that is done; -1 where that is not known.").tag(sync=True)
    running = t.Bool(False, help="Whether something is being computed.").tag(sync=True)
    error = t.Unicode("", help="What went wrong, in words.").tag(sync=True)
    live = t.Bool(True, help="Whether Python is there to answer; False on an offline page.").tag(sync=True)

    @validates("query")
    def _query_is_short(self, value: Any) -> str:
        if len(value) > MAX_WRITTEN:
            raise ConfigError(
                "the concept is too long", got=f"{len(value):,} letters", accepted=f"at most {MAX_WRITTEN:,}"
            )
        return str(value)

    @validates("unit")
    def _unit_exists(self, value: Any) -> str:
        return check_choice("unit", value, UNITS)

    @validates("by")
    def _measure_exists(self, value: Any) -> str:
        return check_choice("measure", value, MEASURES)

    @validates("n")
    def _some_rows(self, value: Any) -> int:
        return check_count("n", value, most=MAX_ROWS)

    @validates("n_features")
    def _some_features(self, value: Any) -> int:
        return check_count("n_features", value)

    @validates("feature")
    def _feature_exists(self, value: Any) -> int:
        return -1 if value == -1 else check_feature(value, self.n_features)

    @validates("threshold")
    def _threshold_is_an_activation(self, value: Any) -> float:
        return check_number("threshold", value, least=0)

    @validates("marks")
    def _marks_hold(self, value: Any) -> list[dict[str, Any]]:
        if len(value) > MAX_MARKS:
            raise ConfigError("too many marks", got=len(value), accepted=f"at most {MAX_MARKS:,}")
        rows = [check_mark(row) for row in value]
        self._check_places(rows)
        return rows

    def _check_places(self, marks: list[dict[str, Any]]) -> None:
        """Raises for marks that are at no place of the index."""
