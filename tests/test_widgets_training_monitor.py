"""TrainingMonitor's Python side: what it keeps of a run, when it updates the front end, what it prints as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import saekit as sk
from conftest import HOOK
from saekit.errors import UnknownNameError
from saekit.training.loggers import RunInfo
from saekit.widgets import training_monitor
from saekit.widgets.page import plain
from saekit.widgets.training_monitor import CURVES, MAX_POINTS, density_histogram


class Clock:
    """time.perf_counter that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training_monitor, "time", clock)
    return clock


def info(n_saes: int = 2, n_steps: int = 1000, **fields: Any) -> RunInfo:
    saes = tuple(sk.SAEConfig(d_in=8, d_sae=100, activation="topk", k=k + 1) for k in range(n_saes))
    return RunInfo(saes=saes, config=sk.TrainConfig(n_tokens=n_steps * 10, batch_size=10), **fields)


def rows(step: int, n_saes: int = 2, **changes: float) -> list[dict[str, Any]]:
    row = {
        "step": step,
        "n_tokens": step * 10,
        "loss": 1.0 / step,
        "explained_variance": 1 - 1.0 / step,
        "l0": 4.0,
        "dead_features": 25,
        "tokens_per_second": 500,
        "lr": 1e-3,
        "mse": 2.0,
    }
    return [{"sae": i, **row, "loss": (i + 1) / step, **changes} for i in range(n_saes)]


def no_densities() -> list[None]:
    return [None, None]


def messages(monitor: sk.TrainingMonitor) -> list[set[str]]:
    """The names in each message to the front end from now on."""
    sent: list[set[str]] = []
    monitor.send_state = lambda key=None: sent.append({key} if isinstance(key, str) else set(key or ()))
    return sent


def test_a_real_run_is_kept_whole(model: Any, corpus: Any) -> None:
    monitor = sk.TrainingMonitor()
    config = sk.TrainConfig(n_tokens=1280, batch_size=64, context_size=16, buffer_tokens=256, log_every=4)
    saes = [sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=k) for k in (2, 4)]
    trained = sk.train(model, corpus, hook_name=HOOK, sae=saes, config=config, progress=False, loggers=[monitor])
    assert (monitor.status, monitor.step, monitor.n_steps, monitor.n_tokens) == ("finished", 20, 20, 1280)
    assert monitor.names == ["topk, k 2", "topk, k 4"] and monitor.total_tokens == 1280
    for i, sae in enumerate(trained):
        curves = monitor.curves().loc[i]
        assert curves.index.tolist() == sae.history.index.tolist()
        for name in ("n_tokens", "loss", "explained_variance", "l0", "lr", "tokens_per_second"):
            np.testing.assert_allclose(curves[name], sae.history[name].to_numpy(float), rtol=1e-6)
        np.testing.assert_allclose(curves["dead_fraction"], sae.history["dead_features"] / 64, rtol=1e-6)
        assert monitor.densities[i] == density_histogram(sae.density.numpy())


