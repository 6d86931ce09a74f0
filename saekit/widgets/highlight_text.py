"""A token highlight as plain text: what colours, its features, and the tokens one per line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import shown

if TYPE_CHECKING:
    from .token_highlight import TokenHighlight

N_LINES = 40


def as_text(w: TokenHighlight) -> str:
    """The widget's value: a headline, the features that colour, and the first tokens."""
    frame = w.to_frame().iloc[:N_LINES]
    n = len(w.tokens)
    lines = [f"TokenHighlight: {n} token{'' if n == 1 else 's'}, {headline(w)}"]
    if w.reading or w.error:
        lines.append(f"  {w.status} {w.error}".rstrip())
    if w.colour_by == "standout":
        lines += [f"  {w.explanation}"] if w.explanation else []
        whose = "its" if w.maxima_from == "index" else "the text's"
        rows: Any = w.standouts.head(w.n_features_shown).itertuples()
        for row in rows:
            where = f"{shown(w.tokens[row.token])!r}, token {row.token}"
            label = f"feature {row.feature}" + (f", {row.name}" if row.name else "")
            lines.append(f"  {label}: {row.standout:.3g} bits, up to {row.relative:.0%} of {whose} maximum at {where}")
    top = 1.0 if w.colour_by == "standout" else w.scale or float(w.values(w.feature).max(initial=0.0))
    tokens: Any = frame.itertuples(index=False)
    for i, row in enumerate(tokens):
        if row.excluded:
            description = f"not counted: {row.excluded}"
        else:
            heat = row.relative if w.colour_by == "standout" else row.activation / top if top > 0 else 0.0
            bar = "█" * round(10 * min(1.0, float(np.nan_to_num(heat))))
            feature = row.feature if w.colour_by == "standout" else row.strongest
            best = f"feature {feature}" if feature >= 0 else ""
            description = f"{row.activation:8.3f}  {bar:<10}  {best}"
        mark = ">" if i == w.selected else " "
        label = shown(row.token) or w.bytes.get(str(i), "")
        lines.append(f"{mark}{i:4d}  {label:<16}{description}".rstrip())
    if n > N_LINES:
        lines.append(f"      ... {n - N_LINES} more tokens; .to_frame() has all")
    return "\n".join(lines)


def headline(w: TokenHighlight) -> str:
    """What colours the text, and what is set aside."""
    if w.colour_by == "standout":
        found, aside = len(w.standouts), len(w.set_aside)
        n_tokens = sum(map(bool, w.excluded))
        parts = [f"{k} {what}{'' if k == 1 else 's'}" for k, what in ((aside, "feature"), (n_tokens, "token")) if k]
        apart = f"; set aside: {', '.join(parts)}" if parts else ""
        return f"coloured by what stands out ({min(w.n_features_shown, found)} of {found} features{apart})"
    what = "strongest activation of any feature" if w.feature is None else f"activation of feature {w.feature}"
    return f"{what}, at most {float(w.values(w.feature).max(initial=0.0)):.3g}"
