"""Loggers: what one is, how `train` reports to loggers, TensorBoard and W&B.

A logger only looks: it is given rows of metrics and, when it asks, how often each feature fired. One that raises is
dropped with a warning, and the run continues. TensorBoard and Weights & Biases are written through their own libraries,
which are imported when a logger is made and not before.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ..errors import ConfigError
from ..evaluation.comparison import compare, labels
from ..sae import SAE, SAEConfig
from .config import TrainConfig
from .displays import trained_html
from .trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Row = dict[str, Any]
Densities = Callable[[], list[Float[np.ndarray, " d_sae"] | None]]
Status = Literal["finished", "interrupted", "failed"]


class TrainedSAEs(list[SAE]):
    """The SAEs of one run, in the order of their configurations: a list that can be compared.

    Its metrics are of the last training batch; `sk.compare(saes, evaluations)` takes those of held-out text.
    """

    def to_frame(self) -> pd.DataFrame:
        """One row for each SAE, by its name; see Comparison.to_frame."""
        return compare(self).to_frame()

    def plot(self) -> go.Figure:
        """Explained variance by L0, on the last training batch; see Comparison.plot."""
        return compare(self).plot()

    def __repr__(self) -> str:
        return f"TrainedSAEs: {repr(compare(self)).removeprefix('Comparison of ')}" if self else "TrainedSAEs: none"

    _repr_html_ = trained_html


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a logger is given before the first step."""

    saes: tuple[SAEConfig, ...]
    """The SAEs being trained."""
    config: TrainConfig
    """How they are trained."""
    rows: tuple[Row, ...] = ()
    """Metrics logged before, when a run is resumed: one row per SAE and logged step."""
    n_steps_done: int = 0
    """Steps done before."""
    folder: Path | None = None
    """Where the run is written, if anywhere."""

    @classmethod
    def of(
        cls, saes: Sequence[SAEConfig], config: TrainConfig, rows: Sequence[Row], n_steps_done: int, folder: Path | None
    ) -> RunInfo:
        """The same from lists, which may change afterwards."""
        return cls(saes=tuple(saes), config=config, rows=tuple(rows), n_steps_done=n_steps_done, folder=folder)

    @property
    def names(self) -> list[str]:
        """A short name for each SAE."""
        return labels(self.saes)


@runtime_checkable
class Logger(Protocol):
    """What `sk.train(..., loggers=[...])` calls. Any object with these three methods will do."""

    def start(self, run: RunInfo) -> None:
        """The run is about to begin, or to resume."""

    def record(self, rows: Sequence[Row], densities: Densities) -> None:
        """Every `log_every` steps and at the last: one row of StepMetrics per SAE, with "sae" (its number) and
        "tokens_per_second". `densities()` gives for each SAE the fraction of tokens each feature fired on; None while
        nothing was counted; call it only when it is used."""

    def finish(self, status: Status, message: str) -> None:
        """The run has ended; `message` says why it failed and is empty otherwise."""


def checked(loggers: Iterable[Logger]) -> list[Logger]:
    """The loggers as a list; ConfigError for an object that is none."""
    found = list(loggers)
    for logger in found:
        if isinstance(logger, type) or not isinstance(logger, Logger):
            raise ConfigError(
                "not a logger",
                got=logger,
                accepted="objects with start, record and finish",
                fix="pass, for example, loggers=[sk.TrainingMonitor()]",
            )
    return found


class LoggerGroup:
    """The loggers of one run. `train` sets `status` when the run has ended well."""

    def __init__(self, loggers: Iterable[Logger], trainers: Sequence[Trainer]) -> None:
        self.loggers, self.trainers = list(loggers), list(trainers)
        self.status: Status = "failed"

    def log(self, rows: Sequence[Row]) -> None:
        """Gives rows of metrics to every logger."""
        self.each(lambda logger: logger.record([dict(row) for row in rows], self._densities))

    def each(self, call: Callable[[Logger], None]) -> None:
        """Calls every logger; one that raises is dropped with a warning."""
        for logger in list(self.loggers):
            try:
                call(logger)
            except Exception as e:
                self.loggers.remove(logger)
                warnings.warn(
                    f"the logger {type(logger).__name__} failed and is not used again in this run; training continues: "
                    f"{type(e).__name__}: {e}",
                    stacklevel=2,
                )

    def _densities(self) -> list[Float[np.ndarray, " d_sae"] | None]:
        densities = [trainer.density for trainer in self.trainers]
        return [None if density is None else density.cpu().numpy() for density in densities]


