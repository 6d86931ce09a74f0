"""The state that a steering panel shares with its front end, and what each part of it may be."""

from __future__ import annotations

from typing import Any, get_args

import traitlets as t

from ..errors import ConfigError, check_count, check_feature, check_number, check_seed
from ..steering.edits import Positions
from ..steering.strength_units import STRENGTH_UNITS
from .base import Widget, check_choice, validates
from .steering_request import Condition

COLOURS = ("none", "unlikely", "feature")
MAX_CONDITIONS = 64
"""Texts beside each other at most: all are written as one batch."""


class SteeringTraits(Widget):
    """The live traits of a SteeringPanel."""

    prompt = t.Unicode("", help="The first message, or the text to continue.").tag(sync=True, browser=True)
    chat = t.Bool(False, help="Put messages into the model's chat template.").tag(sync=True, browser=True)
    has_chat = t.Bool(True, help="Whether the model has a chat template.").tag(sync=True)
    conditions = t.List(t.Dict(), help="Written side by side: name, features, instruction, edits.").tag(
        sync=True, browser=True
    )
    about = t.Dict(help="By feature: name, max, recommended (of the norm), residual (the norm, raw).").tag(sync=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    unit = t.Unicode("norm", help="Of strengths: raw, max (the feature's) or norm (of the residual).").tag(
        sync=True, browser=True
    )
    units = t.List(t.Unicode(), list(STRENGTH_UNITS), help="Units on offer; max needs an index.").tag(sync=True)
    residual_norm = t.Float(0.0, help="The usual norm of what the SAE reads; 0 when unknown.").tag(sync=True)
    sweep_strengths = t.List(t.Float(), [0.2, 0.3, 0.4, 0.5, 0.6], help="What `sweep` runs over.").tag(
        sync=True, browser=True
    )
    positions = t.Unicode("all", help="Tokens that are changed: all, prompt or generated.").tag(sync=True, browser=True)
    max_new_tokens = t.Int(48, help="Tokens to write at most, for each text.").tag(sync=True, browser=True)
    temperature = t.Float(0.0, help="Sampling temperature; 0 takes the likeliest token.").tag(sync=True, browser=True)
    seed = t.Int(0, help="Seed for sampling.").tag(sync=True, browser=True)
    concept = t.Unicode("", help="The concept that texts are checked for.").tag(sync=True)
    running = t.Bool(False, help="Whether texts are being written.").tag(sync=True)
    done = t.Int(0, help="Tokens written in this run.").tag(sync=True)
    total = t.Int(0, help="Tokens this run writes at most.").tag(sync=True)
    status = t.Unicode("", help="The state of the run in words.").tag(sync=True)
    error = t.Unicode("", help="What went wrong, in words.").tag(sync=True)
    ran = t.List(t.Dict(), help="The conditions of the conversation that is shown.").tag(sync=True)
    ran_unit = t.Unicode("norm", help="The unit of their strengths.").tag(sync=True)
    exchanges = t.List(t.Dict(), help="The conversation: each message and every condition's reply.").tag(sync=True)
    details = t.List(t.List(), help="For each reply: feature activations and next-token probabilities.").tag(sync=True)
    runs = t.List(t.Dict(), help="Conversations so far, oldest first; `exchanges` is the last one's.").tag(sync=True)
    colour_by = t.Unicode("unlikely", help="What colours tokens: none, unlikely or feature.").tag(
        sync=True, browser=True
    )
    colour_feature = t.Int(0, help="The feature that colours them.").tag(sync=True, browser=True)
    live = t.Bool(True, help="Whether Python is there to answer; False on an offline page.").tag(sync=True)

    @validates("conditions")
    def _conditions_hold(self, value: Any) -> list[dict[str, Any]]:
        if len(value) > MAX_CONDITIONS:
            raise ConfigError("too many conditions", got=len(value), accepted=f"at most {MAX_CONDITIONS}")
        return [Condition.from_dict(row, self.n_features).to_dict() for row in value]

    @validates("n_features")
    def _some_features(self, value: Any) -> int:
        return check_count("n_features", value, least=1)

    @validates("colour_feature")
    def _feature_exists(self, value: Any) -> int:
        return check_feature(value, self.n_features)

    @validates("unit")
    def _unit_exists(self, value: Any) -> str:
        return check_choice("unit", value, self.units)

    @validates("units")
    def _units_exist(self, value: Any) -> list[str]:
        return [check_choice("unit", unit, STRENGTH_UNITS) for unit in value]

    @validates("positions")
    def _positions_exist(self, value: Any) -> str:
        return check_choice("positions", value, get_args(Positions))

    @validates("colour_by")
    def _colour_exists(self, value: Any) -> str:
        return check_choice("colour", value, COLOURS)

    @validates("max_new_tokens")
    def _some_tokens(self, value: Any) -> int:
        return check_count("max_new_tokens", value)

    @validates("temperature")
    def _not_negative(self, value: Any) -> float:
        return check_number("temperature", value, least=0)

    @validates("residual_norm")
    def _norm_not_negative(self, value: Any) -> float:
        return check_number("residual_norm", value, least=0)

    @validates("seed")
    def _seed_fits(self, value: Any) -> int:
        return check_seed(value)

    @validates("sweep_strengths")
    def _strengths_are_finite(self, value: Any) -> list[float]:
        if len(value) >= MAX_CONDITIONS:
            raise ConfigError("too many strengths", got=len(value), accepted=f"at most {MAX_CONDITIONS - 1}")
        return [check_number("a strength", strength) for strength in value]
