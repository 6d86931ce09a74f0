"""The HTML displays of a language model and of what is true of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..display import details, document, facts, shown

if TYPE_CHECKING:
    from .facts import ModelFacts
    from .language_model import LanguageModel


@shown
def model_html(model: LanguageModel) -> str:
    """Its sizes, and where its hook points are."""
    names = model.hook_names()
    block = [name for name in names if name.startswith("blocks.0.")]
    return document(
        model.name,
        f"language model, {model.n_layers} layers of width {model.d_model:,}, on {model.device}",
        facts(
            {
                "vocabulary": model.d_vocab,
                "context": f"{model.n_ctx:,} tokens",
                "weights": f"{str(model.dtype).removeprefix('torch.')}, processing {model.weight_processing}",
            }
        ),
        details(f"{len(names):,} hook points", facts({"of the first block": block or names[:40]})),
    )


@shown
def facts_html(f: ModelFacts) -> str:
    """Where texts and replies begin and end, which tokens are special, and the final norm."""

    def token(i: int | None) -> Any:
        return "none" if i is None else i

    begins = "no token" if f.bos_id is None or not f.prepend_bos else f"token {f.bos_id} (BOS)"
    return document(
        "Facts of a model",
        f"context {f.n_ctx:,} tokens, vocabulary {f.d_vocab:,}",
        facts(
            {
                "a text begins with": begins,
                "a document ends with": token(f.eos_id),
                "a reply ends at": sorted(f.end_ids),
                "between documents": token(f.separator_id),
                "padding": f.pad_id,
                "special tokens": len(f.special_ids),
                "the final norm": "centres and scales" if f.final_norm.centres else "scales",
            }
        ),
        details("Ids of special tokens", facts({"ids": ", ".join(map(str, sorted(f.special_ids)[:200]))})),
    )
