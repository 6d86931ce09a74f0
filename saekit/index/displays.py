"""The HTML displays of an index, of what it holds on a feature, and of places in its text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..display import (
    Block,
    Numbers,
    Words,
    chips,
    details,
    document,
    excerpt,
    facts,
    frame_table,
    histogram,
    note,
    number,
    percent,
    sentence,
    shown,
    spans,
    table,
    words,
)
from ..hook_points import hook_text

if TYPE_CHECKING:
    from .query import FeatureIndex
    from .records import ActivationBin, Active, Context, FeatureRecord, Firings, Histogram

N_TOP = 8
"""Contexts of a feature that are shown at once."""


@shown
def index_html(index: FeatureIndex) -> str:
    """Its counts, from the manifest alone: no file of the index is read, however large it is."""
    dead = index.manifest["counts"].get("n_dead_in_training")
    silent = f"{index.n_silent:,} ({percent(index.n_silent / max(index.d_sae, 1))})"
    active = index.n_firings / max(index.n_tokens, 1)
    return document(
        "Feature index",
        f"{index.d_sae:,} features at {hook_text(index.hook_name)} of {index.model_name}",
        facts(
            {
                "corpus": f"{index.corpus_name}, {index.n_documents:,} documents",
                "tokens": f"{index.n_tokens:,}, in {index.n_windows:,} windows of {index.length}",
                "features active per token": number(active),
                "silent features": silent + ("" if dead is None else f"; {dead:,} were dead in training"),
                "SAE": index.sae_fingerprint,
                "folder": str(index.path),
            }
        ),
        note(sentence(str(index.excluded))) if "excluded" in index.manifest else None,
        note("sk.explore(index) shows the features; index.features is a table; index.search(text=…) finds them."),
    )


@shown
def record_html(record: FeatureRecord) -> str:
    """How often and how strongly it fires, what it writes, and its strongest contexts."""
    s = record.stats
    about = "silent: never fires on this text"
    if not record.silent:
        about = f"fires on {percent(s['density'])} of tokens, {s['n_firings']:,} in {s['n_documents']:,} documents"
    if not math.isnan(record.fraction):
        about += f"; its name's words carry {percent(record.fraction, 2)} of its activation"
    usual = ("density", "n_firings", "n_documents", "max", "mean", "std", "silent")
    return document(
        f"Feature {record.feature}" + (f": {record.name}" if record.name else ""),
        about,
        None if record.silent else words(_strength(s)),
        None if record.silent else _histogram(record.histogram),
        facts(
            {
                "promotes": chips(token for token, _ in record.promoted),
                "suppresses": chips(token for token, _ in record.suppressed),
                "nearest features": chips(
                    f"{i} {record.names.get(i, '')}".strip() + f" ({number(c, 2)})" for i, c in record.neighbours[:6]
                ),
            }
        ),
        _contexts(record.top[:N_TOP], record.max),
        note(f"The {N_TOP} strongest of {len(record.top)} contexts kept.") if len(record.top) > N_TOP else None,
        details("By activation", *(_bin(b, record.max) for b in reversed(record.bins) if b.contexts)),
        details("More statistics", facts({k: v for k, v in s.items() if k not in usual})),
    )


def _strength(s: Mapping[str, Any]) -> str:
    return f"Activation up to {number(s['max'])}; when active {number(s['mean'])} on average, std {number(s['std'])}."


@shown
def context_html(c: Context) -> str:
    """The text around the token, and where it stands."""
    labels = ", ".join(f"{k} {v}" for k, v in c.labels.items())
    where = f"activation {number(c.activation)}, document {c.document}, window {c.window}, position {c.pos}"
    return document("Context", where, excerpt(c.tokens, c.acts, centre=c.centre), note(labels) if labels else None)


@shown
def histogram_html(h: Histogram) -> str:
    """Its bars."""
    return document("Activations", f"{int(h.counts.sum()):,} firings", _histogram(h))


@shown
def bin_html(b: ActivationBin) -> str:
    """Its range and contexts."""
    about = f"{number(b.low)} to {number(b.high)}: {b.count:,} firings, {percent(b.fraction)}"
    return document("Activation bin", about, _contexts(b.contexts, b.high))


@shown
def firings_html(firings: Firings) -> str:
    """The first of them."""
    n, value = len(firings.position), firings.value
    counts, edges = np.histogram(value, 40, (0.0, float(value.max()))) if n else (np.zeros(1), [0.0, 0.0])
    return document(
        "Firings",
        f"on {n:,} tokens",
        histogram(counts.tolist(), float(edges[0]), float(edges[-1])) if n else None,
        details("The first of them", frame_table(firings.to_frame(), index=False)),
    )


@shown
def active_html(active: Active) -> str:
    """The strongest features of a token first."""
    frame = active.to_frame().sort_values("value", ascending=False, kind="stable")
    frame["feature"] = [str(f) for f in frame["feature"]]
    about = f"{len(frame):,} features fire on this token"
    return document("Active features", about, frame_table(frame, index=False, activations=("value",)))


def _histogram(h: Histogram) -> Block:
    return histogram(h.counts.tolist(), float(h.edges[0]), float(h.edges[-1]))


def _contexts(contexts: list[Context], top: float) -> Block | None:
    texts = [excerpt(c.tokens, c.acts, top=top, centre=c.centre) for c in contexts]
    return table([Words("context", texts), Numbers("activation", [c.activation for c in contexts])])


def _bin(b: ActivationBin, top: float) -> Block | None:
    title = f"{spans([b.low], [b.high])[0]}: {b.count:,} firings, {percent(b.fraction)}"
    return details(title, _contexts(b.contexts, top))
