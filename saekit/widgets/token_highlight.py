"""TokenHighlight: a text whose tokens are coloured by activation, with the strongest features of each.

The widget carries every sparse activation of its text, so any feature can colour it in the browser without a kernel.
It is given arrays; only `highlight` uses a model and an SAE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets as t

from ..arguments import checks_arguments
from ..errors import DataError, check_count, check_feature, check_number
from .base import Widget, pack, shown, validates

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..models import LanguageModel
    from ..sae import SAE

N_LINES = 40


class TokenHighlight(Widget):
    """Text coloured by activation; the token picked in the browser is `selected`, the colouring feature is `feature`.

    Made by `highlight`. Everything is a live trait: set `feature` in Python and the colours change, click a token and
    `selected` follows.
    """

    bundle = "token_highlight"

    tokens = t.List(
        t.Unicode(),
        help="The text's tokens, BOS included; a character spelt in several tokens belongs to the first of them.",
    ).tag(sync=True)
    bytes = t.Dict(help="Token number (as text) to the bytes that it holds of a character, as <0xE2>.").tag(sync=True)
    excluded = t.List(t.Unicode(), help="Why a token is not counted; empty for those that are.").tag(sync=True)
    acts = t.Dict(help="Sparse activations, bytes: start (int32), feature (int32), value (float32).").tag(sync=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    names = t.Dict(help="Feature number (as text) to a short name, usually the tokens it promotes.").tag(sync=True)
    feature = t.Int(None, allow_none=True, help="The feature that colours; None: the strongest of all.").tag(
        sync=True, browser=True
    )
    selected = t.Int(-1, help="Number of the token picked, -1 for none.").tag(sync=True, browser=True)
    scale = t.Float(None, allow_none=True, help="Activation at full colour; None: the text's maximum.").tag(sync=True)

    @validates("feature")
    def _feature_exists(self, value: Any) -> int | None:
        return None if value is None else check_feature(value, self.n_features)

    @validates("n_features")
    def _some_features(self, value: Any) -> int:
        return check_count("n_features", value, least=1)

    @validates("scale")
    def _above_zero(self, value: Any) -> float | None:
        return None if value is None else check_number("scale", value, least=0, above=True)

    @validates("selected")
    def _token_exists(self, value: Any) -> int:
        i = int(value)
        if not -1 <= i < max(len(self.tokens), 1):
            last = len(self.tokens) - 1
            raise DataError(f"there is no token {i}", got=i, accepted=f"0 to {last}, or -1 for none")
        return i

    @property
    def selected_token(self) -> str | None:
        """The token picked, None when none is."""
        return self.tokens[self.selected] if self.selected >= 0 else None

    @property
    def strongest(self) -> pd.DataFrame:
        """The features that fire on the selected token, strongest first: feature, activation (raw), name.

        Empty when no token is selected or nothing fires there.
        """
        feature, value = self.at(self.selected) if self.selected >= 0 else self.at(len(self.tokens))
        order = np.lexsort((feature, -value))
        names = [self.names.get(str(i), "") for i in feature[order]]
        return pd.DataFrame({"feature": feature[order], "activation": value[order].astype(float), "name": names})

    def at(self, token: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Features that fire on a token, and their activations, in ascending order of feature."""
        start, feature, value = self._arrays()
        if not 0 <= token < len(start) - 1:
            return feature[:0], value[:0]
        here = slice(int(start[token]), int(start[token + 1]))
        return feature[here], value[here]

    def values(self, feature: int | None = None) -> np.ndarray[Any, Any]:
        """One activation per token: of `feature`, or of each token's strongest feature."""
        start, features, value = self._arrays()
        out = np.zeros(len(self.tokens), np.float32)
        row = np.repeat(np.arange(len(out)), np.diff(start)) if len(start) > 1 else np.zeros(0, int)
        keep = slice(None) if feature is None else features == feature
        np.maximum.at(out, row[keep], value[keep])
        return out

    def to_frame(self) -> pd.DataFrame:
        """One row per token: token, activation (of `feature`, or the strongest), strongest (-1: none), excluded."""
        best = [self.at(i) for i in range(len(self.tokens))]
        strongest = [int(f[np.argmax(v)]) if len(f) else -1 for f, v in best]
        return pd.DataFrame(
            {
                "token": self.tokens,
                "activation": self.values(self.feature),
                "strongest": strongest,
                "excluded": self.excluded,
            }
        )

    def text(self) -> str:
        """The tokens one per line with their activations and strongest features."""
        what = (
            "strongest activation of any feature" if self.feature is None else f"activation of feature {self.feature}"
        )
        values = self.values(self.feature)
        top = float(values.max(initial=0.0))
        lines = [f"TokenHighlight: {len(self.tokens)} tokens, {what}, at most {top:.3g}"]
        for i, (token, why) in enumerate(zip(self.tokens[:N_LINES], self.excluded, strict=False)):
            if why:
                description = f"not counted: {why}"
            else:
                features, acts = self.at(i)
                bar = "█" * round(10 * float(values[i]) / top) if top > 0 else ""
                best = f"feature {features[np.argmax(acts)]}" if len(features) else ""
                description = f"{values[i]:8.3f}  {bar:<10}  {best}"
            mark = ">" if i == self.selected else " "
            label = shown(token) or self.bytes.get(str(i), "")
            lines.append(f"{mark}{i:4d}  {label:<16}{description}".rstrip())
        if len(self.tokens) > N_LINES:
            lines.append(f"      ... {len(self.tokens) - N_LINES} more tokens; .to_frame() has all")
        return "\n".join(lines)

    def static_picture(self) -> str:
        from .pictures import highlight_picture

        about, _, _ = self.text().partition("\n")
        return highlight_picture(self.to_frame(), about.removeprefix("TokenHighlight: "), self.names, self.bytes)

    def _arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        start = np.frombuffer(self.acts.get("start", b""), "<i4")
        feature = np.frombuffer(self.acts.get("feature", b""), "<i4")
        return start, feature, np.frombuffer(self.acts.get("value", b""), "<f4")


