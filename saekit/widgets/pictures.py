"""The static picture of each widget, drawn from its state as it is now; see picture_blocks.py for what it is made of.

Each function takes a widget's own tables or traits and returns HTML of some tens of kilobytes at most: long texts and
tables are cut, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plotting.figures import Figure, subplots
from ..plotting.style import DASHES, ORANGE, PALETTE, faded, figure, literal
from .markdown import escape
from .picture_blocks import (
    Html,
    coloured,
    drawing,
    heading,
    line_breaks,
    number,
    percent,
    picture,
    side_by_side,
    table,
    words,
)

if TYPE_CHECKING:
    import pandas as pd

N_TOKENS = 600
N_STRONGEST = 8
N_ROWS = 10
N_TOP, N_OF_BIN = 6, 1
"""Contexts of a card: of the strongest, and of each activation bin."""
CURVES = ("loss", "explained_variance", "l0", "dead_fraction")
"""What is drawn of a run."""
MAX_CELLS = 120_000
"""Pairs of tokens in the picture of an attention pattern."""


def highlight_picture(
    tokens: pd.DataFrame, about: str, names: Mapping[str, str], shown: Mapping[str, str] | None = None
) -> Html:
    """The coloured text, and its strongest tokens as a table.

    `tokens` has a row per token: token, activation, excluded ("" for those that count), and relative (from 0 to 1) or
    nothing, where the largest activation is full colour. `shown` is what stands for a token without letters.
    """
    bytes_ = shown or {}
    texts = [str(t) or bytes_.get(str(i), "") for i, t in enumerate(tokens["token"])]
    acts = tokens["activation"].to_numpy(float)
    top = float(acts.max(initial=0.0))
    heats = tokens["relative"].to_numpy(float) if "relative" in tokens else acts / (top or 1.0)
    feature = tokens["feature"] if "feature" in tokens else tokens["strongest"]
    excluded = [bool(why) for why in tokens["excluded"]]
    order = [int(i) for i in np.argsort(-heats, kind="stable")[:N_STRONGEST] if heats[i] > 0]
    cut = f"The first {N_TOKENS:,} of {len(texts):,} tokens." if len(texts) > N_TOKENS else ""
    strongest = table(
        {
            "token": [line_breaks(texts[i]).replace("\n", "") for i in order],
            "position": order,
            "activation": [number(acts[i]) for i in order],
            "feature": [_feature(feature[i], names) for i in order],
        },
        numeric=("position", "activation"),
    )
    return picture(
        "Tokens by activation",
        about,
        coloured(texts[:N_TOKENS], heats[:N_TOKENS].tolist(), faint=excluded),
        words(cut) if cut else None,
        heading("Strongest tokens") if strongest else words("Nothing fires here."),
        strongest,
    )


def browser_picture(rows: pd.DataFrame, about: str, names: Mapping[str, str], open_card: Html | None) -> Html:
    """The rows that are shown, as far as the tenth, and the open card."""
    here = rows.head(N_ROWS)
    columns: dict[str, Sequence[Any]] = {"feature": [int(i) for i in here.index]}
    if "name" in here:
        columns["name"] = here["name"].tolist()
    elif any(names.get(str(i)) for i in here.index):
        columns["name"] = [names.get(str(i), "") for i in here.index]
    columns |= {
        "density": [percent(v) for v in here["density"]],
        "max": [number(v) for v in here["max"]],
        "firings": [f"{int(n):,}" for n in here["n_firings"]],
        "promotes": [str(p) for p in here["promoted"]],
        "strongest context": [str(e) or "silent" for e in here["example"]],
    }
    rest = len(rows) - len(here)
    return picture(
        "Features",
        about,
        table(columns, numeric=("feature", "density", "max", "firings")) or words("No feature matches."),
        words(f"{rest:,} more on this page.") if rest > 0 else None,
        open_card,
    )


def card_picture(card: Mapping[str, Any]) -> Html:
    """A card's statistics, histogram, effects on tokens, neighbours and contexts."""
    stats, silent = card["stats"], card["stats"]["silent"]
    facts = {
        "density": percent(stats["density"]),
        "maximum": number(stats["max"]),
        "mean when active": number(stats["mean"]),
        "firings": f"{stats['n_firings']:,.0f}",
        "documents": f"{stats['n_documents']:,.0f}",
    }
    effects = [
        _headed(
            title,
            table(
                {
                    "token": [line_breaks(t).replace("\n", "") for t, _ in pairs],
                    "effect": [number(e) for _, e in pairs],
                },
                numeric=("effect",),
            ),
        )
        for title, pairs in (("Promotes", card["promoted"][:6]), ("Suppresses", card["suppressed"][:6]))
    ]
    names = card.get("names") or {}
    name = names.get(str(card["feature"]), "")
    near = [f"{_feature(i, names)} ({number(cosine)})" for i, cosine in card["neighbours"][:8]]
    about = "silent on the indexed text" if silent else ""
    parts: list[Html | None] = [
        None if silent else table({key: [value] for key, value in facts.items()}, numeric=facts),
        side_by_side(None if silent else _histogram(card["histogram"]), *effects),
        words("Nearest features by decoder cosine: " + "; ".join(near)) if near else None,
    ]
    top = float(stats["max"] or 0.0) or 1.0
    if not silent:
        parts += [heading("Strongest contexts"), *(context_block(c, top) for c in card["top"][:N_TOP])]
        for interval in reversed(card["intervals"]):
            if interval["contexts"]:
                low, high = number(interval["low"]), number(interval["high"])
                parts.append(heading(f"Activation {low} to {high}: {interval['count']:,} firings"))
                parts += [context_block(c, top) for c in interval["contexts"][:N_OF_BIN]]
    return picture(f"Feature {card['feature']}" + (f": {name}" if name else ""), about, *parts)