@contextmanager
def watched(loggers: Iterable[Logger], run: RunInfo, trainers: Sequence[Trainer] = ()) -> Iterator[LoggerGroup]:
    """Reports to the loggers that the run begins and, whatever happens, how it ended."""
    group = LoggerGroup(loggers, trainers)
    group.each(lambda logger: logger.start(run))
    message = ""
    try:
        yield group
    except KeyboardInterrupt:
        group.status = "interrupted"
        raise
    except BaseException as e:
        group.status, message = "failed", f"{type(e).__name__}: {e}"
        raise
    finally:
        group.each(lambda logger: logger.finish(group.status, message))


# ---- other people's dashboards --------------------------------------------------------------------------------------

HISTOGRAMS = 20
"""Histograms of activation density written over a whole run."""


class TensorBoardLogger:
    """Writes a run to a folder that TensorBoard shows: `tensorboard --logdir folder`.

    Every metric of StepMetrics becomes a scalar train/..., every twentieth of the run the log10 densities of the
    features that fire a histogram. Several SAEs are several runs, in sub-folders, so that TensorBoard lays their curves
    over each other. A resumed run continues the same curves; steps that are done again replace the old ones.
    Needs the package tensorboard: ConfigError without it.

    >>> logger = sk.TensorBoardLogger(tmp_path / "board")
    >>> config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    >>> trained = sk.train(model, corpus, hook_name=HOOK, config=config, progress=False, loggers=[logger],
    ...                    sae=sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    >>> [path.name.split(".")[1] for path in (tmp_path / "board").iterdir()]
    ['out']
    """

    def __init__(self, folder: str | Path) -> None:
        _library("tensorboard", self)
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter
        self.folder = Path(folder)
        self._writers: list[Any] = []
        self._due = _Due(1)

    def start(self, run: RunInfo) -> None:
        """Opens a writer for each SAE; rows from before are written where there are none."""
        self._due = _Due(run.config.n_steps)
        folders = [self.folder] if len(run.saes) == 1 else [self.folder / name for name in _file_names(run.names)]
        written = [any(folder.glob("events.out.*")) for folder in folders]
        purge = run.n_steps_done + 1 if run.n_steps_done else 0  # older events from here on are hidden
        self._writers = [self._writer(str(folder), purge_step=purge, flush_secs=10) for folder in folders]
        for writer, sae in zip(self._writers, run.saes, strict=True):
            writer.add_text("config", f"`{sae.to_dict()}`\n\n`{run.config.to_dict()}`", run.n_steps_done)
        for row in run.rows:
            if not (run.n_steps_done and written[row["sae"]]):
                self._write(row)

    def record(self, rows: Sequence[Row], densities: Densities) -> None:
        """Writes one row per SAE."""
        for row in rows:
            self._write(row)
        if self._due(rows[0]["step"]):
            for writer, log10 in zip(self._writers, _log10(densities), strict=True):
                if log10.size:
                    writer.add_histogram("train/log10_density", log10, rows[0]["step"], bins=_BINS)

    def finish(self, status: Status, message: str) -> None:
        """Writes what is left and closes the files."""
        for writer in self._writers:
            writer.add_text("status", " ".join([status, message]).strip(), self._due.last)
            writer.close()
        self._writers = []

    def _write(self, row: Row) -> None:
        self._due.last = row["step"]
        for name, value in _scalars(row).items():
            self._writers[row["sae"]].add_scalar(f"train/{name}", value, row["step"])


