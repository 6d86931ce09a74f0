"""Watching a run from outside: what a logger is, and how `train` tells loggers what happens.

A logger only looks: it is told rows of metrics and, when it asks, how often each feature fired. One that raises is
dropped with a warning, and the run goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ..comparison import labels
from ..errors import ConfigError
from ..sae import SAE, SAEConfig
from .config import TrainConfig
from .trainer import Trainer

Row = dict[str, Any]
Densities = Callable[[], list[Float[np.ndarray, " d_sae"] | None]]
Status = Literal["finished", "interrupted", "failed"]


class TrainedSAEs(list[SAE]):
    """The SAEs of one run, in the order of their configurations. A list."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a logger is told before the first step."""

    saes: tuple[SAEConfig, ...]
    """The SAEs being trained."""
    config: TrainConfig
    """How they are trained."""
    rows: tuple[Row, ...] = ()
    """Metrics logged before, when a run goes on: one row per SAE and logged step."""
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
        """The run is about to begin, or to go on."""

    def record(self, rows: Sequence[Row], densities: Densities) -> None:
        """Every `log_every` steps and at the last: one row of StepMetrics per SAE, with "sae" (its number) and
        "tokens_per_second". `densities()` gives for each SAE the share of tokens each feature fired on, or None while
        nothing was counted; call it only when it is used."""

    def finish(self, status: Status, message: str) -> None:
        """The run has ended; `message` says why it failed and is empty otherwise."""


def checked(loggers: Iterable[Logger]) -> list[Logger]:
    """The loggers as a list; ConfigError for an object that is none."""
    found = list(loggers)
    for logger in found:
        if isinstance(logger, type) or not isinstance(logger, Logger):
            raise ConfigError(
                "not a logger", got=logger, accepted="objects with start, record and finish",
                fix="pass loggers=[sk.TrainingMonitor()], say",
            )  # fmt: skip
    return found


class Watch:
    """The loggers of one run. `train` sets `status` when the run has ended well."""

    def __init__(self, loggers: Iterable[Logger], trainers: Sequence[Trainer]) -> None:
        self.loggers, self.trainers = list(loggers), list(trainers)
        self.status: Status = "failed"

    def log(self, rows: Sequence[Row]) -> None:
        """Tells every logger of rows of metrics."""
        self.each(lambda logger: logger.record([dict(row) for row in rows], self._densities))

    def each(self, tell: Callable[[Logger], None]) -> None:
        """Calls every logger; one that raises is dropped with a warning."""
        for logger in list(self.loggers):
            try:
                tell(logger)
            except Exception as e:
                self.loggers.remove(logger)
                warnings.warn(
                    f"the logger {type(logger).__name__} failed and is not used again in this run; training goes on: "
                    f"{type(e).__name__}: {e}", stacklevel=2,
                )  # fmt: skip

    def _densities(self) -> list[Float[np.ndarray, " d_sae"] | None]:
        shares = [trainer.density for trainer in self.trainers]
        return [None if share is None else share.cpu().numpy() for share in shares]


@contextmanager
def watched(loggers: Iterable[Logger], run: RunInfo, trainers: Sequence[Trainer] = ()) -> Iterator[Watch]:
    """Tells the loggers that the run begins and, whatever happens, how it ended."""
    watch = Watch(loggers, trainers)
    watch.each(lambda logger: logger.start(run))
    message = ""
    try:
        yield watch
    except KeyboardInterrupt:
        watch.status = "interrupted"
        raise
    except BaseException as e:
        watch.status, message = "failed", f"{type(e).__name__}: {e}"
        raise
    finally:
        watch.each(lambda logger: logger.finish(watch.status, message))
