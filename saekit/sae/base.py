"""The sparse autoencoder: x -> feature_acts -> x_hat, in the units of the model's activations.

One class for every activation rule; the rule is an object chosen by the configuration. Knows nothing of tokens, of
training loops or of how files are laid out (files.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import ConfigError, DataError, MismatchError
from . import kernels
from .batchtopk import BatchTopK
from .config import SAEConfig
from .jumprelu import JumpReLU
from .kernels import Pattern, SparseActs
from .relu import ReLU
from .rule import ActivationRule
from .topk import TopK

if TYPE_CHECKING:
    import pandas as pd

RULES: dict[str, ActivationRule] = {"relu": ReLU(), "topk": TopK(), "batchtopk": BatchTopK(), "jumprelu": JumpReLU()}
CHUNK_ELEMENTS = 2**24  # pre-activations held at once: 64 MB of float32
SPARSE_BELOW = 0.04  # share of active features under which sums over the active ones beat a dense product


@dataclass(frozen=True, eq=False)
class SAEOutput:
    """What an SAE makes of activations: the reconstruction and the features, in the model's units."""

    x_hat: Float[Tensor, "*batch d_in"]
    feature_acts: Float[Tensor, "*batch d_sae"]

    def __repr__(self) -> str:
        l0 = float((self.feature_acts != 0).sum(-1).float().mean()) if self.feature_acts.numel() else 0.0
        return f"SAEOutput: x_hat {tuple(self.x_hat.shape)}, feature_acts {tuple(self.feature_acts.shape)}, l0 {l0:.1f}"


@dataclass(frozen=True, eq=False)
class TrainingForward:
    """One batch through an SAE by its training rule; gradients flow to the weights."""

    x_hat: Float[Tensor, "n d_in"]
    total: Float[Tensor, " d_sae"]
    """Sum of each feature's activations over the batch; differentiable."""
    counts: Int[Tensor, " d_sae"]
    """Number of tokens each feature was active on."""
    smallest: float | None
    """The smallest activation that was kept; None when there was none."""


