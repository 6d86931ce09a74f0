"""The HTML displays of an SAE, its configuration and what it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..display import Block, details, document, facts, fields_blocks, histogram, note, number, shown
from ..hook_points import hook_text

if TYPE_CHECKING:
    from .base import SAE
    from .config import SAEConfig
    from .output import SAEOutput
    from .sparse.kernels import SparseActs
    from .token_filter import TokenFilter

PROVENANCE = ("model_fingerprint", "weight_processing", "prepend_bos", "exclude_special_tokens", "context_size")
"""Fields that say where activations came from, beside the hook point and the model."""


def left_out(token_filter: TokenFilter) -> str:
    """What a token filter leaves out, to stand beside a heading that says so."""
    return token_filter.describe().removeprefix("tokens excluded: ")


@shown
def sae_html(sae: SAE) -> str:
    """Its sizes, where it reads, what training said of it, and the fields of its configuration."""
    c = sae.config
    kind = "Transcoder" if c.is_transcoder else "Crosscoder" if c.is_crosscoder else "SAE"
    return document(
        kind,
        f"{c.d_sae:,} features, {c.activation}" + (f", k {c.k}" if c.k else ""),
        facts(
            {
                **({"reads": hook_text(c.hook_name)} if c.hook_name else {}),
                **({"writes": c.hook_out} if c.hook_out else {}),
                "model": c.model_name or "not known",
                "width": f"{c.d_in:,}" + ("" if c.width_out == c.d_in else f" to {c.width_out:,}"),
                "weights": f"{c.dtype}, on {sae.W_dec.device}",
                **({"left out": left_out(c.token_filter)} if c.token_filter else {}),
            }
        ),
        _density(sae),
        details("As trained", facts({k: v for k, v in sae.training_summary.items() if not isinstance(v, dict)})),
        details("Configuration", *_config_blocks(c)),
    )


def _density(sae: SAE) -> Block | None:
    density = sae.density
    if density is None or not density.numel():
        return None
    silent = int((density == 0).sum())
    fired = density[density > 0].log10().float().cpu()
    line = f"Density of its features, on a logarithmic axis; {silent:,} are silent."
    if not fired.numel():
        return note(line)
    low, high = float(fired.min().floor()), float(fired.max().ceil())
    high = high if high > low else low + 1
    counts = fired.histc(40, low, high).tolist()
    return Block(histogram(counts, 10**low, 10**high, log=False) + note(line))


@shown
def config_html(c: SAEConfig) -> str:
    """What differs from the defaults, and the rest behind a click."""
    return document("SAEConfig", f"{c.d_in:,} to {c.d_sae:,} features, {c.activation}", *_config_blocks(c))


def _config_blocks(c: SAEConfig) -> list[Block | None]:
    left = {name: getattr(c, name) for name in PROVENANCE if getattr(c, name) is not None}
    named = ("d_in", "d_sae", "activation", "k", "target_l0", "hook_name", "hook_out", "model_name")
    first = tuple(n for n in named if getattr(c, n) is not None)
    apart = (*PROVENANCE, "token_filter", *(("target_l0",) if c.target_l0 is None else ()))
    changed, rest = fields_blocks(c, first=first, left_out=apart)
    token_filter: dict[str, Any] = {"token_filter": left_out(c.token_filter)} if c.token_filter else {}
    return [changed, details("Where its activations came from", facts(left | token_filter)), rest]


@shown
def output_html(out: SAEOutput) -> str:
    """Shapes and L0."""
    l0 = float((out.feature_acts != 0).sum(-1).float().mean()) if out.feature_acts.numel() else 0.0
    shapes = {"x_hat": tuple(out.x_hat.shape), "feature_acts": tuple(out.feature_acts.shape)}
    return document("SAE output", f"{number(l0)} features active per token", facts(shapes))


@shown
def sparse_acts_html(acts: SparseActs) -> str:
    """Sizes and L0."""
    n = acts.value.numel()
    about = f"{acts.n_tokens:,} tokens, {acts.d_sae:,} features"
    return document("Sparse activations", about, facts({"not zero": n, "per token": n / max(1, acts.n_tokens)}))


@shown
def token_filter_html(token_filter: TokenFilter) -> str:
    """What it leaves out."""
    limits = {f"hook point {i + 1}, width {width}": limit for i, (width, limit) in enumerate(token_filter.blocks)}
    return document(
        "Token filter",
        left_out(token_filter),
        facts({"special ids": list(token_filter.special_ids), "norm at most": token_filter.max_norm} | limits),
    )
