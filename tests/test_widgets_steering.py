"""SteeringPanel's Python side: both texts, stopping within one token, errors in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import saekit as sk
from saekit.errors import ConfigError, DataError, UnknownNameError
from saekit.widgets import SteeringPanel, SteeringRequest, steer


class Writer:
    """Writes n0 n1 ... and s0 s1 ..., each token only after `allow`; counts the tokens it was asked for."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(10_000)
        self.written = 0
        self.calls: list[tuple[SteeringRequest, bool]] = []

    def __call__(self, request: SteeringRequest, steered: bool, stop: Callable[[], bool]) -> Iterator[Any]:
        self.calls.append((request, steered))
        if request.feature == 9:
            raise DataError("the prompt is empty")
        if request.feature == 8:
            raise ZeroDivisionError("by zero")
        return self._tokens(request, steered)

    def _tokens(self, request: SteeringRequest, steered: bool) -> Iterator[Any]:
        for i in range(request.max_new_tokens):
            self.gate.acquire()
            self.written += 1
            yield SimpleNamespace(text=f"{'s' if steered else 'n'}{i} ")


def make(writer: Writer, **traits: Any) -> SteeringPanel:
    return SteeringPanel(
        writer, lambda i: (f"name of {i}", 2.5), n_features=16, prompt="hi", **{"max_new_tokens": 3, **traits}
    )


def test_both_texts_are_written_and_the_normal_one_only_once() -> None:
    writer = Writer()
    panel = make(writer, feature=2, strength=0.4).run(wait=True)
    assert (panel.normal_text, panel.steered_text) == ("n0 n1 n2 ", "s0 s1 s2 ")
    assert (panel.running, panel.done, panel.total, panel.error) == (False, 6, 6, "")
    panel.strength = 0.8
    panel.run(wait=True)
    assert [steered for _, steered in writer.calls] == [False, True, True]
    assert panel.normal_text == "n0 n1 n2 " and panel.total == 3
    assert [run["strength"] for run in panel.runs] == [0.4, 0.8]
    panel.prompt = "ho"
    panel.run(wait=True)
    assert [steered for _, steered in writer.calls[3:]] == [False, True]


def test_stop_takes_effect_within_one_token() -> None:
    writer = Writer()
    writer.gate = threading.Semaphore(5)  # the sixth token is being written when stop comes
    panel = make(writer, max_new_tokens=100).run()
    while writer.written < 5:
        pass
    assert panel.running
    panel.stop()
    writer.gate.release(100)
    panel.stop(wait=True)
    assert writer.written == 6 and not panel.running
    assert panel.status.startswith("Stopped after")
    writer.gate.release(1000)
    panel.max_new_tokens = 2
    panel.run(wait=True)
    assert panel.normal_text == "n0 n1 ", "a stopped text is not taken for a finished one"


def test_errors_are_shown_in_words_and_raised_to_who_waits() -> None:
    panel = make(Writer(), feature=9)
    with pytest.raises(DataError, match="the prompt is empty"):
        panel.run(wait=True)
    assert panel.error == "the prompt is empty" and not panel.running
    panel.feature = 8
    with pytest.raises(ZeroDivisionError):
        panel.run(wait=True)
    assert panel.error == "ZeroDivisionError: by zero"
    panel.feature = 1
    assert panel.run(wait=True).error == ""


def test_a_second_run_and_a_panel_without_writer_are_refused() -> None:
    writer = Writer()
    writer.gate = threading.Semaphore(0)
    panel = make(writer).run()
    with pytest.raises(ConfigError, match="writing already"):
        panel.run()
    writer.gate.release(100)
    panel.stop(wait=True)
    with pytest.raises(ConfigError, match=r"sk\.steer"):
        SteeringPanel().run()


def test_feature_is_named_and_bad_settings_are_refused() -> None:
    panel = make(Writer())
    panel.feature = 5
    assert (panel.name, panel.feature_max) == ("name of 5", 2.5)
    with pytest.raises(UnknownNameError, match="no feature 16"):
        panel.feature = 16
    with pytest.raises(UnknownNameError, match="unknown unit 'nrom'; did you mean 'norm'"):
        panel.unit = "nrom"
    with pytest.raises(UnknownNameError, match="unknown position rule 'every'"):
        panel.positions = "every"
    with pytest.raises(ConfigError, match="max_new_tokens is too small"):
        panel.max_new_tokens = 0
    with pytest.raises(ConfigError, match="temperature is too small"):
        panel.temperature = -1
    with pytest.raises(TypeError, match="unknown keyword 'strenght'; did you mean 'strength'"):
        make(Writer(), strenght=1)


def test_buttons_of_the_browser_run_and_stop() -> None:
    writer = Writer()
    panel = make(writer)
    panel._handle_custom_msg({"kind": "run"}, [])
    panel._worker.join()
    assert panel.steered_text == "s0 s1 s2 "
    panel._handle_custom_msg({"kind": "stop"}, [])
    panel._handle_custom_msg({"kind": "other"}, [])
    assert (
        panel.text().splitlines()[0]
        == "SteeringPanel: feature 0 (name of 0) clamped to 0.5 x the residual norm, all positions"
    )


def test_steer_writes_what_generate_writes(model: Any, sae: Any) -> None:
    panel = steer(model, sae, 3, prompt="the cat", chat=False, max_new_tokens=5, strength=0.8, positions="generated")
    panel.run(wait=True)
    edit = sk.steering.clamp(sae, {3: 0.8}, unit="norm", positions="generated")
    assert panel.normal_text == sk.steering.generate(model, "the cat", max_new_tokens=5).text
    assert panel.steered_text == sk.steering.generate(model, "the cat", edits=[edit], max_new_tokens=5).text
    assert panel.units == ["raw", "norm"], "multiples of the maximum need an index"
    panel.prompt = ""
    with pytest.raises(DataError):
        panel.run(wait=True)
    assert panel.error
    with pytest.raises(UnknownNameError, match="no feature 64"):
        steer(model, sae, 64)
