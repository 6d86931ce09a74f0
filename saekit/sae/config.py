"""What an SAE is: its sizes, its activation rule and where its activations came from.

Values only. Nothing here computes on weights or knows how files are laid out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from ..atomic_io import with_current_keys
from ..errors import ConfigError, unknown_name
from ..hook_points import HookPoint
from .token_filter import TokenFilter

Activation = Literal["relu", "kl", "topk", "batchtopk", "jumprelu", "gated"]
ACTIVATIONS: tuple[str, ...] = ("relu", "kl", "topk", "batchtopk", "jumprelu", "gated")
PENALISED = ("relu", "kl", "jumprelu", "gated")
WITH_K = ("topk", "batchtopk")
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


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
    """The activation rule: relu, kl, topk, batchtopk, jumprelu or gated; a file of saekit.sae each."""
    k: int | None = None
    """Active features per token: exactly (topk) or on average over a batch (batchtopk)."""
    matryoshka: tuple[int, ...] = ()
    """topk, batchtopk: sizes of nested prefixes of the features that must each reconstruct x; the last is d_sae."""
    multi_k_coefficient: float = 0.0
    """topk: weight of a second reconstruction from 4 k features; 1/8 in Gao et al. 2024, appendix A.2."""
    sparsity_coefficient: float | None = None
    """relu, kl, jumprelu, gated: weight of the sparsity penalty where E||x - mean||^2 = d_in. None: the rule's own."""
    target_l0: float | None = None
    """relu, kl, jumprelu, gated: active features per token that the weight of the penalty is steered to."""
    l0_penalty: str = "linear"
    """jumprelu: "linear" in L0, or "quadratic", (L0 / target_l0 - 1)^2."""
    bandwidth: float | None = None
    """jumprelu: width of the kernel that gives thresholds a gradient, in units of the root mean square of
    ||x - mean||. None: the rule's own."""
    firing_rate: float | None = None
    """kl: mean of tanh(activation) that every feature is drawn to; the share of tokens it fires on ends above it, two
    to four times on small data. None: 0.05, or what target_l0 asks for."""
    aux_coefficient: float = 1 / 32
    """topk, batchtopk, jumprelu: weight of the auxiliary loss on dead features (Gao et al. 2024, appendix A.2)."""
    apply_b_dec_to_input: bool | None = None
    """Whether b_dec is subtracted before encoding. None: yes, but not for a transcoder, where it is of the output."""
    d_out: int | None = None
    """Transcoder: width of what it reconstructs. None: d_in."""
    skip: bool = False
    """Transcoder: whether x @ W_skip is added to the reconstruction (Paulo et al. 2025, arXiv:2501.18823)."""
    dtype: str = "float32"
    """Type of the weights in memory."""
    seed: int = 0
    """Seed of the initial weights."""
    hook_name: HookPoint | None = None
    """Full TransformerLens hook point it reads; a tuple of them for a crosscoder, whose d_in is the sum of widths."""
    hook_out: str | None = None
    """Transcoder: the hook point it reconstructs. None: what it reads."""
    model_name: str | None = None
    """The model they came from."""
    model_fingerprint: str | None = None
    """Sixteen digits of that model's weights."""
    weight_processing: str | None = None
    """"none" or "compatibility": how TransformerLens had prepared the weights."""
    token_filter: TokenFilter | None = None
    """Tokens that were left out, and that every function leaves out too. None, as in SAELens files: what
    `resolve_token_filter` finds for the model and hook points."""
    context_size: int | None = None
    """Length of the token windows, in tokens."""
    dataset: str | None = None
    """Name of the corpus."""

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae"):
            value = getattr(self, name)
            if not _is_count(value):
                raise ConfigError(
                    f"{name} is not a positive integer",
                    got=repr(value),
                    accepted="an integer of at least 1",
                    fix="pass the width of the hook point (model.hook_width)" if name == "d_in" else "pass 4096, say",
                )
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation rule", self.activation, ACTIVATIONS)
        self._check_sparsity()
        self._check_ends()
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)

    @property
    def width_out(self) -> int:
        """Width of the reconstruction: d_out, or d_in where that is None."""
        return self.d_in if self.d_out is None else self.d_out

    @property
    def is_transcoder(self) -> bool:
        """Whether it reconstructs something else than it reads."""
        return self.hook_out is not None or self.d_out is not None or self.skip

    @property
    def is_crosscoder(self) -> bool:
        """Whether it reads several hook points."""
        return isinstance(self.hook_name, tuple)

    @property
    def subtracts_b_dec(self) -> bool:
        """Whether b_dec is subtracted before encoding."""
        return not self.is_transcoder if self.apply_b_dec_to_input is None else self.apply_b_dec_to_input

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch knows it."""
        return DTYPES[self.dtype]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["token_filter"] = self.token_filter.to_dict() if self.token_filter else None
        return {name: list(v) if isinstance(v, tuple) else v for name, v in out.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SAEConfig:
        """The configuration that `to_dict` wrote; unknown keys are an UnknownNameError."""
        known = {f.name for f in fields(cls)}
        value = dict(with_current_keys(value))
        for name in value:
            if name not in known:
                raise unknown_name("SAEConfig field", name, sorted(known))
        if value.get("activation") not in PENALISED:
            value["sparsity_coefficient"] = None
        rule = value.get("token_filter")
        value = {n: tuple(v) if isinstance(v, list) else v for n, v in value.items()}
        return cls(**{**value, "token_filter": TokenFilter.from_dict(rule) if rule else None})

    def replace(self, **changes: Any) -> SAEConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def _check_sparsity(self) -> None:
        rule = self.activation
        if rule in WITH_K:
            if not _is_count(self.k) or self.k > self.d_sae:  # type: ignore[operator]
                raise ConfigError(
                    f"k does not fit the {rule} rule",
                    got=f"k = {self.k!r}",
                    accepted=f"an integer from 1 to d_sae = {self.d_sae}",
                    fix="pass k=32, say",
                )
        elif self.k is not None:
            raise ConfigError(
                f"the {rule} rule has no k",
                got=self.k,
                accepted="None",
                fix="leave k out, or choose activation='topk' or 'batchtopk'",
            )
        for name, (default, rules) in _OPTIONS.items():
            value = getattr(self, name)
            if value != default and rule not in rules:
                raise ConfigError(
                    f"the {rule} rule has no {name}",
                    got=value,
                    accepted=f"it is an option of {', '.join(rules)}",
                    fix=f"leave {name} out, or choose another activation",
                )
        for name in ("sparsity_coefficient", "aux_coefficient", "multi_k_coefficient"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 <= value < float("inf")):
                raise ConfigError(
                    f"{name} is out of range",
                    got=repr(value),
                    accepted="a number of at least 0",
                    fix=f"leave {name} out, or pass a number",
                )
        for name, most in (("target_l0", self.d_sae), ("bandwidth", float("inf")), ("firing_rate", 1.0)):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < most):
                raise ConfigError(
                    f"{name} is out of range",
                    got=repr(value),
                    accepted=f"a number between 0 and {most:g}",
                    fix=f"leave {name} out, or pass a number",
                )
        if self.sparsity_coefficient == 0 and self.target_l0 is not None and self.l0_penalty == "linear":
            raise ConfigError(
                "the penalty cannot be steered from 0",
                got="sparsity_coefficient = 0 with a target_l0",
                accepted="a coefficient above 0, where steering begins",
                fix="leave sparsity_coefficient out",
            )
        if self.l0_penalty not in ("linear", "quadratic"):
            raise unknown_name("l0_penalty", self.l0_penalty, ("linear", "quadratic"))
        if self.l0_penalty == "quadratic" and self.target_l0 is None:
            raise ConfigError(
                "the quadratic L0 penalty needs its target",
                got="target_l0 = None",
                accepted="a number",
                fix="pass target_l0=32, say",
            )
        sizes = self.matryoshka
        if sizes != () and not (
            isinstance(sizes, tuple)
            and all(_is_count(n) for n in sizes)
            and list(sizes) == sorted(set(sizes))
            and sizes[-1] == self.d_sae
        ):
            raise ConfigError(
                "matryoshka is not a tuple of nested prefix sizes",
                got=repr(sizes),
                accepted=f"a tuple of rising positive integers that ends with d_sae = {self.d_sae}",
                fix=f"pass matryoshka=({self.d_sae // 4}, {self.d_sae // 2}, {self.d_sae}), say",
            )

    def _check_ends(self) -> None:
        if self.d_out is not None and not _is_count(self.d_out):
            raise ConfigError(
                "d_out is not a positive integer",
                got=repr(self.d_out),
                accepted="None, or an integer of at least 1",
                fix="pass the width of hook_out (model.hook_width), or leave d_out out where it is d_in",
            )
        if self.is_transcoder and self.apply_b_dec_to_input:
            raise ConfigError(
                "a transcoder's b_dec belongs to its output and cannot be subtracted from its input",
                got="apply_b_dec_to_input=True",
                accepted="False or None",
                fix="leave it out",
            )
        if self.is_transcoder and self.is_crosscoder:
            raise ConfigError(
                "an SAE is a transcoder or a crosscoder, not both",
                got=f"hook_name={self.hook_name}, hook_out={self.hook_out}",
                accepted="several hook points in hook_name, or one and a hook_out",
                fix="leave one of them out",
            )


_OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "matryoshka": ((), WITH_K),
    "multi_k_coefficient": (0.0, ("topk",)),
    "sparsity_coefficient": (None, PENALISED),
    "target_l0": (None, PENALISED),
    "l0_penalty": ("linear", ("jumprelu",)),
    "bandwidth": (None, ("jumprelu",)),
    "firing_rate": (None, ("kl",)),
}  # what each option is when it is left out, and the rules that have it


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
