"""The static picture of a SpecificityPanel, drawn from its state as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..display.escaping import shortened
from ..display.numbers import short
from ..plotting.style import BLUE, GREY, ORANGE, faded, figure
from ..specificity.measures import MEASURES
from .picture_blocks import Html, drawing, heading, number, percent, picture, side_by_side, table, words
from .pictures import N_ROWS, context_block

if TYPE_CHECKING:
    from .specificity_traits import SpecificityTraits

MAX_WRITTEN = 600
"""Letters of a concept."""
N_BINS = 10
N_CONTEXTS = 4
"""False alarms, and as many misses."""


def specificity_picture(panel: SpecificityTraits, sentence: str) -> Html:
    """The concept, the first features of the ranking, and the chosen one: its result in a `sentence`, firings on the
    concept and off it, and some contexts where it is wrong. What is not there yet is said to be missing."""
    preview, ranking, has_concept = panel.preview, panel.ranking, bool(panel.query.strip() or panel.concept)
    written = shortened(panel.query or (panel.concept.name if panel.concept else ""), MAX_WRITTEN)
    blocks: list[Html | None] = [words(f"Concept: {written}" if has_concept else "No concept is written.")]
    if panel.marks:
        n = sum(bool(mark["counts"]) for mark in panel.marks)
        blocks.append(words(f"Marked by hand: {n:,} that count, {len(panel.marks) - n:,} that do not."))
    if has_concept and "n_tokens" in preview:
        n_tokens, n_documents = preview["n_tokens"], preview["n_documents"]
        blocks.append(words(f"It holds for {_some(n_tokens, 'token')} in {_some(n_documents, 'document')}."))
    blocks += [words(said) for said in (panel.query_error, preview.get("nothing"), panel.error) if said]
    waits = has_concept and not ranking and not preview.get("nothing") and not panel.error
    if panel.running:
        blocks.append(words(f"Being computed: {panel.status or 'begun'}"))
    elif panel.status:
        blocks.append(words(panel.status))
    if waits:
        blocks.append(words("Nothing is ranked yet."))
    blocks += [_ranked(panel), *_of_feature(panel, sentence)]
    return picture("Specificity", _about(panel), *blocks)


def _about(panel: SpecificityTraits) -> str:
    corpus = panel.corpus.get("name", "")
    return f"scored by {panel.unit}, ranked by {MEASURES[panel.by]}" + (f", on {corpus}" if corpus else "")


def _ranked(panel: SpecificityTraits) -> Html | None:
    """The first rows, with what they are of."""
    ranking, rows, names = panel.ranking, panel.rows[:N_ROWS], panel.names
    if not ranking:
        return None
    by = ranking["by"]
    columns: dict[str, Sequence[Any]] = {
        "feature": [row["feature"] for row in rows],
        "name": [names.get(str(row["feature"]), "") for row in rows],
        "chose": [_figure(row["choose"]) for row in rows],
        f"{MEASURES[by]}, reported": [_reported(row, by) for row in rows],
        "firings": [number(row["n_firings"]) for row in rows],
        "p": [_p(row.get("p_value"), ranking) for row in rows],
    }
    said = [ranking["documents"], ranking["few"], ranking["p_reason"] and f"no p value: {ranking['p_reason']}"]
    if len(panel.rows) > len(rows):
        said.append(f"{len(panel.rows) - len(rows):,} more in the ranking")
    about = " ".join(f"{text[:1].upper()}{text[1:]}." for text in said if text)
    found = table(columns, numeric=("feature", "chose", "firings", "p"))
    return Html(
        heading(f"Features for “{shortened(ranking['concept'], 80)}”")
        + (found or words("No feature fires often enough to be ranked."))
        + words(about)
    )


def _of_feature(panel: SpecificityTraits, sentence: str) -> list[Html | None]:
    """The feature whose scores are there: its result, firings and mistakes."""
    scores = panel.scores
    if "feature" not in scores:
        return []
    feature, unit, top = scores["feature"], scores["unit"], scores["max"]
    head = heading(f"Feature {feature} {panel.names.get(str(feature), '')}".strip())
    result = words(sentence or "Its intervals are not computed yet.")
    if not top:
        return [head, result, words("The feature does not fire on these documents.")]
    value = np.frombuffer(scores["value"], "<f4")
    n, hits = (np.frombuffer(scores[name], "<i4") for name in ("n_firings", "n_hits"))
    end = int(np.searchsorted(-value, -np.float32(panel.threshold), side="right"))
    fire, right = (int(n[end - 1]), int(hits[end - 1])) if end else (0, 0)
    n_positive = scores["n_positive"]
    precision = short(right / fire) if fire else "–"
    recall = short(right / n_positive) if n_positive else "–"
    at = f"At activations of {number(panel.threshold)} and more: precision {precision}, recall {recall}; "
    at += f"{_some(fire, unit)} fire, {right:,} on the concept, and {n_positive - right:,} of the concept are missed."
    parts = side_by_side(*_histogram(value, n, hits, float(panel.threshold)))
    return [head, result, words(at), parts, *_mistakes(panel, fire - right, n_positive - right)]


def _histogram(value: Any, n: Any, hits: Any, threshold: float) -> list[Html | None]:
    """Firings by activation as a drawing and a table, on the concept and off it.

    A bar's height is the number of firings on a logarithmic scale, its coloured part the fraction on the concept.
    """
    edges = float(value[0]) * np.arange(N_BINS + 1) / N_BINS
    edges[-1] = value[0]
    above = np.searchsorted(-value, -edges.astype(np.float32), side="left")  # of activations beyond each edge
    above[-1] = 0
    fire, right = (-np.diff(np.append(0, counts)[above]) for counts in (n, hits))
    low, fraction = np.log10(0.6), right / np.maximum(fire, 1)
    middle, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges) * 0.92
    split = 10 ** (low + (np.log10(np.maximum(fire, 0.6)) - low) * fraction)
    chart = figure("", height=190)
    off, on = {"color": faded(GREY, 0.55), "line": {"width": 0}}, {"color": ORANGE, "line": {"width": 0}}
    chart.add_bar(x=middle, y=fire, width=width, marker=off, name="off the concept")
    chart.add_bar(x=middle, y=split, width=width, marker=on, name="on the concept")
    chart.update_yaxes(type="log", range=[low, np.log10(fire.max() * 1.6)], title_text="firings", dtick=1)
    chart.update_xaxes(range=[0, edges[-1] * 1.01], title_text="activation")
    if 0 < threshold <= edges[-1]:
        line = {"color": BLUE, "width": 2, "dash": "dash"}
        chart.add_shape(type="line", x0=threshold, x1=threshold, y0=0, y1=1, xref="x", yref="paper", line=line)
    margin = {"t": 36, "b": 44, "l": 52, "r": 8}
    chart.update_layout(barmode="overlay", margin=margin, title=None, showlegend=True, legend={"y": 1.08})
    some = [i for i in range(N_BINS) if fire[i]]
    columns = {
        "activation": [f"{number(edges[i])} to {number(edges[i + 1])}" for i in some],
        "firings": [f"{fire[i]:,}" for i in some],
        "on the concept": [f"{right[i]:,}" for i in some],
        "fraction": [percent(float(fraction[i])) for i in some],
    }
    return [
        drawing(chart, "firings on the concept and off it, by activation, with the threshold", 400),
        table(columns, numeric=("firings", "on the concept", "fraction")),
    ]


def _mistakes(panel: SpecificityTraits, n_alarms: int, n_misses: int) -> list[Html | None]:
    """Some false alarms and misses at the threshold, as the live view lists them, with what is marked."""
    marks = {(mark["at"], mark["unit"]): mark["counts"] for mark in panel.marks}
    top = float(panel.scores["max"]) or 1.0

    def fires(context: Mapping[str, Any]) -> bool:
        return bool(context["activation"] > 0 and context["activation"] >= panel.threshold)

    alarms = [c for c in panel.contexts if c["group"] == "false alarm" and fires(c)]
    missed = [c for c in panel.contexts if c["group"] != "false alarm" and not fires(c)]
    missed.sort(key=lambda c: c["group"] != "miss")  # where it is silent before where it is weak
    blocks: list[Html | None] = []
    for name, of, n in (("False alarms", alarms, n_alarms), ("Misses", missed, n_misses)):
        shown = of[:N_CONTEXTS]
        blocks.append(heading(f"{name}: {len(shown)} of {n:,}" if n > len(shown) else f"{name}: {n:,}"))
        for context in shown:
            counts = marks.get((context["at"], context["unit"]))
            said = {True: "marked: counts", False: "marked: does not count"}.get(counts, "")  # type: ignore[arg-type]
            blocks.append(context_block(context, top, said))
    return blocks


def _some(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _figure(value: float | None) -> str:
    return "–" if value is None else short(value)


def _reported(row: Mapping[str, Any], by: str) -> str:
    low, high = row.get(f"{by}_low"), row.get(f"{by}_high")
    ends = "" if low is None or high is None else f" [{short(low)}, {short(high)}]"
    return _figure(row.get(by)) + ends


def _p(value: float | None, ranking: Mapping[str, Any]) -> str:
    if not ranking["tested"]:
        return "…"
    if value is None:
        return "–"
    least = 1 / ((ranking.get("n_permutations") or 0) + 1)
    return ("≤\u00a0" if value <= least + 1e-9 else "") + f"{value:.3f}"