def _headed(title: str, block: Html | None) -> Html | None:
    """A block under its heading; None without the block."""
    return Html(heading(title) + block) if block else None


def steering_picture(
    about: str, conditions: Sequence[tuple[str, str]], prompt: str, exchanges: Sequence[Mapping[str, Any]], error: str
) -> Html:
    """The conversation: each message, and below it a row per condition with its reply.

    `conditions` are names with what they do, in words.
    """
    blocks: list[Html | None] = []
    if not exchanges:
        does = table({"condition": [n for n, _ in conditions], "does": [d for _, d in conditions]})
        blocks += [words(f"Prompt: {prompt}") if prompt else None, does, words("Not run yet.")]
    for exchange in exchanges:
        replies = exchange["replies"]
        columns: dict[str, Sequence[Any]] = {
            "condition": [Html(f"<b>{escape(n)}</b><br>{escape(d)}") for n, d in conditions],
            "reply": [words("".join(r["tokens"])) for r in replies],
        }
        if any(r["mean_nll"] is not None for r in replies):
            columns["nll"] = [number(r["mean_nll"]) for r in replies]
        if any(r["present"] is not None for r in replies):
            columns["concept"] = [{True: "yes", False: "no"}.get(r["present"], "") for r in replies]
        n = min(len(conditions), len(replies))
        columns = {name: values[:n] for name, values in columns.items()}
        blocks += [heading(f"> {exchange['user']}"), table(columns, numeric=("nll",))]
    return picture("Steered replies", about, *blocks, words(error) if error else None)


def monitor_picture(about: str, curves: pd.DataFrame, names: Sequence[str], message: str) -> Html:
    """The last values of every SAE, and the curves of its run. `curves` is as TrainingMonitor.curves returns it."""
    if not len(curves):
        return picture("Training", about, words(message) if message else None)
    last = curves.groupby(level="sae").tail(1)
    shown = [c for c in (*CURVES, "lr") if c in last]
    values = {c.replace("_", " "): [number(float(v), 4) for v in last[c]] for c in shown}
    return picture(
        "Training",
        about,
        words(message) if message else None,
        table({"SAE": list(names), **values}, numeric=values),
        drawing(_curves(curves, names), "curves of the run", 760),
    )