class SAE(nn.Module):
    """A sparse autoencoder. `config` says which rule chooses the active features.

    >>> sae = sk.SAE(sk.SAEConfig(d_in=8, d_sae=32, activation="topk", k=4))
    >>> x = torch.randn(3, 5, 8)
    >>> sae(x)
    SAEOutput: x_hat (3, 5, 8), feature_acts (3, 5, 32), l0 4.0
    """

    threshold: Tensor

    def __init__(self, config: SAEConfig) -> None:
        super().__init__()
        self.config = config
        self.rule = RULES[config.activation]
        self.history: pd.DataFrame | None = None
        self.density: Tensor | None = None
        self.training_summary: dict[str, Any] = {}
        rows = torch.randn(config.d_sae, config.d_in, generator=torch.Generator().manual_seed(config.seed))
        rows = rows / rows.norm(dim=1, keepdim=True) * (1.0 if self.rule.unit_decoder else 0.1)
        rows = rows.to(config.torch_dtype)
        # W_enc lies in memory as [d_sae, d_in]: a feature's weights are one contiguous row for the sparse kernels.
        self.W_enc = nn.Parameter(rows.clone().T)
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(config.d_sae, dtype=rows.dtype))
        self.b_dec = nn.Parameter(torch.zeros(config.d_in, dtype=rows.dtype))
        self.register_buffer("threshold", torch.zeros(config.d_sae, dtype=rows.dtype))

    def __repr__(self) -> str:
        c = self.config
        k = f", k {c.k}" if c.k else ""
        where = f"\n  {c.model_name or 'unknown model'} at {c.hook_name}" if c.hook_name else ""
        rule = f"\n  {c.token_rule.describe()}" if c.token_rule else ""
        return f"SAE {c.activation}{k}: d_in {c.d_in}, d_sae {c.d_sae}, on {self.W_dec.device}{where}{rule}"

    @property
    def k(self) -> int:
        """Active features per token; ConfigError for a rule without k."""
        if self.config.k is None:
            raise ConfigError(f"the {self.config.activation} rule has no k", accepted="topk or batchtopk")
        return self.config.k

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the rule and every weight; the same after saving and loading."""
        digest = hashlib.sha256(f"{self.config.activation} {self.config.k} {self.config.apply_b_dec_to_input}".encode())
        for w in (self.W_enc, self.W_dec, self.b_enc, self.b_dec, self.threshold):
            wide = w.detach().cpu().to(torch.promote_types(w.dtype, torch.float32)).contiguous()
            digest.update(wide.numpy().tobytes())
        return digest.hexdigest()[:16]

    # ---- inference ----------------------------------------------------------------------------------------------

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """Pre-activations: (x - b_dec) @ W_enc + b_enc."""
        return torch.addmm(self.b_enc, x - self.b_dec if self.config.apply_b_dec_to_input else x, self.W_enc)

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Feature activations, in the model's units. MismatchError when the last dimension is not d_in.

        >>> sae.encode(torch.zeros(2, 7, sae.config.d_in)).shape == (2, 7, sae.config.d_sae)
        True
        """
        flat = self._rows(x)
        parts = [self.rule.acts(self.pre_acts(chunk), self) for chunk in self._chunks(flat)]
        acts = parts[0] if len(parts) == 1 else torch.cat(parts)
        return acts.reshape(*x.shape[:-1], self.config.d_sae)

    def encode_features(self, x: Float[Tensor, "n d_in"], features: Sequence[int]) -> Float[Tensor, "n n_features"]:
        """The columns of `encode` for some features; only these are computed where the rule looks at each alone.

        >>> x = torch.randn(20, sae.config.d_in)
        >>> bool((sae.encode_features(x, [5, 2]) == sae.encode(x)[:, [5, 2]]).all())
        True
        """
        chosen = torch.as_tensor(features, device=self.W_enc.device)
        if not self.rule.elementwise:
            return self.encode(x)[:, chosen]
        x = self._rows(x)
        x = x - self.b_dec if self.config.apply_b_dec_to_input else x
        return self.rule.acts(torch.addmm(self.b_enc[chosen], x, self.W_enc[:, chosen]), self, chosen)

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseActs:
        """The same numbers as `encode` without their zeros; never holds a dense [n, d_sae]. No gradient.

        >>> x = torch.randn(20, sae.config.d_in)
        >>> bool((sae.encode_sparse(x).to_dense() == sae.encode(x)).all())
        True
        """
        parts = []
        with torch.no_grad():
            for chunk in self._chunks(self._rows(x)):
                token, feature, value = self.rule.select(self.pre_acts(chunk), self)
                parts.append(SparseActs(token, feature, value, chunk.shape[0], self.config.d_sae))
        return SparseActs.cat(parts)

    def decode(self, feature_acts: Float[Tensor, "*batch d_sae"] | SparseActs) -> Float[Tensor, "*batch d_in"]:
        """The reconstruction x_hat = feature_acts @ W_dec + b_dec, in the model's units."""
        if isinstance(feature_acts, SparseActs):
            return kernels.decode(feature_acts.value, feature_acts.pattern, self.W_dec) + self.b_dec
        if feature_acts.shape[-1] != self.config.d_sae:
            raise MismatchError(
                "feature_acts are of another width than this SAE", got=tuple(feature_acts.shape),
                accepted=f"[..., {self.config.d_sae}]", fix="pass what encode() of this SAE returned",
            )  # fmt: skip
        return feature_acts @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> SAEOutput:
        """Encodes and decodes."""
        acts = self.encode(x)
        return SAEOutput(self.decode(acts), acts)

    # ---- training -----------------------------------------------------------------------------------------------

    def training_forward(self, x: Float[Tensor, "n d_in"]) -> TrainingForward:
        """One batch by the training rule, at the cost of the encoder product and the active features."""
        if not self.rule.trainable:
            raise ConfigError(
                f"the {self.config.activation} rule is for loaded files", got=self.config.activation,
                accepted="relu, topk or batchtopk", fix="train one of these",
            )  # fmt: skip
        if not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x).all(dim=1)).sum())
            raise DataError(
                "activations contain NaN or infinity", got=f"{bad} of {x.shape[0]} tokens in this batch",
                fix="find the text that produces them, or load the model in float32",
            )  # fmt: skip
        with torch.no_grad():
            pre = self.pre_acts(x)
            token, feature, value = self.rule.select_training(pre, self)
        if value.numel() > SPARSE_BELOW * pre.numel() and self.config.activation == "relu":
            return self._dense_forward(x)
        pattern = Pattern(token, feature, x.shape[0], self.config.d_sae)
        b_dec = self.b_dec if self.config.apply_b_dec_to_input else None
        acts = kernels.pre_acts(value, pattern, x, self.W_enc, self.b_enc, b_dec)
        x_hat = kernels.decode(acts, pattern, self.W_dec) + self.b_dec
        total = acts.new_zeros(self.config.d_sae).index_add(0, feature, acts)
        return TrainingForward(x_hat, total, pattern.counts, float(value.min()) if value.numel() else None)

    def _dense_forward(self, x: Tensor) -> TrainingForward:
        acts = self.pre_acts(x).relu()
        counts = (acts > 0).sum(0)
        return TrainingForward(acts @ self.W_dec + self.b_dec, acts.sum(0), counts, None)

    # ---- files and provenance -----------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Writes the SAE in SAELens' layout and returns the folder. DiskFullError leaves what was there before.

        >>> path = sae.save(tmp_path / "sae")
        >>> sk.load_sae(path).fingerprint == sae.fingerprint
        True
        """
        from .files import save_sae

        return save_sae(self, folder)

    def check(self, model: Any, hook_name: str | None = None) -> None:
        """Raises MismatchError unless this SAE was trained on `model` at `hook_name` (None: its own hook point).

        What the SAE does not say of itself (files from elsewhere) is not held against it; the width always is.

        >>> sae.check(model)
        >>> sae.check(model, "blocks.1.hook_resid_post")
        Traceback (most recent call last):
        saekit.errors.MismatchError: this SAE belongs to another hook point
          seen:     blocks.1.hook_resid_post
          accepted: blocks.0.hook_resid_post
          to do:    pass hook_name='blocks.0.hook_resid_post', or load the SAE of that hook point
        """
        c = self.config
        same_weights = c.model_fingerprint is not None and c.model_fingerprint == model.fingerprint
        if c.model_name and not same_weights and _base_name(c.model_name) != _base_name(model.name):
            raise MismatchError(
                "this SAE was trained on another model", got=model.name, accepted=c.model_name,
                fix=f"load that model, or an SAE for {model.name}",
            )  # fmt: skip
        if c.weight_processing and c.weight_processing != model.weight_processing:
            raise MismatchError(
                "this SAE was trained on weights prepared in another way, and activations differ silently",
                got=model.weight_processing, accepted=c.weight_processing,
                fix="load the model with enable_compatibility_mode() only if the SAE says 'compatibility'",
            )  # fmt: skip
        if hook_name is not None and c.hook_name is not None and hook_name != c.hook_name:
            raise MismatchError(
                "this SAE belongs to another hook point", got=hook_name, accepted=c.hook_name,
                fix=f"pass hook_name={c.hook_name!r}, or load the SAE of that hook point",
            )  # fmt: skip
        where = hook_name or c.hook_name
        if where is not None and (width := model.hook_width(where)) != c.d_in:
            raise MismatchError(
                f"activations at {where} are of another width than this SAE reads", got=width, accepted=c.d_in,
                fix="use the SAE at the hook point and on the model it was trained for",
            )  # fmt: skip
        if c.model_fingerprint is not None and not same_weights:
            raise MismatchError(
                f"{model.name} has other weights than the model of that name this SAE was trained on",
                got=model.fingerprint, accepted=c.model_fingerprint,
                fix="load the weights it was trained on; to use it on these all the same (fine-tuned, quantised), "
                "say so with sae.config = dataclasses.replace(sae.config, model_fingerprint=None)",
            )  # fmt: skip

    def _rows(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.config.d_in,):
            raise MismatchError(
                "activations are of another width than this SAE reads", got=tuple(x.shape),
                accepted=f"[..., {self.config.d_in}]", fix="pass activations of the SAE's own hook point",
            )  # fmt: skip
        return x.reshape(-1, self.config.d_in).to(self.W_enc.dtype)

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        rows = max(256, CHUNK_ELEMENTS // self.config.d_sae)
        yield from torch.split(x, rows) if x.shape[0] else (x,)


def _base_name(name: str) -> str:
    short = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return {"gpt2-small": "gpt2"}.get(short, short)
