"""Edits: clamp, scale, ablate or add features of an SAE where it reads the model.

An edit of features i with current activations a_i adds sum_i (v_i - a_i) W_dec[i] to the activation x. That equals
"encode, change the features, decode, put the SAE's error back", because the error and all other features cancel: the
model's activation is never swapped for the reconstruction. Only the columns that are needed are encoded.

An edit works on whatever tokens a forward pass shows it, one token or a whole prompt, and knows nothing of key-value
caches, sampling or text. Sources: Templeton et al. 2024, Scaling Monosemanticity, "Influence on behaviour" (clamping).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, MismatchError, UnknownNameError, unknown_name
from ..sae import SAE, TokenRule

if TYPE_CHECKING:
    from ..index import FeatureIndex

Kind = Literal["clamp", "scale", "ablate", "add"]
Unit = Literal["raw", "max", "norm"]
Positions = Literal["all", "prompt", "generated"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Edit:
    """One change to some features of one SAE. Made by `clamp`, `scale`, `ablate` and `add`.

    >>> sk.clamp(sae, {3: 0.5}, unit="norm")
    clamp feature 3 to 0.5 x the residual norm at blocks.0.hook_resid_post, at all positions
    """

    sae: SAE = field(repr=False)
    kind: Kind
    features: tuple[int, ...]
    """Feature numbers; all activations are read before any is changed."""
    values: tuple[float, ...]
    """One number per feature: target (clamp), factor (scale), addend (add), 0 (ablate); see `unit`."""
    unit: Unit = "raw"
    """raw: the SAE's own activations. max: multiples of `maxima`. norm: a share of the token's own residual norm."""
    positions: Positions = "all"
    """all: every token. prompt: tokens given to the model, a chat template's too. generated: tokens it wrote."""
    maxima: tuple[float, ...] | None = None
    """With unit "max": each feature's largest activation in the index."""

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("kind", self.kind, Kind), ("unit", self.unit, Unit), ("positions", self.positions, Positions),
        ):  # fmt: skip
            if value not in get_args(kinds):
                raise unknown_name(name, value, get_args(kinds))
        if not self.features or len(set(self.features)) < len(self.features):
            raise ConfigError(
                "an edit needs features, each once", got=list(self.features), accepted="one or more distinct features",
                fix="pass {feature: value, ...}",
            )  # fmt: skip
        for i in self.features:
            if not 0 <= i < self.sae.config.d_sae:
                raise UnknownNameError(
                    f"the SAE has no feature {i}", got=i, accepted=f"0 to {self.sae.config.d_sae - 1}",
                    fix="check that the feature number comes from this SAE's index",
                )  # fmt: skip
        if len(self.values) != len(self.features) or not all(map(math.isfinite, self.values)):
            raise ConfigError(
                "every feature needs one finite value", got=dict(zip(self.features, self.values, strict=False))
            )
        if (self.maxima is not None) != (self.unit == "max"):
            raise ConfigError(
                'unit "max" needs the features\' maxima, and only that unit', got=f"unit {self.unit!r}",
                fix="pass index=, the feature index of this SAE",
            )  # fmt: skip
        c = self.sae.config
        if c.is_transcoder or c.is_crosscoder:
            raise MismatchError(
                f"a {'transcoder' if c.is_transcoder else 'crosscoder'} cannot be edited with",
                got=f"reads {c.hook_name}" + (f", writes {c.hook_out}" if c.hook_out else ""),
                accepted="an SAE that reads and writes one and the same hook point",
                fix="train a plain SAE at the hook point that is to be edited",
            )  # fmt: skip
        if self.sae.config.hook_name is None:
            raise ConfigError(
                "the SAE does not say which hook point it reads", got="sae.config.hook_name = None",
                fix="build it with SAEConfig(hook_name=...), or train it with sk.train",
            )  # fmt: skip

    @property
    def hook_name(self) -> str:
        """The hook point whose activation is edited: the SAE's."""
        return str(self.sae.config.hook_name)

    def __repr__(self) -> str:
        many = len(self.features) > 1
        noun = "features" if many else "feature"
        listed = [(i, _amount(v, self.unit, m)) for i, v, m in self._rows()]
        if self.kind == "clamp":
            what = f"clamp {noun} " + _joined([f"{i} to {v}" for i, v in listed])
        elif self.kind == "scale":
            what = f"scale {noun} " + _joined([f"{i} by {v}" for i, v in listed])
        elif self.kind == "ablate":
            what = f"ablate {noun} " + _joined([str(i) for i, _ in listed])
        else:
            what = "add " + _joined([f"{v} of feature {i}" for i, v in listed])
        return f"{what} at {self.hook_name}, at {self.positions} positions"

    def _rows(self) -> list[tuple[int, float, float | None]]:
        maxima: Sequence[float | None] = self.maxima or [None] * len(self.features)
        return list(zip(self.features, self.values, maxima, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON values. Weights stay behind: the SAE is named by its fingerprint."""
        return {
            "kind": self.kind,
            "features": list(self.features),
            "values": list(self.values),
            "unit": self.unit,
            "positions": self.positions,
            "maxima": None if self.maxima is None else list(self.maxima),
            "hook_name": self.hook_name,
            "sae_fingerprint": self.sae.fingerprint,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], sae: SAE) -> Edit:
        """The edit that `to_dict` wrote, on the SAE it was made for; MismatchError for any other SAE.

        >>> edit = sk.ablate(sae, [1, 2])
        >>> sk.Edit.from_dict(edit.to_dict(), sae) == edit
        True
        """
        known = {"kind", "features", "values", "unit", "positions", "maxima", "hook_name", "sae_fingerprint"}
        for name in (*known.symmetric_difference(saved),):
            if name in known:
                raise ConfigError(f"the saved edit has no {name!r}", got=sorted(saved), accepted=sorted(known))
            raise unknown_name("part of an edit", name, sorted(known))
        if saved["sae_fingerprint"] != sae.fingerprint:
            raise MismatchError(
                "the edit was made for another SAE", got=sae.fingerprint, accepted=saved["sae_fingerprint"],
                fix="load the SAE it was made for",
            )  # fmt: skip
        maxima = saved["maxima"]
        return cls(
            sae=sae,
            kind=saved["kind"],
            features=tuple(int(i) for i in saved["features"]),
            values=tuple(float(v) for v in saved["values"]),
            unit=saved["unit"],
            positions=saved["positions"],
            maxima=None if maxima is None else tuple(float(m) for m in maxima),
        )

    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """What the edit adds to activations x; `norm` is each token's own norm (used by unit "norm")."""
        sae = self.sae
        with torch.no_grad():
            h = x.to(sae.W_dec.device, sae.W_dec.dtype)
            change = h.new_tensor(self.values).expand(len(h), -1)
            if self.maxima is not None:
                change = change * h.new_tensor(self.maxima)
            elif self.unit == "norm":
                change = change * norm.to(h).unsqueeze(1)
            if self.kind != "add":
                acts = sae.encode_features(h, self.features)
                change = acts * (change - 1) if self.kind == "scale" else change - acts
            return (change @ sae.W_dec[list(self.features)]).to(x)

    def covers(
        self,
        tokens: Int[Tensor, "batch pos"],
        x: Float[Tensor, "batch pos d_in"],
        *,
        attended: Bool[Tensor, "batch pos"] | None = None,
        generated: Bool[Tensor, "batch pos"] | None = None,
        rule: TokenRule | None = None,
    ) -> Bool[Tensor, "batch pos"]:
        """True where the edit applies: by position, never on padding, special tokens or sinks.

        Sinks and special tokens are what the SAE's token rule leaves out (`rule` where the SAE has none), judged on x.
        Without `generated` every token counts as prompt.
        """
        kept_by = self.sae.config.token_rule or rule
        where = torch.ones_like(tokens, dtype=torch.bool) if kept_by is None else kept_by.keep(tokens, x)
        if attended is not None:
            where = where & attended
        if self.positions == "all":
            return where
        if generated is None:
            generated = torch.zeros_like(where)
        return where & (generated if self.positions == "generated" else ~generated)


def apply_edits(
    x: Float[Tensor, "batch pos ..."],
    edits: Sequence[Edit],
    tokens: Int[Tensor, "batch pos"],
    *,
    attended: Bool[Tensor, "batch pos"] | None = None,
    generated: Bool[Tensor, "batch pos"] | None = None,
    rule: TokenRule | None = None,
) -> Float[Tensor, "batch pos ..."]:
    """The activation x at one hook point after `edits` in order; x itself is not changed.

    Each edit reads the features of the activation that the one before it left. Which tokens are sinks, and the norm
    that unit "norm" takes a share of, are properties of the token: both come from x as it arrived.

    >>> from saekit.steering.edits import apply_edits
    >>> tokens = torch.tensor([[0, 5, 6]])
    >>> x = model.activations(tokens, HOOK)
    >>> (apply_edits(x, [sk.add(sae, {3: 2.0})], tokens) != x).any(-1)  # BOS is left alone
    tensor([[False,  True,  True]])
    """
    arrived = x.flatten(2)
    norm = arrived.float().norm(dim=-1)
    out = arrived
    for edit in edits:
        where = edit.covers(tokens, arrived, attended=attended, generated=generated, rule=rule)
        at = where.nonzero(as_tuple=True)
        if len(at[0]):
            selected = out[at]
            out = out.index_put(at, selected + edit.delta(selected, norm[at]))
    return out.view(x.shape)


class Span:
    """The tokens a forward pass runs over, kept up to date by whoever runs it and read by the hooks."""

    def __init__(self, tokens: Int[Tensor, "batch pos"], attended: Bool[Tensor, "batch pos"]) -> None:
        self.tokens, self.attended = tokens, attended
        self.n_prompt = tokens.shape[1]

    def append(self, new: Int[Tensor, " batch"]) -> None:
        self.tokens = torch.cat([self.tokens, new.unsqueeze(1)], 1)
        self.attended = torch.cat([self.attended, torch.ones_like(new, dtype=torch.bool).unsqueeze(1)], 1)

    def hooks(self, edits: Sequence[tuple[Edit, ...]], rule: TokenRule) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        """One hook per hook point, for the edits of each row. A hook sees the span's last n tokens, all or one."""
        names = dict.fromkeys(edit.hook_name for row in edits for edit in row)
        hooks: list[tuple[str, Callable[[Tensor], Tensor]]] = []
        for name in names:
            groups: dict[tuple[Edit, ...], list[int]] = {}
            for i, row in enumerate(edits):
                if here := tuple(edit for edit in row if edit.hook_name == name):
                    groups.setdefault(here, []).append(i)
            hooks.append((name, partial(self._edit, groups=groups, rule=rule)))
        return hooks

    def _edit(self, x: Tensor, groups: Mapping[tuple[Edit, ...], Sequence[int]], rule: TokenRule) -> Tensor:
        n, total = x.shape[1], self.tokens.shape[1]
        tokens, attended = self.tokens[:, -n:].to(x.device), self.attended[:, -n:].to(x.device)
        generated = (torch.arange(total - n, total, device=x.device) >= self.n_prompt).expand(len(x), -1)
        out = x
        for edits, chosen in groups.items():
            rows = torch.tensor(chosen, device=x.device)
            edited = apply_edits(
                x[rows], edits, tokens[rows], attended=attended[rows], generated=generated[rows], rule=rule
            )  # fmt: skip
            out = out.index_copy(0, rows, edited)
        return out


def clamp(
    sae: SAE,
    values: Mapping[int, float],
    *,
    unit: Unit = "raw",
    positions: Positions = "all",
    index: FeatureIndex | None = None,
) -> Edit:
    """An Edit that holds each feature at its value: adds (v - a_i) W_dec[i], whatever the activation a_i was.

    Units: "raw", the SAE's activations; "max", multiples of the feature's maximum in `index`; "norm", shares of the
    norm of the token's own activation (decoder rows have unit norm, so at 1.0 the feature is as long as the rest).
    Positions: "all"; "prompt", tokens given to the model; "generated", tokens it wrote, so that the first new token,
    which is read off the last prompt token, is not yet affected. Raises UnknownNameError for a feature the SAE does
    not have, ConfigError for a value that is not finite.

    >>> sk.clamp(sae, {3: 2.0, 7: 0.0}, positions="generated")
    clamp features 3 to 2 and 7 to 0 at blocks.0.hook_resid_post, at generated positions
    """
    return _edit(sae, "clamp", values, unit, positions, index)


def scale(sae: SAE, values: Mapping[int, float], *, positions: Positions = "all") -> Edit:
    """An Edit that multiplies each feature's activation by its factor: adds (s - 1) a_i W_dec[i].

    >>> sk.scale(sae, {3: 2.0})
    scale feature 3 by 2 at blocks.0.hook_resid_post, at all positions
    """
    return _edit(sae, "scale", values, "raw", positions, None)


def ablate(sae: SAE, features: int | Iterable[int], *, positions: Positions = "all") -> Edit:
    """An Edit that removes features: adds -a_i W_dec[i].

    >>> sk.ablate(sae, 3)
    ablate feature 3 at blocks.0.hook_resid_post, at all positions
    """
    listed = list(features) if isinstance(features, Iterable) else [features]
    return _edit(sae, "ablate", dict.fromkeys(listed, 0.0), "raw", positions, None)


def add(
    sae: SAE,
    values: Mapping[int, float],
    *,
    unit: Unit = "raw",
    positions: Positions = "all",
    index: FeatureIndex | None = None,
) -> Edit:
    """An Edit that adds v W_dec[i] whatever the feature's activation. Units and positions as in `clamp`.

    >>> sk.add(sae, {3: 2.0})
    add 2 of feature 3 at blocks.0.hook_resid_post, at all positions
    """
    return _edit(sae, "add", values, unit, positions, index)


def _edit(
    sae: SAE, kind: Kind, values: Mapping[int, float], unit: Unit, positions: Positions, index: FeatureIndex | None
) -> Edit:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{kind} needs a value for each feature", got=values, accepted="a mapping from feature number to value",
            fix=f"sk.{kind}(sae, {{feature: value}})",
        )  # fmt: skip
    features = tuple(_feature_number(i) for i in values)
    return Edit(
        sae=sae,
        kind=kind,
        features=features,
        values=tuple(float(v) for v in values.values()),
        unit=unit,
        positions=positions,
        maxima=_maxima(sae, features, index) if unit == "max" else None,
    )


def _feature_number(i: object) -> int:
    try:
        return operator.index(i)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError("not a feature number", got=repr(i), accepted="a whole number") from None


def _maxima(sae: SAE, features: Sequence[int], index: FeatureIndex | None) -> tuple[float, ...]:
    """Each feature's largest activation in the index."""
    if index is None:
        raise ConfigError(
            'unit "max" needs the features\' maxima', got="index=None", fix="pass index=, the feature index of this SAE"
        )
    if index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE", got=index.sae_fingerprint, accepted=sae.fingerprint,
            fix="pass the index of this SAE, or build one with sk.build_index",
        )  # fmt: skip
    known = index.features["max"]
    for i in features:
        if i not in known.index:
            raise UnknownNameError(f"the index has no feature {i}", got=i, accepted=f"0 to {len(known) - 1}")
        if not known.loc[i] > 0:
            raise ConfigError(
                f"feature {i} never fires in the index, so it has no maximum", got=float(known.loc[i]),
                fix='use unit="norm" or unit="raw"',
            )  # fmt: skip
    return tuple(float(known.loc[i]) for i in features)


def _amount(value: float, unit: str, maximum: float | None) -> str:
    if unit == "norm":
        return f"{value:g} x the residual norm"
    if unit == "max":
        return f"{value:g} x its maximum of {maximum:.3g}"
    return f"{value:g}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
