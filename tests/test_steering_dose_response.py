"""Studies of several features, with a direction beside them, with costs, and stopped and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, MismatchError, UnknownNameError
from saekit.models.likelihood import negative_log_likelihood
from saekit.steering.edit_hooks import apply_edits
from saekit.steering.prompt_split import PromptSplit
from saekit.steering.readout import TextSample, cost, drift

PROMPTS = ["the cat", "a", "golden gate bridge in the fog"]
VOWEL = sk.Concept.regex("[aeiou]", name="vowel")


@pytest.fixture(scope="module")
def llama_sae(llama: Any) -> Any:
    return tiny_sae(llama, activation="topk")


def study_of(model: Any, sae: Any, feature: Any = 3, **changes: Any) -> sk.SteeringStudy:
    settings: dict[str, Any] = {"chat": False, "max_new_tokens": 5, "controls": 1, "progress": False} | changes
    strengths = settings.pop("strengths", [0.5, 2.0])
    return sk.dose_response(model, sae, feature, PROMPTS, VOWEL, strengths, **settings)


# ---- what a text costs ----------------------------------------------------------------------------------------------


def test_costs_are_those_of_each_text_alone_token_by_token(llama: Any, llama_sae: Any) -> None:
    edit = sk.clamp(llama_sae, {3: 2.0}, unit="norm", positions="generated")
    texts = []
    for prompt, edits, n in ((PROMPTS[0], [edit], 5), (PROMPTS[2], [], 3), (PROMPTS[1], [edit], 1)):
        out = sk.generate(llama, prompt, edits=edits, max_new_tokens=n)
        ids = tuple(llama.tokenize(prompt))
        texts.append(TextSample(ids, ids, out.tokens, tuple(edits)))
    asked, read = tuple(llama.tokenize("the cat")), tuple(llama.tokenize("the cat, in words"))
    texts.append(TextSample(asked, read, sk.generate(llama, "the cat, in words", max_new_tokens=4).tokens))
    texts.append(TextSample(asked, asked, ()))
    for text, found in zip(texts, cost(llama, llama_sae, texts), strict=True):
        if not text.new:
            assert np.isnan(found.nll) and np.isnan(found.kl) and not found.profile.any()
            continue
        nll, kl = [], []
        for n, token in enumerate(text.new):
            before, been_read = [*text.prompt, *text.new[:n]], [*text.context, *text.new[:n]]
            log_p = llama.forward([before])[0][0, -1].double().log_softmax(-1)

            def edited(x: Any, ids: Any = been_read, text: TextSample = text) -> Any:
                step = (torch.arange(len(ids)) - len(text.context))[None]
                return apply_edits(x, text.edits, torch.tensor([ids]), step=step)

            log_q = llama.forward([been_read], hooks=[(HOOK, edited)])[0][0, -1].double().log_softmax(-1)
            nll.append(-float(log_p[token]))
            kl.append(float((log_q.exp() * (log_q - log_p)).sum()))
        assert found.nll == pytest.approx(np.mean(nll), abs=1e-4)
        assert found.kl == pytest.approx(np.mean(kl), abs=1e-4)
        whole = [*text.prompt, *text.new]
        acts = llama_sae.encode(llama.activations([whole], HOOK)[0, len(text.prompt) :])
        torch.testing.assert_close(found.profile, acts.detach().mean(0), atol=1e-4, rtol=1e-3)
    assert cost(llama, llama_sae, texts)[1].kl == 0.0, "what was written without an edit bends nothing"


def test_drift_leaves_out_what_was_edited() -> None:
    a, b = torch.tensor([5.0, 1.0, 0.0, 2.0]), torch.tensor([0.0, 0.0, 3.0, 1.0])
    whole = 1 - float(a @ b) / float(a.norm() * b.norm())
    assert drift(a, b, []) == pytest.approx(whole)
    assert drift(a, b, [0]) == pytest.approx(1 - 2 / float(np.sqrt(5) * np.sqrt(10)))
    assert drift(a, 7 * a, []) == pytest.approx(0, abs=1e-7)
    assert np.isnan(drift(torch.zeros(4), b, []))


@pytest.mark.slow
def test_a_study_with_costs_says_what_cost_says(llama: Any, llama_sae: Any) -> None:
    direction = sk.Direction(llama_sae.W_dec[9], hook_name=HOOK, name="nine")
    study = study_of(llama, llama_sae, costs=True, instruction="please", direction=direction, batch_size=4)
    frame = study.to_frame()
    ids = {p: tuple(llama.tokenize(p)) for p in PROMPTS}
    profiles = {}
    for row in frame.to_dict("records"):
        edits: tuple[Any, ...] = ()
        if row["condition"] == "direction":
            edits = (sk.add_direction(direction, row["strength"]),)
        elif row["condition"] in ("feature", "control"):
            edits = (sk.clamp(llama_sae, {int(row["feature"]): row["strength"]}, unit="norm"),)
        asked, new = ids[row["prompt"]], tuple(row["tokens"])
        read = tuple(llama.tokenize(row["prompt"] + " please")) if row["condition"] == "instruction" else asked
        [found] = cost(llama, llama_sae, [TextSample(asked, read, new, edits)])
        assert row["text"] == llama.decode(new) and row["nll"] == pytest.approx(found.nll, abs=1e-4, nan_ok=True)
        assert row["kl"] == pytest.approx(found.kl, abs=1e-4, nan_ok=True)
        other = ids[PROMPTS[(PROMPTS.index(row["prompt"]) + 1) % 3]]
        [elsewhere] = negative_log_likelihood(llama, [(other, new)])
        assert row["relevance"] == pytest.approx(elsewhere - found.nll, abs=1e-3, nan_ok=True)
        if row["condition"] == "none":
            profiles[row["prompt"]] = found.profile
        left_out = {3, int(row["feature"])} if row["condition"] == "control" else {3}
        expected = drift(found.profile, profiles[row["prompt"]], list(left_out))
        assert row["drift"] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    none, steered = (frame[frame["condition"] == c] for c in ("none", "feature"))
    assert not none["kl"].any() and none["drift"].abs().max() < 1e-6 < steered["kl"].min()
    summary = study.summary
    assert list(dict.fromkeys(summary["condition"])) == ["none", "instruction", "direction", "feature", "control"]
    for name in ("kl", "relevance", "drift"):
        assert summary[f"{name}_low"].isna().all() and summary[name].notna().all(), "three prompts have no interval"
    assert "relevance" in repr(study).splitlines()[3] and study.direction == "nine"
    table = study.conditions
    assert list(table.index) == ["none", "instruction", "direction", "feature", "control"]
    assert set(table["strength"]) <= {0.0, 0.5, 2.0}


# ---- what stands in a study -----------------------------------------------------------------------------------------


def test_several_features_are_clamped_together_each_by_its_weight(llama: Any, llama_sae: Any) -> None:
    study = study_of(llama, llama_sae, {3: 1.0, 9: -0.5}, strengths=[2.0], controls=2)
    steered = study.to_frame().query("condition == 'feature'")
    edit = sk.clamp(llama_sae, {3: 2.0, 9: -1.0}, unit="norm")
    assert steered["text"].tolist() == [
        sk.generate(llama, p, edits=edit, max_new_tokens=5).text for p in steered["prompt"]
    ]
    assert study.weights == {3: 1.0, 9: -0.5} and study.feature == 3 and len(set(study.controls) - {3, 9}) == 2
    assert "feature 3 and 1 more of" in repr(study)
    index = SimpleNamespace(
        features=None,
        matched_features=lambda i, n, seed: [9, 11, 12, 13, 14][:n] if i == 3 else [3, 11, 20, 21, 22][:n],
        name=lambda i: "",
    )
    matched = study_of(llama, llama_sae, {3: 1.0, 9: 1.0}, strengths=[2.0], controls=2, index=index)
    assert matched.controls == (11, 12)


def test_the_comparison_is_at_the_recommended_strengths() -> None:
    rows: list[dict[str, Any]] = []
    for condition, strength, rate, nll in (
        ("none", 0.0, 0.0, 1.0),
        ("direction", 0.2, 0.2, 1.2),
        ("direction", 0.4, 0.9, 2.0),
        ("feature", 0.2, 0.5, 1.2),
        ("feature", 0.4, 0.9, 4.0),
        ("control", 0.2, 0.0, 1.2),
        ("control", 0.4, 0.0, 4.0),
    ):
        row = {"condition": condition, "feature": None, "strength": strength, "seed": 0, "nll": nll, "text": ""}
        row["feature"] = 4 if condition == "control" else None
        rows += [row | {"prompt": str(p), "concept_present": p < 10 * rate, "repetition": 0.0} for p in range(10)]
    prompts = tuple(str(p) for p in range(10))
    study = sk.SteeringStudy(
        model_name="m",
        hook_name=HOOK,
        feature=3,
        weights={3: 1.0},
        controls=(4,),
        split=PromptSplit(choose=prompts, report=prompts),
        direction="d",
        concept="c",
        strengths=(0.2, 0.4),
        unit="norm",
        positions="all",
        temperature=0.0,
        max_new_tokens=8,
        chat=True,
        generations=pd.DataFrame(rows),
    )
    assert (study.recommended, study.recommend("direction")) == (0.2, 0.4)
    table = study.conditions
    assert table["strength"].to_dict() == {"none": 0.0, "direction": 0.4, "feature": 0.2, "control": 0.2}
    assert table["rate"].to_dict() == {"none": 0.0, "direction": 0.9, "feature": 0.5, "control": 0.0}
    given = study.at(feature=0.4)
    assert given["strength"].to_dict() == {"none": 0.0, "direction": 0.4, "feature": 0.4, "control": 0.4}
    with pytest.raises(UnknownNameError, match="the study has no strength 0.3"):
        study.at(feature=0.3)
    with pytest.raises(UnknownNameError, match="unknown condition 'contrl'"):
        study.recommend("contrl")  # type: ignore[arg-type]


# ---- stopped and taken up again -------------------------------------------------------------------------------------


def test_a_study_goes_on_where_it_was_stopped(llama: Any, llama_sae: Any, tmp_path: Path, monkeypatch: Any) -> None:
    whole = study_of(llama, llama_sae, costs=True, temperature=0.8, seeds=(0, 1)).to_frame()
    settings = {"costs": True, "temperature": 0.8, "seeds": (0, 1), "batch_size": 4, "out": tmp_path}
    written, forward = [0], llama.forward

    def until(*args: Any, **kwargs: Any) -> Any:
        written[0] += 1
        if written[0] > 40:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(llama, "forward", until)
    with pytest.raises(KeyboardInterrupt):
        study_of(llama, llama_sae, **settings)
    lines = (tmp_path / "texts.jsonl").read_text("utf8").splitlines()
    assert 0 < len(lines) < len(whole)
    (tmp_path / "texts.jsonl").write_text(
        "\n".join(lines) + '\n{"condition": "fea', "utf8"
    )  # cut in the middle of a line
    monkeypatch.setattr(llama, "forward", forward)
    resumed = study_of(llama, llama_sae, **settings).to_frame()
    pd.testing.assert_frame_equal(resumed.drop(columns="tokens"), whole.drop(columns="tokens"), atol=1e-3)
    assert resumed["tokens"].tolist() == whole["tokens"].tolist()
    assert [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text("utf8").splitlines()][: len(lines)] == [
        json.loads(line) for line in lines
    ]
    monkeypatch.setattr(llama, "forward", None)
    again = study_of(llama, llama_sae, **{**settings, "costs": True})
    assert len(again.to_frame()) == len(whole), "a finished study is read, not run"
    with pytest.raises(MismatchError, match="holds another study") as refused:
        study_of(llama, llama_sae, **{**settings, "strengths": [0.7]})
    assert "strengths differ" in str(refused.value)


KILLED = """
import sys
sys.path[:0] = [{root!r}]
from conftest import tiny_llama, tiny_sae
import saekit as sk
llama = tiny_llama()
sk.dose_response(llama, tiny_sae(llama), 3, ["the cat", "a", "rain"], sk.Concept.regex("a"),
                 [0.1 * n for n in range(1, 200)], chat=False, max_new_tokens=5, controls=0, batch_size=2,
                 out={out!r}, progress=False)
"""


@pytest.mark.slow
def test_a_killed_study_loses_nothing_it_has_written(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(root=root, out=str(tmp_path))], cwd=root)
    texts = tmp_path / "texts.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not texts.exists() or texts.read_bytes().count(b"\n") < 6):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = texts.read_text("utf8").split("\n")[:-1]
    assert 6 <= len(lines) < 600
    assert all(json.loads(line)["text"] is not None for line in lines)


def test_misuse_is_refused_before_anything_runs(llama: Any, llama_sae: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(llama, "forward", None)
    for feature, changes, error, match in (
        ({}, {}, ConfigError, "a study needs a feature"),
        ({3: 1.0, 4: 1.0}, {"controls": [5]}, ConfigError, "controls of several features"),
        ({3: 1.0, 4: 1.0}, {"controls": 32}, ConfigError, "too many or too few controls"),
        (3, {"direction": sk.Direction(torch.ones(7), hook_name=HOOK)}, MismatchError, "the direction does not fit"),
        (3, {"direction": sk.Direction(torch.ones(32), hook_name=HOOK), "unit": "raws"}, UnknownNameError, "unit"),
    ):
        with pytest.raises(error, match=match):
            study_of(llama, llama_sae, feature, **changes)
