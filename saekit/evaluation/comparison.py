"""SAEs side by side: what differs between them, and how sparse and how faithful each is.

A metric says what it was measured on. Without evaluations it comes from the last batch an SAE was trained on, as
in training and before the last step: good enough to watch a run, not to report. With evaluations it comes from the
text they were made on. Only metrics of one kind are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import ConfigError, DataError, MismatchError, unknown_name
from ..sae import SAE, SAEConfig
from .displays import comparison_html
from .pareto import HELD_OUT, MEASURES, NOTHING, TRAINING, pareto_optimal
from .result import SHOWN

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from . import Evaluation

NAMED = {
    "hook_name": "{}",
    "hook_out": "to {}",
    "d_sae": "{} features",
    "k": "k {}",
    "target_l0": "L0 {}",
    "matryoshka": "nested {}",
    "sparsity_coefficient": "coefficient {}",
    "seed": "seed {}",
}
"""Fields that names are made of, in this order, and how each reads."""
UNNAMED = {"activation", "d_in", "d_out", "token_filter", "model_fingerprint", "weight_processing"}
"""Fields that follow from others or say nothing to a reader."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several SAEs, one row each. Prints as a table that says what they were measured on."""

    frame: pd.DataFrame
    """One row for each SAE, by its name; see `to_frame`."""
    batch_tokens: int | None
    """Tokens of the training batch, where that is what was measured."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each SAE, by its name.

        architecture, hook, d_sae, k, target_l0, coefficient: what was asked, the coefficient as it was in the end.
        n_tokens: tokens trained on. measured_on: "last training batch" or "held-out text", for all that follows: l0,
        explained_variance, mse (per token and dimension, in the model's units squared), loss (what training minimised;
        differs in kind between architectures), and from evaluations ce_loss_recovered, the same with the SAE at every
        position (ce_loss_recovered_everywhere), kl, silent_fraction (features never non-zero on that text), and the
        ends of 95 % intervals (l0_low, l0_high, ...) over n_units documents or windows (unit). dead_fraction: features
        silent for TrainConfig.dead_after at the end of training, whatever was measured since. pareto: no SAE at the
        same hook point, measured alike, has a smaller l0 and at least the same explained variance, or the reverse.
        """
        return self.frame.copy()

    def plot(self, y: str | None = None) -> go.Figure:
        """Fidelity by L0: a colour for each architecture, lines through what no other SAE of it beats.

        `y` is "explained_variance" or "ce_loss_recovered"; None is the latter where every SAE has it.
        """
        from .plots import plot_pareto

        return plot_pareto(self, check_measure(self, y))

    @property
    def note(self) -> str:
        """What the metrics were measured on, in words."""
        kinds = set(self.frame["measured_on"])
        batch = f" ({self.batch_tokens:,} tokens)" if self.batch_tokens else ""
        if kinds == {HELD_OUT}:
            units = set(zip(self.frame["n_units"], self.frame["unit"], strict=True))
            over = [f", intervals over {n:,} {unit}" for n, unit in units] if len(units) == 1 else [""]
            return f"measured on held-out text{over[0]}"
        if kinds == {TRAINING}:
            return f"measured on the last training batch{batch}, not on held-out text"
        if kinds == {TRAINING, HELD_OUT}:
            return f"some measured on held-out text, some only on the last training batch{batch}: not to be compared"
        return "some were not measured here"

    def __repr__(self) -> str:
        hidden = ("_low", "_high", "n_units", "unit")
        frame = self.frame.drop(columns=[c for c in self.frame if str(c).endswith(hidden)])
        same = {c: frame[c].iloc[0] for c in ("hook", "measured_on", "d_sae", "n_tokens") if frame[c].nunique() == 1}
        words = {"hook": "at {}", "d_sae": "{:,} features", "n_tokens": "trained on {:,} tokens"}
        head = [f"{len(frame)} SAEs", *(words[c].format(v) for c, v in same.items() if c in words), self.note]
        shown = frame.drop(columns=["architecture", *same]).dropna(axis=1, how="all")
        whole = {c: shown[c].astype(object).where(shown[c].notna(), "-") for c in ("k", "n_tokens") if c in shown}
        shown = shown.assign(**whole)
        shown.index = [_cut(str(name), 48) for name in shown.index]
        table = shown.to_string(float_format=lambda v: f"{v:.4g}", na_rep="-")
        return f"Comparison of {', '.join(head)}\n{table}"

    __str__ = __repr__
    _repr_html_ = comparison_html