def _curves(curves: pd.DataFrame, names: Sequence[str]) -> Figure:
    """A panel for each of CURVES with a line for each SAE."""
    titles = [c.replace("_", " ") for c in CURVES]
    chart = subplots(rows=2, cols=2, horizontal_spacing=0.1, vertical_spacing=0.22, subplot_titles=titles)
    figure("", height=380, fig=chart)
    many = len(names) > 1
    for s, name in enumerate(names):
        own = curves.loc[s]
        line = {"color": PALETTE[s % len(PALETTE)], "width": 2, "dash": DASHES[s // len(PALETTE) % len(DASHES)]}
        for k, column in enumerate(CURVES):
            place = {"row": k // 2 + 1, "col": k % 2 + 1}
            named = {"name": literal(f"{s + 1} {name}"), "showlegend": many and k == 0}
            chart.add_scatter(x=own["n_tokens"], y=own[column], mode="lines", line=line, **named, **place)
    chart.update_xaxes(tickformat="~s").update_xaxes(title_text="tokens seen", row=2)
    chart.update_yaxes(rangemode="tozero", row=2)
    chart.update_layout(title=None, margin={"t": 30 + (24 if many else 0), "b": 48}, legend={"y": 1.1})
    return chart


def attention_picture(summary: str, props: Mapping[str, Any], unescape: Any) -> Html:
    """Each head's attention as a small picture, with the tokens in words."""
    from ..plotting.images import image_grid

    tokens, attention = [unescape(t) for t in props.get("tokens", [])], props.get("attention") or []
    if not tokens or not attention:
        return picture("CircuitsVis", summary)
    n = max(1, min(len(attention), MAX_CELLS // (len(tokens) + 1) ** 2))
    heads = np.array(attention[:n], np.float32)
    wide = min(6, n)
    chart = image_grid(heads, "From each token (down) to those before it (across)", n_columns=wide)
    cut = f", heads 0 to {n - 1} of {len(attention)}, row by row" if n < len(attention) else ", heads row by row"
    listed = " ".join(f"{i}:{line_breaks(t).strip() or '␣'}" for i, t in enumerate(tokens[:200]))
    return picture("Attention", summary + cut, words(f"Tokens: {listed}"), drawing(chart, summary, 640))


def _histogram(histogram: Mapping[str, Any]) -> Html | None:
    counts, edges = np.array(histogram["counts"], float), np.array(histogram["edges"], float)
    if not counts.sum() or len(edges) < 2:
        return None
    shade = (edges[:-1] + edges[1:]) / 2 / (edges[-1] or 1.0)
    chart = figure("", height=170)
    colours = [faded(ORANGE, 0.35 + 0.65 * float(np.clip(s, 0, 1))) for s in shade]
    middle, width = (edges[:-1] + edges[1:]) / 2, np.diff(edges) * 0.92
    chart.add_bar(x=middle, y=counts, width=width, marker={"color": colours, "line": {"width": 0}})
    chart.update_yaxes(type="log", range=[np.log10(0.6), np.log10(counts.max() * 1.6)], title_text="firings", dtick=1)
    chart.update_xaxes(range=[0, float(edges[-1]) * 1.01], title_text="activation")
    chart.update_layout(margin={"t": 8, "b": 44, "l": 52, "r": 8}, title=None)
    words_ = f"{int(counts.sum()):,} firings, activations from {number(edges[0])} to {number(edges[-1])}"
    return drawing(chart, words_, 340)


def context_block(context: Mapping[str, Any], top: float, note: str = "") -> Html:
    """A context with its activation before it and a `note` between; `top` is full colour."""
    parts = context.get("bytes") or {}
    tokens = [str(t) or parts.get(str(i), "") for i, t in enumerate(context["tokens"])]
    heats = [(act or 0.0) / top for act in context["acts"]]
    before = f"{number(context['activation'])} {note}".strip()
    return coloured(tokens, heats, centre=context["centre"], before=before)


def _feature(feature: Any, names: Mapping[str, str]) -> str:
    if int(feature) < 0:
        return ""
    name = names.get(str(int(feature)), "")
    return f"{int(feature)} {name}".strip()
