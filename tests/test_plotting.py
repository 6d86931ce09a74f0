"""Figures show the numbers of their result objects, escape what others wrote, and stay small and see-through."""

from __future__ import annotations

import ast
import dataclasses
import html
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import saekit
from saekit.activations import ExcludedTokens
from saekit.errors import DataError, SaekitError
from saekit.evaluation import Evaluation
from saekit.evaluation.comparison import Comparison
from saekit.evaluation.plots import plot_evaluation
from saekit.index.plots import activation_histogram, density_histogram
from saekit.index.records import FeatureRecord, Histogram
from saekit.plotting import image_grid
from saekit.plotting.figures import Figure
from saekit.plotting.style import BLUE, GREY, ORANGE, TEXT, figure, literal, note
from saekit.scaling.fits import fit as fit_law
from saekit.scaling.forms import LN
from saekit.scaling.plots import plot_scaling_fit
from saekit.specificity import SpecificityResult, specificity
from saekit.specificity.concepts import Concept
from saekit.specificity.plots import plot_specificity
from saekit.statistics import Estimate
from saekit.steering import SteeringStudy
from saekit.steering.plots import plot_dose_response, plot_steering_pareto
from saekit.steering.prompt_split import split_prompts
from saekit.training.plots import training_curves

from .array_index import ArrayIndex
from .drawn_words import HOSTILE, PLAIN, assert_literal


def record(silent: bool = False) -> FeatureRecord:
    counts = np.array([0, 0, 0, 0] if silent else [70, 9, 0, 1])
    edges = np.linspace(0, 0 if silent else 8, 5)
    stats = {
        "density": counts.sum() / 4000,
        "n_firings": int(counts.sum()),
        "n_documents": 12,
        "max": edges[-1],
        "silent": silent,
    }
    return FeatureRecord(
        feature=7,
        stats=stats,
        histogram=Histogram(edges=edges, counts=counts),
        top=[],
        bins=[],
        promoted=[],
        suppressed=[],
        neighbours=[],
    )


