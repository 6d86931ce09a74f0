"""Edits: what is changed about a model's activation at a hook point, on which tokens, and how strongly.

A FeatureEdit of features i with current activations a_i adds sum_i (v_i - a_i) W_dec[i] to the activation x. That
equals "encode, change the features, decode, put the SAE's error back", because the error and all other features cancel:
the model's activation is never swapped for the reconstruction. Only the columns that are needed are encoded. A
DirectionEdit (directions.py) does without an SAE.

An edit works on whatever tokens a forward pass shows it, one token or a whole prompt, and knows nothing of key-value
caches, sampling or text. Sources: Templeton et al. 2024, Scaling Monosemanticity, "Influence on behaviour" (clamping).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, MismatchError, UnknownNameError, unknown_name
from ..sae import SAE, TokenFilter
from .schedule import Schedule
from .where import Where, sae_of

if TYPE_CHECKING:
    from ..models import LanguageModel

Kind = Literal["clamp", "scale", "ablate", "add", "cap"]
Unit = Literal["raw", "max", "norm"]
Positions = Literal["all", "prompt", "generated"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Edit(ABC):
    """One change at one hook point. Made by `clamp`, `scale`, `ablate`, `add`, `cap`, `add_direction`, `project_out`.

    >>> sk.clamp(sae, {3: 0.5}, unit="norm")
    clamp feature 3 to 0.5 x the residual norm at blocks.0.hook_resid_post, at all positions
    """

    positions: Positions = "all"
    """all: every token. prompt: tokens given to the model, a chat template's too. generated: tokens it wrote."""
    where: tuple[Where, ...] = ()
    """Only tokens for which all of these hold."""
    schedule: Schedule | None = None
    """How much of the change is made as the text grows; None: all of it."""

    @property
    @abstractmethod
    def hook_name(self) -> str:
        """The hook point whose activation is edited."""

    @property
    @abstractmethod
    def token_filter(self) -> TokenFilter | None:
        """The token filter that leaves out special tokens and sinks; None where neither SAE nor direction stores one,
        and the default of the model and hook point holds."""

    @abstractmethod
    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """What the edit adds to activations x in full; `norm` is each token's own norm (used by unit "norm")."""

    @abstractmethod
    def check(self, model: LanguageModel) -> None:
        """MismatchError when the edit is for another model."""

    @abstractmethod
    def _what(self) -> str:
        """The change in words."""

    @abstractmethod
    def _values(self) -> dict[str, Any]:
        """The change as JSON values."""

    def _check_shared(self) -> None:
        if self.positions not in get_args(Positions):
            raise unknown_name("positions", self.positions, get_args(Positions))
        for condition in self.where:
            if not isinstance(condition, Where):
                raise ConfigError("not a condition on tokens", got=condition, accepted="sk.Where.token, sk.Where.fires")
            if condition.sae is not None and condition.sae.config.hook_name != self.hook_name:
                raise MismatchError(
                    "the condition reads another hook point than the edit",
                    got=condition.sae.config.hook_name,
                    accepted=self.hook_name,
                    fix="use a feature of an SAE at the edit's hook point",
                )
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise ConfigError("not a schedule", got=self.schedule, accepted="sk.Schedule.steps, sk.Schedule.linear")

    def __repr__(self) -> str:
        parts = [f"{self._what()} at {self.hook_name}", f"at {self.positions} positions", *map(repr, self.where)]
        return ", ".join([*parts, *([repr(self.schedule)] if self.schedule else [])])

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON values. Weights stay behind: an SAE is named by its fingerprint."""
        return {
            **self._values(),
            "positions": self.positions,
            "where": [where.to_dict() for where in self.where],
            "schedule": self.schedule.to_dict() if self.schedule else None,
        }

    @staticmethod
    def from_dict(saved: Mapping[str, Any], saes: SAE | Sequence[SAE] = ()) -> Edit:
        """The edit that `to_dict` wrote; `saes` are those it was made for, MismatchError for any other.

        >>> edit = sk.ablate(sae, [1, 2])
        >>> sk.Edit.from_dict(edit.to_dict(), sae) == edit
        True
        """
        known = {"positions", "where", "schedule", *(DIRECTION_PARTS if "direction" in saved else FEATURE_PARTS)}
        for name in (*known.symmetric_difference(saved),):
            if name in known:
                raise ConfigError(f"the saved edit has no {name!r}", got=sorted(saved), accepted=sorted(known))
            raise unknown_name("part of an edit", name, sorted(known))
        given = [saes] if isinstance(saes, SAE) else list(saes)
        shared: dict[str, Any] = {
            "positions": saved["positions"],
            "where": tuple(Where.from_dict(where, given) for where in saved["where"]),
            "schedule": Schedule.from_dict(saved["schedule"]) if saved["schedule"] else None,
        }
        if "direction" in saved:
            from .directions import Direction, DirectionEdit

            return DirectionEdit(
                kind=saved["kind"],
                direction=Direction.from_dict(saved["direction"]),
                value=float(saved["value"]),
                unit=saved["unit"],
                **shared,
            )
        maxima = saved["maxima"]
        return FeatureEdit(
            sae=sae_of(saved["sae_fingerprint"], given),
            kind=saved["kind"],
            features=tuple(int(i) for i in saved["features"]),
            values=tuple(float(v) for v in saved["values"]),
            unit=saved["unit"],
            maxima=None if maxima is None else tuple(float(m) for m in maxima),
            **shared,
        )

    def covers(
        self,
        tokens: Int[Tensor, "batch pos"],
        x: Float[Tensor, "batch pos d_in"],
        *,
        attended: Bool[Tensor, "batch pos"] | None = None,
        step: Int[Tensor, "batch pos"] | None = None,
        token_filter: TokenFilter | None = None,
    ) -> Bool[Tensor, "batch pos"]:
        """True where the edit applies: by position and condition, never on padding, special tokens or sinks.

        Sinks and special tokens are what the edit's token filter leaves out (`token_filter` where it has none), judged
        on x. `step` counts the new tokens before each one, negative for the prompt's; without it every token is the
        prompt's.
        """
        kept_by = self.token_filter or token_filter
        if kept_by is None:
            raise ConfigError(
                "which tokens are special or sinks is not known, so the edit cannot leave them alone",
                got=f"{self!r}, without a token filter",
                accepted="a token filter; TokenFilter() to edit every token",
                fix="pass token_filter=sk.resolve_token_filter(model, sae)",
            )
        held = kept_by.keep(tokens, x)
        if attended is not None:
            held = held & attended
        for condition in self.where:
            held = held & condition.mask(tokens, x)
        if self.positions == "all":
            return held
        generated = torch.zeros_like(held) if step is None else step >= 0
        return held & (generated if self.positions == "generated" else ~generated)


FEATURE_PARTS = ("kind", "features", "values", "unit", "maxima", "hook_name", "sae_fingerprint")
DIRECTION_PARTS = ("kind", "direction", "value", "unit")


@dataclass(frozen=True, kw_only=True, repr=False)
class FeatureEdit(Edit):
    """A change to some features of one SAE. Made by `clamp`, `scale`, `ablate`, `add` and `cap`."""

    sae: SAE = field(repr=False)
    kind: Kind
    features: tuple[int, ...]
    """Feature numbers; all activations are read before any is changed."""
    values: tuple[float, ...]
    """One number per feature: target (clamp), factor (scale), addend (add), most (cap), 0 (ablate); see `unit`."""
    unit: Unit = "raw"
    """raw: the SAE's own activations. max: multiples of `maxima`. norm: a share of the token's own residual norm."""
    maxima: tuple[float, ...] | None = None
    """With unit "max": each feature's largest activation in the index."""

    def __post_init__(self) -> None:
        for name, value, kinds in (("kind", self.kind, Kind), ("unit", self.unit, Unit)):
            if value not in get_args(kinds):
                raise unknown_name(name, value, get_args(kinds))
        if not self.features or len(set(self.features)) < len(self.features):
            raise ConfigError(
                "an edit needs features, each once",
                got=list(self.features),
                accepted="one or more distinct features",
                fix="pass {feature: value, ...}",
            )
        for i in self.features:
            if not 0 <= i < self.sae.config.d_sae:
                raise UnknownNameError(
                    f"the SAE has no feature {i}",
                    got=i,
                    accepted=f"0 to {self.sae.config.d_sae - 1}",
                    fix="check that the feature number comes from this SAE's index",
                )
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
                "the SAE does not say which hook point it reads",
                got="sae.config.hook_name = None",
                fix="build it with SAEConfig(hook_name=...), or train it with sk.train",
            )
        self._check_shared()

    @property
    def hook_name(self) -> str:
        """The SAE's hook point."""
        return str(self.sae.config.hook_name)

    @property
    def token_filter(self) -> TokenFilter | None:
        return self.sae.config.token_filter

    def check(self, model: LanguageModel) -> None:
        self.sae.check(model, self.hook_name)

    def _what(self) -> str:
        maxima: Sequence[float | None] = self.maxima or [None] * len(self.features)
        listed = [(i, amount(v, self.unit, m)) for i, v, m in zip(self.features, self.values, maxima, strict=True)]
        noun = "features" if len(self.features) > 1 else "feature"
        if self.kind == "ablate":
            return f"ablate {noun} " + _joined([str(i) for i, _ in listed])
        if self.kind == "add":
            return "add " + _joined([f"{v} of feature {i}" for i, v in listed])
        to = {"clamp": "to", "scale": "by", "cap": "at"}[self.kind]
        return f"{self.kind} {noun} " + _joined([f"{i} {to} {v}" for i, v in listed])

    def _values(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "features": list(self.features),
            "values": list(self.values),
            "unit": self.unit,
            "maxima": None if self.maxima is None else list(self.maxima),
            "hook_name": self.hook_name,
            "sae_fingerprint": self.sae.fingerprint,
        }

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        sae = self.sae
        with torch.no_grad():
            h = x.to(sae.W_dec.device, sae.W_dec.dtype)
            value = h.new_tensor(self.values).expand(len(h), -1)
            if self.maxima is not None:
                value = value * h.new_tensor(self.maxima)
            elif self.unit == "norm":
                value = value * norm.to(h).unsqueeze(1)
            if self.kind != "add":
                acts = sae.encode_features(h, self.features)
                if self.kind == "scale":
                    value = acts * (value - 1)
                else:
                    value = (torch.minimum(acts, value) if self.kind == "cap" else value) - acts
            return (value @ sae.W_dec[list(self.features)]).to(x)


def amount(value: float, unit: str, maximum: float | None) -> str:
    if unit == "norm":
        return f"{value:g} x the residual norm"
    if unit == "max":
        return f"{value:g} x its maximum of {maximum:.3g}"
    return f"{value:g}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