@checks_arguments
def highlight(
    model: LanguageModel, sae: SAE, text: str, feature: int | None = None, *, index: FeatureIndex | None = None
) -> TokenHighlight:
    """A TokenHighlight of `text`: run through `model` up to the SAE's hook point and encoded there.

    Special tokens and attention sinks, which its token filter leaves out (`resolve_token_filter` where none is stored),
    are shown muted and carry no activations. With `index`, features are named by the tokens they promote. Raises
    DataError for empty text, UnknownNameError for a feature the SAE does not have, MismatchError for an SAE of another
    model and ContextLengthError for text longer than the model's context.

    >>> w = sk.highlight(model, sae, "a cat")
    >>> w.tokens
    ['<bos>', 'a', ' ', 'c', 'a', 't']
    >>> w.selected = 3
    >>> w.selected_token, len(w.strongest)
    ('c', 4)
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError("there is no text to show", got=repr(text), accepted="a string that is not empty")
    d_sae = sae.config.d_sae
    if feature is not None:
        feature = check_feature(feature, d_sae)
    sae.check(model)
    hook_name = sae.config.hook_name
    if hook_name is None:
        raise DataError(
            "the SAE does not name the hook point it reads", got="hook_name=None", fix="set hook_name in its SAEConfig"
        )
    import torch

    from ..activations import resolve_token_filter

    ids, strings = model.tokenize_with_strings(text, sae.config.prepend_bos)
    x = model.activations(ids, hook_name)[0]
    tokens = torch.tensor(ids, device=x.device)
    token_filter = resolve_token_filter(model, sae)
    kept, special = token_filter.keep(tokens, x), set(token_filter.special_ids)
    excluded = [
        "" if keep else "special token" if i in special else "attention sink"
        for i, keep in zip(ids, kept.tolist(), strict=True)
    ]
    with torch.inference_mode():
        acts = sae.encode_sparse(x[kept].to(sae.W_enc.device))
    place = torch.nonzero(kept).flatten().cpu().numpy()
    row = place[acts.token.cpu().numpy()]
    fired = acts.feature.cpu().numpy()
    return TokenHighlight(
        n_features=d_sae,
        tokens=strings,
        bytes={str(n): model.vocabulary.shown[i] for n, i in enumerate(ids) if model.vocabulary.partial[i]},
        excluded=excluded,
        acts=pack_rows(row, fired, acts.value.float().cpu().numpy(), len(ids)),
        names=names_of(index, np.unique(fired).tolist()),
        feature=feature,
    )


def pack_rows(row: Any, feature: Any, value: Any, n_tokens: int) -> dict[str, bytes]:
    """The `acts` trait from coordinates: compressed rows, features ascending within a token, zeros dropped."""
    row, feature, value = np.asarray(row), np.asarray(feature), np.asarray(value)
    fires = value != 0
    row, feature, value = row[fires], feature[fires], value[fires]
    order = np.lexsort((feature, row))
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_tokens))])
    return {
        "start": pack(start, "int32"),
        "feature": pack(feature[order], "int32"),
        "value": pack(value[order], "float32"),
    }


def names_of(index: FeatureIndex | None, features: list[int]) -> dict[str, str]:
    """Short names of features: the three tokens each promotes most, by the index; nothing without one."""
    if index is None:
        return {}
    promoted = index.features["promoted"].loc[features]
    firsts = [[t if t.isprintable() else shown(t) for t in tokens[:3]] for tokens in promoted]  # shown is slow
    return {str(i): " ".join(t.strip() for t in first).strip() for i, first in zip(features, firsts, strict=True)}
