"""Laws are found where they hold: parameters, irreducible losses and best widths of losses made by formula."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import saekit as sk
from saekit.errors import DataError
from saekit.scaling.fits import fit
from saekit.scaling.flop import training_flop
from saekit.scaling.forms import LN, LNK, SURFACE, first_guesses, log_terms
from saekit.scaling.least_squares import LeastSquares

D_IN = 64
GAO = {"alpha": -0.50, "beta_k": 0.26, "beta_n": -0.35, "gamma": -0.042, "zeta": -1.32, "eta": -0.085}
"""As published for GPT-4 (Gao et al. 2024, 3.1.4), but steeper in width: a small grid then identifies the terms."""
ROAD = {"alpha": 1.2, "beta_n": -0.5, "delta": 2.5, "beta_t": -0.4, "zeta": np.log(0.1)}


def runs(form, values, grid, scatter=0.0, seed=0):
    """A table of runs on the product of the grid's values, with losses by formula, written out once more here."""
    frame = pd.MultiIndex.from_product(grid.values(), names=list(grid)).to_frame(index=False)
    n, p = frame["width"], values
    if form is SURFACE:
        loss = np.exp(p["alpha"]) * n ** p["beta_n"] + np.exp(p["delta"]) * frame["n_tokens"] ** p["beta_t"]
        loss += np.exp(p["zeta"])
    else:
        k = frame["sparsity"] if form is LNK else 1.0
        p = {"beta_k": 0.0, "gamma": 0.0, "eta": 0.0, **p}
        loss = np.exp(p["alpha"]) * k ** p["beta_k"] * n ** (p["beta_n"] + p["gamma"] * np.log(k))
        loss += np.exp(p["zeta"]) * k ** p["eta"]
    noise = np.random.default_rng(seed).normal(size=len(frame))
    return frame.assign(loss=loss * np.exp(scatter * noise))


LNK_GRID = {"width": [512, 2048, 8192, 32768], "sparsity": [16, 32, 64, 128]}
ROAD_GRID = {"width": [128, 512, 2048, 8192], "n_tokens": [4096, 32768, 262144]}


def study(frame, **fields):
    frame = frame if "sparsity" in frame else frame.assign(sparsity=8.0)
    frame = frame if "n_tokens" in frame else frame.assign(n_tokens=4096)
    return sk.ScalingStudy(frame=frame, d_in=D_IN, batch_size=64, **fields)


# ---- laws of losses made by formula -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "values", "grid"),
    [
        (LNK, GAO, LNK_GRID),
        (SURFACE, ROAD, ROAD_GRID),
        (LN, {"alpha": 1.0, "beta_n": -0.4, "zeta": np.log(0.1)}, {"width": [64, 128, 256, 512, 1024, 4096]}),
    ],
)
def test_exact_losses_give_back_their_parameters(form, values, grid):
    law = fit(form, runs(form, values, grid))
    assert law.parameters["value"].to_dict() == pytest.approx(values, abs=2e-3)
    assert law.rms_residual < 1e-5 and law.r_squared > 1 - 1e-6


def test_an_interval_ends_where_a_fit_with_the_parameter_held_there_is_as_bad_as_the_f_quantile_allows():
    from scipy.optimize import minimize
    from scipy.stats import f

    frame = runs(LN, {"alpha": 1.0, "beta_n": -0.5, "zeta": np.log(0.1)}, {"width": [2**i for i in range(6, 13)]}, 0.01)
    n, log_loss = np.log(frame["width"].to_numpy(float)), np.log(frame["loss"].to_numpy())

    def cost(p):
        return np.sum((np.logaddexp(p[0] + p[1] * n, p[2]) - log_loss) ** 2)

    def best(start, held=None, at=0.0):
        free = [i for i in range(3) if i != held]

        def of(q):
            p = np.array(start, float)
            p[free], p[[held] if held is not None else []] = q, at
            return cost(p)

        options = {"maxiter": 4000, "maxfev": 4000, "fatol": 1e-14, "xatol": 1e-8}
        return minimize(of, np.array(start)[free], method="Nelder-Mead", options=options).fun

    law = fit(LN, frame)
    least = best(law.theta)
    for i, name in enumerate(LN.parameters):
        for end in law.parameters.loc[name, ["low", "high"]]:
            worse = best(law.theta, i, end) / least - 1
            assert worse * 4 == pytest.approx(f.ppf(0.95, 1, 4), rel=0.01)


