"""What other libraries call a place in a model, as TransformerLens' hook points."""

from __future__ import annotations

import re

_WHERE = {
    "": ("hook_resid_post", "hook_resid_post"),
    "mlp": ("mlp.hook_in", "hook_mlp_out"),
    "attn": ("attn.hook_in", "hook_attn_out"),
}
_MODULE = re.compile(
    r"(?:^|[./_])(?:layers?|h|blocks?)[._](\d+)(?:[._](mlp|self_attn|attn|attention))?(?:[._]output)?$"
)


def hooks_of_module(name: str) -> tuple[str | None, str | None]:
    """Hook points of a module's input and output, by its name in a Hugging Face model; None where it is not known.

    Of a whole layer both are its output, the residual stream, which is what SAEs of layers read.

    >>> from saekit.sae.formats.layers import hooks_of_module
    >>> hooks_of_module("gpt_neox.layers.3.mlp"), hooks_of_module("layers.3")[1]
    (('blocks.3.mlp.hook_in', 'blocks.3.hook_mlp_out'), 'blocks.3.hook_resid_post')
    """
    if name == "embed_tokens":
        return "hook_embed", "hook_embed"
    found = _MODULE.search(name)
    if not found:
        return None, None
    layer, part = found.groups()
    into, out = _WHERE["attn" if part and "att" in part else part or ""]
    return f"blocks.{layer}.{into}", f"blocks.{layer}.{out}"
