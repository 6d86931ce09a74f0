"""sk.compare: what a metric was measured on, what differs between SAEs, and who beats whom."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.evaluation.comparison import labels
from saekit.evaluation.pareto import HELD_OUT, TRAINING, pareto_optimal
from saekit.plotting.style import BLUE, ORANGE, PALETTE


def config(activation="topk", k=4, **fields):
    k = k if activation in ("topk", "batchtopk") else None
    return sk.SAEConfig(d_in=32, d_sae=64, activation=activation, k=k, **fields)


@pytest.fixture(scope="module")
def trained(model, corpus):
    run = sk.TrainConfig(n_tokens=1280, batch_size=64, context_size=16, buffer_tokens=256, lr=1e-3)
    saes = [config(k=2), config(k=4), config(k=8), config("batchtopk"), config("relu", sparsity_coefficient=3.0)]
    return sk.train(model, corpus, hook_name=HOOK, sae=saes, config=run, progress=False)


@pytest.fixture(scope="module")
def evaluated(model, corpus, trained):
    return [sk.evaluate(model, s, corpus.take(12), length=32, progress=False) for s in trained]


def drawn(fig, mode):
    return [t for t in fig.data if t.mode == mode]


# ---- the frame ----------------------------------------------------------------------------------------------------


def test_a_run_gives_its_own_comparison(trained):
    frame = trained.to_frame()
    assert frame.index.tolist() == ["topk, k 2", "topk, k 4", "topk, k 8", "batchtopk, k 4", "relu, coefficient 3"]
    assert frame["architecture"].tolist() == ["topk"] * 3 + ["batchtopk", "relu"]
    assert frame["k"].tolist()[:4] == [2, 4, 8, 4] and frame["k"].isna().tolist() == [False] * 4 + [True]
    assert set(frame["hook"]) == {HOOK} and set(frame["d_sae"]) == {64} and set(frame["n_tokens"]) == {1280}
    assert frame["coefficient"].iloc[4] == 3.0 and frame["coefficient"].iloc[:4].isna().all()
    for (_, row), sae in zip(frame.iterrows(), trained, strict=True):
        last = sae.history.iloc[-1]
        for name in ("l0", "explained_variance", "loss"):
            assert row[name] == last[name]
        assert row["mse"] == pytest.approx(last["mse"] / 32) and row["dead_fraction"] == last["dead_features"] / 64


def test_training_metrics_and_held_out_metrics_are_labelled(trained, evaluated):
    training, held_out = trained.to_frame(), sk.compare(trained, evaluated).to_frame()
    assert set(training["measured_on"]) == {TRAINING} and set(held_out["measured_on"]) == {HELD_OUT}
    assert "measured on the last training batch (64 tokens), not on held-out text" in repr(trained)
    assert "measured on held-out text, intervals over 12 documents" in repr(sk.compare(trained, evaluated))
    assert held_out["loss"].isna().all(), "a training loss must not stand beside held-out metrics"
    for row, e in zip(held_out.itertuples(), evaluated, strict=True):
        assert (row.l0, row.explained_variance, row.mse, row.kl) == (e.l0, e.explained_variance, e.mse, e.kl)
        assert row.silent_fraction == e.n_silent / 64 and (row.n_units, row.unit) == (12, "documents")
        assert row.dead_fraction == e.n_dead_in_training / 64, "beside it what training left dead"
        assert (row.ce_loss_recovered_low, row.ce_loss_recovered_high) == e.intervals["ce_loss_recovered"]


def test_both_kinds_of_mse_are_in_one_unit(model, corpus, trained, evaluated):
    frames = trained.to_frame(), sk.compare(trained, evaluated).to_frame()
    ratio = frames[0]["mse"] / frames[1]["mse"]
    assert ((ratio > 0.5) & (ratio < 2)).all()  # summed over 32 dimensions it would be 32


def test_a_mixture_is_called_one_and_not_compared(trained, evaluated):
    mixed = sk.compare(trained, [evaluated[0], None, None, *evaluated[3:]])
    assert "not to be compared" in mixed.note and "measured_on" in repr(mixed)
    frame = mixed.to_frame()
    assert frame["measured_on"].tolist() == [HELD_OUT, TRAINING, TRAINING, HELD_OUT, HELD_OUT]
    poor = replace(evaluated[0], l0=9.0, explained_variance=-1.0)  # beaten by the other, if they were compared
    assert sk.compare(trained[:2], [poor, None]).to_frame()["pareto"].tolist() == [True, True]
    assert sk.compare(trained[:2], [poor, evaluated[1]]).to_frame()["pareto"].tolist() == [False, True]


def test_saved_saes_compare_as_they_did(trained, tmp_path):
    for i, sae in enumerate(trained):
        sae.save(tmp_path / str(i))
    loaded = sk.compare([sk.load_sae(tmp_path / str(i)) for i in range(len(trained))])
    pd.testing.assert_frame_equal(loaded.to_frame(), trained.to_frame())


def test_an_sae_that_was_not_measured_has_no_metrics():
    frame = sk.compare([sk.SAE(config())]).to_frame()
    assert frame["measured_on"].item() == "nothing" and frame[["l0", "explained_variance", "mse"]].isna().all().all()
    assert not frame["pareto"].item()
    assert not sk.compare([sk.SAE(config())]).plot().data


def test_the_frame_is_a_copy(trained):
    comparison = sk.compare(trained)
    mine = comparison.to_frame()
    mine.loc[:, "l0"] = 0.0
    assert (comparison.to_frame()["l0"] > 0).all()


def test_bad_requests(trained, evaluated):
    with pytest.raises(ConfigError, match="there is nothing to compare"):
        sk.compare([])
    with pytest.raises(MismatchError, match=r"differ in number\n.*2\n.*5, one for each"):
        sk.compare(trained, evaluated[:2])
    with pytest.raises(MismatchError, match=r"evaluation 0 is of another SAE\n.*64 features\n.*16 features"):
        sk.compare([sk.SAE(sk.SAEConfig(d_in=32, d_sae=16, k=2))], evaluated[:1])
    with pytest.raises(UnknownNameError, match="did you mean 'explained_variance'"):
        sk.compare(trained).plot("explained_varianc")
    with pytest.raises(DataError, match=r"no SAE has ce_loss_recovered[\s\S]*sk.evaluate"):
        sk.compare(trained).plot("ce_loss_recovered")


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ([config()], ["topk"]),
        ([config(), config()], ["topk", "topk (2)"]),
        ([config(), config("relu")], ["topk, k 4", "relu, L0 4"]),
        ([config(seed=0), config(seed=1)], ["topk, seed 0", "topk, seed 1"]),
        ([config(hook_name="a"), config(hook_name=("a", "b"))], ["topk, a", "topk, a + b"]),
        ([config(), config(aux_coefficient=0.5)], ["topk, aux_coefficient 0.03125", "topk, aux_coefficient 0.5"]),
        ([config("jumprelu", target_l0=v) for v in (8.0, 9.5)], ["jumprelu, L0 8", "jumprelu, L0 9.5"]),
        ([config(matryoshka=(16, 64)), config()], ["topk, nested 16 + 64", "topk"]),
    ],
)
def test_names_say_what_differs_and_nothing_else(configs, expected):
    assert labels(configs) == expected


# ---- who beats whom -----------------------------------------------------------------------------------------------


def test_pareto_optimal_agrees_with_looking_at_every_pair():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "hook": rng.choice(["a", "b"], 60),
            "l0": rng.integers(1, 12, 60),
            "explained_variance": rng.integers(0, 9, 60) / 9,
        }
    )
    frame.loc[7, "l0"] = np.nan
    frame.index = [f"sae {i}" for i in range(60)]
    rows = list(frame.itertuples())

    def beaten(me):
        others = [o for o in rows if o.hook == me.hook]
        return any(
            o.l0 <= me.l0
            and o.explained_variance >= me.explained_variance
            and (o.l0 < me.l0 or o.explained_variance > me.explained_variance)
            for o in others
        )

    expected = [not np.isnan(r.l0) and not beaten(r) for r in rows]
    assert pareto_optimal(frame, ["hook"]).tolist() == expected
    assert 2 < sum(expected) < 30


# ---- the picture --------------------------------------------------------------------------------------------------


def test_each_architecture_has_a_colour_a_symbol_and_a_line_through_its_best(trained):
    fig = trained.plot()
    marks = {t.name: t for t in drawn(fig, "markers")}
    assert list(marks) == ["topk", "batchtopk", "relu"]
    assert [t.marker.color for t in marks.values()] == list(PALETTE[:3]) and PALETTE[:2] == (ORANGE, BLUE)
    assert len({t.marker.symbol for t in marks.values()}) == 3
    frame = trained.to_frame()
    assert list(marks["topk"].y) == frame["explained_variance"].iloc[:3].tolist()
    (line,) = drawn(fig, "lines")
    best = frame[frame["architecture"] == "topk"]
    best = best[pareto_optimal(best, ["architecture"])].sort_values("l0")
    assert list(line.x) == best["l0"].tolist() and line.line.color == ORANGE
    assert fig.layout.xaxis.type == "log" and "log scale" in fig.layout.xaxis.title.text
    assert fig.layout.yaxis.title.text == "explained variance (last training batch)"
    assert "not on held-out text" in fig.layout.title.subtitle.text


def test_a_beaten_sae_is_off_the_line(trained, evaluated):
    worse = replace(evaluated[1], explained_variance=evaluated[0].explained_variance - 0.05)
    fig = sk.compare(trained, [evaluated[0], worse, *evaluated[2:]]).plot("explained_variance")
    (line,) = [t for t in drawn(fig, "lines") if t.name == "topk"]
    assert list(line.x) == [evaluated[0].l0, evaluated[2].l0]


def test_evaluations_give_loss_recovered_with_intervals(trained, evaluated):
    fig = sk.compare(trained, evaluated).plot()
    assert fig.layout.yaxis.title.text == "cross-entropy loss recovered (held-out text)"
    for mark, e in ((t, evaluated[i]) for t, i in zip(drawn(fig, "markers")[1:], (3, 4), strict=True)):
        low, high = e.intervals["ce_loss_recovered"]
        assert mark.y[0] + mark.error_y.array[0] == pytest.approx(high)
        assert mark.y[0] - mark.error_y.arrayminus[0] == pytest.approx(low)
        assert mark.x[0] + mark.error_x.array[0] == pytest.approx(e.intervals["l0"][1])
    assert drawn(trained.plot(), "markers")[0].error_y.array is None, "one batch has no interval"


def test_a_mixture_is_drawn_apart(trained, evaluated):
    fig = sk.compare(trained, [*evaluated[:2], None, None, evaluated[4]]).plot()
    names = {t.name: t.marker.symbol for t in drawn(fig, "markers")}
    assert names["topk, held-out text"] == "circle" and names["topk, last training batch"] == "circle-open"
    assert fig.layout.yaxis.title.text == "explained variance (see the legend)"
    assert all(set(t.x) <= {evaluated[0].l0, evaluated[1].l0} for t in drawn(fig, "lines") if t.name.startswith("topk"))


def test_hook_points_are_not_mixed(trained, evaluated):
    elsewhere = sk.SAE(config(hook_name="blocks.1.hook_resid_post"))
    fig = sk.compare([*trained[:3], elsewhere], [*evaluated[:3], replace(evaluated[0], l0=1.0)]).plot()
    assert [len(t.x) for t in drawn(fig, "markers")] == [3, 1]
    assert {t.name for t in drawn(fig, "markers")} == {f"topk, {HOOK}", "topk, blocks.1.hook_resid_post"}


def test_what_has_no_place_on_the_axis_is_said(trained, evaluated):
    silent = replace(evaluated[0], l0=0.0)
    fig = sk.compare(trained, [silent, *evaluated[1:]]).plot()
    assert fig.layout.title.subtitle.text == (
        "measured on held-out text, intervals over 12 documents; 1 without a place left out"
    )
    assert sum(len(t.x) for t in drawn(fig, "markers")) == 4
    nothing = sk.compare(trained[:1], [silent]).plot()
    assert not nothing.data and "No SAE has a positive L0" in nothing.layout.annotations[0].text


def test_hostile_names_are_text(trained, evaluated):
    sae = sk.SAE(config(hook_name="<b>blocks</b>"))
    fig = sk.compare([trained[0], sae], [evaluated[0], evaluated[1]]).plot()
    assert not re.search(r"<b>blocks", "".join(f"{t.customdata} {t.name}" for t in fig.data))
    assert isinstance(fig, go.Figure) and len(fig.to_json()) < 60_000
