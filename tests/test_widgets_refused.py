"""Refused values never stay, from Python or from the browser, and no message from a browser can raise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import traitlets as t

from saekit.errors import ConfigError, SaekitError
from saekit.widgets import CircuitsWidget, FeatureBrowser, FeatureCard, SteeringPanel, TokenHighlight, TrainingMonitor
from saekit.widgets.base import STATIC, WIDGETS, Widget, validates

CONDITIONS = [{"name": "steered", "features": [{"feature": 2, "strength": 0.4}], "instruction": "", "edits": ""}]
FEATURES = pd.DataFrame(
    {"density": [0.1, 0.2], "max": [1.0, 2.0], "n_firings": [1, 2], "promoted": "a", "example": "b"}
)


def made(cls: type[Widget]) -> Widget:
    settings: dict[type[Widget], dict[str, Any]] = {
        FeatureBrowser: {"features": FEATURES},
        FeatureCard: {"n_features": 16},
        SteeringPanel: {"n_features": 16, "conditions": CONDITIONS, "prompt": "hi"},
        TokenHighlight: {"n_features": 16, "tokens": ["a", "b"], "excluded": ["", ""]},
    }
    return cls(**settings.get(cls, {}))


CLASSES = [cls for cls in WIDGETS.values() if cls.static == STATIC]
TRAITS = [(cls, name) for cls in CLASSES for name in made(cls).own_traits()]
HUGE = 10**12
BAD: list[tuple[type[Widget], str, list[Any]]] = [
    (FeatureBrowser, "feature", [-2, 2, HUGE, True]),
    (FeatureBrowser, "sort", ["densty", ""]),
    (FeatureBrowser, "filter", ["a " * 1_000_000]),
    (FeatureBrowser, "min_density", [math.nan, math.inf]),
    (FeatureBrowser, "max_density", [math.nan, -math.inf]),
    (FeatureBrowser, "page", [-1]),
    (FeatureBrowser, "page_size", [0, -1, HUGE]),
    (FeatureCard, "feature", [-1, 16, HUGE]),
    (FeatureCard, "n_features", [0, -3]),
    (TokenHighlight, "feature", [-1, 16, HUGE]),
    (TokenHighlight, "n_features", [0, -3]),
    (TokenHighlight, "selected", [-2, 2, HUGE]),
    (TokenHighlight, "colour_by", ["standouts", ""]),
    (TokenHighlight, "n_features_shown", [0, 13, HUGE]),
    (TokenHighlight, "min_density", [-0.1, 1.5, math.nan]),
    (TokenHighlight, "max_density", [-0.1, 1.5, math.inf]),
    (TokenHighlight, "min_relative", [-0.1, 1.5, math.nan]),
    (TokenHighlight, "filter", ["a " * 1_000_000]),
    (TokenHighlight, "n_read", [-1]),
    (TokenHighlight, "scale", [0.0, -1.0, math.nan, math.inf]),
    (TrainingMonitor, "status", ["runing"]),
    (TrainingMonitor, "step", [-1]),
    (TrainingMonitor, "n_steps", [-1]),
    (TrainingMonitor, "n_tokens", [-1]),
    (TrainingMonitor, "total_tokens", [-1]),
    (SteeringPanel, "unit", ["nrom"]),
    (SteeringPanel, "units", [["raw", "nrom"]]),
    (SteeringPanel, "positions", ["every"]),
    (SteeringPanel, "colour_by", ["unlikly"]),
    (SteeringPanel, "colour_feature", [-1, 16, HUGE]),
    (SteeringPanel, "n_features", [0]),
    (SteeringPanel, "max_new_tokens", [0, -1]),
    (SteeringPanel, "temperature", [-1.0, math.nan, math.inf]),
    (SteeringPanel, "residual_norm", [-1.0, math.nan]),
    (SteeringPanel, "seed", [-1, 2**63, 10**30]),
    (SteeringPanel, "sweep_strengths", [[math.nan], [math.inf], [0.1] * 1000]),
    (
        SteeringPanel,
        "conditions",
        [
            [{"name": "a", "featuers": []}],
            [{"name": 3}],
            [{"features": "abc"}],
            [{"features": {"feature": 1}}],
            [{"features": [3]}],
            [{"features": [{"feature": 3}]}],
            [{"features": [{"strength": 3}]}],
            [{"features": [{"feature": HUGE, "strength": 1.0}]}],
            [{"features": [{"feature": 2.5, "strength": 1.0}]}],
            [{"features": [{"feature": 2, "strength": math.nan}]}],
            [{"features": [{"feature": 2, "strength": "much"}]}],
            [{"features": [{"feature": 2, "strength": None}]}],
            [{"features": [{"feature": 2, "strength": 1.0}] * 2}],
            [{}] * 1000,
        ],
    ),
]


def test_the_table_has_the_traits_that_a_browser_sets() -> None:
    settable = {(cls, name) for cls, name in TRAITS if made(cls).trait_metadata(name, "browser")}
    typed = {"descending", "hide_silent", "chat", "prompt"}  # any value of their type is accepted
    assert {(cls, name) for cls, name in settable if name not in typed} <= {(cls, name) for cls, name, _ in BAD}
    assert len(settable) == 29 and len(BAD) >= 25
    assert {cls for cls, _ in TRAITS} == set(CLASSES)


@pytest.mark.parametrize(("cls", "name", "values"), BAD, ids=lambda v: getattr(v, "__name__", str(v)[:20]))
def test_a_refused_value_leaves_the_old_one(cls: type[Widget], name: str, values: list[Any]) -> None:
    widget = made(cls)
    before, sent = getattr(widget, name), []
    widget.observe(lambda change: sent.append(change.name), names=[n for n in widget.own_traits() if n != "refused"])
    resent: list[Any] = []
    widget.send_state = lambda key=None: resent.append(key)  # type: ignore[method-assign]
    for value in values:
        with pytest.raises(SaekitError) as one:
            setattr(widget, name, value)
        with pytest.raises(SaekitError) as two, widget.hold_trait_notifications():
            setattr(widget, name, value)
        with pytest.raises(SaekitError) as three:
            widget.set_trait(name, value)
        assert all(isinstance(e.value, t.TraitError) for e in (one, two, three))
        widget.set_state({name: value})
        assert getattr(widget, name) == before and [name] in resent and widget.refused
        assert len(widget.refused) < 1000
        with pytest.raises(SaekitError):
            type(widget)(**{name: value, **({"features": FEATURES} if cls is FeatureBrowser else {})})
    assert sent == []


@pytest.mark.parametrize(("cls", "name"), TRAITS, ids=lambda v: getattr(v, "__name__", v))
def test_a_value_of_another_type_leaves_the_old_one(cls: type[Widget], name: str) -> None:
    widget = made(cls)
    before = getattr(widget, name)
    for value in (object(), np.zeros(3), {1: 2} if not isinstance(before, dict) else 3):
        with pytest.raises(SaekitError) as caught:
            setattr(widget, name, value)
        assert isinstance(caught.value, t.TraitError) and isinstance(caught.value, ConfigError)
        assert name in str(caught.value) and getattr(widget, name) is before
    widget.set_state({name: before if isinstance(before, (list, dict)) else object()})
    settable = bool(widget.trait_metadata(name, "browser"))
    assert (widget.refused == "") == (settable and isinstance(before, (list, dict)))
    if not settable:
        assert f"the browser does not set {name}" in widget.refused
    if name != "refused":
        assert getattr(widget, name) == before


def test_what_is_right_beside_a_refused_value_is_taken_and_the_note_goes() -> None:
    panel = made(SteeringPanel)
    panel.set_state({"seed": 7, "temperature": -3, "colour_by": "feature", "ran": [{"x": 1}], "nothing": 4})
    assert (panel.seed, panel.temperature, panel.colour_by, panel.ran) == (7, 0.0, "feature", [])
    assert "temperature is negative" in panel.refused and "does not set ran" in panel.refused
    panel.set_state({"temperature": 0.5})
    assert (panel.temperature, panel.refused) == (0.5, "")


def test_any_message_is_answered_and_none_raises() -> None:
    panel = made(SteeringPanel)
    junk: list[Any] = [None, 3, "run", [], ["kind", "run"], {}, {"kind": None}, {"kind": []}, {"kind": {"a": 1}}]
    junk += [{"kind": "other"}, {"kind": "RUN"}, {"Kind": "run"}, {"kind": "reply"}, {"kind": "reply", "message": 3}]
    junk += [{"kind": "sweep"}, {"kind": "sweep", "feature": 2}, {"kind": "sweep", "feature": "2", "condition": 0}]
    junk += [{"kind": "sweep", "feature": 2.5, "condition": 0}, {"kind": "sweep", "feature": None, "condition": None}]
    junk += [{"kind": "x" * 10**6}, {"kind": "reply", "message": ["a"] * 10**5}, b"run", math.nan]
    for content in junk:
        panel.refused = ""
        panel._handle_custom_msg(content, [])
        assert "was not understood" in panel.refused and len(panel.refused) < 1000, content
    for content in ({"kind": "run"}, {"kind": "redo"}, {"kind": "reply", "message": "so?"}):
        panel.refused = ""
        panel._handle_custom_msg(content, [])
        assert "the panel has no model" in panel.refused or "no conversation to continue" in panel.refused
    for cls in CLASSES:
        widget = made(cls)
        widget._handle_custom_msg({"kind": "junk"}, [])
        assert widget.refused


def test_a_widget_from_outside_is_held_to_the_same() -> None:
    class Dial(Widget):
        at = t.Float(0.5).tag(sync=True)
        of = t.Float(1.0).tag(sync=True, browser=False)

        @validates("at")
        def _at_most(self, value: float) -> float:
            if value > self.of:
                raise ConfigError("too far", got=value)
            return value

    Dial.static = Dial.static / "elsewhere"
    dial = Dial()
    dial.set_state({"at": 0.75, "of": 2.0})
    assert (dial.at, dial.of) == (0.75, 1.0) and "does not set of" in dial.refused
    with pytest.raises(ConfigError, match="too far"):
        dial.at = 3.0
    assert dial.at == 0.75


def test_circuits_take_nothing_from_the_browser() -> None:
    circuits = CircuitsWidget()
    circuits.set_state({"component": "Evil", "props": {"tokens": ["<b>"]}})
    assert (circuits.component, circuits.props) == ("AttentionPatterns", {})