@pytest.mark.slow
def test_long_histories_are_thinned_and_keep_both_ends(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    monitor.start(info(n_steps=10_000))
    for step in range(1, 10_001):
        monitor.record(rows(step), no_densities)
        clock.now += 0.1
        if step in (1, 2, MAX_POINTS - 1, MAX_POINTS, MAX_POINTS + 1, 5000):
            shown = monitor.curves().loc[0].index
            assert len(shown) <= MAX_POINTS and shown[0] == 1 and shown.is_monotonic_increasing and shown.is_unique
    monitor.finish("finished", "")
    curves = monitor.curves()
    steps = curves.loc[0].index.to_numpy()
    assert (steps[0], steps[-1]) == (1, 10_000) and MAX_POINTS / 2 - 1 <= len(steps) <= MAX_POINTS
    assert len(set(np.diff(steps)[:-1])) == 1, "evenly spaced but for the last"
    np.testing.assert_allclose(curves.loc[1]["loss"], 2 / steps, rtol=1e-6)
    assert sum(len(v) for v in monitor.columns.values()) < 4 * MAX_POINTS * (3 + 2 * len(CURVES))


def test_the_front_end_is_updated_at_most_four_times_a_second_and_of_all_in_the_end(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    monitor.start(info())
    sent = messages(monitor)
    for step in range(1, 1000):
        monitor.record(rows(step), no_densities)
        clock.now += 0.01
    assert 35 <= len(sent) <= 40
    assert all("columns" in message for message in sent)
    assert monitor.step < 999
    monitor.finish("interrupted", "")
    assert len(sent) <= 41 and (monitor.step, monitor.curves().loc[0].index[-1]) == (999, 999)


def test_densities_are_asked_for_once_a_second_and_at_the_end(clock: Clock) -> None:
    monitor, asked = sk.TrainingMonitor(), []

    def densities() -> list[np.ndarray]:
        asked.append(clock.now)
        return [np.full(100, len(asked) / 1000)] * 2

    monitor.start(info())
    for step in range(1, 500):
        monitor.record(rows(step), densities)
        clock.now += 0.01
    assert len(asked) == 5
    monitor.finish("finished", "")
    assert len(asked) == 6 and monitor.densities[0] == density_histogram(np.full(100, 0.006))
    monitor.start(info())
    monitor.finish("failed", "at once")
    assert len(asked) == 6 and monitor.densities == []


def test_a_second_run_takes_the_place_of_the_first_and_a_resumed_one_shows_what_was(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    monitor.start(info())
    monitor.record(rows(10), no_densities)
    monitor.finish("failed", "DataError: it broke")
    earlier = tuple(row for step in (10, 20, 30) for row in rows(step, 1))
    monitor.start(info(1, rows=earlier, n_steps_done=35))
    assert (monitor.status, monitor.message, monitor.step, monitor.rate) == ("running", "", 35, 0)
    assert monitor.curves().index.tolist() == [(0, 10), (0, 20), (0, 30)]
    assert monitor.seconds_left is None
    monitor.record(rows(40, 1), no_densities)
    assert monitor.seconds_left == pytest.approx((10_000 - 400) / 500)


def test_what_is_not_finite_stays_so(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    monitor.start(info())
    monitor.record(rows(10, loss=math.nan, l0=math.inf), no_densities)
    curves = monitor.curves()
    assert curves["loss"].isna().all() and np.isinf(curves["l0"]).all()
    assert "not a number" in str(monitor) and "inf" in str(monitor)
    plain(monitor.page_state())


@pytest.mark.parametrize("d_sae", [1, 64])
@pytest.mark.parametrize("kind", ["some", "none", "all", "rare"])
def test_density_histogram_agrees_with_counting(kind: str, d_sae: int) -> None:
    rng = np.random.default_rng(d_sae)
    shares = {
        "some": np.where(rng.random(d_sae) < 0.3, 0, 10 ** -(5 * rng.random(d_sae))),
        "none": np.zeros(d_sae),
        "all": np.ones(d_sae),
        "rare": np.full(d_sae, 3e-9),
    }[kind].astype(np.float32)
    got = density_histogram(shares)
    edges = [10 ** (got["low"] + i / 4) for i in range(len(got["counts"]) + 1)]
    assert edges[-1] == 1 and got["never"] == sum(s == 0 for s in shares)
    for i, n in enumerate(got["counts"]):
        last = i == len(got["counts"]) - 1
        assert n == sum(edges[i] <= s < edges[i + 1] or (last and s == 1) for s in shares if s > 0)
    assert sum(got["counts"]) + got["never"] == d_sae


def test_text_in_every_state(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    assert str(monitor) == repr(monitor) == "TrainingMonitor: waiting for a run: sk.train(..., loggers=[monitor])"
    monitor.start(info())
    assert str(monitor) == "TrainingMonitor: running, step 0 of 1000"
    clock.now += 8
    monitor.record(rows(400, tokens_per_second=5_250), no_densities)
    lines = str(monitor).splitlines()
    assert lines[0] == "TrainingMonitor: running, step 400 of 1000, 5.2k tokens/s, 8 seconds, about 1 s left"
    assert lines[1].split() == ["loss", "explained_variance", "l0", "dead_fraction", "lr"]
    assert lines[2].split() == ["topk,", "k", "1", "0.0025", "0.9975", "4", "0.25", "0.001"]
    assert monitor._repr_mimebundle_()[0]["text/plain"] == str(monitor)
    monitor.finish("failed", "DataError: it broke\n  seen: 3")
    assert "left" not in str(monitor) and str(monitor).splitlines()[1] == "  DataError: it broke"
    monitor.names = ["x" * 200, "y"]
    assert max(map(len, str(monitor).splitlines())) < 120


def test_an_offline_page_marks_that_nobody_answers(clock: Clock) -> None:
    monitor = sk.TrainingMonitor()
    monitor.start(info())
    monitor.record(rows(10), no_densities)
    state = monitor.page_state()
    assert state["live"] is False and monitor.live and state["status"] == "running"
    assert {"columns", "densities", "names", "step"} <= set(state)


def test_unknown_keywords_and_statuses_are_refused() -> None:
    with pytest.raises(TypeError, match="unknown keyword 'statu'; did you mean 'status'"):
        sk.TrainingMonitor(statu="running")
    with pytest.raises(UnknownNameError, match="did you mean 'finished'"):
        sk.TrainingMonitor().status = "finishd"
