"""Blocks that are no table: words, facts, tokens with marks, a histogram, sections that open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .escaping import escape, shortened
from .numbers import is_number, number


class Block(str):
    """HTML that is safe to show as it is; only this package makes it."""

    __slots__ = ()


def words(text: object) -> Block:
    """A line of words."""
    return Block(f"<p>{escape(text)}</p>")


def note(text: object, *, warn: bool = False) -> Block:
    """What to keep in mind, in fainter words; with `warn` marked at its side."""
    kind = "saekit-warn" if warn else "saekit-muted"
    return Block(f'<p class="{kind}">{escape(text)}</p>')


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def preformatted(text: object) -> Block:
    """Text whose line breaks and spaces are kept."""
    return Block(f"<pre>{escape(text)}</pre>")


def value_html(value: Any, limit: int = 400) -> str:
    """A value in a cell: numbers with sensible digits, yes and no, lists joined, other things as text."""
    if isinstance(value, Block):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if is_number(value):
        return escape(number(value, 4))
    if isinstance(value, (list, tuple, set, frozenset)):
        some = [value_html(v) for v in list(value)[:12]]
        more = f", … {len(value) - 12:,} more" if len(value) > 12 else ""
        return (", ".join(some) or "none") + more
    return f"<bdi>{escape(shortened(value, limit))}</bdi>"


def facts(values: Mapping[str, Any], caption: str = "") -> Block | None:
    """Names with their values, a row each; None without any.

    >>> from saekit.display import facts
    >>> "<td>50.2</td>" in facts({"width": 32, "noise": 50.200001})
    True
    """
    if not values:
        return None
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    names = [f'<th scope="row"><span class="saekit-muted">{escape(name)}</span></th>' for name in values]
    rows = "".join(f"<tr>{n}<td>{value_html(v)}</td></tr>" for n, v in zip(names, values.values(), strict=True))
    return Block(f'<div class="saekit-scroll"><table class="saekit-table saekit-facts">{head}{rows}</table></div>')


def details(summary: str, *blocks: Block | None, opened: bool = False) -> Block | None:
    """A section that opens when its summary is clicked; None when nothing is in it."""
    inside = "".join(block for block in blocks if block is not None)
    if not inside:
        return None
    state = " open" if opened else ""
    return Block(f"<details{state}><summary>{escape(summary)}</summary><div>{inside}</div></details>")


def chips(texts: Iterable[object], limit: int = 12) -> Block:
    """Short texts side by side, such as tokens; white space is kept, line breaks shown as ↵."""
    listed = list(texts)
    some = [f"<span><bdi>{escape(visible(str(t)))}</bdi></span>" for t in listed[:limit]]
    more = [f"… {len(listed) - limit:,} more"] if len(listed) > limit else []
    return Block(f'<div class="saekit-chips">{" ".join([*some, *more])}</div>') if some else Block("none")


def excerpt(tokens: Sequence[str], acts: Sequence[float] = (), *, top: float = 0.0, centre: int | None = None) -> Block:
    """Text as tokens, each with a mark as strong as its activation is beside `top`; `centre` in bold.

    >>> from saekit.display import excerpt
    >>> excerpt(["the", " cat"], [0.0, 2.0], top=4.0, centre=1)
    '<div class="saekit-text" dir="auto">the<strong class="saekit-fire" style="--heat:0.5"> cat</strong></div>'
    """
    highest = top or max((float(a) for a in acts), default=0.0)
    parts = []
    for i, token in enumerate(tokens):
        act = float(acts[i]) if i < len(acts) else 0.0
        text = escape(visible(token))
        if i == centre or (act > 0 and highest > 0):
            heat = min(max(act / highest, 0.0), 1.0) if highest > 0 and math.isfinite(act) else 0.0
            tag = "strong" if i == centre else "span"
            parts.append(f'<{tag} class="saekit-fire" style="--heat:{heat:.3g}">{text}</{tag}>' if text else "")
        else:
            parts.append(text)
    return Block(f'<div class="saekit-text" dir="auto">{"".join(parts)}</div>')


def histogram(counts: Sequence[float], low: float, high: float, *, log: bool = True) -> Block:
    """Bars for counts, the ends of their axis below; on a log scale a single count can still be seen."""
    heights = [math.log1p(float(c)) if log else float(c) for c in counts]
    top = max(heights, default=0.0) or 1.0
    bars = "".join(f'<b style="height:{100 * h / top:.3g}%"></b>' for h in heights)
    ends = ends_html(number(low), number(high), "log scale" if log else "")
    return Block(f'<div class="saekit-histogram" aria-hidden="true">{bars}</div>{ends}')


def ends_html(low: str, high: str, between: str = "") -> str:
    """The ends of an axis, which the style sheet shows: without it there is no axis, and they would be stray words."""
    spans = "".join(f'<span data-end="{escape(text)}"></span>' for text in (low, between, high))
    return f'<div class="saekit-ends" aria-hidden="true">{spans}</div>'


def visible(token: str) -> str:
    """A token with its line breaks and tabs shown."""
    return token.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")
