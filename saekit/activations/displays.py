"""The HTML displays of stored activations, batches, and what a token filter leaves out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..display import Bars, Numbers, Words, details, document, facts, note, percent, shown, size, table
from ..hook_points import hook_text
from ..sae.displays import left_out

if TYPE_CHECKING:
    from .batches import ActivationBatches
    from .cache import ActivationCache
    from .excluded import ExcludedNorm, ExcludedToken, ExcludedTokens


@shown
def excluded_html(e: ExcludedTokens) -> str:
    """How many tokens, which ones most often, and how much of the norm they hold."""
    by_norm = f"{e.n_sinks:,} ({percent(e.sink_fraction)} of the others)"
    known = [n for n in e.norms if not math.isnan(n.squared_norm_fraction)]
    return document(
        "Left out by the token filter",
        f"{e.n_excluded:,} of {e.n_tokens:,} tokens ({percent(e.fraction)})",
        facts({"special tokens": e.n_special, "by their norm": by_norm}),
        note(e.surprise, warn=True) if e.surprise else None,
        table(
            [
                Words("token", [repr(t.token) for t in e.tokens]),
                Words("special", ["yes" if t.special else "" for t in e.tokens]),
                Numbers("left out", [t.n_excluded for t in e.tokens]),
                Numbers("occurs", [t.n for t in e.tokens]),
                Bars("of its occurrences", [t.fraction for t in e.tokens], percent=True, top=1.0),
            ]
        ),
        details(
            "How much of the norm they hold",
            table(
                [
                    Words("hook point", [n.hook_name for n in known]),
                    Numbers("norm at most", [n.max_norm for n in known]),
                    Numbers("of the norm", [n.norm_fraction for n in known], percent=True),
                    Numbers("of its square", [n.squared_norm_fraction for n in known], percent=True),
                ]
            ),
        ),
    )


@shown
def excluded_token_html(t: ExcludedToken) -> str:
    """How often it is left out."""
    kind = "special token" if t.special else "token"
    return document(repr(t.token), f"{kind}, left out {t.n_excluded:,} of {t.n:,} times ({percent(t.fraction)})")


@shown
def excluded_norm_html(n: ExcludedNorm) -> str:
    """How much of the norm at one hook point."""
    held = {"of the norm": percent(n.norm_fraction), "of its square": percent(n.squared_norm_fraction)}
    return document("Norm left out", n.hook_name, facts({"norm at most": n.max_norm, "tokens above": n.n_above} | held))


@shown
def cache_html(cache: ActivationCache) -> str:
    """Its sizes, and what the activations are of."""
    f = cache.files
    return document(
        "Activation cache",
        f"{cache.n_tokens:,} tokens × {cache.d_in:,} at {hook_text(cache.hook_name)}",
        facts(
            {
                "model": f.model_name,
                "on disk": f"{size(f.nbytes)} in {f.n_shards} shard{'s' * (f.n_shards != 1)}, {f.dtype}",
                "left out": left_out(cache.token_filter),
                "folder": str(cache.path),
            }
        ),
        note(f"A part of {f.n_tokens:,} tokens.") if cache.rows is not None else None,
    )


@shown
def batches_html(batches: ActivationBatches) -> str:
    """What a batch is."""
    hook = hook_text(batches.hook_name) if batches.hook_name else "not named"
    return document(
        "Activation batches",
        f"{batches.batch_size:,} tokens × {sum(batches.widths):,}",
        facts({"hook point": hook, "left out": left_out(batches.token_filter)}),
    )