def compare(saes: Sequence[SAE], evaluations: Sequence[Evaluation | None] | None = None) -> Comparison:
    """The SAEs side by side, by what training reported or by `evaluations`, one for each SAE in the same order.

    Evaluations are taken to be of text that the SAEs were not trained on, all of the same text. A None among them, or
    none at all, leaves an SAE with the metrics of its last training batch. Raises MismatchError for evaluations that do
    not fit the SAEs, and ConfigError when there is nothing to compare.

    >>> evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    >>> frame = sk.compare([sae], [evaluation]).to_frame()
    >>> frame["measured_on"].item(), round(frame["l0"].item())
    ('held-out text', 4)
    """
    saes = list(saes)
    if not saes:
        raise ConfigError("there is nothing to compare", got=saes, accepted="a list of SAEs")
    for odd in [sae for sae in saes if not isinstance(sae, SAE)][:1]:
        raise ConfigError("this is not an SAE", got=f"{odd!r:.80}", accepted="SAEs", fix="pass [sae, another]")
    found = [None] * len(saes) if evaluations is None else list(evaluations)
    for other in [e for e in found if e is not None and not hasattr(e, "density")][:1]:
        raise ConfigError("this is not an evaluation", got=f"{other!r:.80}", accepted="what sk.evaluate returned")
    if len(found) != len(saes):
        raise MismatchError(
            "evaluations and SAEs differ in number",
            got=len(found),
            accepted=f"{len(saes)}, one for each SAE",
            fix="pass None for an SAE that was not evaluated",
        )
    for i, (sae, evaluation) in enumerate(zip(saes, found, strict=True)):
        if evaluation is not None and len(evaluation.density) != sae.config.d_sae:
            raise MismatchError(
                f"evaluation {i} is of another SAE",
                got=f"{len(evaluation.density)} features",
                accepted=f"{sae.config.d_sae} features",
                fix="pass the evaluations in the order of the SAEs",
            )
    rows = [_row(sae, evaluation) for sae, evaluation in zip(saes, found, strict=True)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    frame = pd.DataFrame(rows, index=pd.Index(labels([s.config for s in saes]), name="sae"), columns=columns)
    frame = frame.astype({"k": "Int64", "n_tokens": "Int64"})
    sizes = {s.training_summary.get("config", {}).get("batch_size") for s in saes}
    frame["pareto"] = pareto_optimal(frame, ["hook", "measured_on"])
    return Comparison(frame=frame, batch_tokens=sizes.pop() if len(sizes) == 1 else None)


def check_measure(comparison: Comparison, y: str | None) -> str:
    """The column to draw by L0; UnknownNameError for another, DataError for one that was not measured."""
    frame = comparison.frame
    if y is None:
        complete = "ce_loss_recovered" in frame and bool(frame["ce_loss_recovered"].notna().all())
        return "ce_loss_recovered" if complete else "explained_variance"
    if y not in MEASURES:
        raise unknown_name("measure", y, MEASURES)
    if y not in frame or not frame[y].notna().any():
        raise DataError(
            f"no SAE has {y}",
            got="no evaluations",
            accepted="at least one evaluation",
            fix="pass sk.compare(saes, [sk.evaluate(model, sae, held_out) for sae in saes])",
        )
    return y


def architecture_name(config: SAEConfig) -> str:
    """The architecture with what changes its kind: nested prefixes, several k."""
    return config.architecture.describe(config)


def labels(configs: Sequence[SAEConfig]) -> list[str]:
    """A short name for each configuration: its architecture, and whatever else sets it apart from the others.

    >>> from saekit.evaluation.comparison import labels
    >>> labels([sk.SAEConfig(d_in=8, d_sae=32, activation="topk", k=k) for k in (2, 4)])
    ['topk, k 2', 'topk, k 4']
    """
    dicts = [c.to_dict() for c in configs]
    fields = {**NAMED, **{name: name + " {}" for d in dicts for name in d if name not in {*NAMED, *UNNAMED}}}
    differ = {name: words for name, words in fields.items() if len({repr(d.get(name)) for d in dicts}) > 1}
    names: list[str] = []
    for d in dicts:
        parts = [words.format(_short(d[name])) for name, words in differ.items() if d.get(name) not in (None, (), [])]
        names.append(", ".join([d["activation"], *parts]))
    return [f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names)]


def _row(sae: SAE, evaluation: Evaluation | None) -> dict[str, Any]:
    config, last = sae.config, _last_metrics(sae)
    coefficient = last.get("coefficient") or config.sparsity_coefficient
    dead_fraction = last.get("dead_features", math.nan) / config.d_sae
    hook = " + ".join(config.hook_name) if isinstance(config.hook_name, tuple) else config.hook_name
    row: dict[str, Any] = {
        "architecture": architecture_name(config),
        "hook": f"{hook} to {config.hook_out}" if config.hook_out else hook,
        "d_sae": config.d_sae,
        "k": config.k,
        "target_l0": config.target_l0,
        "coefficient": coefficient,
        "n_tokens": last.get("n_tokens"),
    }
    if evaluation is not None:
        e = evaluation
        row |= {
            "measured_on": HELD_OUT,
            "l0": e.l0,
            "explained_variance": e.explained_variance,
            "mse": e.mse,
            "dead_fraction": dead_fraction,
            "silent_fraction": e.n_silent / len(e.density),
            "loss": math.nan,
            "ce_loss_recovered": e.ce_loss_recovered,
            "ce_loss_recovered_everywhere": e.ce_loss_recovered_everywhere,
            "kl": e.kl,
            "n_units": e.n_units,
            "unit": e.interval_unit,
        }
        for name in SHOWN:
            row |= dict(zip((f"{name}_low", f"{name}_high"), e.intervals[name], strict=True))
        return row
    nan = math.nan
    mse = last.get("mse", nan) / config.width_out  # the trainer's is summed over dimensions
    return row | {
        "measured_on": TRAINING if "l0" in last else NOTHING,
        "l0": last.get("l0", nan),
        "explained_variance": last.get("explained_variance", nan),
        "mse": mse,
        "dead_fraction": dead_fraction,
        "loss": last.get("loss", nan),
    }


def _last_metrics(sae: SAE) -> Mapping[str, Any]:
    """StepMetrics of the last step, or of the last logged one; empty for an SAE that was trained elsewhere."""
    if "l0" in sae.training_summary or sae.history is None or not len(sae.history):
        return sae.training_summary
    return {str(name): value for name, value in sae.history.iloc[-1].items()}


def _short(value: object) -> str:
    if isinstance(value, tuple | list):
        return " + ".join(_short(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cut(text: str, n: int) -> str:
    return text if len(text) <= n else text[: n - 1] + "…"
