"""The HTML displays of generated texts, of edits and what makes them, and of steering studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..display import (
    Block,
    Intervals,
    Numbers,
    Words,
    details,
    document,
    excerpt,
    facts,
    note,
    number,
    sentence,
    shown,
    table,
    words,
)
from ..sae.displays import left_out
from .strength_units import unit_name
from .study_table import COSTS

if TYPE_CHECKING:
    from .control_comparison import ControlComparison
    from .directions import Direction
    from .edits import Edit
    from .generation import Generation, StreamToken
    from .prompt_split import PromptSplit
    from .schedule import Schedule
    from .steered import SteeredModel
    from .study import SteeringStudy
    from .where import Where


@shown
def study_html(study: SteeringStudy) -> str:
    """Rates and costs by condition and strength with intervals, the advice, and some texts."""
    n_prompts, n_seeds = len(study.split.prompts), study.generations["seed"].nunique()
    how = "greedy" if study.temperature == 0 else f"temperature {study.temperature:g}, {n_seeds} seeds"
    several = f" and {len(study.weights) - 1} more" if len(study.weights) > 1 else ""
    summary = study.summary
    rows = summary.to_dict("records")
    strengths = [None if r["condition"] in ("none", "instruction") else r["strength"] for r in rows]
    costs = [Numbers(name, list(summary[name])) for name in ("repetition", *COSTS) if name in summary]
    best, unit = study.recommended, unit_name(study.unit, "×")
    advice = f"Recommended strength: {number(best)} {unit}." if best is not None else _no_advice(study)
    return document(
        f"Steering study: feature {study.feature}{several} for {study.concept!r}",
        f"{study.hook_name} of {study.model_name}",
        words(advice),
        table(
            [
                Words("condition", [r["condition"] for r in rows]),
                Numbers(f"strength, {unit}", strengths, by_row=True),
                Numbers("texts", list(summary["n_texts"])),
                Intervals(
                    "rate",
                    list(summary["rate"]),
                    low=list(summary["rate_low"]),
                    high=list(summary["rate_high"]),
                    axis=(0.0, 1.0),
                ),
                Intervals(
                    "nll, nats",
                    list(summary["nll"]),
                    low=list(summary["nll_low"]),
                    high=list(summary["nll_high"]),
                    picture=False,
                ),
                *costs,
            ],
            all_at=".summary has all",
        ),
        _comparison(study.compare()) if study.controls else None,
        note(
            f"{n_prompts} prompts, {study.max_new_tokens} new tokens, {how}; clamped at {study.positions} positions; "
            f"{len(study.controls) or 'no'} control features. {sentence(str(study.split))}."
        ),
        details("Some texts", _examples(study)),
    )


def _no_advice(study: SteeringStudy) -> str:
    reason = "no fluent strength beats the unsteered rate" if study.split.choose else "no prompt chooses one"
    return f"No strength is recommended: {reason}."


def _examples(study: SteeringStudy) -> Block | None:
    """The texts to the first prompt: unsteered, and at each strength of the feature."""
    frame = study.generations
    first = frame[(frame["prompt"] == frame["prompt"].iloc[0]) & frame["condition"].isin(["none", "feature"])]
    first = first.drop_duplicates(["condition", "strength"])
    return table(
        [
            Words("condition", list(first["condition"])),
            Numbers("strength", list(first["strength"]), by_row=True),
            Words("concept", ["yes" if present else "no" for present in first["concept_present"]]),
            Words("text", list(first["text"])),
        ],
        all_at=".generations has all",
    )


@shown
def control_comparison_html(c: ControlComparison) -> str:
    """Both rates with their intervals, and the p value."""
    return document(f"Feature {c.feature} beside control features", "", _comparison(c))


def _comparison(c: ControlComparison) -> Block:
    found = {f"feature {c.feature}": c.rate, f"{c.n_controls} control features": c.controls}
    values = list(found.values())
    rows = table(
        [
            Words(f"at strength {number(c.strength)} ({unit_name(c.unit, '×')})", list(found)),
            Intervals(
                "rate",
                [e.value for e in values],
                low=[e.low for e in values],
                high=[e.high for e in values],
                reasons=[e.reason for e in values],
                axis=(0.0, 1.0),
            ),
            Words("over", [f"{e.n_units:,} {e.unit}" if e.n_units is not None else None for e in values]),
        ]
    )
    shows = f"{c.n_showing} of {c.n_controls} controls show the concept at all; p = {number(c.p_value, 2)}"
    return Block((rows or "") + note(f"{shows}, of a feature drawn like the controls."))


@shown
def generation_html(g: Generation) -> str:
    """The prompt and what the model wrote after it."""
    how = "greedy" if g.temperature == 0 else f"temperature {g.temperature:g}, seed {g.seed}"
    end = "ended by the model" if g.finish_reason == "eos" else "cut at max_new_tokens"
    text = {"prompt": excerpt([g.prompt]), "text": excerpt([g.text]) if g.text else "nothing"}
    edits = {"edit" if len(g.edits) == 1 else f"edit {i + 1}": repr(edit) for i, edit in enumerate(g.edits)}
    return document(
        "Generation", f"{len(g.tokens):,} new tokens, {end}; {how}", facts(text | (edits or {"edits": "none"}))
    )


@shown
def stream_token_html(t: StreamToken) -> str:
    """The token."""
    return document("New token", f"id {t.token} at position {t.position}", excerpt([t.text]) if t.text else None)


@shown
def steered_html(model: SteeredModel) -> str:
    """The model and its edits."""
    edits = {f"edit {i + 1}": repr(edit) for i, edit in enumerate(model.edits)}
    return document("Steered model", f"{model.name}, {model.n_layers} layers, on {model.device}", facts(edits))


@shown
def edit_html(edit: Edit) -> str:
    """The change in words, and where and when it is made."""
    places = [repr(w) for w in edit.where]
    return document(
        "Edit",
        edit.in_words(),
        facts(
            {"at": edit.hook_name, "positions": edit.positions}
            | ({"tokens": places} if places else {})
            | ({"schedule": repr(edit.schedule)} if edit.schedule else {})
            | ({"left unedited": left_out(edit.token_filter)} if edit.token_filter else {})
        ),
    )


@shown
def direction_html(d: Direction) -> str:
    """Its place and length."""
    norms = [float(v) for v in d.vectors.norm(dim=1)]
    kind = "Direction" if len(norms) == 1 else f"{len(norms)} directions"
    return document(
        f"{kind} {d.name!r}", f"at {d.hook_name}", facts({"width": d.vectors.shape[1], "length as given": norms})
    )


@shown
def where_html(where: Where) -> str:
    """The condition in words."""
    ids = {"tokens of the vocabulary": len(where.ids)} if where.ids else {}
    return document("Tokens", repr(where), facts(ids))


@shown
def schedule_html(schedule: Schedule) -> str:
    """The factors by new token."""
    points = [
        Numbers("new token", [n for n, _ in schedule.points]),
        Numbers("factor", [f for _, f in schedule.points], by_row=True),
    ]
    return document("Schedule", repr(schedule), table(points))


@shown
def prompt_split_html(split: PromptSplit) -> str:
    """Which prompts do what."""
    return document(
        "Prompts",
        str(split),
        details("Those that choose", table([Words("", list(split.choose))], all_at=".choose has all")),
        details("Those that report", table([Words("", list(split.report))], all_at=".report has all")),
    )
