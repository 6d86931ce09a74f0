"""The figures of probing draw the numbers of their results, in saekit's look."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import plotly.graph_objects as go
import pytest

import saekit as sk
from saekit.evaluation.saebench import plots
from saekit.plotting.style import BLUE, GREY, ORANGE, TEXT

from .drawn_words import HOSTILE, assert_literal


@pytest.fixture(scope="module")
def results(model, corpus):
    from conftest import tiny_sae

    sae = tiny_sae(model)
    known = {"length": 24, "progress": False}
    crossed = [{"text": f"{s} {d.text}", "style": s, "topic": d.labels["topic"]} for d in corpus for s in ("up", "on")]
    words = [f" {a}{b}{c}" for a in "cdm" for b in "aeiou" for c in "tnrsp"]
    reference = {"compute": [1e18, 1e19, 1e20, 1e21], "loss": [4.3, 3.6, 3.2, 2.97]}
    return {
        "sparse_probing": sk.sparse_probing(model, sae, corpus, label="topic", ks=(1, 2), **known),
        "probe_perturbation": sk.targeted_probe_perturbation(model, sae, corpus, label="topic", ns=(1, 4), **known),
        "spurious_removal": sk.spurious_correlation_removal(
            model, sae, sk.load_corpus(crossed), wanted="topic", spurious="style", ns=(1, 4), **known
        ),
        "absorption": sk.feature_absorption(model, sae, words=words, min_f1=0.3, progress=False),
        "ablation_sparsity": sk.ablation_sparsity(
            model, sae, corpus, n_tokens=2, n_features=3, n_following=4, length=40, progress=False
        ),
        "compute_fraction": sk.compute_fraction((3.0, 3.3), reference),
    }


def trace(fig, name, n=0):
    return [t for t in fig.data if t.name == name and t.fill != "toself"][n]


def test_sparse_probing_by_k_beside_its_baselines(results):
    r = results["sparse_probing"]
    fig = r.plot()
    for n, metric in enumerate(("balanced_accuracy", "auroc")):
        for name in ("SAE features", "random SAE's features", "dimensions of x"):
            rows = r.summary[r.summary.probe == name]
            assert list(trace(fig, name, n).x) == [1, 2] and list(trace(fig, name, n).y) == list(rows[metric])
        (flat,) = r.summary[r.summary.probe == "all of x"][metric]
        assert list(trace(fig, "all of x", n).y) == [flat, flat]
    assert fig.layout.title.text == "<b>Sparse probing of “topic”</b>"


def test_perturbation_and_removal_by_number_of_features(results):
    r = results["probe_perturbation"]
    fig = r.plot()
    assert list(trace(fig, "SAE").y) == list(r.table.score)
    assert list(trace(fig, "random SAE").y) == list(r.table.random_score)
    (heat,) = [t for t in fig.data if t.type == "heatmap"]
    assert np.array_equal(heat.z, r.drop[int(r.table.score.argmax())]) and heat.zmin == -heat.zmax
    s = results["spurious_removal"]
    fig = s.plot()
    assert list(trace(fig, "SAE").y) == list(s.table.accuracy) and trace(fig, "oracle").y[0] == s.accuracy_oracle
    assert np.array_equal(trace(fig, "SAE", 1).y, s.table.score, equal_nan=True)


def test_absorption_by_letter_and_effects_by_size(results):
    r = results["absorption"]
    rate, f1 = r.plot().data
    assert list(rate.x) == list(r.table.index) and np.array_equal(rate.y, r.table.rate.astype(float), equal_nan=True)
    assert [c == ORANGE for c in f1.marker.color] == list(r.table.reason == "")
    random, features = results["ablation_sparsity"].plot().data
    assert sum(features.y) == sum(random.y) == 6


def test_the_reference_curve_passes_through_both_losses(results):
    s = results["compute_fraction"]
    fig = s.plot()
    assert (trace(fig, "with the SAE").x[0], trace(fig, "with the SAE").y[0]) == (s.compute_sae, s.ce_sae)
    assert trace(fig, "plain models").y == pytest.approx([4.3, 3.6, 3.2, 2.97])
    curve = trace(fig, "reference curve")
    assert np.interp(np.log(s.compute_sae), np.log(curve.x), curve.y) == pytest.approx(s.ce_sae, abs=0.01)


def test_every_figure_is_small_labelled_and_see_through(results):
    for name, result in results.items():
        fig = getattr(plots, f"plot_{name}")(result)
        assert isinstance(fig, go.Figure) and len(fig.to_json()) < 60_000
        assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
        assert fig.layout.template.layout.font.color == TEXT and fig.layout.title.text.startswith("<b>")
        assert any(axis.title.text for axis in fig.select_xaxes())
        assert all(t.hovertemplate or t.hoverinfo == "skip" for t in fig.data)
        colours = set(re.findall(r'"#[0-9a-fA-F]{6}"', go.Figure(fig.data).to_json().split('"template"')[0]))
        assert colours <= {f'"{c}"' for c in (ORANGE, BLUE, GREY)}, name


def test_labels_classes_and_units_are_drawn_letter_by_letter(results):
    change = dataclasses.replace
    classes = (HOSTILE, "b")
    perturbed, absorbed = results["probe_perturbation"], results["absorption"]
    table = absorbed.table.rename(index={"c": HOSTILE}).assign(reason=HOSTILE)
    figures = {
        "sparse_probing": (change(results["sparse_probing"], label=HOSTILE), 1),
        "probe_perturbation": (change(perturbed, label=HOSTILE, classes=classes), 3),
        "spurious_removal": (
            change(results["spurious_removal"], wanted=HOSTILE, spurious=HOSTILE, notes=(HOSTILE,)),
            2,
        ),
        "absorption": (change(absorbed, table=table), 3),
        "compute_fraction": (change(results["compute_fraction"], unit=HOSTILE), 1),
    }
    for name, (result, times) in figures.items():
        assert_literal(getattr(plots, f"plot_{name}")(result), times)
