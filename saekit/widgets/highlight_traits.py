"""The state that a token highlight shares with its front end, and what each part of it may be."""

from __future__ import annotations

from typing import Any

import traitlets as t

from ..errors import ConfigError, DataError, check_count, check_feature, check_number
from .base import Widget, check_choice, validates
from .highlight_standouts import MAX_DENSITY

COLOURS = ("standout", "feature", "strongest")
MAX_SHOWN = 12
"""Features that colour a text at once, at most."""
MAX_FILTER = 500
"""Characters of a filter."""


class HighlightTraits(Widget):
    """The live traits of a TokenHighlight."""

    tokens = t.List(
        t.Unicode(),
        help="The text's tokens, BOS included; a character spelt in several tokens belongs to the first of them.",
    ).tag(sync=True)
    bytes = t.Dict(help="Token number (as text) to the bytes that it holds of a character, as <0xE2>.").tag(sync=True)
    excluded = t.List(t.Unicode(), help="Why a token is not counted; empty for those that are.").tag(sync=True)
    acts = t.Dict(help="Sparse activations, bytes: start (int32), feature (int32), value (float32).").tag(sync=True)
    statistics = t.Dict(
        help="Of the features that fire, bytes: feature (int32); max, density and bits, -log2 of a density (float32)."
    ).tag(sync=True)
    maxima_from = t.Unicode("text", help="Whose maxima `statistics` has: each feature's in an index, or text.").tag(
        sync=True
    )
    explanation = t.Unicode("", help="What activations are relative to, and how a long text was read.").tag(sync=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    names = t.Dict(help="Feature number (as text) to a short name.").tag(sync=True)
    colour_by = t.Unicode(
        "standout",
        help="What colours: standout (the features that stand out), feature (`feature` alone) or strongest (the "
        "strongest activation of any). Setting `feature` sets it.",
    ).tag(sync=True, browser=True)
    feature = t.Int(None, allow_none=True, help="The feature that colours alone; None: others do.").tag(
        sync=True, browser=True
    )
    n_features_shown = t.Int(6, help="How many of the features that stand out colour the text, 1 to 12.").tag(
        sync=True, browser=True
    )
    min_density = t.Float(0.0, help="Features that fire more rarely than this are set aside.").tag(
        sync=True, browser=True
    )
    max_density = t.Float(MAX_DENSITY, help="Features denser than this are set aside; 1 keeps all.").tag(
        sync=True, browser=True
    )
    min_relative = t.Float(0.0, help="Activations below this fraction of the maximum are set aside.").tag(
        sync=True, browser=True
    )
    filter = t.Unicode("", help="Words of which each is a feature's number or part of its name.").tag(
        sync=True, browser=True
    )
    selected = t.Int(-1, help="Number of the token picked, -1 for none.").tag(sync=True, browser=True)
    scale = t.Float(
        None,
        allow_none=True,
        help="Activation at full colour where one feature or the strongest colours; None: the text's maximum.",
    ).tag(sync=True)
    reading = t.Bool(False, help="Whether the text is still being read.").tag(sync=True)
    n_read = t.Int(0, help="Tokens read so far.").tag(sync=True)
    status = t.Unicode("", help="How far reading is, in words; empty for a text that was read at once.").tag(sync=True)
    error = t.Unicode("", help="Why reading failed, in words.").tag(sync=True)

    @validates("colour_by")
    def _colour_exists(self, value: Any) -> str:
        return check_choice("colour_by", value, COLOURS)

    @validates("feature")
    def _feature_exists(self, value: Any) -> int | None:
        return None if value is None else check_feature(value, self.n_features)

    @validates("n_features")
    def _some_features(self, value: Any) -> int:
        return check_count("n_features", value, least=1)

    @validates("n_features_shown")
    def _few_features(self, value: Any) -> int:
        return check_count("n_features_shown", value, least=1, most=MAX_SHOWN)

    @validates("n_read")
    def _counted(self, value: Any) -> int:
        return check_count("n_read", value, least=0)

    @validates("min_density")
    def _density_from(self, value: Any) -> float:
        return check_number("min_density", value, least=0, most=1)

    @validates("max_density")
    def _density_to(self, value: Any) -> float:
        return check_number("max_density", value, least=0, most=1)

    @validates("min_relative")
    def _a_fraction(self, value: Any) -> float:
        return check_number("min_relative", value, least=0, most=1)

    @validates("filter")
    def _not_endless(self, value: Any) -> str:
        if len(value) > MAX_FILTER:
            raise ConfigError(
                "the filter is too long", got=f"{len(value)} characters", accepted=f"at most {MAX_FILTER} characters"
            )
        return str(value)

    @validates("scale")
    def _above_zero(self, value: Any) -> float | None:
        return None if value is None else check_number("scale", value, least=0, above=True)

    @validates("selected")
    def _token_exists(self, value: Any) -> int:
        i = int(value)
        if not -1 <= i < max(len(self.tokens), 1):
            last = len(self.tokens) - 1
            raise DataError(f"there is no token {i}", got=i, accepted=f"0 to {last}, or -1 for none")
        return i
