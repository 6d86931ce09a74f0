"""The HTML displays of a run's configuration, one step's metrics, a trainer and the SAEs that come out."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ..display import document, facts, fields_blocks, shown
from ..evaluation.comparison import compare
from ..evaluation.displays import comparison_html

if TYPE_CHECKING:
    from .config import TrainConfig
    from .loggers import TrainedSAEs
    from .metrics import StepMetrics
    from .trainer import Trainer


@shown
def config_html(c: TrainConfig) -> str:
    """What differs from the defaults, and the rest behind a click."""
    about = f"{c.n_steps:,} steps of {c.batch_size:,} tokens"
    return document("TrainConfig", about, *fields_blocks(c, first=("n_tokens", "batch_size", "lr")))


@shown
def metrics_html(m: StepMetrics) -> str:
    """Every metric of the step."""
    values = {f.name.replace("_", " "): getattr(m, f.name) for f in fields(m) if f.name not in ("step", "n_tokens")}
    return document(f"Step {m.step:,}", f"{m.n_tokens:,} tokens so far, measured on its own batch", facts(values))


@shown
def trained_html(saes: TrainedSAEs) -> str:
    """The SAEs side by side."""
    return comparison_html(compare(saes)) if saes else document("TrainedSAEs", "none")


@shown
def trainer_html(trainer: Trainer) -> str:
    """How far it is."""
    done = trainer.n_steps_done / max(trainer.config.n_steps, 1)
    return document(
        "Trainer",
        f"{trainer.n_steps_done:,} of {trainer.config.n_steps:,} steps ({done:.0%}), on {trainer.device}",
        facts({"tokens so far": trainer.n_tokens_done}),
    )