def test_the_band_is_students_where_the_law_is_a_straight_line():
    """Without an irreducible loss log loss is linear in log width, and the interval of one more run is in textbooks."""
    from scipy.stats import linregress, t

    frame = runs(LN, {"alpha": 1.0, "beta_n": -0.5, "zeta": -99.0}, {"width": [2**i for i in range(6, 13)]}, 0.001)
    x = np.log(frame["width"].to_numpy(float))
    frame["loss"] *= np.exp(-0.02 * (x - x.mean()) ** 2)  # bent away from an irreducible loss
    law = fit(LN, frame)
    assert np.isnan(law.irreducible().value)
    y = np.log(frame["loss"].to_numpy())
    line = linregress(x, y)
    assert law.theta[1] == pytest.approx(line.slope, rel=1e-3)
    rest = y - line.intercept - line.slope * x
    scatter = np.sqrt(np.sum(rest**2) / law.profile.df)
    at = np.log(700.0)
    wide = scatter * np.sqrt(1 + 1 / len(x) + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    band = law.predict(width=700)
    assert np.log(band["low"].item() / band["loss"].item()) == pytest.approx(
        -wide * t.ppf(0.975, law.profile.df), rel=0.03
    )


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """benchmarks/coverage_scaling.py has more of it."""
    truth = pd.Series(ROAD)[list(SURFACE.parameters)]
    inside, foreseen = [], []
    for seed in range(30):
        law = fit(SURFACE, runs(SURFACE, ROAD, ROAD_GRID, scatter=0.005, seed=seed))
        inside.append((law.parameters["low"] <= truth) & (truth <= law.parameters["high"]))
        more = runs(SURFACE, ROAD, ROAD_GRID, scatter=0.005, seed=1000 + seed).iloc[:3]
        band = law.predict(**{name: more[name] for name in SURFACE.inputs})
        foreseen.append(((band["low"] <= more["loss"]) & (more["loss"] <= band["high"])).mean())
    assert 0.89 <= np.mean(inside) <= 1.0
    assert 0.87 <= np.mean(foreseen) <= 1.0


def test_intervals_are_as_wide_as_the_scatter_is_large():
    values, grid, widths = {"alpha": 1.0, "beta_n": -0.4, "zeta": -2.3}, {"width": [64, 128, 256, 512, 1024]}, []
    for scatter in (0.002, 0.02):
        slope = fit(LN, runs(LN, values, grid, scatter)).parameters.loc["beta_n"]
        widths.append(slope["high"] - slope["low"])
    assert widths[1] > 4 * widths[0]


def test_an_irreducible_loss_is_found_where_there_is_one_and_only_there():
    grid = {"width": [64, 128, 256, 512, 1024, 2048, 4096]}
    with_one = fit(LN, runs(LN, {"alpha": 1.0, "beta_n": -0.5, "zeta": np.log(0.1)}, grid, 0.005))
    without = fit(LN, runs(LN, {"alpha": 1.0, "beta_n": -0.5, "zeta": -99.0}, grid, 0.005))
    floor, nothing = with_one.irreducible(), without.irreducible()
    assert 0.09 < floor.low < 0.1 < floor.high < 0.11
    assert np.isnan(nothing.value) and np.isnan(nothing.low) and 0 < nothing.high < 0.01
    assert nothing.reason.startswith("not identified: the runs fit as well with none; at most 0.00")
    zeta = without.parameters.loc["zeta"]
    assert np.isnan(zeta["value"]) and zeta["reason"].startswith("not identified") and zeta["high"] < np.log(0.01)
    assert "irreducible loss not identified" in repr(without) and "nan" not in repr(without)
    assert without.parameters.loc["beta_n", "low"] < -0.5 < without.parameters.loc["beta_n", "high"]
    law = fit(LNK, runs(LNK, GAO, LNK_GRID))
    assert law.irreducible(64).value == pytest.approx(np.exp(-1.32) * 64**-0.085, rel=1e-3)


def test_the_solver_ends_where_a_general_minimiser_ends():
    from scipy.optimize import minimize

    frame = runs(SURFACE, ROAD, ROAD_GRID, scatter=0.02)
    columns = {n: frame[n].to_numpy(float) for n in SURFACE.inputs}
    log_loss = np.log(frame["loss"].to_numpy())
    losses = LeastSquares(SURFACE, columns, log_loss)
    theta = losses.solve(list(first_guesses(SURFACE, columns, log_loss)))

    def cost(p):
        n, t = columns["width"], columns["n_tokens"]
        loss = np.exp(p[0]) * n ** p[1] + np.exp(p[2]) * t ** p[3] + np.exp(p[4])
        return np.sum((np.log(loss) - log_loss) ** 2)

    slow = minimize(
        cost, list(ROAD.values()), method="Nelder-Mead", options={"maxiter": 6000, "fatol": 1e-14, "xatol": 1e-9}
    )
    assert cost(theta) <= slow.fun * (1 + 1e-6)
    assert cost(theta) == pytest.approx(slow.fun, rel=1e-3)


def test_a_law_of_the_wrong_form_shows_in_its_residuals():
    frame = runs(LN, {"alpha": 1.0, "beta_n": -0.4, "zeta": -2.3}, {"width": [64, 128, 256, 512, 1024, 2048]})
    good = fit(LN, frame)
    frame.loc[2, "loss"] *= 1.3
    bad = fit(LN, frame)
    assert good.rms_residual < 1e-5 < 0.05 < bad.rms_residual
    assert abs(bad.runs["residual"]).idxmax() == 2
    assert re.search(r"residuals \d+\.\d+% of the loss, at most \d+\.\d+% \(width 256\)", repr(bad))


def test_terms_are_what_the_formula_says():
    at = {"width": np.array([100.0]), "sparsity": np.array([8.0])}
    first, last = np.exp(log_terms(LNK, at, np.array(list(GAO.values()))))[:, 0]
    assert first == pytest.approx(
        np.exp(-0.5 + 0.26 * np.log(8) - 0.35 * np.log(100) - 0.042 * np.log(8) * np.log(100))
    )
    assert last == pytest.approx(np.exp(-1.32 - 0.085 * np.log(8)))


# ---- compute ------------------------------------------------------------------------------------------------------


def test_compute_counts_two_matrices_forward_and_back():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    W_enc, W_dec = (torch.randn(shape, requires_grad=True) for shape in ((D_IN, 256), (256, D_IN)))
    x = torch.randn(10, D_IN, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        (x @ W_enc @ W_dec).sum().backward()
    assert training_flop(256, 10, D_IN) == counter.get_total_flops()


def test_the_best_width_is_where_the_surface_is_lowest():
    law = study(runs(SURFACE, ROAD, ROAD_GRID)).fit_compute()
    C = float(training_flop(1000, 40_000, D_IN))
    widths = np.geomspace(100, 10_000, 20_001)
    tokens = C / training_flop(widths, 1.0, D_IN)
    loss = np.exp(1.2) * widths**-0.5 + np.exp(2.5) * tokens**-0.4 + 0.1
    best = law.best(C)
    assert best.width.value == pytest.approx(widths[loss.argmin()], rel=5e-3)
    assert best.n_tokens.value == pytest.approx(tokens[loss.argmin()], rel=5e-3)
    assert best.n_steps.value == best.n_tokens.value / 64 and best.loss.value == pytest.approx(loss.min(), rel=1e-4)
    assert law.laws["value"].to_dict() == pytest.approx(
        {"width": 0.4 / 0.9, "n_tokens": 0.5 / 0.9, "reducible loss": -0.2 / 0.9, "irreducible loss": 0.1}, abs=2e-3
    )
    path = law.frontier([C, 10 * C])
    assert np.diff(np.log(path["width"])) / np.log(10) == pytest.approx(0.4 / 0.9, abs=2e-3)
    assert np.diff(np.log(path["loss"] - 0.1)) / np.log(10) == pytest.approx(-0.2 / 0.9, abs=5e-3)


def test_minima_of_the_runs_agree_with_the_surface_and_intervals_hold_it():
    grid = {"width": [2**i for i in range(6, 13)], "n_tokens": [2**i for i in range(12, 19)]}
    inside = []
    for seed in range(4):
        frame = runs(SURFACE, ROAD, grid, scatter=0.003, seed=seed)
        law = study(frame).fit_compute()
        minima = law.minima(4).dropna()
        assert len(minima) >= 3 and (np.log(minima["measured"] / minima["fitted"]).abs() < 0.35).all()
        product = minima["compute"] / training_flop(1, 1, D_IN)
        true = (0.5 * np.exp(1.2) / (0.4 * np.exp(2.5))) ** (1 / 0.9) * product ** (0.4 / 0.9)
        assert (np.log(minima["fitted"] / true).abs() < 0.05).all()
        inside.append(((minima["low"] < true) & (true < minima["high"])).iloc[1])
    assert sum(inside) >= 3
    curves = law.iso_compute(4)
    assert np.allclose(training_flop(curves["width"], curves["n_tokens"], D_IN), curves["compute"])
    assert "in the law's interval at" in repr(law) and ", and go as C^0.4" in repr(law)
    on_grid = curves.merge(frame.astype(float), on="width")
    on_grid = on_grid[np.isclose(on_grid["n_tokens_x"], on_grid["n_tokens_y"], rtol=1e-6)]
    assert len(on_grid) == len(curves) and np.allclose(on_grid["loss_x"], on_grid["loss_y"], rtol=1e-6)


def test_beyond_what_was_measured_only_when_asked():
    s = study(runs(SURFACE, ROAD, ROAD_GRID, scatter=0.002))
    with pytest.raises(DataError, match=r"outside what was measured: compute\n[\s\S]*extrapolate=True"):
        s.best(1e18)
    law = s.fit_compute()
    far = law.best(1e18, extrapolate=True)
    assert far.extrapolated and "extrapolated" in repr(far)
    with pytest.raises(DataError, match=r"outside what was measured: (width|n_tokens)"):
        law.best(law.compute.min() * 1.01)
    with pytest.raises(DataError, match="not a budget"):
        law.best(float("nan"))


def test_without_a_fall_with_tokens_no_width_is_best():
    frame = runs(SURFACE, {**ROAD, "delta": -3.0, "beta_t": 0.1}, ROAD_GRID)
    law = study(frame).fit_compute()
    assert not law.has_best_path and "no best path" in repr(law)
    with pytest.raises(DataError, match="no width is best"):
        law.best(1e12)
    assert any("does not fall" in a.text for a in law.plot().layout.annotations)


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_tables_that_cannot_be_fitted_are_refused():
    same = runs(LNK, GAO, {"width": [512, 512, 512, 2048], "sparsity": [16, 32, 64]})
    with pytest.raises(DataError, match=r"12 runs: 2 widths"):
        study(same).fit_lnk()
    with pytest.raises(DataError, match=r"the table lacks[\s\S]*add loss"):
        study(pd.DataFrame({"width": [1.0]}))
    broken = runs(LNK, GAO, LNK_GRID)
    broken.loc[3, "loss"] = 0.0
    with pytest.raises(DataError, match="runs hold numbers that cannot be fitted"):
        study(broken).fit_lnk()
    law = fit(LNK, runs(LNK, GAO, LNK_GRID))
    with pytest.raises(DataError, match=r"the law has other inputs\n.*width\n.*width and sparsity"):
        law.predict(width=3)
    with pytest.raises(DataError, match="the irreducible loss depends on the sparsity"):
        law.irreducible()


# ---- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_figure_draws_runs_laws_and_bands():
    grid = {"width": [128, 256, 512, 1024], "sparsity": [8, 16, 32], "n_tokens": [4096, 16384, 65536]}
    frame = runs(SURFACE, ROAD, grid, scatter=0.002)
    frame["loss"] *= (frame["sparsity"] / 8) ** -0.2
    s = study(frame)
    fig = s.plot()
    panel = {axis: [t for t in fig.data if t.xaxis == axis] for axis in ("x", "x2", "x3", "x4")}
    marks = {t.name: t for t in panel["x"] if t.mode == "markers"}
    for k in (8, 16, 32):
        here = frame[(frame["sparsity"] == k) & (frame["n_tokens"] == 65536)]
        assert list(marks[f"k {k}"].y) == here["loss"].tolist()
        assert sum(t.name == f"k {k}" and t.fill == "toself" for t in panel["x"]) == 1
    assert [len(t.x) for t in panel["x2"]] == [12, 12]
    law = s.fit_compute()
    (star,) = [t for t in panel["x3"] if t.name == "best width"]
    curves = law.iso_compute()
    best = law.frontier(np.unique(curves["compute"]))["width"]
    measured = best.between(128, 1024) & (np.unique(curves["compute"]) / training_flop(best, 1, D_IN) <= 65536)
    assert list(star.x) == best[measured].tolist() and 2 <= len(star.x) <= len(best)
    (of_runs,) = [t for t in panel["x3"] if t.name == "best of the runs"]
    assert list(of_runs.x) == law.minima().dropna()["measured"].tolist() and len(of_runs.x) >= 2
    whole, inside = [t for t in panel["x4"] if t.mode == "lines" and t.fill is None]
    assert whole.y[0] > whole.y[-1] and (whole.line.dash, inside.line.dash) == ("dot", "solid")
    assert 0 < np.isfinite(inside.y).sum() < len(inside.y) and fig.layout.xaxis4.type == "log"
    assert len(law.plot().data) == len(panel["x3"]) + len(panel["x4"])


def test_the_residual_panel_stands_beside_the_law():
    law = study(runs(LNK, GAO, LNK_GRID, scatter=0.01)).fit_lnk()
    fig = law.plot()
    (left,) = [t for t in fig.data if t.xaxis == "x2"]
    assert list(left.y) == law.runs["residual"].tolist() and list(left.x) == law.runs["fitted"].tolist()
    assert law.to_frame().equals(law.parameters)
