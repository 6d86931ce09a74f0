"""TrainingMonitor: a run of `sk.train` as it goes, and what it was once the kernel is gone.

A logger (see training/loggers.py) that holds what it shows in its own traits: curves as binary columns of a bounded
number of points, histograms of how often features fire, progress and status. The run sends it rows of numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets as t
from jaxtyping import Float

from ..errors import check_count
from .base import Widget, check_choice, pack, validates

if TYPE_CHECKING:
    import pandas as pd

    from ..training.loggers import Densities, Row, RunInfo

CURVES = ("loss", "explained_variance", "l0", "dead_fraction", "tokens_per_second", "lr")
STATUSES = ("waiting", "running", "interrupted", "finished", "failed")
MAX_POINTS = 400
"""Points kept of each curve. Beyond, every second one goes, but never the first or the last."""
SECONDS_BETWEEN_UPDATES = 0.25
SECONDS_BETWEEN_DENSITIES = 1.0
BINS_PER_DECADE = 4

Point = tuple[int, int, list[list[float]]]
"""Step, tokens, and CURVES for each SAE."""
RATE = CURVES.index("tokens_per_second")


class TrainingMonitor(Widget):
    """The curves, the activation density and the progress of a run, live.

    Show it, then train: `monitor = sk.TrainingMonitor(); display(monitor); sk.train(..., loggers=[monitor])`. The next
    run takes the place of the last. Curves keep at most 400 points, the first and the last among them; the whole
    history is in `sae.history`. The front end is updated at most four times a second.

    >>> monitor = sk.TrainingMonitor()
    >>> monitor
    TrainingMonitor: waiting for a run: sk.train(..., loggers=[monitor])
    >>> config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    >>> trained = sk.train(model, corpus, hook_name=HOOK, config=config, progress=False, loggers=[monitor],
    ...                    sae=sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4))
    >>> monitor.status, round(monitor.curves()["l0"].iloc[-1])
    ('finished', 4)
    """

    bundle = "training_monitor"

    status = t.Unicode("waiting", help="waiting, running, interrupted, finished or failed.").tag(sync=True)
    message = t.Unicode("", help="Why the run failed, in words.").tag(sync=True)
    names = t.List(t.Unicode(), help="A short name for each SAE.").tag(sync=True)
    step = t.Int(0, help="Steps done.").tag(sync=True)
    n_steps = t.Int(0, help="Steps of the whole run.").tag(sync=True)
    n_tokens = t.Int(0, help="Tokens seen, a sum over batches.").tag(sync=True)
    total_tokens = t.Int(0, help="Tokens of the whole run.").tag(sync=True)
    rate = t.Float(0.0, help="Tokens per second since training began or resumed.").tag(sync=True)
    seconds = t.Float(0.0, help="Wall time since training began or resumed.").tag(sync=True)
    columns = t.Dict(
        help="Curves as bytes: step (int32) and n_tokens (float64), then CURVES (float32), SAE after SAE."
    ).tag(sync=True)
    densities = t.List(t.Dict(), help="A histogram of log10 density for each SAE; see density_histogram.").tag(
        sync=True
    )
    live = t.Bool(True, help="Whether Python is connected; False on an offline page.").tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._forget()

    def _forget(self) -> None:
        self._began = time.perf_counter()
        self._sent = self._sent_density = -math.inf
        self._densities: Densities | None = None
        self._widths: list[int] = []
        self._points: list[Point] = []
        self._last: Point | None = None
        self._n_seen, self._stride = 0, 1

    @validates("status")
    def _status_exists(self, value: Any) -> str:
        return check_choice("status", value, STATUSES)

    @validates("step", "n_steps", "n_tokens", "total_tokens")
    def _counts(self, value: Any) -> int:
        return check_count("a count of steps or tokens", value, least=0)

    # ---- the run ------------------------------------------------------------------------------------------------

    def start(self, run: RunInfo) -> None:
        """A run begins or resumes: its earlier rows are drawn at once."""
        self._forget()
        self._widths = [c.d_sae for c in run.saes]
        steps: dict[int, list[Row]] = {}
        for row in run.rows:
            steps.setdefault(row["step"], []).append(row)
        for rows in steps.values():
            self._take(rows)
        batch = run.config.batch_size
        with self.hold_sync():
            self.status, self.message, self.names, self.densities = "running", "", run.names, []
            self.n_steps, self.total_tokens = run.config.n_steps, run.config.n_steps * batch
            self._show()
            self.step, self.n_tokens, self.rate = run.n_steps_done, run.n_steps_done * batch, 0.0

    def record(self, rows: Sequence[Row], densities: Densities) -> None:
        """One row per SAE; drawn at once unless the last drawing was a moment ago."""
        self._take(rows)
        self._densities = densities
        now = time.perf_counter()
        if now - self._sent >= SECONDS_BETWEEN_UPDATES:
            self._sent = now
            with self.hold_sync():
                if now - self._sent_density >= SECONDS_BETWEEN_DENSITIES:
                    self._sent_density = now
                    self._count()
                self._show()

    def finish(self, status: str, message: str) -> None:
        """The run is over: what was held back is drawn."""
        with self.hold_sync():
            self.status, self.message = status, message
            self._count()
            self._show()
        self._densities = None  # it holds the trainers
        self.update_picture()

    def _take(self, rows: Sequence[Row]) -> None:
        """Adds a point; when there are too many, every second one goes."""
        values = [
            [float(row["dead_features"]) / width if name == "dead_fraction" else float(row[name]) for name in CURVES]
            for row, width in zip(sorted(rows, key=lambda row: row["sae"]), self._widths, strict=True)
        ]
        self._last = (rows[0]["step"], rows[0]["n_tokens"], values)
        if self._n_seen % self._stride == 0:
            self._points.append(self._last)
        self._n_seen += 1
        if len(self._points) >= MAX_POINTS:
            self._points, self._stride = self._points[::2], 2 * self._stride

    def _count(self) -> None:
        if self._densities is not None:
            self.densities = [density_histogram(d) for d in self._densities()]

    def _show(self) -> None:
        if self._last is not None:
            self.step, self.n_tokens, self.rate = self._last[0], self._last[1], self._last[2][0][RATE]
        self.seconds = time.perf_counter() - self._began
        points = [*self._points]
        if self._last is not None and points[-1] is not self._last:
            points.append(self._last)
        values = np.array([p[2] for p in points], np.float32).reshape(len(points), len(self._widths), len(CURVES))
        self.columns = {
            "step": pack([p[0] for p in points], "i4"),
            "n_tokens": pack([p[1] for p in points], "f8"),
            **{name: pack(values[:, :, i].T.reshape(-1), "f4") for i, name in enumerate(CURVES)},
        }

    # ---- what it shows, as values -------------------------------------------------------------------------------

    @property
    def seconds_left(self) -> float | None:
        """Wall time to the end at the present rate; None unless running."""
        left = self.total_tokens - self.n_tokens
        return left / self.rate if self.status == "running" and self.rate > 0 else None

    def curves(self) -> pd.DataFrame:
        """The points drawn: a row for each SAE and step, with n_tokens and the CURVES."""
        import pandas as pd

        step = np.frombuffer(self.columns.get("step", b""), "<i4")
        tokens = np.frombuffer(self.columns.get("n_tokens", b""), "<f8").astype(np.int64)
        index = pd.MultiIndex.from_product([range(len(self.names)), step], names=["sae", "step"])
        columns = {name: np.frombuffer(self.columns.get(name, b""), "<f4") for name in CURVES}
        return pd.DataFrame({"n_tokens": np.tile(tokens, len(self.names)), **columns}, index=index)

    def page_state(self) -> dict[str, Any]:
        return {**super().page_state(), "live": False}

    def static_picture(self) -> str:
        from .pictures import monitor_picture

        about, _, _ = self.text().partition("\n")
        about = about.removeprefix("TrainingMonitor: ")
        return monitor_picture(about, self.curves(), [shorten(name) for name in self.names], self.message)

    def at_rest(self) -> bool:
        return self.status != "running"

    def text(self) -> str:
        """Status, progress and the last values of every SAE."""
        if self.status == "waiting":
            return "TrainingMonitor: waiting for a run: sk.train(..., loggers=[monitor])"
        progress = [f"step {self.step} of {self.n_steps}"]
        if self.rate:
            rate = f"{self.rate / 1000:.1f}k" if self.rate >= 1000 else f"{self.rate:.0f}"
            progress += [f"{rate} tokens/s", f"{self.seconds:.0f} seconds"]
        if (left := self.seconds_left) is not None:
            progress.append(f"about {_duration(left)} left")
        lines = [f"TrainingMonitor: {', '.join([self.status, *progress])}"]
        lines += [f"  {self.message}"] if self.message else []
        curves = self.curves()
        if len(curves):
            last = curves.groupby(level="sae").tail(1).drop(columns=["n_tokens", "tokens_per_second"])
            last.index = [shorten(name) for name in self.names]
            lines.append(last.to_string(float_format=lambda v: f"{v:.4g}", na_rep="not a number"))
        return "\n".join(lines)


def density_histogram(density: Float[np.ndarray, " d_sae"] | None) -> dict[str, Any]:
    """Counts of features by log10 of the fraction of tokens they fire on; empty when nothing was counted.

    `counts[i]` features fire on 10^(low + i / 4) to 10^(low + (i + 1) / 4) of the tokens; `never` fired on none.

    >>> import numpy as np
    >>> from saekit.widgets.training_monitor import density_histogram
    >>> density_histogram(np.array([0.0, 0.011, 0.02, 0.5]))
    {'low': -2, 'counts': [1, 1, 0, 0, 0, 0, 1, 0], 'never': 1}
    """
    if density is None:
        return {}
    fired = np.log10(density[density > 0].astype(np.float64))
    low = int(np.floor(fired.min())) if fired.size else -1
    low = min(low, -1)
    counts, _ = np.histogram(fired, bins=-low * BINS_PER_DECADE, range=(low, 0))
    return {"low": low, "counts": counts.tolist(), "never": int((density == 0).sum())}


def _duration(seconds: float) -> str:
    """
    >>> from saekit.widgets.training_monitor import _duration
    >>> _duration(8.2), _duration(400), _duration(9000)
    ('8 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shorten(name: str, n: int = 48) -> str:
    """A name of at most n characters."""
    return name if len(name) <= n else name[: n - 1] + "…"
