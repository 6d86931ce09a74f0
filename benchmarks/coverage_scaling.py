"""How often the intervals of scaling laws hold the truth, on losses made by formula.

    python benchmarks/coverage_scaling.py [--repetitions 300] [--seed 0] [--laws LN LNK SURFACE]

Losses are written out here once more, with normal scatter in log loss, and fitted as the user would. A row is a design
and a quantity: each parameter, the irreducible loss, the loss of a further run, and for the surface the best width at a
compute. `coverage` is among the intervals that were printed with two ends; `coverage_with_limits` counts as well what
was printed as "at most" or "at least". Designs are usual ones: a handful of widths, a scatter of 1 % of the
loss, and one, "no floor", in which there is no irreducible loss to be found.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from saekit.scaling.compute import fit_surface
from saekit.scaling.fits import ScalingFit, fit
from saekit.scaling.flop import training_flop
from saekit.scaling.forms import LN, LNK
from saekit.statistics import LEVEL

SCATTER = 0.01
D_IN = 64
WIDTHS = [2**i for i in range(6, 13)]
POWERS = {"alpha": 1.0, "beta_n": -0.5}
KEPT = {"alpha": -0.50, "beta_k": 0.26, "beta_n": -0.35, "gamma": -0.042, "zeta": -1.32, "eta": -0.085}
ROAD = {"alpha": 1.2, "beta_n": -0.5, "delta": 2.5, "beta_t": -0.4, "zeta": float(np.log(0.1))}

DESIGNS: dict[str, tuple[str, dict[str, float], dict[str, list[int]]]] = {
    "L(n), 5 widths": ("LN", {**POWERS, "zeta": float(np.log(0.1))}, {"width": WIDTHS[:5]}),
    "L(n), 7 widths": ("LN", {**POWERS, "zeta": float(np.log(0.1))}, {"width": WIDTHS}),
    "L(n), 7 widths, no floor": ("LN", {**POWERS, "zeta": -np.inf}, {"width": WIDTHS}),
    "L(n, k), 4 x 4": ("LNK", KEPT, {"width": [512, 2048, 8192, 32768], "sparsity": [16, 32, 64, 128]}),
    "L(n, tokens), 4 x 3": ("SURFACE", ROAD, {"width": [128, 512, 2048, 8192], "n_tokens": [4096, 32768, 262144]}),
    "L(n, tokens), 6 x 3": (
        "SURFACE",
        ROAD,
        {"width": [32, 128, 512, 2048, 8192, 32768], "n_tokens": [4096, 32768, 262144]},
    ),
}


def true_loss(law: str, p: dict[str, float], at: pd.DataFrame) -> np.ndarray:
    """The formula's loss of each row."""
    n = at["width"].to_numpy(float)
    if law == "SURFACE":
        fall = np.exp(p["delta"]) * at["n_tokens"].to_numpy(float) ** p["beta_t"]
        loss = np.exp(p["alpha"]) * n ** p["beta_n"] + fall + np.exp(p["zeta"])
    elif law == "LN":
        loss = np.exp(p["alpha"]) * n ** p["beta_n"] + np.exp(p["zeta"])
    else:
        k = at["sparsity"].to_numpy(float)
        power = p["beta_n"] + p["gamma"] * np.log(k)
        loss = np.exp(p["alpha"]) * k ** p["beta_k"] * n**power + np.exp(p["zeta"]) * k ** p["eta"]
    return np.asarray(loss)


def intervals(law: str, p: dict[str, float], runs: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """One table of runs fitted: (truth, low, high) of every quantity."""
    found: ScalingFit
    if law == "SURFACE":
        found = fit_surface(runs, d_in=D_IN, batch_size=64, sparsity=8.0, about="")
    else:
        found = fit({"LN": LN, "LNK": LNK}[law], runs)
    out = {name: (p[name], *found.parameters.loc[name, ["low", "high"]]) for name in found.form.parameters}
    middle = runs.drop(columns="loss").iloc[[int(rng.integers(len(runs)))]] * 1.3
    further = float(true_loss(law, p, middle)[0] * np.exp(SCATTER * rng.normal()))
    band = found.predict(**{name: float(middle[name].iloc[0]) for name in found.form.inputs}).iloc[0]
    out["further run"] = (further, band["low"], band["high"])
    if law == "LNK":
        floor = found.irreducible(32.0)
        out["irreducible loss at k 32"] = (np.exp(p["zeta"]) * 32 ** p["eta"], floor.low, floor.high)
    if law == "SURFACE":
        product = 1000.0 * 40_000.0
        ratio = p["beta_n"] * np.exp(p["alpha"]) / (p["beta_t"] * np.exp(p["delta"]))
        width = (ratio * product ** -p["beta_t"]) ** (-1 / (p["beta_n"] + p["beta_t"]))
        best = found._on_path("width", float(training_flop(1000.0, 40_000.0, D_IN)))  # type: ignore[attr-defined]
        out["best width"] = (width, best.low, best.high)
    return out


def scaling_coverage(n_repetitions: int = 300, seed: int = 0, laws: list[str] | None = None) -> pd.DataFrame:
    """One row for each design and quantity: kind, n_units (runs), nominal, coverage, fraction_printed, mean_width,
    coverage_with_limits."""
    rows = []
    for name, (law, p, grid) in DESIGNS.items():
        if laws and law not in laws:
            continue
        at = pd.MultiIndex.from_product(list(grid.values()), names=list(grid)).to_frame(index=False)
        drawn: dict[str, list[tuple[float, float, float]]] = {}
        for repetition in range(n_repetitions):
            rng = np.random.default_rng([seed, repetition])
            runs = at.assign(loss=true_loss(law, p, at) * np.exp(SCATTER * rng.normal(size=len(at))))
            for quantity, values in intervals(law, p, runs, rng).items():
                drawn.setdefault(quantity, []).append(values)
        for quantity, each in drawn.items():
            truth, low, high = np.array(each, dtype=float).T
            closed = np.isfinite(low) & np.isfinite(high)
            holds = ~(low > truth) & ~(high < truth)
            rows.append(
                {
                    "kind": f"{name}: {quantity}",
                    "n_units": len(at),
                    "nominal": LEVEL,
                    "coverage": float(holds[closed].mean()) if closed.any() else float("nan"),
                    "fraction_printed": float(closed.mean()),
                    "mean_width": float((high - low)[closed].mean()) if closed.any() else float("nan"),
                    "coverage_with_limits": float(holds.mean()),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--laws", nargs="+", choices=["LN", "LNK", "SURFACE"])
    args = parser.parse_args()
    frame = scaling_coverage(args.repetitions, args.seed, args.laws)
    print(frame.to_string(index=False, float_format=lambda v: f"{v:.3f}"))


if __name__ == "__main__":
    main()
