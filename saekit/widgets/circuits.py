"""CircuitsVis' attention view as a widget that needs no network and shows tokens as text.

CircuitsVis' own functions put a script that fetches itself from the network into every output and read tokens as HTML.
Here its bundle comes from the installed package, once, and tokens are escaped before they reach it. The only importer
of circuitsvis. Source: Cooney and Nanda 2022, CircuitsVis.
"""

from __future__ import annotations

import html
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..arguments import checks_arguments
from ..errors import DataError, FileError, UnknownNameError, check_count
from .base import STATIC, Widget, shown

if TYPE_CHECKING:
    from ..models import LanguageModel


@cache
def circuits_script() -> str:
    """CircuitsVis' browser bundle from the installed package; FileError when it is not there."""
    spec = importlib.util.find_spec("circuitsvis")
    path = Path(spec.origin).parent / "dist" / "cdn" / "iife.js" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileError("CircuitsVis' bundle is missing", got=path, fix="pip install 'circuitsvis>=1.43.3'")
    return path.read_text("utf8").replace("//# sourceMappingURL=iife.js.map", "")


class CircuitsWidget(Widget):
    """A CircuitsVis component with its properties. Made by `attention_patterns`."""

    bundle = "circuits"
    _esm = ""  # put together when the first one is made: CircuitsVis' bundle is 1.3 MB

    component = t.Unicode("AttentionPatterns", help="Name of the CircuitsVis component.").tag(sync=True)
    props = t.Dict(help="The component's properties; token texts escaped.").tag(sync=True)
    summary = t.Unicode("", help="The same in words.").tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        self._esm = circuits_script() + "\n" + (STATIC / "circuits.js").read_text("utf8")
        super().__init__(**kwargs)

    def page_scripts(self) -> tuple[str, ...]:
        return (circuits_script(),)

    def static_picture(self) -> str:
        from .pictures import attention_picture

        if self.component != "AttentionPatterns":
            return super().static_picture()
        return attention_picture(self.summary, self.props, html.unescape)

    def text(self) -> str:
        return self.summary or f"CircuitsVis {self.component}"


@checks_arguments
def attention_patterns(model: LanguageModel, text: str, layer: int) -> CircuitsWidget:
    """CircuitsVis' view of every attention head of one layer on `text`: from each token to those before it.

    Raises DataError for empty text, UnknownNameError for a layer that the model does not have or that has no attention
    (as in Mamba), ContextLengthError for text longer than the context.

    >>> w = sk.widgets.attention_patterns(model, "a cat", layer=0)
    >>> print(w)
    Attention of the 4 heads of layer 0 over 6 tokens
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError("there is no text to show", got=repr(text), accepted="a string that is not empty")
    layer = check_count("layer", layer, least=0, most=2**31)
    if layer >= model.n_layers:
        raise UnknownNameError(f"the model has no layer {layer}", got=layer, accepted=f"0 to {model.n_layers - 1}")
    pattern = "blocks.{}.attn.hook_pattern"
    with_attention = [n for n in range(model.n_layers) if pattern.format(n) in model.hook_names()]
    if layer not in with_attention:
        raise UnknownNameError(
            f"layer {layer} of {model.name} has no attention pattern",
            got=layer,
            accepted=f"layers with one: {', '.join(map(str, with_attention)) or 'none'}",
            fix="choose one of them" if with_attention else "choose a model with attention",
        )
    ids, strings = model.tokenize_with_strings(text)
    seen: list[Any] = []  # [1, head, query, key]: no vector for each token, so `activations` does not read it
    model.forward([ids], hooks=[(pattern.format(layer), seen.append)])
    attention = seen[0][0].float()
    tokens = [html.escape(shown(token), quote=False) for token in strings]
    return CircuitsWidget(
        component="AttentionPatterns",
        props={"tokens": tokens, "attention": [[[round(v, 4) for v in q] for q in h] for h in attention.tolist()]},
        summary=f"Attention of the {len(attention)} heads of layer {layer} over {len(ids)} tokens",
    )
