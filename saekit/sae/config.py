"""What an SAE is: its sizes, its architecture and where its activations came from.

Values only; which options an architecture has, and what they may be, its class says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ..atomic_io import with_current_keys
from ..errors import ConfigError, unknown_name
from ..hook_points import HookPoint
from .architectures import ARCHITECTURES, Architecture, get_architecture
from .architectures.options import check_options, check_weight, is_count
from .displays import config_html
from .input_normalisation import INPUT_NORMALISATIONS
from .token_filter import TokenFilter

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
DEFAULT: Any = object()
"""Stands for a target L0 that was left out, which is not the same as None."""


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Sizes, architecture and provenance of a sparse autoencoder.

    >>> sk.SAEConfig(d_in=32, d_sae=256, activation="batchtopk", k=8).k
    8
    """

    d_in: int
    """Width of the activations it reads."""
    d_sae: int
    """Number of features."""
    activation: str = "batchtopk"
    """The architecture: relu, kl, topk, batchtopk, jumprelu, gated, or one that sk.register_architecture was given."""
    k: int | None = None
    """Active features per token: exactly (topk) or on average over a batch (batchtopk)."""
    matryoshka: tuple[int, ...] = ()
    """topk, batchtopk: sizes of nested prefixes of the features that must each reconstruct x; the last is d_sae."""
    multi_k_coefficient: float = 0.0
    """topk: weight of a second reconstruction from 4 k features; 1/8 in Gao et al. 2024, appendix A.2."""
    sparsity_coefficient: float | None = None
    """relu, kl, jumprelu, gated: weight of the sparsity penalty where E||x - mean||^2 = d_in. None: the
    architecture's own, where target_l0 is not steered to."""
    target_l0: float | None = DEFAULT
    """relu, kl, jumprelu, gated: active features per token that the weight of the penalty is steered to. None: the
    weight stays what it is. Left out: 32, at most d_in / 8 and d_sae / 8, unless a sparsity_coefficient (kl: or a
    firing_rate) says how sparse features are to be; see Architecture.default_target_l0."""
    l0_penalty: str = "linear"
    """jumprelu: "linear" in L0, or "quadratic", (L0 / target_l0 - 1)^2."""
    bandwidth: float | None = None
    """jumprelu: width of the kernel that gives thresholds a gradient, in units of the root mean square of
    ||x - mean||. None: 0.001."""
    firing_rate: float | None = None
    """kl: mean of tanh(activation) that every feature is drawn to; the fraction of tokens it fires on ends above it,
    two to four times on small data. None: 0.05, or what target_l0 asks for."""
    aux_coefficient: float = 1 / 32
    """topk, batchtopk, jumprelu: weight of the auxiliary loss on dead features (Gao et al. 2024, appendix A.2)."""
    apply_b_dec_to_input: bool | None = None
    """Whether b_dec is subtracted before encoding. None: yes, but not for a transcoder, where it is of the output."""
    input_normalisation: str = "none"
    """What is done to each token's own activation before it is read, and undone in the reconstruction (not in a
    transcoder's, which is of something else): "none", "layer_norm" or "rms_norm"; see input_normalisation.py."""
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
    prepend_bos: bool | None = None
    """Whether BOS stood before each window, and is put there by whatever reads text with this SAE. None, as where it
    is not known: what is true of the model (`model.facts.prepend_bos`)."""
    exclude_special_tokens: bool | tuple[int, ...] | None = None
    """What a SAELens file says of the tokens left out in training: all special ones, these ids, or none. Kept for
    saving; which tokens saekit leaves out, the token filter says."""
    context_size: int | None = None
    """Length of the token windows, in tokens."""
    dataset: str | None = None
    """Name of the corpus."""

    def __post_init__(self) -> None:
        for name in ("d_in", "d_sae"):
            value = getattr(self, name)
            if not is_count(value):
                raise ConfigError(
                    f"{name} is not a positive integer",
                    got=repr(value),
                    accepted="an integer of at least 1",
                    fix="pass the width of the hook point (model.hook_width)" if name == "d_in" else "pass e.g. 4096",
                )
        architecture = get_architecture(self.activation)
        if self.target_l0 is DEFAULT:  # a value that depends on other fields, and that files and tables are to show
            object.__setattr__(self, "target_l0", architecture.default_target_l0(self))
        check_options(self, architecture, ARCHITECTURES.values())
        check_weight("aux_coefficient", self.aux_coefficient, self)
        self._check_ends()
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if self.input_normalisation not in INPUT_NORMALISATIONS:
            raise unknown_name("input_normalisation", self.input_normalisation, INPUT_NORMALISATIONS)

    @property
    def architecture(self) -> Architecture:
        """How the active features are chosen."""
        return get_architecture(self.activation)

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
    def normalises_input(self) -> bool:
        """Whether each token's own activation is normalised before it is read."""
        return self.input_normalisation != "none"

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as a torch.dtype."""
        return DTYPES[self.dtype]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["token_filter"] = self.token_filter.to_dict() if self.token_filter else None
        return {name: list(v) if isinstance(v, tuple) else v for name, v in out.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SAEConfig:
        """The configuration that `to_dict` wrote, in any version; unknown keys are an UnknownNameError.

        What was saved stays: a target L0 that is None, or that an early version did not know, means none.
        """
        known = {f.name for f in fields(cls)}
        value = dict(with_current_keys(value))
        for name in value:
            if name not in known:
                raise unknown_name("SAEConfig field", name, sorted(known))
        if "sparsity_coefficient" not in get_architecture(value.get("activation", cls.activation)).options:
            value["sparsity_coefficient"] = None  # early versions gave every architecture one
        value.setdefault("target_l0", None)
        token_filter = value.get("token_filter")
        value = {n: tuple(v) if isinstance(v, list) else v for n, v in value.items()}
        return cls(**{**value, "token_filter": TokenFilter.from_dict(token_filter) if token_filter else None})

    def replace(self, **changes: Any) -> SAEConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def _check_ends(self) -> None:
        if self.d_out is not None and not is_count(self.d_out):
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

    _repr_html_ = config_html
