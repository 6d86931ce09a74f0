"""Steering studies: every metric against its definition, and the definition of the recommended strength."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

import saekit as sk
from conftest import tiny_sae
from saekit.errors import ConfigError, ContextLengthError, DataError, FileError, MismatchError, UnknownNameError
from saekit.models.likelihood import negative_log_likelihood
from saekit.statistics import clustered_mean, clustered_proportion
from saekit.steering.fluency import repetition
from saekit.steering.prompt_split import PromptSplit
from saekit.steering.study_log import StudyLog

from .steering_studies import row_of, study_from

PROMPTS = ["the cat", "a", "golden gate bridge in the fog", "rain fell"]
MANY = [*PROMPTS, "the mat", "fog", "a dog", "the bed", "red"]
LETTER = sk.Concept.regex("[aeiou]", name="vowel")


@pytest.fixture
def llama_sae(llama: Any) -> Any:
    return tiny_sae(llama, k=5)


def study_of(model: Any, sae: Any, **changes: Any) -> sk.SteeringStudy:
    settings: dict[str, Any] = {"chat": False, "max_new_tokens": 6, "controls": 2, "progress": False} | changes
    given = {"prompts": PROMPTS, "concept": LETTER, "strengths": [0.5, 2.0]}
    given |= {name: settings.pop(name) for name in list(settings) if name in given}
    return sk.dose_response(model, sae, 3, given["prompts"], given["concept"], given["strengths"], **settings)


# ---- the metrics ----------------------------------------------------------------------------------------------------


def test_repetition_counts_4_grams_seen_before() -> None:
    tokens = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]
    seen, n_repeated = set(), 0
    for i in range(7):
        gram = tuple(tokens[i : i + 4])
        n_repeated += gram in seen
        seen.add(gram)
    assert n_repeated == 3 and repetition(tokens) == pytest.approx(3 / 7)
    assert repetition([1, 2, 3]) == repetition([]) == 0.0


@pytest.mark.parametrize("which", ["llama", "model"])
def test_negative_log_likelihood_is_that_of_each_token_given_all_before_it(which: str, request: Any) -> None:
    model = request.getfixturevalue(which)
    texts = [([0, 10, 11], [20, 21, 22]), ([0], [30]), ([0, 12], []), ([0, 50, 51, 52, 53], [60, 61, 62, 63, 64, 65])]
    texts += [([0, 10, 11], [40]), ([0, 10, 11], [41, 42, 43, 44, 45]), ([0, 10, 11], []), ([0, 12], [])]
    n_done = []
    found = negative_log_likelihood(model, texts, batch_size=3, on_progress=n_done.append)
    assert sum(n_done) == len(texts)
    for (prompt, new), value in zip(texts, found, strict=True):
        if not new:
            assert math.isnan(value)
            continue
        total = 0.0
        for n, token in enumerate(new):
            logits, _ = model.forward([prompt + new[:n]])
            total -= float(logits[0, -1].double().log_softmax(-1)[token])
        assert value == pytest.approx(total / len(new), abs=1e-4)


# ---- the study ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_every_text_is_what_generate_gives(llama: Any, llama_sae: Any, temperature: float) -> None:
    seeds = (0,) if temperature == 0 else (0, 7)
    settings = {"controls": 1, "strengths": [2.0], "batch_size": 3}
    study = study_of(llama, llama_sae, seeds=seeds, temperature=temperature, **settings)
    frame = study.to_frame()
    assert len(frame) == len(PROMPTS) * len(seeds) * 2 + 1
    assert len(frame.drop_duplicates(["condition", "feature", "strength", "prompt", "seed"])) == len(frame)
    for row in frame.itertuples():
        edits = [] if row.condition == "none" else [sk.clamp(llama_sae, {int(row.feature): row.strength}, unit="norm")]
        alone = sk.generate(
            llama, row.prompt, edits=edits, max_new_tokens=6, temperature=temperature, seed=int(row.seed)
        )
        assert (row.text, row.n_tokens, row.finish_reason) == (alone.text, len(alone.tokens), alone.finish_reason)
        assert row.concept_present == LETTER.present(alone.text)
        assert row.repetition == repetition(alone.tokens)
        [nll] = negative_log_likelihood(llama, [(llama.tokenize(row.prompt), alone.tokens)])
        assert row.nll == pytest.approx(nll, abs=1e-4, nan_ok=True)
    assert frame[frame["condition"] == "none"]["feature"].isna().all()
    assert set(frame[frame["condition"] == "control"]["feature"]) == set(study.controls)
    texts = frame.groupby("condition")["text"].agg(list)
    assert texts["none"] != texts["feature"][: len(texts["none"])]


@pytest.mark.slow
def test_the_summary_says_what_the_texts_say_of_prompts_and_of_features(llama: Any, llama_sae: Any) -> None:
    """Against the definition, one row at a time: units are prompts, and control features where the row is theirs."""
    study = study_of(llama, llama_sae, temperature=0.9, seeds=(0, 1), prompts=MANY, controls=6, texts_per_control=2)
    assert (len(study.split.choose), len(study.split.report)) == (3, 6) and study.split.held_out
    for which, prompts in (("report", study.split.report), ("all", MANY)):
        frame = study.to_frame()
        frame = frame[frame["prompt"].isin(prompts)]
        summary = study.summarise(which)  # type: ignore[arg-type]
        n = len(prompts)
        assert list(
            summary[["condition", "strength", "n_texts", "n_units", "unit"]].itertuples(index=False, name=None)
        ) == [
            ("none", 0.0, 2 * n, n, "prompts"),
            ("feature", 0.5, 2 * n, n, "prompts"),
            ("feature", 2.0, 2 * n, n, "prompts"),
            ("control", 0.5, 12, 6, "features"),
            ("control", 2.0, 12, 6, "features"),
        ]
        none = frame[frame["condition"] == "none"].set_index(["prompt", "seed"])["nll"]
        for row in summary.to_dict("records"):
            texts = frame[(frame["condition"] == row["condition"]) & (frame["strength"] == row["strength"])]
            by = "feature" if row["condition"] == "control" else "prompt"
            units = [group for _, group in texts.groupby(by)]
            rate = clustered_proportion([u["concept_present"].sum() for u in units], [len(u) for u in units])
            assert (row["rate"], row["rate_low"], row["rate_high"]) == (rate.value, rate.low, rate.high)
            assert row["rate"] == pytest.approx(texts["concept_present"].mean()) and row["rate_low"] >= 0
            increases = [
                [t.nll - none[t.prompt, t.seed] for t in u.itertuples()] for u in units
            ]  # beside the unsteered text for the same prompt and seed
            for name, groups in (
                ("nll", [u["nll"] for u in units]),
                ("repetition", [u["repetition"] for u in units]),
                ("nll_increase", increases),
            ):
                mean = clustered_mean(groups, scale="logit" if name == "repetition" else "identity")
                found = row[name], row[f"{name}_low"], row[f"{name}_high"]
                assert found == pytest.approx((mean.value, mean.low, mean.high), nan_ok=True)
    pd.testing.assert_frame_equal(study.summary, study.summarise("report"))
    assert "6 prompts" in repr(study) and "6 features" in repr(study)
    with pytest.raises(UnknownNameError, match="unknown part of the prompts"):
        study.summarise("reporting")  # type: ignore[arg-type]


@pytest.mark.slow
def test_controls_share_the_reporting_prompts_and_keep_theirs_at_every_strength(llama: Any, llama_sae: Any) -> None:
    settings: dict[str, Any] = {"temperature": 0.9, "seeds": (0, 1), "prompts": MANY, "instruction": "say bridge"}
    for per_control in (1, 3):
        study = study_of(llama, llama_sae, controls=14, texts_per_control=per_control, **settings)
        frame = study.to_frame()
        controls = frame[frame["condition"] == "control"]
        pairs = [(p, s) for s in (0, 1) for p in study.split.report]
        for strength in (0.5, 2.0):
            here = controls[controls["strength"] == strength]
            assert list(zip(here["prompt"], here["seed"], strict=True)) == [
                pairs[(per_control * i + n) % len(pairs)] for i in range(14) for n in range(per_control)
            ]
            assert list(here["feature"]) == [f for f in study.controls for _ in range(per_control)]
        assert set(frame[frame["condition"] == "instruction"]["prompt"]) == set(study.split.report)
        assert set(frame[frame["condition"] == "none"]["prompt"]) == set(MANY)
    with pytest.raises(ConfigError, match="not that many texts to a control"):
        study_of(llama, llama_sae, texts_per_control=13, **settings)


def test_twenty_controls_by_default_cost_what_three_did_with_seven_prompts(llama: Any, llama_sae: Any) -> None:
    study = sk.dose_response(llama, llama_sae, 3, MANY[:7], LETTER, [0.5], chat=False, max_new_tokens=1, progress=False)
    assert len(study.controls) == 20 and (study.to_frame()["condition"] == "control").sum() == 20 < 3 * 7
    assert study.estimate("control").n_units == 20 and study.estimate("control").unit == "features"


def test_an_instruction_is_a_baseline_that_asks_in_words(llama: Any, llama_sae: Any) -> None:
    study = study_of(llama, llama_sae, instruction="say bridge", controls=0)
    frame = study.to_frame()
    asked = frame[frame["condition"] == "instruction"]
    assert list(asked["prompt"]) == PROMPTS and study.controls == ()
    for row in asked.itertuples():
        out = sk.generate(llama, f"{row.prompt} say bridge", max_new_tokens=6)
        [nll] = negative_log_likelihood(llama, [(llama.tokenize(row.prompt), out.tokens)])
        assert row.text == out.text and row.nll == pytest.approx(nll, abs=1e-4)
    assert list(study.summary["condition"]) == ["none", "instruction", "feature", "feature"]


def test_controls_are_matched_through_the_index_or_random_or_as_given(llama: Any, llama_sae: Any) -> None:
    asked = []
    index = SimpleNamespace(
        features=None,
        matched_features=lambda i, n, seed: asked.append((i, n, seed)) or [11, 12, 13][:n],
        name=lambda i: f"name of {i}",
    )
    study = study_of(llama, llama_sae, index=index, strengths=[1.0])
    assert study.controls == (11, 12)  # two were asked for
    assert study.name == "name of 3" and "feature 3 (name of 3) of" in repr(study)
    assert "feature 3 (name of 3)" in study.plot().layout.title.text
    assert asked == [(3, 2, 0)]
    random = study_of(llama, llama_sae, controls=5, strengths=[1.0], prompts=["a"]).controls
    assert len(set(random)) == 5 and 3 not in random
    assert study_of(llama, llama_sae, controls=[8], strengths=[1.0]).controls == (8,)


def test_a_study_reads_well(llama: Any, llama_sae: Any, capsys: Any) -> None:
    study = study_of(llama, llama_sae, progress=True)
    text = repr(study)
    assert "SteeringStudy: feature 3 of blocks.0.hook_resid_post (tiny-llama), concept 'vowel'" in text
    assert "4 prompts, 6 new tokens, greedy; clamped at all positions; 2 control features" in text
    assert "strength unit: x the residual norm; recommended: " in text
    assert [line.split()[0] for line in text.splitlines()[4:-3]] == ["none", *["feature"] * 2, *["control"] * 2]
    assert "16/16" in capsys.readouterr().err


def study_with(**columns: Any) -> sk.SteeringStudy:
    """A study of ten texts per strength with chosen rate, nll and repetition; the first column is unsteered.

    The ten prompts both choose and report.
    """
    rows = []
    for n, (rate, nll, repeated) in enumerate(zip(columns["rate"], columns["nll"], columns["repetition"], strict=True)):
        for prompt in range(10):
            row = row_of("feature" if n else "none", 0.25 * n, str(prompt), prompt < 10 * rate)
            rows.append(row | {"nll": nll, "repetition": repeated})
    prompts = tuple(str(n) for n in range(10))
    return study_from(rows, split=PromptSplit(choose=prompts, report=prompts), strengths=(0.25, 0.5, 0.75))


def test_an_estimate_asks_for_what_the_study_has() -> None:
    study = study_with(rate=[0, 0.5, 1.0], nll=[1, 1, 1], repetition=[0.1] * 3)
    assert study.estimate("feature", 0.25).value == 0.5 and study.estimate("none", metric="nll").value == 1.0
    for asked, match in (
        (("control",), "unknown condition"),
        (("feature", 0.7), "no strength 0.7"),
        (("feature", 0.25, "kl"), "unknown metric"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            study.estimate(*asked)


@pytest.mark.parametrize(
    ("rate", "nll", "repetition", "wanted"),
    [
        ([0, 0.2, 0.8, 0.5], [1, 1, 2, 2], [0.1] * 4, 0.5),  # the highest rate
        ([0, 0.2, 0.8, 0.5], [1, 1, 2.51, 2.49], [0.1] * 4, 0.75),  # 1.5 nats and no more
        ([0, 0.2, 0.8, 0.5], [1, 1, 2, 2], [0.1, 0.1, 0.21, 0.2], 0.75),  # twice the repetition and no more
        ([0, 0.2, 0.8, 0.5], [1, 1, 2, 2], [0.0, 0.0, 0.06, 0.05], 0.75),  # but 0.05 always
        ([0, 0.5, 0.5, 0.5], [1, 1, 1, 1], [0.1] * 4, 0.25),  # of equal rates the smallest strength
        ([0, 0.7, 0.9, 1.0], [1, 1, 1, 1], [0.1] * 4, 0.5),  # nine tenths of the best are enough
        ([0, 0.7, 0.9, 1.0], [1, 1, 3, 2], [0.1] * 4, 0.75),  # of the strengths whose text holds together
        ([0.5, 0.5, 0.4, 0.1], [1, 1, 1, 1], [0.1] * 4, None),  # none beats the unsteered rate
        ([0, 1, 1, 1], [1, 3, 3, 3], [0.1] * 4, None),  # none is fluent
    ],
)
def test_the_recommended_strength_follows_its_definition(
    rate: Any, nll: Any, repetition: Any, wanted: float | None
) -> None:
    study = study_with(rate=rate, nll=nll, repetition=repetition)
    assert study.recommended == wanted
    assert (f"recommended: {wanted:g} x" if wanted else "no fluent strength beats") in repr(study)


def test_misuse_is_refused_before_anything_runs(llama: Any, llama_sae: Any, model: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(llama, "forward", None)
    monkeypatch.setattr(model, "forward", None)
    for changes, error, match in (
        ({"prompts": []}, DataError, "a study needs prompts"),
        ({"prompts": ["a", "a"]}, DataError, "a study needs prompts, each once"),
        ({"prompts": ["a", ""]}, DataError, "the prompt is empty"),
        ({"strengths": []}, ConfigError, "a study needs strengths"),
        ({"strengths": [math.inf]}, ConfigError, "not a finite number"),
        ({"seeds": (0, 1)}, ConfigError, "seeds do not give different texts"),
        ({"batch_size": 0}, ConfigError, "batch_size is not positive"),
        ({"temperature": -1}, ConfigError, "temperature is negative"),
        ({"max_new_tokens": 90}, ContextLengthError, "do not fit"),
        ({"controls": 64}, ConfigError, "too many or too few controls"),
        ({"controls": [3]}, ConfigError, "its own control"),
        ({"controls": [64]}, UnknownNameError, "no feature 64"),
        ({"unit": "max"}, ConfigError, 'unit "max" needs'),
        ({"concept": sk.Concept.labels(topic="cats")}, MismatchError, "labels"),
    ):
        with pytest.raises(error, match=match):
            study_of(llama, llama_sae, **changes)
    with pytest.raises(MismatchError, match="another model"):
        study_of(model, llama_sae)
    with pytest.raises(UnknownNameError, match="no feature 99"):
        sk.dose_response(llama, llama_sae, 99, PROMPTS, LETTER, [0.5], progress=False)


def test_a_study_has_a_picture(llama: Any, llama_sae: Any) -> None:
    figure = study_of(llama, llama_sae).plot()
    assert type(figure).__name__ == "Figure" and "vowel" in figure.layout.title.text


def test_torch_grad_mode_is_left_as_it_was(llama: Any, llama_sae: Any) -> None:
    study_of(llama, llama_sae, strengths=[1.0], prompts=["a"])
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


# ---- the file of texts ----------------------------------------------------------------------------------------------


def text_of(n: int) -> dict[str, Any]:
    """A line of the file of texts."""
    key = {"condition": "feature", "feature": 3, "strength": 0.5, "prompt": "caf\u00e9", "seed": n}
    written = {"text": "na\u00efve \U0001f600", "tokens": [1, 2], "n_tokens": 2, "finish_reason": "length"}
    return {**key, **written, "concept_present": False, "nll": 1.5, "repetition": 0.0}


def test_a_kill_at_any_byte_of_the_last_text_costs_that_text_alone(tmp_path: Path) -> None:
    def read() -> list[dict[str, Any]]:
        found = StudyLog(tmp_path, {"seed": 0}).read().values()
        return [{name: record[name] for name in text_of(0)} for record in found]

    log = StudyLog(tmp_path, {"seed": 0})
    log.append([text_of(0), text_of(1)])
    before = log.path.read_bytes()
    log.append([text_of(2)])
    whole = log.path.read_bytes()
    assert whole.startswith(before)
    for n in range(len(before), len(whole) + 1):
        log.path.write_bytes(whole[:n])
        inode = log.path.stat().st_ino
        expected = [text_of(0), text_of(1)] + ([text_of(2)] if n >= len(whole) - 1 else [])
        assert read() == expected, n
        log.append([text_of(3)])
        assert read() == [*expected, text_of(3)], n
        assert log.path.stat().st_ino == inode and log.path.read_bytes().startswith(before), "not written anew"


def test_a_text_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    log = StudyLog(tmp_path, {"seed": 0})
    for damage in (b'{"condition": "fea', b"[1]", b'{"condition": "none"}', b"\xff\xfe", b"\0" * 40):
        log.path.write_bytes(damage + b"\n")
        with pytest.raises(FileError, match=r"texts.jsonl, line 1[\s\S]*remove that line: its text is generated again"):
            log.read()


def test_a_text_is_on_disk_when_it_was_added(tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[int] = []
    log = StudyLog(tmp_path, {"seed": 0})
    monkeypatch.setattr("os.fsync", synced.append)
    for n in range(3):
        log.append([text_of(n)])
        assert len(synced) >= n + 1
