"""The demo's steps on a tiny Llama: what it chooses, what it reports and the page it writes."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import saekit as sk
from conftest import HOOK, tiny_texts
from saekit import demo
from saekit.steering.questions import REPORTING_QUESTIONS, SCREENING_QUESTIONS


@pytest.fixture(scope="module")
def parts(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    texts = [{**t, "topic": "golden_gate_bridge" if t["topic"] == "bridge" else "other"} for t in tiny_texts()]
    corpus = sk.load_corpus(texts, name="tiny")
    config = sk.TrainConfig(n_tokens=3_000, batch_size=64, context_size=24, buffer_tokens=512)
    sae = sk.train(
        llama,
        corpus,
        hook_name=HOOK,
        config=config,
        progress=False,
        sae=sk.SAEConfig(d_in=32, d_sae=64, activation="batchtopk", k=4),
    )
    folder = tmp_path_factory.mktemp("demo") / "index"
    return llama, sae, sk.build_index(llama, sae, corpus, out=folder, length=24, progress=False)


def test_what_is_counted_had_no_say_in_the_choice() -> None:
    assert not set(REPORTING_QUESTIONS) & set(SCREENING_QUESTIONS)
    assert not any(map(demo.BRIDGE.present, [*REPORTING_QUESTIONS, *SCREENING_QUESTIONS]))


@pytest.mark.slow
def test_the_whole_account_and_its_page(parts, tmp_path, monkeypatch, capsys):
    model, sae, index = parts
    monkeypatch.setattr(demo, "PROMPTS", ("a cat", "the mat"))
    monkeypatch.setattr(demo, "SCREENING_QUESTIONS", ("a dog", "the bed"))
    monkeypatch.setattr(demo, "TEXT", "the golden gate is red")
    found = sk.steering_features(model, sae, index, demo.BRIDGE, [" gate"], n=3, progress=False)
    features = found.index.tolist()[:2]
    screening = demo.screen(model, sae, features, index)
    assert set(screening.index) == set(features) and screening["bridge"].between(0, 1).all()
    assert set(screening["strength"]) <= set(demo.STRENGTHS)
    better = screening[["reads_well", "bridge", "golden_gate"]].apply(tuple, axis=1).tolist()
    assert better == sorted(better, reverse=True)
    feature = int(screening.index[0])
    study = sk.dose_response(
        model, sae, feature, demo.PROMPTS, demo.BRIDGE, [0.5], controls=2, index=index, max_new_tokens=4, progress=False
    )
    replies = demo.side_by_side(study, 0.5)
    texts = study.to_frame()
    assert list(replies.columns) == ["normal", "steered", "control"]
    for name, condition in (("normal", "none"), ("steered", "feature"), ("control", "control")):
        said = texts[texts["condition"] == condition].set_index("prompt")["text"]
        pd.testing.assert_series_equal(replies[name], said, check_names=False)
    demo.print_replies(replies)
    assert "a cat" in capsys.readouterr().out
    saes = [sae, sae]
    evaluations = sk.evaluate(model, saes, index.windows, progress=False)
    result = sk.specificity(index, feature, demo.BRIDGE, n_permutations=19, n_controls=2)
    page = demo.write_page(tmp_path / "p.html", model, saes, evaluations, index, screening, result, study, 0.5, replies)
    html = page.read_text("utf8")
    assert f"How specific feature {feature} is" in html and 'src="http' not in html
    assert "Plotly" not in html.split('<script type="module">')[0] and page.stat().st_size < 1_000_000
    assert html.index("What the model says with") < html.index("How good the autoencoders are"), "answers first"
    assert html.count('<div class="page-block page-figure"><svg') == 4, "training, evaluation, specificity, study"


@pytest.mark.real
@pytest.mark.slow
def test_the_features_of_the_packaged_sae_fit_on_a_page(tmp_path):
    """The largest part of the demo's page: all features, and cards as long as the demo's."""
    model, sae = sk.load_model(), sk.load_sae(demo.PACKAGED)
    corpus = sk.load_corpus("demo").where(part="training").take(24)
    index = sk.build_index(model, sae, corpus, out=tmp_path / "index", progress=False)
    browser = demo.explored(index, 3, range(demo.N_SCREENED))
    cards = browser.page_state()["cards"]
    assert {str(i) for i in browser.rows.index} <= set(cards) and len(cards) >= demo.N_CARDS
    page = sk.save_page(tmp_path / "p.html", "demo", [browser, index.plot(), sk.highlight(model, sae, demo.TEXT)])
    assert page.stat().st_size < 2_800_000, "the other parts of the page take less than 0.2 MB"
    assert len(browser.static_picture()) < 60_000
