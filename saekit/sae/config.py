"""What an SAE is: its sizes, its activation rule and where its activations came from.

Values only. Nothing here computes on weights or knows how files are laid out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, unknown_name

Activation = Literal["relu", "topk", "batchtopk", "jumprelu"]
ACTIVATIONS: tuple[str, ...] = ("relu", "topk", "batchtopk", "jumprelu")
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TokenRule:
    """Which tokens count: not special tokens, and not attention sinks, which betray themselves by their norm.

    >>> rule = sk.TokenRule(special_ids=(0,), max_norm=10.0)
    >>> x = torch.tensor([[3.0, 0.0], [50.0, 0.0], [1.0, 1.0]])
    >>> rule.keep(torch.tensor([0, 5, 6]), x).tolist()
    [False, False, True]
    """

    special_ids: tuple[int, ...] = ()
    """Token ids that never count (BOS, EOS, padding)."""
    max_norm: float | None = None
    """A token whose activation is longer than this is a sink, in the model's units. Absolute, so that one token can
    be judged alone; usually four times the median norm."""

    def __post_init__(self) -> None:
        if self.max_norm is not None and not self.max_norm > 0:
            raise ConfigError("max_norm is not positive", got=self.max_norm, accepted="a positive number or None")

    def keep(self, tokens: Int[Tensor, "*batch pos"], x: Float[Tensor, "*batch pos d"]) -> Bool[Tensor, "*batch pos"]:
        """True where a token counts."""
        keep = torch.ones(tokens.shape, dtype=torch.bool, device=x.device)
        if self.special_ids:
            special = torch.tensor(self.special_ids, device=tokens.device, dtype=tokens.dtype)
            keep &= ~torch.isin(tokens, special).to(x.device)
        if self.max_norm is not None:
            keep &= x.float().norm(dim=-1) <= self.max_norm
        return keep

    def describe(self) -> str:
        """One sentence for cards and reprs.

        >>> sk.TokenRule(special_ids=(0, 1), max_norm=560.0).describe()
        'tokens excluded: 2 special ids; norm above 560'
        """
        parts = []
        if self.special_ids:
            parts.append(f"{len(self.special_ids)} special ids")
        if self.max_norm is not None:
            parts.append(f"norm above {self.max_norm:g}")
        return "tokens excluded: " + ("; ".join(parts) or "none")

    def to_dict(self) -> dict[str, Any]:
        """The rule as JSON values."""
        return {"special_ids": list(self.special_ids), "max_norm": self.max_norm}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TokenRule:
        """The rule that `to_dict` wrote."""
        return cls(special_ids=tuple(int(i) for i in value["special_ids"]), max_norm=value["max_norm"])


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Sizes, activation rule and provenance of a sparse autoencoder.

    >>> sk.SAEConfig(d_in=32, d_sae=256, activation="batchtopk", k=8).k
    8
    """

    d_in: int
    """Width of the activations it reads."""
    d_sae: int
    """Number of features."""
    activation: str = "batchtopk"
    """The activation rule: relu, topk, batchtopk; jumprelu for files from elsewhere."""
    k: int | None = None
    """Active features per token: exactly (topk) or on average over a batch (batchtopk)."""
    l1_coefficient: float = 5.0
    """relu: weight of sum_i f_i ||W_dec_i|| where E||x - mean||^2 = d_in. 5: Anthropic, April 2024."""
    aux_coefficient: float = 1 / 32
    """topk, batchtopk: weight of the auxiliary loss on dead features (Gao et al. 2024, appendix A.2)."""
    apply_b_dec_to_input: bool = True
    """Whether b_dec is subtracted before encoding."""
    dtype: str = "float32"
    """Type of the weights in memory."""
    seed: int = 0
    """Seed of the initial weights."""
    hook_name: str | None = None
    """Full TransformerLens hook point the activations came from."""
    model_name: str | None = None
    """The model they came from."""
    model_fingerprint: str | None = None
    """Sixteen digits of that model's weights."""
    weight_processing: str | None = None
    """"none" or "compatibility": how TransformerLens had prepared the weights."""
    token_rule: TokenRule | None = None
    """Tokens that were left out, and that later verbs leave out too."""
    context_size: int | None = None
    """Length of the token windows, in tokens."""
    dataset: str | None = None
    """Name of the corpus."""

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae"):
            value = getattr(self, name)
            if not _is_count(value):
                raise ConfigError(f"{name} is not a positive integer", got=value, accepted="an integer of at least 1")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation rule", self.activation, ACTIVATIONS)
        if self.activation in ("topk", "batchtopk"):
            if not _is_count(self.k) or self.k > self.d_sae:  # type: ignore[operator]
                raise ConfigError(
                    f"k does not fit the {self.activation} rule", got=self.k,
                    accepted=f"an integer from 1 to d_sae = {self.d_sae}", fix="pass k=32, say",
                )  # fmt: skip
        elif self.k is not None:
            raise ConfigError(
                f"the {self.activation} rule has no k", got=self.k, accepted="None",
                fix="leave k out, or choose activation='topk' or 'batchtopk'",
            )  # fmt: skip
        for name in ("l1_coefficient", "aux_coefficient"):
            value = getattr(self, name)
            if not value >= 0:
                raise ConfigError(f"{name} is negative", got=value, accepted="a number of at least 0")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch knows it."""
        return DTYPES[self.dtype]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["token_rule"] = self.token_rule.to_dict() if self.token_rule else None
        return out

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SAEConfig:
        """The configuration that `to_dict` wrote; unknown keys are an UnknownNameError."""
        known = {f.name for f in fields(cls)}
        for name in value:
            if name not in known:
                raise unknown_name("SAEConfig field", name, sorted(known))
        rule = value.get("token_rule")
        return cls(**{**value, "token_rule": TokenRule.from_dict(rule) if rule else None})

    def replace(self, **changes: Any) -> SAEConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
