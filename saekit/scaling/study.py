"""A grid of widths and sparsities trained on one stream at several token budgets, measured on held-out activations.

Every point is a finished run with its own schedule: the learning rate falls at the end of a run, and a loss met on the
way there is higher than that of a run which ends there (Hoffmann et al. 2022, section 3; Hägele et al. 2024,
arXiv:2405.18392). So each token budget is trained from the start, all widths and sparsities at once by one `sk.train`.
Learning rates (by width and length of run) are the architecture's.

Loss is the normalised mean squared error, sum ||x - x_hat||^2 / sum ||x - mean||^2 = 1 - explained variance, over
held-out tokens; the SAE is the one that is handed to anyone, with batchtopk's threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from ..activations import ActivationCache
from ..activations.stream import BatchFunction
from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Windows
from ..errors import ConfigError, DataError
from ..hook_points import HookPoint
from ..models import LanguageModel
from ..output_folder import output_folder
from ..sae import SAE, SAEConfig
from ..sae.architectures import get_architecture
from ..training import Logger, TrainConfig, train
from .compute import BestChoice, ComputeFit, fit_surface
from .displays import study_html
from .fits import ScalingFit, fit
from .flop import training_flop
from .forms import LN, LNK
from .sources import StudyData, open_study_data

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = ("width", "sparsity", "n_tokens", "loss")
"""What a table of runs must hold to be fitted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalingStudy:
    """Losses of a grid of SAEs, and the laws fitted to them. Made by `scaling_study`, or of any table of runs."""

    frame: pd.DataFrame
    """One row per run; see `to_frame`. Only width, sparsity, n_tokens and loss are needed for fits."""
    d_in: int
    batch_size: int
    activation: str = "topk"
    n_unique: int | None = None
    """Distinct tokens there were to train on; None: fresh ones without end, or not known."""
    measured_on: str = "held-out activations"
    """What the losses were measured on, in words."""

    def __post_init__(self) -> None:
        if missing := [c for c in COLUMNS if c not in self.frame]:
            raise DataError(
                "the table lacks what a study needs",
                got=", ".join(map(str, self.frame.columns)),
                accepted=", ".join(COLUMNS),
                fix=f"add {missing[0]}",
            )

    def to_frame(self) -> pd.DataFrame:
        """One row per run: width, sparsity (as asked: k or target_l0), n_tokens, n_steps, compute (FLOP; see
        saekit.scaling.compute), and on held-out tokens loss (normalised MSE) and l0; dead_fraction at the end of
        training.
        """
        return self.frame.copy()

    @property
    def sparsities(self) -> list[float]:
        return sorted(self.frame["sparsity"].unique().tolist())

    @checks_arguments
    def fit_lnk(self, n_tokens: int | None = None) -> ScalingFit:
        """L(n, k) fitted to the runs of one token budget, the largest by default; L(n) where there is one sparsity.

        Where there is no k, it is the L0 measured on held-out tokens. The published law is of SAEs trained to
        convergence; of a fixed budget it says what that budget buys. DataError for too few runs.

        >>> import numpy as np, pandas as pd
        >>> runs = pd.DataFrame([(n, k, 4096) for n in (64, 128, 256, 512) for k in (4, 8)],
        ...                     columns=["width", "sparsity", "n_tokens"])
        >>> runs["loss"] = 2 * runs.width ** -0.4 * runs.sparsity ** -0.1 + 0.3 * runs.sparsity ** -0.5
        >>> study = sk.ScalingStudy(frame=runs, d_in=32, batch_size=64)
        >>> study.fit_lnk().parameters["value"].round(2).to_dict()["eta"]
        -0.5
        """
        n_tokens = int(self.frame["n_tokens"].max()) if n_tokens is None else n_tokens
        runs = self.frame[self.frame["n_tokens"] == n_tokens]
        if not len(runs):
            raise _no_such_run("n_tokens", n_tokens, self.frame["n_tokens"])
        several = len(self.sparsities) > 1
        if get_architecture(self.activation).l0_option != "k" and "l0" in runs:
            runs = runs.assign(asked=runs["sparsity"], sparsity=runs["l0"])
        about = f"of {n_tokens:,} tokens" + ("" if several else f" at sparsity {self.sparsities[0]:g}")
        return fit(LNK if several else LN, runs, about=about)

    def fit_compute(self, sparsity: float | None = None) -> ComputeFit:
        """The surface L(n, tokens) at one sparsity, with the best width and number of steps for every compute.

        `sparsity` None takes the middle one of the study (of an even number the smaller). DataError for too few runs.
        """
        known = self.sparsities
        sparsity = known[(len(known) - 1) // 2] if sparsity is None else sparsity
        runs = self.frame[self.frame["sparsity"] == sparsity]
        if not len(runs):
            raise _no_such_run("sparsity", sparsity, self.frame["sparsity"])
        return fit_surface(
            runs, d_in=self.d_in, batch_size=self.batch_size, sparsity=sparsity, about=f"at sparsity {sparsity:g}"
        )

    def best(self, compute: float, *, sparsity: float | None = None, extrapolate: bool = False) -> BestChoice:
        """The width and number of steps with the least loss for a budget in FLOP; see ComputeFit.best."""
        return self.fit_compute(sparsity).best(compute, extrapolate=extrapolate)

    def plot(self) -> go.Figure:
        """Loss over width by sparsity, residuals, curves of equal compute with their minima, loss over compute.

        A law that cannot be fitted is left out, with the reason in its place.
        """
        from .plots import plot_scaling_study

        return plot_scaling_study(self)

    def __repr__(self) -> str:
        f = self.frame
        low, high = f["loss"].min(), f["loss"].max()
        lines = [
            f"ScalingStudy of {len(f)} runs, {self.activation}, d_in {self.d_in}",
            f"  widths {_listed(f['width'])}; sparsities {_listed(f['sparsity'])}; tokens {_listed(f['n_tokens'])}",
            f"  loss (1 - explained variance) {low:.3f} to {high:.3f}, on {self.measured_on}",
        ]
        if self.n_unique is not None and f["n_tokens"].max() > self.n_unique:
            times = f["n_tokens"].max() / self.n_unique
            lines.append(
                f"  {self.n_unique:,} distinct tokens to train on: the longest runs see each {times:.1f} times"
            )
        return "\n".join(lines)

    __str__ = __repr__
    _repr_html_ = study_html


@checks_arguments
def scaling_study(
    model: LanguageModel | None,
    corpus: AnyCorpus | Windows | ActivationCache | BatchFunction,
    *,
    widths: Sequence[int],
    sparsities: Sequence[float],
    config: TrainConfig,
    hook_name: HookPoint | None = None,
    activation: str = "topk",
    budgets: Sequence[int] | None = None,
    n_held_out: int = 8192,
    out: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    loggers: Sequence[Logger] = (),
    **options: Any,
) -> ScalingStudy:
    """Losses of a grid of SAEs, every width with every sparsity at every token budget.

    `sparsities` are k where the architecture has one, target_l0 for the others. `budgets` are in tokens, each a run of
    its own, and stand in for config.n_tokens; None: a quarter, a half and all of it. `n_held_out` tokens, about, of
    documents that no run sees are set aside for the loss. `options` are further fields of every SAEConfig. The rest
    is as in `sk.train`, which gets `resume`, `progress` and `loggers`, once for each budget.

    `corpus` is text (the model runs once over as much as the largest budget takes, and the activations lie in `out` or,
    for the duration, in a temporary folder: 4 * d_in bytes a token), activations from `cache_activations` (the model
    may then be None), or a function (batch_size, seed) -> endless batches, such as `truth.batches` of synthetic data.
    Text shorter than a budget is repeated. With `out` the same call resumes where it was; a second process that works
    there is refused (FolderInUseError).

    >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
    >>> study = sk.scaling_study(None, truth.batches, widths=(8, 32), sparsities=(3,), n_held_out=500, budgets=(640,),
    ...                          config=sk.TrainConfig(n_tokens=640, batch_size=64, lr=1e-2), progress=False)
    >>> study.to_frame()[["width", "sparsity", "n_tokens", "compute"]].values.tolist()
    [[8.0, 3.0, 640.0, 983040.0], [32.0, 3.0, 640.0, 3932160.0]]
    """
    widths, sparsities = _distinct("widths", widths), _distinct("sparsities", sparsities)
    budgets = _budgets(config) if budgets is None else _distinct("budgets", budgets)
    configs = [replace(config, n_tokens=n) for n in budgets]
    out = None if out is None else Path(out)
    if bad := [name for name in ("hook_out", "d_out", "skip") if name in options]:
        raise ConfigError(
            "scaling studies are of SAEs that reconstruct what they read",
            got=bad[0],
            accepted="no transcoders",
            fix=f"leave {bad[0]} out",
        )
    with ExitStack() as stack:
        if out is not None:
            out = stack.enter_context(output_folder(out, "a scaling study"))
        source = open_study_data(
            model,
            corpus,
            stack,
            hook_name=hook_name,
            n_tokens=max(budgets),
            n_held_out=n_held_out,
            length=config.context_size,
            seed=config.seed,
            out=out,
            progress=progress,
        )
        d_in = source.d_in
        saes = [_sae(d_in, n, k, activation, config.seed, options) for n in widths for k in sparsities]
        spread = _spread(source, d_in)
        rows = []
        for run in configs:
            folder = out / f"{run.n_tokens}-tokens" if out else None
            trained = train(
                model,
                source.training,
                sae=saes,
                config=run,
                out=folder,
                resume=resume,
                progress=progress,
                loggers=loggers,
            )
            if not all(sae.training_summary["finished"] for sae in trained):
                raise KeyboardInterrupt  # `train` has said what happened and where to resume
            rows += [_row(sae, source, spread, run) for sae in trained]
    return ScalingStudy(
        frame=pd.DataFrame(rows),
        d_in=d_in,
        batch_size=config.batch_size,
        activation=activation,
        n_unique=source.n_unique,
        measured_on=source.described,
    )


class _Spread(NamedTuple):
    """The held-out activations about their mean."""

    n: int
    squares: float
    """sum ||x - mean||^2"""


def _spread(source: StudyData, d_in: int) -> _Spread:
    n, total, squares, centre = 0, torch.zeros(d_in, dtype=torch.float64), 0.0, None
    for x in _double(source.held_out()):
        centre = x.mean(0) if centre is None else centre  # about it the variance does not drown in the mean
        n, total, squares = n + len(x), total + (x - centre).sum(0), squares + float((x - centre).square().sum())
    return _Spread(n, squares - float(total.square().sum()) / n)


@torch.no_grad()
def _row(sae: SAE, source: StudyData, spread: _Spread, run: TrainConfig) -> dict[str, float]:
    c, error, active = sae.config, 0.0, 0
    sae.to(run.torch_device)
    for x in source.held_out():
        inside = x.to(sae.W_dec.device)
        acts = sae.encode_sparse(inside)
        error += float((x.double() - sae.decode(acts, inside).cpu().double()).square().sum())
        active += acts.value.numel()
    n_tokens = run.n_steps * run.batch_size
    return {
        "width": c.d_sae,
        "sparsity": float(c.k or c.target_l0 or 0),
        "n_tokens": n_tokens,
        "n_steps": run.n_steps,
        "compute": float(training_flop(c.d_sae, n_tokens, c.d_in)),
        "loss": error / spread.squares,
        "l0": active / spread.n,
        "dead_fraction": sae.training_summary["dead_features"] / c.d_sae,
    }


def _sae(d_in: int, width: int, sparsity: float, activation: str, seed: int, options: dict[str, Any]) -> SAEConfig:
    asked = get_architecture(activation).with_l0(sparsity)
    return SAEConfig(**{"d_in": d_in, "d_sae": width, "activation": activation, "seed": seed, **asked, **options})


def _budgets(config: TrainConfig) -> list[int]:
    return [n for n in (config.n_tokens // 4, config.n_tokens // 2, config.n_tokens) if n >= config.batch_size]


def _distinct(name: str, values: Sequence[Any]) -> list[Any]:
    found = sorted(values)
    if not found or len(set(found)) < len(found) or found[0] <= 0:
        raise ConfigError(
            f"{name} are not distinct positive numbers", got=list(values), accepted="one or more, each once"
        )
    return found


def _no_such_run(name: str, value: float, known: pd.Series) -> DataError:
    return DataError(
        f"no run of this {name}", got=f"{value:g}", accepted=_listed(known), fix=f"pass one of the study's {name}"
    )


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{v:,.6g}" for v in sorted(values.unique()))


def _double(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    return (x.double() for x in chunks)
