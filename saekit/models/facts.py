"""What is true of a model and its tokenizer, found once by asking or measuring them, never from a class name.

Which token begins a text and whether one does, which tokens end a reply, which are special, and how the final norm
scales and centres. Ids outside the model's vocabulary, which some tokenizers invent, count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .displays import facts_html
from .final_norm import FinalNorm, measure_final_norm


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelFacts:
    """What is true of a model and its tokenizer. Made by `find_facts`; a model has its own as `model.facts`."""

    n_ctx: int
    """Tokens that the model can read at once."""
    d_vocab: int
    """Rows of its unembedding."""
    bos_id: int | None
    """The token that begins a text, where the tokenizer has one."""
    prepend_bos: bool
    """Whether a text begins with it: the tokenizer adds it by itself, or TransformerLens' default for this kind of
    model says so. Always False without a bos_id: no other token takes its place."""
    eos_id: int | None
    """The token that ends a document."""
    end_ids: frozenset[int]
    """Tokens that end a reply: what the generation configuration says, else eos_id alone."""
    separator_id: int | None
    """Stands between documents that share a window: EOS, or BOS where there is none."""
    pad_id: int
    """Fills rows of unequal length; never attended to."""
    special_ids: frozenset[int]
    """BOS, EOS, padding, and every added token that the tokenizer flags as special, such as marks of turns."""
    final_norm: FinalNorm
    """What the last norm does to a direction."""

    def __repr__(self) -> str:
        norm = "centres and scales" if self.final_norm.centres else "scales"
        return (
            f"ModelFacts: context {self.n_ctx:,}, d_vocab {self.d_vocab:,}\n"
            f"  BOS {self.bos_id}, {'put' if self.prepend_bos else 'not put'} before a text\n"
            f"  EOS {self.eos_id}; a reply ends at {', '.join(map(str, sorted(self.end_ids))) or 'no token'}\n"
            f"  between documents {self.separator_id}, padding {self.pad_id}\n"
            f"  {len(self.special_ids)} special tokens: {_few(self.special_ids)}\n"
            f"  the final norm {norm}"
        )

    _repr_html_ = facts_html


def find_facts(bridge: Any, tokenizer: Any) -> ModelFacts:
    """The ModelFacts of a TransformerBridge and a Hugging Face tokenizer, or None for none.

    >>> from saekit.models.facts import find_facts
    >>> facts = find_facts(model.bridge, model.tokenizer)
    >>> facts.bos_id, facts.prepend_bos, sorted(facts.end_ids), facts.pad_id, sorted(facts.special_ids)
    (0, True, [1], 2, [0, 1, 2, 3])
    """
    d_vocab = int(bridge.cfg.d_vocab)

    def known(i: Any) -> int | None:
        return int(i) if i is not None and 0 <= int(i) < d_vocab else None

    bos, eos, pad = (known(getattr(tokenizer, f"{name}_token_id", None)) for name in ("bos", "eos", "pad"))
    ends = _end_ids(bridge, d_vocab) or frozenset(() if eos is None else (eos,))
    eos = min(ends, default=None) if eos is None else eos
    return ModelFacts(
        n_ctx=int(bridge.cfg.n_ctx),
        d_vocab=d_vocab,
        bos_id=bos,
        prepend_bos=bos is not None and (_adds_bos(tokenizer, bos) or bool(bridge.cfg.default_prepend_bos)),
        eos_id=eos,
        end_ids=ends,
        separator_id=bos if eos is None else eos,
        pad_id=next((i for i in (pad, eos, bos) if i is not None), 0),
        special_ids=frozenset(i for i in _special_ids(tokenizer) if known(i) is not None),
        final_norm=measure_final_norm(_final_norm(bridge), int(bridge.cfg.d_model)),
    )


def _few(ids: frozenset[int]) -> str:
    listed = [str(i) for i in sorted(ids)]
    return ", ".join(listed if len(listed) <= 12 else [*listed[:10], "..."]) or "none"


def _end_ids(bridge: Any, d_vocab: int) -> frozenset[int]:
    """The ids at which transformers' own generation would stop."""
    config = getattr(bridge.original_model, "generation_config", None)
    ids = getattr(config, "eos_token_id", None)
    several: Iterable[Any] = ids if isinstance(ids, (list, tuple, set, frozenset)) else (ids,)
    return frozenset(int(i) for i in several if i is not None and 0 <= int(i) < d_vocab)


def _special_ids(tokenizer: Any) -> set[int]:
    if tokenizer is None:
        return set()
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    return {int(i) for i in tokenizer.all_special_ids} | {int(i) for i, token in added.items() if token.special}


def _adds_bos(tokenizer: Any, bos_id: int) -> bool:
    ids = tokenizer("a")["input_ids"]
    return len(ids) > 1 and int(ids[0]) == bos_id


def _final_norm(bridge: Any) -> Any:
    norm = getattr(bridge, "ln_final", None)
    return getattr(norm, "original_component", norm)
