"""Edits of an SAE's features: clamp, scale, ablate, add and cap, a small class each.

An edit of features i with current activations a_i adds sum_i (v_i - a_i) W_dec[i] to the activation x (times the
token's own scale, for an SAE that normalises each token). That equals "encode, change the features, decode, put the
SAE's error back", because the error and all other features cancel: the model's activation is never swapped for the
reconstruction. Only the columns that are needed are encoded.

Source: Templeton et al. 2024, Scaling Monosemanticity, "Influence on behaviour" (clamping).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError, MismatchError, check_feature, unknown_name
from ..sae import SAE, TokenFilter
from .edits import Edit, register_edit
from .strength_units import STRENGTH_UNITS, StrengthUnit, raw_strengths, strength_text
from .where import sae_of

if TYPE_CHECKING:
    from ..models import LanguageModel


@dataclass(frozen=True, kw_only=True, repr=False)
class FeatureEdit(Edit):
    """A change to some features of one SAE; subclasses define by how much their activations change."""

    parts = ("features", "values", "unit", "maxima", "hook_name", "sae_fingerprint")
    preposition: ClassVar[str] = "to"
    """Between a feature and its value in words."""

    sae: SAE = field(repr=False)
    features: tuple[int, ...]
    """Feature numbers; all activations are read before any is changed."""
    values: tuple[float, ...]
    """One number per feature: target (clamp), factor (scale), addend (add), most (cap), 0 (ablate); see `unit`."""
    unit: StrengthUnit = "raw"
    maxima: tuple[float, ...] | None = None
    """With unit "max": each feature's largest activation in the index."""

    @abstractmethod
    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        """What is added to the features' activations on x; `values` are the edit's as raw activations."""

    def activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n feature"]:
        """The features' activations on x."""
        return self.sae.encode_features(x, self.features)

    def __post_init__(self) -> None:
        if self.unit not in STRENGTH_UNITS:
            raise unknown_name("unit", self.unit, STRENGTH_UNITS)
        if not self.features or len(set(self.features)) < len(self.features):
            raise ConfigError(
                "an edit needs features, each once",
                got=list(self.features),
                accepted="one or more distinct features",
                fix="pass {feature: value, ...}",
            )
        for i in self.features:
            check_feature(i, self.sae.config.d_sae)
        if len(self.values) != len(self.features) or not all(map(math.isfinite, self.values)):
            raise ConfigError(
                "every feature needs one finite value", got=dict(zip(self.features, self.values, strict=False))
            )
        if (self.maxima is not None) != (self.unit == "max"):
            raise ConfigError(
                'unit "max" needs the features\' maxima, and only that unit',
                got=f"unit {self.unit!r}",
                fix="pass index=, the feature index of this SAE",
            )
        c = self.sae.config
        if c.is_transcoder or c.is_crosscoder:
            raise MismatchError(
                f"a {'transcoder' if c.is_transcoder else 'crosscoder'} cannot be edited with",
                got=f"reads {c.hook_name}" + (f", writes {c.hook_out}" if c.hook_out else ""),
                accepted="an SAE that reads and writes one and the same hook point",
                fix="train a plain SAE at the hook point that is to be edited",
            )
        if self.sae.config.hook_name is None:
            raise ConfigError(
                "the SAE does not name the hook point it reads",
                got="sae.config.hook_name = None",
                fix="build it with SAEConfig(hook_name=...), or train it with sk.train",
            )
        super().__post_init__()

    @property
    def hook_name(self) -> str:
        """The SAE's hook point."""
        return str(self.sae.config.hook_name)

    @property
    def token_filter(self) -> TokenFilter | None:
        return self.sae.config.token_filter

    def check(self, model: LanguageModel) -> None:
        self.sae.check(model, self.hook_name)

    def changed_features(self) -> tuple[int, ...]:
        return self.features

    def in_words(self) -> str:
        return f"{self.kind} {self._noun} " + _joined([f"{i} {self.preposition} {v}" for i, v in self._strengths()])

    def to_parts(self) -> dict[str, Any]:
        return {
            "features": list(self.features),
            "values": list(self.values),
            "unit": self.unit,
            "maxima": None if self.maxima is None else list(self.maxima),
            "hook_name": self.hook_name,
            "sae_fingerprint": self.sae.fingerprint,
        }

    @classmethod
    def from_parts(cls, saved: Mapping[str, Any], saes: Sequence[SAE], **shared: Any) -> Self:
        maxima = saved["maxima"]
        return cls(
            sae=sae_of(saved["sae_fingerprint"], saes),
            features=tuple(int(i) for i in saved["features"]),
            values=tuple(float(v) for v in saved["values"]),
            unit=saved["unit"],
            maxima=None if maxima is None else tuple(float(m) for m in maxima),
            **shared,
        )

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        sae = self.sae
        with torch.no_grad():
            h = x.to(sae.W_dec.device, sae.W_dec.dtype)
            rows = sae.W_dec[list(self.features)].norm(dim=1)
            rows = torch.where((rows - 1).abs() < 1e-5, 1.0, rows)  # unit up to rounding: no noise from a division
            lengths = sae.unit_of(h) * rows
            change = self.change(h, raw_strengths(self.values, self.unit, h, norm, self.maxima, lengths))
            return sae.written(change, self.features, h).to(x)

    @property
    def _noun(self) -> str:
        return "features" if len(self.features) > 1 else "feature"

    def _strengths(self) -> list[tuple[int, str]]:
        maxima: Sequence[float | None] = self.maxima or [None] * len(self.features)
        return [(i, strength_text(v, self.unit, m)) for i, v, m in zip(self.features, self.values, maxima, strict=True)]


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class Clamp(FeatureEdit):
    """Holds each feature at its value. Made by `clamp`."""

    kind = "clamp"

    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        return values - self.activations(x)


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class Scale(FeatureEdit):
    """Multiplies each feature by its value. Made by `scale`."""

    kind, preposition = "scale", "by"

    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        return self.activations(x) * (values - 1)


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class Ablate(FeatureEdit):
    """Removes features; their values are 0. Made by `ablate`."""

    kind = "ablate"

    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        return values - self.activations(x)

    def in_words(self) -> str:
        return f"ablate {self._noun} " + _joined([str(i) for i in self.features])


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class Add(FeatureEdit):
    """Adds each feature's value, whatever its activation, which is not read. Made by `add`."""

    kind = "add"

    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        return values

    def in_words(self) -> str:
        return "add " + _joined([f"{v} of feature {i}" for i, v in self._strengths()])


@register_edit
@dataclass(frozen=True, kw_only=True, repr=False)
class Cap(FeatureEdit):
    """Lowers features that exceed their value to it. Made by `cap`."""

    kind, preposition = "cap", "at"

    def change(self, x: Float[Tensor, "n d_in"], values: Float[Tensor, "n feature"]) -> Float[Tensor, "n feature"]:
        acts = self.activations(x)
        return torch.minimum(acts, values) - acts


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