class WandbLogger:
    """Writes a run to Weights & Biases, all SAEs of one call to `train` as one run there.

    `init` goes to wandb.init: entity, name, group, mode="offline", dir, or id and resume="allow" to continue the same
    curves. Metrics are called train/loss, or 0-topk-k-32/loss where there are several SAEs. Needs the package wandb:
    ConfigError without it. What wandb sends is between it and you; saekit sends nothing.

    >>> logger = sk.WandbLogger(project="saes", mode="disabled")
    >>> config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    >>> trained = sk.train(model, corpus, hook_name=HOOK, config=config, progress=False, loggers=[logger],
    ...                    sae=sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    >>> logger.run.summary["status"]
    'finished'
    """

    def __init__(self, project: str | None = None, **init: Any) -> None:
        self._wandb = _library("wandb", self)
        self.init = {"project": project, "reinit": "create_new", **init}
        self.run: Any = None
        """The wandb run, once training has begun."""
        self._prefixes: list[str] = []
        self._due = _Due(1)

    def start(self, run: RunInfo) -> None:
        """Begins a run, with the configurations; rows from before are written where the run does not have them."""
        self._due = _Due(run.config.n_steps)
        self._prefixes = ["train"] if len(run.saes) == 1 else _file_names(run.names)
        saes = {prefix: sae.to_dict() for prefix, sae in zip(self._prefixes, run.saes, strict=True)}
        config = {"train_config": run.config.to_dict(), "saes": saes, **(self.init.get("config") or {})}
        self.run = self._wandb.init(**{**self.init, "config": config})
        steps: dict[int, list[Row]] = {}
        for row in run.rows:
            steps.setdefault(row["step"], []).append(row)
        for rows in steps.values():
            self._write(rows, {})

    def record(self, rows: Sequence[Row], densities: Densities) -> None:
        """Writes one row per SAE."""
        extra: dict[str, Any] = {}
        if self._due(rows[0]["step"]):
            for prefix, log10 in zip(self._prefixes, _log10(densities), strict=True):
                counts = np.histogram(log10, bins=_BINS)
                extra[f"{prefix}/log10_density"] = self._wandb.Histogram(np_histogram=counts)
        self._write(rows, extra)

    def finish(self, status: Status, message: str) -> None:
        """Writes the status and ends the run."""
        if self.run is not None:
            self.run.summary["status"] = status
            if message:
                self.run.summary["message"] = message
            self.run.finish(exit_code=int(status == "failed"))

    def _write(self, rows: Sequence[Row], extra: dict[str, Any]) -> None:
        if rows[0]["step"] < self.run.step:  # the run there is resumed, and has this step already
            return
        named = {f"{self._prefixes[r['sae']]}/{name}": value for r in rows for name, value in _scalars(r).items()}
        self.run.log({**named, **extra}, step=rows[0]["step"])


_BINS = np.linspace(-8, 0, 65)
"""Edges of log10 density: eight to a decade."""


class _Due:
    """True HISTOGRAMS times over a run, and at its last step."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.done, self.last = n_steps, -1, 0

    def __call__(self, step: int) -> bool:
        now = step * HISTOGRAMS // self.n_steps
        due, self.done = now > self.done, max(now, self.done)
        return due


def _library(name: str, logger: object) -> Any:
    try:
        return import_module(name)
    except ImportError as e:
        raise ConfigError(
            f"{type(logger).__name__} needs the package {name}",
            got=f"{type(e).__name__}: {e}",
            accepted=f"an installed {name}",
            fix=f"pip install {name}",
        ) from e


def _scalars(row: Row) -> dict[str, float]:
    return {
        name: value for name, value in row.items() if name not in ("sae", "step") and isinstance(value, int | float)
    }


def _log10(densities: Densities) -> list[Float[np.ndarray, " n_firing"]]:
    return [np.log10(d[d > 0]) if d is not None else np.empty(0) for d in densities()]


def _file_names(names: Sequence[str]) -> list[str]:
    """Names for folders and charts: number and name, letters and digits.

    >>> from saekit.training.loggers import _file_names
    >>> _file_names(["topk, k 2", "relu"])
    ['0-topk-k-2', '1-relu']
    """
    return [f"{i}-{re.sub('[^A-Za-z0-9.]+', '-', name).strip('-')}" for i, name in enumerate(names)]
