"""To which tokens an edit applies: by their text, or by whether a feature fires on them.

A value that can be compared, written as JSON and read as a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import DataError, MismatchError, check_feature
from ..models.text_matching import compiled, ids_that_read
from ..sae import SAE
from .displays import where_html

if TYPE_CHECKING:
    from ..models import LanguageModel


@dataclass(frozen=True, kw_only=True, repr=False)
class Where:
    """Tokens an edit applies to: those that read as a pattern, or on which a feature fires. ~where is all others.

    >>> ~sk.Where.fires(sae, 7, above=0.5)
    where feature 7 is not above 0.5
    """

    sae: SAE | None = None
    feature: int | None = None
    above: float = 0.0
    """The feature's activation must be larger, in the SAE's own units, before any edit at this hook point."""
    pattern: str = ""
    ids: tuple[int, ...] = field(default=(), repr=False)
    """The tokens of the model's vocabulary that match `pattern`."""
    negated: bool = False

    @classmethod
    def fires(cls, sae: SAE, feature: int, *, above: float = 0.0) -> Where:
        """Tokens on which the feature's activation is larger than `above`.

        >>> sk.Where.fires(sae, 7)
        where feature 7 is above 0
        """
        return cls(sae=sae, feature=check_feature(feature, sae.config.d_sae), above=float(above))

    @classmethod
    def token(cls, model: LanguageModel, pattern: str, *, ignore_case: bool = True) -> Where:
        """Tokens whose text matches the regular expression as a whole, a leading space aside.

        Raises ConfigError for a pattern that is none, DataError when no token of the vocabulary matches.

        >>> sk.Where.token(model, "a|b")
        where the token reads 'a|b'
        """
        ids = tuple(ids_that_read(compiled(pattern, ignore_case), model.vocabulary.shown))
        if not ids:
            raise DataError(
                "no token of the model reads like this",
                got=pattern,
                accepted=f"a pattern that one of {model.d_vocab:,} tokens matches",
                fix="long words are several tokens: look at model.token_strings(model.tokenize(text))",
            )
        return cls(pattern=pattern, ids=ids)

    def __invert__(self) -> Where:
        return replace(self, negated=not self.negated)

    def __repr__(self) -> str:
        if self.feature is None:
            return f"where the token {'does not read' if self.negated else 'reads'} {self.pattern!r}"
        return f"where feature {self.feature} is {'not ' if self.negated else ''}above {self.above:g}"

    _repr_html_ = where_html

    def mask(self, tokens: Int[Tensor, "batch pos"], x: Float[Tensor, "batch pos d_in"]) -> Bool[Tensor, "batch pos"]:
        """True where it holds; x is the activation at the edit's hook point as it arrived."""
        if self.sae is None or self.feature is None:
            held = torch.isin(tokens, torch.tensor(self.ids, dtype=torch.long, device=tokens.device)).to(x.device)
        else:
            with torch.no_grad():
                rows = x.reshape(-1, x.shape[-1]).to(self.sae.W_dec.device, self.sae.W_dec.dtype)
                held = (
                    (self.sae.encode_features(rows, [self.feature])[:, 0] > self.above)
                    .reshape(tokens.shape)
                    .to(x.device)
                )
        return ~held if self.negated else held

    def to_dict(self) -> dict[str, Any]:
        if self.sae is not None:
            return {
                "sae_fingerprint": self.sae.fingerprint,
                "feature": self.feature,
                "above": self.above,
                "negated": self.negated,
            }
        return {"pattern": self.pattern, "ids": list(self.ids), "negated": self.negated}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], saes: Sequence[SAE]) -> Where:
        if "feature" in saved:
            sae = sae_of(saved["sae_fingerprint"], saes)
            return cls(
                sae=sae, feature=int(saved["feature"]), above=float(saved["above"]), negated=bool(saved["negated"])
            )
        return cls(pattern=saved["pattern"], ids=tuple(saved["ids"]), negated=bool(saved["negated"]))


def sae_of(fingerprint: str, saes: Sequence[SAE]) -> SAE:
    """The SAE of that fingerprint; MismatchError when it is not among these."""
    for sae in saes:
        if sae.fingerprint == fingerprint:
            return sae
    raise MismatchError(
        "the edit was made for another SAE",
        got=", ".join(sae.fingerprint for sae in saes) or "no SAE",
        accepted=fingerprint,
        fix="load the SAE it was made for and pass it",
    )


def digest(x: Tensor) -> str:
    """A short hash of a tensor's numbers."""
    return hashlib.sha256(x.detach().cpu().contiguous().float().numpy().tobytes()).hexdigest()[:16]
