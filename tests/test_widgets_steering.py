"""SteeringPanel's Python side: texts side by side, stopping within one token, turns, sweeps, units, history."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.models.likelihood import negative_log_likelihood
from saekit.sae.formats import packaged
from saekit.steering.strength_units import convert_strength
from saekit.widgets import SteeringPanel, SteeringRequest, steer

TWO = [{"name": "unsteered"}, {"name": "steered", "features": [{"feature": 2, "strength": 0.4}]}]


class Writer:
    """Condition i says `i:0 i:1 ...`, each step only after `gate`; the first condition ends after `ends` tokens."""

    def __init__(self, ends: int | None = None) -> None:
        self.gate = threading.Semaphore(10_000)
        self.n_steps, self.ends = 0, ends
        self.requests: list[SteeringRequest] = []

    def __call__(self, request: SteeringRequest, stop: Callable[[], bool]) -> Iterator[Any]:
        self.requests.append(request)
        features = {i for c in request.conditions for i, _ in c.features}
        if 9 in features:
            raise DataError("the prompt is empty")
        return self._steps(request, stop, fails=8 in features)

    def _steps(self, request: SteeringRequest, stop: Callable[[], bool], fails: bool) -> Iterator[Any]:
        for n in range(request.max_new_tokens):
            if stop():
                return
            self.gate.acquire()
            self.n_steps += 1
            if fails and n == 1:
                raise ZeroDivisionError("by zero")
            over = self.ends is not None and n >= self.ends
            yield [
                None if i == 0 and over else SimpleNamespace(text=f"{i}:{n} ") for i in range(len(request.conditions))
            ]


def make(writer: Writer, **traits: Any) -> SteeringPanel:
    settings = {"n_features": 16, "prompt": "hi", "conditions": TWO, "max_new_tokens": 3, "chat": True, **traits}
    about = lambda i: {"name": f"name of {i}", "max": 2.0 * i, "recommended": None}  # noqa: E731
    return SteeringPanel(writer, None, about, lambda text: "1:" in text, **settings)


def test_every_condition_is_written_and_kept() -> None:
    panel = make(Writer(ends=2)).run(wait=True)
    assert panel.texts == {"unsteered": "0:0 0:1 ", "steered": "1:0 1:1 1:2 "}
    assert (panel.running, panel.done, panel.total, panel.error) == (False, 5, 6, "")
    [run] = panel.runs
    assert [(r["end"], r["present"]) for r in run["exchanges"][0]["replies"]] == [("eos", False), ("length", True)]
    assert panel.status.startswith("Done: 5 tokens")
    panel.conditions = [*panel.conditions, {"name": "asked", "instruction": "Talk of gates."}]
    panel.run(wait=True)
    assert list(panel.texts) == ["unsteered", "steered", "asked"] and len(panel.runs) == 2


def test_stop_takes_effect_within_one_token() -> None:
    writer = Writer()
    writer.gate = threading.Semaphore(5)  # the sixth step is being made when stop comes
    panel = make(writer, max_new_tokens=100).run()
    while writer.n_steps < 5:
        pass
    assert panel.running
    panel.stop()
    writer.gate.release(100)
    panel.stop(wait=True)
    assert writer.n_steps == 6 and panel.done == 12 and not panel.running
    assert panel.status.startswith("Stopped after 12 tokens")
    assert {r["end"] for r in panel.runs[0]["exchanges"][0]["replies"]} == {"stopped"}


def test_turns_go_on_under_the_conditions_they_began_with() -> None:
    writer = Writer()
    panel = make(writer, max_new_tokens=2).run(wait=True)
    panel.conditions = TWO[:1]
    panel.reply("and then?", wait=True)
    request = writer.requests[-1]
    assert request.messages == ("hi", "and then?") and request.replies == (("0:0 0:1 ",), ("1:0 1:1 ",))
    assert len(request.conditions) == 2 and len(panel.runs) == 1 and len(panel.runs[0]["exchanges"]) == 2
    panel.seed = 7
    panel.redo(wait=True)
    assert writer.requests[-1].messages == ("hi", "and then?") and writer.requests[-1].seed == 7
    assert [len(run["exchanges"]) for run in panel.runs] == [2, 2], "what was said before is kept"
    panel.run(wait=True)
    assert len(panel.exchanges) == 1 and list(panel.texts) == ["unsteered"]
    panel.chat = False
    with pytest.raises(ConfigError, match="no conversation to continue"):
        panel.reply("well?")


def test_a_sweep_runs_over_one_strength_and_leaves_the_form_alone() -> None:
    writer = Writer()
    both = {"name": "two", "features": [{"feature": 2, "strength": 0.4}, {"feature": 3, "strength": 0.1}]}
    panel = make(writer, conditions=[both]).sweep([0.2, 0.6], feature=3, wait=True)
    assert [c.features for c in writer.requests[-1].conditions] == [(), ((2, 0.4), (3, 0.2)), ((2, 0.4), (3, 0.6))]
    assert list(panel.texts) == ["unsteered", "two at 0.2", "two at 0.6"]
    assert panel.conditions[0]["features"] == both["features"]
    with pytest.raises(ConfigError, match="nothing to sweep over"):
        panel.sweep(feature=5)


def test_errors_are_shown_in_words_and_leave_what_was_shown() -> None:
    panel = make(Writer()).run(wait=True)
    shown = panel.exchanges
    panel.feature = 9
    with pytest.raises(DataError, match="the prompt is empty"):
        panel.run(wait=True)
    assert panel.error == "the prompt is empty" and not panel.running and panel.exchanges == shown
    panel.feature = 8
    with pytest.raises(ZeroDivisionError):
        panel.run(wait=True)
    assert panel.error == "ZeroDivisionError: by zero" and len(panel.runs) == 1
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
    with pytest.raises(ConfigError, match="no conditions"):
        make(writer, conditions=[]).run()


def test_bad_settings_are_refused() -> None:
    panel = make(Writer())
    with pytest.raises(UnknownNameError, match="no feature 16"):
        panel.feature = 16
    with pytest.raises(UnknownNameError, match="unknown part of a condition 'featuers'; did you mean 'features'"):
        panel.conditions = [{"name": "a", "featuers": []}]
    with pytest.raises(ConfigError, match="a feature twice"):
        panel.conditions = [{"name": "a", "features": [{"feature": 2, "strength": 1}] * 2}]
    with pytest.raises(UnknownNameError, match="unknown unit 'nrom'; did you mean 'norm'"):
        panel.unit = "nrom"
    with pytest.raises(UnknownNameError, match="unknown positions 'every'"):
        panel.positions = "every"
    with pytest.raises(UnknownNameError, match="unknown colour 'unlikly'"):
        panel.colour_by = "unlikly"
    with pytest.raises(ConfigError, match="max_new_tokens is not positive"):
        panel.max_new_tokens = 0
    with pytest.raises(ConfigError, match="temperature is negative"):
        panel.temperature = -1
    with pytest.raises(TypeError, match="unknown keyword 'strenght'"):
        make(Writer(), strenght=1)
    assert panel.conditions[1]["features"] == TWO[1]["features"]


def test_strengths_are_converted_as_the_front_end_converts_them() -> None:
    cases = json.loads((Path(__file__).parents[1] / "widgets/tests/cases.json").read_text("utf8"))["strengths"]
    scales = {"raw": 1.0, "max": 18.0, "norm": 140.0}
    for case in cases:
        assert convert_strength(case["value"], case["from"], case["to"], scales) == case["converted"]


def test_strengths_stay_the_same_when_the_unit_changes() -> None:
    panel = make(Writer(), residual_norm=140.0, sweep_strengths=[0.5])
    panel.unit = "raw"
    assert (panel.strength, panel.sweep_strengths) == (56.0, [70.0])
    panel.unit = "max"  # feature 2 has a maximum of 4
    assert (panel.strength, panel.sweep_strengths) == (14.0, [17.5])
    panel.unit = "norm"
    assert (panel.strength, panel.sweep_strengths) == (0.4, [0.5])
    assert panel.about["2"] == {"name": "name of 2", "max": 4.0, "recommended": None}


def test_a_conversation_keeps_its_unit() -> None:
    writer = Writer()
    panel = make(writer, residual_norm=140.0).run(wait=True)
    panel.unit = "raw"
    panel.redo(wait=True)
    panel.reply("more", wait=True)
    assert [(r.unit, r.conditions[1].features) for r in writer.requests] == [("norm", ((2, 0.4),))] * 3
    panel.run(wait=True)
    assert (writer.requests[-1].unit, writer.requests[-1].conditions[1].features) == ("raw", ((2, 56.0),))


def test_buttons_of_the_browser() -> None:
    panel = make(Writer())

    def press(**content: Any) -> None:
        panel._handle_custom_msg(content, [])
        panel._worker.wait()

    press(kind="run")
    press(kind="reply", message="more")
    press(kind="redo")
    assert [e["user"] for e in panel.exchanges] == ["hi", "more"]
    press(kind="sweep", feature=2, condition=1)
    assert len(panel.ran) == 6
    press(kind="stop")
    press(kind="other")
    press(kind="sweep", feature=7, condition=0)
    assert "nothing to sweep over" in panel.refused
    press(kind="redo")
    assert panel.refused == ""


def test_the_history_can_be_kept(tmp_path: Any) -> None:
    panel = make(Writer(), max_new_tokens=1).run(wait=True).reply("so?", wait=True)
    frame = panel.to_frame()
    assert frame[["run", "turn", "condition", "text"]].to_numpy().tolist() == [
        [0, 0, "unsteered", "0:0 "],
        [0, 0, "steered", "1:0 "],
        [0, 1, "unsteered", "0:0 "],
        [0, 1, "steered", "1:0 "],
    ]
    assert frame["what"].tolist()[:2] == ["as it is", "feature 2 at 0.4 x the residual norm"]
    assert json.loads(panel.export(tmp_path / "a/runs.json").read_text()) == panel.runs
    assert panel.export(tmp_path / "runs.csv").read_text().startswith("run,turn,condition,what,message,text,nll")
    with pytest.raises(UnknownNameError, match="unknown kind of file"):
        panel.export(tmp_path / "runs.xlsx")
    assert panel.text().splitlines()[:4] == [
        "SteeringPanel: 2 conditions, all positions",
        "  unsteered  as it is",
        "  steered    feature 2 at 0.4 x the residual norm",
        "> hi",
    ]


def test_steer_writes_what_generate_writes_and_reads_it_back(model: Any, sae: Any) -> None:
    gates = sk.Direction(sae.W_dec[7], hook_name=sae.config.hook_name, name="gates")
    edit = sk.add_direction(gates, 0.8)
    asked = {"plain": None, "both": {3: 0.8, 5: 0.4}, "asked": "a gate", "direction": edit}
    panel = steer(model, sae, conditions=asked, prompt="the cat", chat=False, max_new_tokens=5, concept=_Said("a"))
    panel.run(wait=True)
    write = lambda edits=(), prompt="the cat": sk.generate(model, prompt, edits=edits, max_new_tokens=5)  # noqa: E731
    clamped = sk.clamp(sae, {3: 0.8, 5: 0.4}, unit="norm")
    expected = [write(), write(clamped), write(prompt="the cat a gate"), write(edit)]
    assert list(panel.texts.values()) == [g.text for g in expected]
    assert panel.conditions[3]["edits"] == repr(edit)

    ids = tuple(model.tokenize("the cat"))
    [exchange], [details] = panel.exchanges, panel.details
    for generation, reply, detail in zip(expected, exchange["replies"], details, strict=True):
        [nll] = negative_log_likelihood(model, [(ids, generation.tokens)])
        assert reply["mean_nll"] == pytest.approx(nll, abs=1e-5) and len(reply["nll"]) == 5
        assert reply["present"] == ("a" in generation.text)
        whole = torch.tensor([[*ids, *generation.tokens]])
        x = model.activations(whole, sae.config.hook_name)[0, len(ids) :]
        kept = sae.config.token_filter.keep(whole[0, len(ids) :], x)
        acts = sae.encode(x) * kept[:, None]
        start, feature, value = (
            np.frombuffer(detail[name], dtype)
            for name, dtype in (("start", "<i4"), ("feature", "<i4"), ("value", "<f4"))
        )
        dense = torch.zeros_like(acts)
        for row in range(5):
            at = slice(start[row], start[row + 1])
            dense[row, feature[at].tolist()] = torch.tensor(value[at].copy())
        torch.testing.assert_close(dense, acts.detach(), atol=1e-4, rtol=1e-4)
    log_p = model.forward(whole[:, :-1])[0][0, len(ids) - 1 :].log_softmax(-1)
    after = sk.steering.edit_hooks.Span(whole[:, :-1], torch.ones_like(whole[:, :-1], dtype=torch.bool))
    after.n_prompt = len(ids)
    hooks = after.hooks([(edit,)], model)
    log_q = model.forward(whole[:, :-1], hooks=hooks)[0][0, len(ids) - 1 :].log_softmax(-1)
    for at, token in enumerate(expected[3].tokens):
        [name] = model.token_strings([token])
        before, then = next(c[1:] for c in details[3]["choices"][at] if c[0] == name)
        assert before == pytest.approx(float(log_p[at, token].exp()), abs=1e-5)
        assert then == pytest.approx(float(log_q[at, token].exp()), abs=1e-5)
        chances = [c[2] for c in details[3]["choices"][at]]
        assert chances == sorted(chances, reverse=True) and len(chances) >= 5


def test_turns_reach_the_model_through_its_template(model: Any, sae: Any) -> None:
    panel = steer(model, sae, 3, strength=0.5, prompt="who?", max_new_tokens=3).run(wait=True)
    first = panel.texts["steered"]
    panel.reply("why?", wait=True)
    turns = [("user", "who?"), ("assistant", first), ("user", "why?")]
    expected = sk.generate(
        model,
        [[{"role": r, "content": c} for r, c in turns]],
        chat=True,
        max_new_tokens=3,
        edits=sk.clamp(sae, {3: 0.5}, unit="norm"),
    )[0]
    assert panel.texts["steered"] == expected.text


class _Said:
    name = "a letter"

    def __init__(self, letter: str) -> None:
        self._letter = letter

    def present(self, text: str) -> bool:
        return self._letter in text


def test_steer_opens_at_the_strength_that_a_packaged_sae_brings(
    model: Any, sae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    brings = {"sae": sae.fingerprint, "labels": [], "strengths": [{"feature": 3, "strength": 0.27, "note": ""}]}
    monkeypatch.setattr(packaged, "_all_labels", lambda: {sae.fingerprint: brings})
    panel = steer(model, sae, 3, prompt="the cat", chat=False)
    assert panel.strength == 0.27 and panel.about["3"]["recommended"] == 0.27
    assert steer(model, sae, 5, prompt="the cat", chat=False).strength == 0.5
    assert steer(model, sae, 3, strength=0.1, prompt="the cat", chat=False).strength == 0.1
    assert steer(model, sae, 3, recommended={3: 0.4}, prompt="the cat", chat=False).strength == 0.4


def test_steer_offers_recommended_strengths_and_units(model: Any, sae: Any) -> None:
    panel = steer(model, sae, 3, recommended={3: 0.25}, prompt="the cat", chat=False)
    assert panel.strength == 0.25 and panel.about["3"]["recommended"] == 0.25
    assert panel.units == ["raw", "norm"], "multiples of the maximum need an index"
    ids = torch.tensor(model.tokenize("the cat"))
    x = model.activations(ids, sae.config.hook_name)[0]
    kept = x[sae.config.token_filter.keep(ids, x)]
    assert panel.residual_norm == pytest.approx(float(kept.norm(dim=1).median()))
    assert steer(model, sae, 3, unit="raw", prompt="the cat").strength == pytest.approx(
        0.5 * panel.residual_norm, rel=1e-3
    )
    panel.prompt = ""
    with pytest.raises(DataError):
        panel.run(wait=True)
    with pytest.raises(UnknownNameError, match="no feature 64"):
        steer(model, sae, 64)
    with pytest.raises(ConfigError, match="both given"):
        steer(model, sae, 3, conditions={"a": None})
    with pytest.raises(ConfigError, match="needs the features' maxima"):
        steer(model, sae, 3, unit="max")
    transcoder = sk.SAE(sae.config.replace(hook_out="blocks.1.hook_resid_post", d_out=32))
    with pytest.raises(MismatchError, match="a transcoder cannot be edited with"):
        steer(model, transcoder, 3)