@pytest.fixture(scope="module")
def result() -> SpecificityResult:
    texts = [f"a {'Golden Gate' if i % 3 else 'toll gate'} Bridge and more words here {i}" for i in range(90)]

    def acts(strings: np.ndarray, documents: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(0)
        out = rng.random((len(strings), 5)) * (rng.random((len(strings), 5)) < 0.15)
        out[:, 0] += (strings == " Gate") * (rng.random(len(strings)) < 0.8) * rng.random(len(strings))
        out[:, 4] = 0
        return out

    index = ArrayIndex(texts, acts=acts)
    return specificity(
        index, 0, Concept.regex("Gate", ignore_case=False, name="<b>gate"), n_permutations=19, n_controls=3
    )


@pytest.fixture(scope="module")
def silent() -> SpecificityResult:
    index = ArrayIndex(["a Gate", "a gate"])
    return specificity(index, 0, Concept.regex("gate"), n_permutations=0)


@pytest.fixture(scope="module")
def study() -> SteeringStudy:
    rows: list[dict[str, Any]] = []
    for condition, strengths, features in (
        ("none", [0.0], [None]),
        ("instruction", [0.0], [None]),
        ("feature", [0.2, 0.5, 0.9], [3]),
        ("control", [0.2, 0.5, 0.9], [5, 6, 7, 8, 9]),
    ):
        for strength in strengths:
            for feature in features:
                rows += [
                    {
                        "condition": condition,
                        "feature": feature,
                        "strength": strength,
                        "prompt": f"p{p}",
                        "seed": 0,
                        "text": "t",
                        "concept_present": condition == "feature" and p < 8 * strength,
                        "nll": 1 + strength + p / 10,
                        "repetition": 0.01,
                        "n_tokens": 9,
                        "finish_reason": "length",
                    }
                    for p in range(6)
                ]
    return SteeringStudy(
        model_name="m",
        hook_name="h",
        feature=3,
        weights={3: 1.0},
        controls=(5, 6, 7, 8, 9),
        split=split_prompts([f"p{p}" for p in range(6)]),
        direction=None,
        concept="bridge",
        strengths=(0.2, 0.5, 0.9),
        unit="norm",
        positions="all",
        temperature=0.0,
        max_new_tokens=9,
        chat=True,
        generations=pd.DataFrame(rows),
    )


@pytest.fixture(scope="module")
def evaluated() -> Evaluation:
    return Evaluation(
        l0=32.0,
        explained_variance=0.7,
        mse=1.0,
        ce_clean=3.8,
        ce_sae=4.2,
        ce_sae_everywhere=5.0,
        ce_zero=15.0,
        ce_loss_recovered=0.96,
        ce_loss_recovered_everywhere=0.89,
        kl=0.4,
        kl_everywhere=0.9,
        kl_zero=9.0,
        mse_mean=3.0,
        explained_variance_zero=-0.2,
        density=np.array([0, 0, 0.001, 0.01, 0.01, 0.3]),
        estimates={
            "l0": Estimate(32.0, n_units=95, unit="documents"),
            "explained_variance": Estimate(0.7, 0.69, 0.71, n_units=95, unit="documents"),
            "ce_loss_recovered": Estimate(0.96, 0.95, 0.97, n_units=95, unit="documents"),
        },
        interval_unit="documents",
        excluded=ExcludedTokens(n_tokens=20_100, n_special=100, n_sinks=0, norms=(), tokens=()),
        n_dead_in_training=1,
        n_tokens=20_000,
        n_scored=1,
        n_sequences=2,
        seconds=1.0,
    )


def history(n: int = 20) -> pd.DataFrame:
    step = np.arange(1, n + 1)
    columns = {
        "n_tokens": step * 2048,
        "loss": 1 / step,
        "explained_variance": 1 - 1 / step,
        "l0": 32.0,
        "dead_features": n - step,
    }
    return pd.DataFrame(columns, index=pd.Index(step, name="step"))


def traces(fig: go.Figure, name: str) -> list[Any]:
    return [t for t in fig.data if t.name == name]


def test_activation_histogram() -> None:
    fig = activation_histogram(record())
    (bars,) = fig.data
    assert list(bars.y) == [70, 9, 0, 1] and list(bars.x) == [1, 3, 5, 7]
    low, high = fig.layout.yaxis.range
    assert fig.layout.yaxis.type == "log" and 10**low < 1 and 10**high > 70  # a single firing can be seen
    assert "80 firings on 2% of tokens, in 12 documents" in fig.layout.title.subtitle.text
    opacity = [float(c.rsplit(",", 1)[1][:-1]) for c in bars.marker.color]
    assert opacity == sorted(opacity) and len(set(opacity)) == 4


def test_density_histogram_counts_every_live_feature(evaluated: Evaluation) -> None:
    features = pd.DataFrame({"density": evaluated.density})
    fig = density_histogram(SimpleNamespace(features=features, n_tokens=5000, corpus_name="demo"))  # type: ignore[arg-type]
    (bars,) = fig.data
    assert sum(bars.y) == 4
    for d, n in ((0.001, 1), (0.01, 2), (0.3, 1)):
        (at,) = np.flatnonzero(np.abs(np.array(bars.x) - math.log10(d)) <= np.array(bars.width) / 0.92 / 2 + 1e-9)[:1]
        assert n in (bars.y[at], bars.y[min(at + 1, len(bars.y) - 1)])
    assert "2 silent (33.3%) on 5,000 tokens of demo" in fig.layout.title.subtitle.text
    assert list(fig.layout.xaxis.ticktext) == ["0.1%", "1%", "10%"]


def test_training_curves() -> None:
    frame = history()
    fig = training_curves(frame)
    assert len(fig.data) == 4
    for trace, column in zip(fig.data, ("loss", "explained_variance", "l0", "dead_features"), strict=True):
        assert list(trace.y) == list(frame[column]) and list(trace.x) == list(frame.n_tokens)
    assert "explained variance 0.95, active features per token 32, dead features 0" in fig.layout.title.subtitle.text
    several = training_curves({"small": frame, "<i>large": frame * 2})
    assert len(several.data) == 8 and [t.showlegend for t in several.data].count(True) == 2
    assert (
        "&lt;i&gt;large" in several.data[4].hovertemplate and several.data[0].line.color != several.data[4].line.color
    )
    assert len(training_curves(frame[["loss", "l0"]]).data) == 2
    with pytest.raises(DataError, match="no training metrics to draw"):
        training_curves(pd.DataFrame({"time": [1]}))


def test_specificity(result: SpecificityResult) -> None:
    fig = result.plot()
    (curve,) = traces(fig, "feature 0, 95% interval over documents")
    assert list(curve.x) == list(result.curve.recall) and list(curve.y) == list(result.curve.precision)
    (end,) = traces(fig, "wherever it fires")
    assert (end.x[0], end.y[0]) == pytest.approx((result.recall.value, result.precision.value))
    (base,) = traces(fig, "base rate")
    assert list(base.y) == [result.base_rate.value] * 2
    lines = [t for t in traces(fig, "matched features") if t.xaxis == "x"]
    assert len(lines) == len(result.controls) == 3 and [t.showlegend for t in lines] == [True, False, False]
    assert all(t.line.color == "rgba(138,138,138,0.7)" for t in lines)
    (bars,) = [t for t in fig.data if t.type == "bar"]
    assert 0 <= result.bins.fraction.min() < result.bins.fraction.max()
    assert np.array_equal(bars.y, result.bins.fraction, equal_nan=True)
    assert np.allclose(bars.error_y.array, result.bins.fraction_high - result.bins.fraction, equal_nan=True)
    (steps,) = [t for t in traces(fig, "matched features") if t.xaxis == "x2"]
    assert np.array_equal(steps.y[::3], result.bins.controls_fraction, equal_nan=True)
    middle = (result.bins.low + result.bins.high) / 2
    assert np.allclose((steps.x[::3] + steps.x[1::3]) / 2, middle) and np.isnan(steps.x[2::3]).all()
    assert fig.layout.title.subtitle.text == result.summary
    assert "&lt;b&gt;gate" in fig.layout.title.text


def test_specificity_of_a_silent_feature_says_so(silent: SpecificityResult) -> None:
    fig = silent.plot()
    assert not fig.data and "never fires" in fig.layout.annotations[0].text


def test_dose_response(study: SteeringStudy) -> None:
    fig = study.plot()
    summary = study.summary
    for name, condition in (("feature 3", "feature"), ("5 control features", "control")):
        rate, nll = [t for t in traces(fig, name) if t.mode == "lines+markers"]
        here = summary[summary.condition == condition]
        assert list(rate.x) == [0.2, 0.5, 0.9] and list(rate.y) == list(here.rate) and list(nll.y) == list(here.nll)
        bands = [t for t in traces(fig, name) if t.fill == "toself"]
        assert list(bands[0].y) == [*here.rate_high, *reversed(list(here.rate_low))] and bands[0].mode == "lines"
    assert list(traces(fig, "unsteered")[0].y) == [0, 0] and len(traces(fig, "instruction")) == 2
    assert study.recommended == 0.9 and [s.x0 for s in fig.layout.shapes] == [0.9, 0.9]
    assert (
        fig.layout.title.subtitle.text
        == "recommended strength 0.9 × the residual norm; 95 % intervals over 6 prompts and 5 features"
    )
    first = summary[summary.condition == "feature"].iloc[0]
    hover = next(t for t in traces(fig, "feature 3") if t.mode == "lines+markers").customdata[0][0]
    assert hover == f"[{first.rate_low:.0%}, {first.rate_high:.0%}], 6 prompts"
    assert fig.layout.xaxis2.title.text == "strength (× the residual norm)"


def test_steering_pareto(study: SteeringStudy) -> None:
    fig = study.plot("pareto")
    summary = study.summary.set_index("condition")
    for name, condition in (("feature 3", "feature"), ("5 control features", "control")):
        [trace] = traces(fig, name)
        here = summary.loc[condition]
        assert list(trace.x) == list(here.nll) and list(trace.y) == list(here.rate)
        assert list(trace.text) == ["0.2", "0.5", "0.9"]
        assert list(trace.error_y.array) == list(here.rate_high - here.rate)
    assert list(traces(fig, "feature 3")[0].marker.line.width) == [0, 0, 3], "the recommended strength is ringed"
    assert list(traces(fig, "unsteered")[0].y) == [0] and len(traces(fig, "instruction")) == 1
    assert fig.layout.shapes[0].x0 == pytest.approx(summary.loc["none", "nll"] + 1.5)
    assert "ringed: recommended, 0.9 × the residual norm" in fig.layout.title.subtitle.text
    with pytest.raises(SaekitError, match="unknown plot 'parato'; did you mean 'pareto'"):
        study.plot("parato")  # type: ignore[arg-type]


def test_evaluation(evaluated: Evaluation) -> None:
    fig = plot_evaluation(evaluated)
    loss, density = fig.data
    assert list(loss.y) == [3.8, 4.2, 5.0, 15.0] and sum(density.y) == 4
    assert (
        "explained variance 0.700 [0.690, 0.710], loss recovered 0.960 [0.950, 0.970]; 95 documents"
        in fig.layout.title.subtitle.text
    )
    assert fig.layout.annotations[0].text == "32.0 active per token, 2 of 6 silent on this text (1 dead in training)"


def test_every_figure_is_small_labelled_and_see_through(
    result: SpecificityResult, study: SteeringStudy, evaluated: Evaluation
) -> None:
    silent_index = SimpleNamespace(features=pd.DataFrame({"density": [0.0, 0.0]}), n_tokens=5, corpus_name="demo")
    figures = [
        activation_histogram(record()),
        activation_histogram(record(silent=True)),
        plot_specificity(result),
        density_histogram(silent_index),
        training_curves(history()),
        plot_dose_response(study),  # type: ignore[arg-type]
        plot_evaluation(evaluated),
    ]
    for fig in figures:
        assert isinstance(fig, Figure)
        assert len(fig.to_json()) < 60_000 and 1_000 < len(fig.static_picture()) < 50_000
        assert fig.layout.template.layout.paper_bgcolor == fig.layout.template.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert fig.layout.template.layout.font.color == TEXT and fig.layout.title.text.startswith("<b>")
        labels = [axis.title.text for axis in fig.select_xaxes()] + [a.text for a in fig.layout.annotations]
        assert any(labels)
        for trace in fig.data:
            assert trace.hovertemplate or trace.hoverinfo == "skip"
        colours = {
            c.upper() for c in re.findall(r'"#[0-9a-fA-F]{6}"', go.Figure(fig.data).to_json().split('"template"')[0])
        }
        assert colours <= {f'"{c}"' for c in (ORANGE, BLUE, GREY)}


# ---- words of others ----------------------------------------------------------------------------------------------


def test_a_word_is_drawn_letter_by_letter() -> None:
    assert html.unescape(literal(HOSTILE)) == PLAIN
    assert literal("half \ud800 a character") == "half \ufffd a character"
    assert literal("golden gate, 50% of 12") == "golden gate, 50% of 12"
    assert literal("\"a\" 'b'") == "\"a\" 'b'", "plotly knows no entity for a quotation mark"
    fig = figure(HOSTILE, HOSTILE)
    note(fig, HOSTILE)
    assert_literal(fig, times=3)


@pytest.mark.slow
def test_figures_draw_names_letter_by_letter(result: SpecificityResult, study: SteeringStudy) -> None:
    assert_literal(training_curves({HOSTILE: history(), "b": history()}), times=8)
    index = SimpleNamespace(features=pd.DataFrame({"density": [0.5]}), n_tokens=5, corpus_name=HOSTILE)
    assert_literal(density_histogram(index))  # type: ignore[arg-type]
    concept = Concept.regex("Gate", name=HOSTILE)
    assert_literal(plot_specificity(dataclasses.replace(result, concept=concept)))
    directed = study.generations.replace({"condition": {"control": "direction"}})
    named = dataclasses.replace(study, concept=HOSTILE, direction=HOSTILE, controls=(), generations=directed)
    assert_literal(plot_dose_response(named), times=5)
    assert_literal(plot_steering_pareto(named), times=3)
    assert_literal(
        image_grid(np.ones((2, 2, 2)), HOSTILE, HOSTILE, row_names=[HOSTILE], column_names=["a", HOSTILE]), 4
    )
    frame = pd.DataFrame(
        {
            "architecture": HOSTILE,
            "hook": [HOSTILE, "a"],
            "l0": [1.0, 2.0],
            "explained_variance": [0.5, 0.6],
            "measured_on": "held-out text",
            "d_sae": 8,
            "n_units": 20,
            "unit": "documents",
        },
        index=[HOSTILE, "b"],
    )
    assert_literal(Comparison(frame=frame, batch_tokens=None).plot("explained_variance"), times=4)
    runs = pd.DataFrame({"width": [64, 128, 256, 512, 1024], "loss": [0.6, 0.5, 0.42, 0.36, 0.31]})
    law = fit_law(LN, runs)
    form = dataclasses.replace(law.form, formula=HOSTILE)
    assert_literal(plot_scaling_fit(dataclasses.replace(law, form=form)), times=2)


def test_words_are_made_literal_in_one_place_only() -> None:
    package = Path(saekit.__file__).parent
    drawing = [p for p in package.rglob("*.py") if p.name == "plots.py" or p.parent.name == "plotting"]
    own = [p.relative_to(package).as_posix() for p in drawing if re.search(r"\bescape\(", p.read_text("utf8"))]
    assert sorted(own) == ["plotting/figures.py", "plotting/picture_svg.py", "plotting/style.py"], (
        "for HTML and SVG too"
    )
    made = {p.relative_to(package).as_posix() for p in package.rglob("*.py") if makes_figures(p)}
    assert made <= {p.relative_to(package).as_posix() for p in drawing}, "figures are drawn in plots.py"


def makes_figures(path: Path) -> bool:
    """Whether a module imports plotly, but for annotations and its script."""
    text = path.read_text("utf8")
    if path.name == "page.py" or "plotly" not in text:
        return False
    tree = ast.parse(text)
    guarded = {id(n) for i in ast.walk(tree) if isinstance(i, ast.If) for n in ast.walk(i)}
    imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) and id(n) not in guarded]
    return any(re.match(r"(from|import) plotly\b", ast.unparse(n)) for n in imports)
