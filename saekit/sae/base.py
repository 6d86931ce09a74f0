"""The sparse autoencoder: x -> feature_acts -> x_hat, in the units of the model's activations.

One class for all architectures; the configuration chooses the object that picks the active features (architectures/).
How files are laid out stands in formats/, which model an SAE belongs to in provenance.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..arguments import checks_arguments
from ..errors import ConfigError, DataError, MismatchError
from ..hook_points import HookPoint
from .architectures import TrainingForward, weight_shapes, with_option
from .config import SAEConfig
from .displays import sae_html
from .fingerprint import Fingerprint, fingerprint
from .from_tensors import ArrayLike, as_tensors, configuration, fill
from .input_normalisation import normalised, token_units
from .lazy_weights import LazyWeights
from .output import SAEOutput
from .provenance import check_model
from .sparse import kernels
from .sparse.kernels import SparseActs
from .sparse.selection import EncoderWeights

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ELEMENTS = 2**24  # pre-activations held at once: 64 MB of float32


class SAE(LazyWeights):
    """A sparse autoencoder. `config` says which architecture chooses the active features.

    A new one has gradients, as any torch module has, for a loop with an optimiser of your own; one that was trained
    (`sk.train`, a Trainer) has none, until `sae.requires_grad_(True)`.

    >>> sae = sk.SAE(sk.SAEConfig(d_in=8, d_sae=32, activation="topk", k=4))
    >>> x = torch.randn(3, 5, 8)
    >>> sae(x)
    SAEOutput: x_hat (3, 5, 8), feature_acts (3, 5, 32), l0 4.0
    """

    threshold: Tensor
    """Per feature, for the architectures that have one; 0 for the others."""
    r_mag: Tensor
    """gated: logarithm of the magnitude path's scale over the gate's."""
    b_mag: Tensor
    """gated: bias of the magnitude path; b_enc is the gate's."""
    W_skip: Tensor
    """Transcoder with skip: [d_in, d_out]."""

    matmul_dtype: torch.dtype = torch.float32
    """The type in which a GPU multiplies when it chooses features; sums and weights stay in their own."""

    def __init__(self, config: SAEConfig) -> None:
        super().__init__()
        self.config = config
        self.architecture = config.architecture
        self.history: pd.DataFrame | None = None
        self._density: Tensor | None = None
        self.training_summary: dict[str, Any] = {}
        self._fingerprint: Fingerprint | None = None
        norm = 1.0 if self.architecture.unit_decoder else 0.1
        generator = torch.Generator().manual_seed(config.seed)
        rows = _random_rows(config.d_sae, config.width_out, norm, generator).to(config.torch_dtype)
        dtype, n = rows.dtype, config.d_sae
        of_input = rows.clone()
        if config.is_transcoder:  # what a feature reads and what it writes are two things
            of_input = _random_rows(n, config.d_in, norm, generator).to(dtype)
        # W_enc lies in memory as [d_sae, d_in]: a feature's weights are one contiguous row for the sparse kernels.
        self.W_enc = nn.Parameter(of_input.T)
        self.W_dec = nn.Parameter(rows)
        self.b_enc = nn.Parameter(torch.zeros(n, dtype=dtype))
        self.b_dec = nn.Parameter(torch.zeros(config.width_out, dtype=dtype))
        self.register_buffer("threshold", torch.zeros(n, dtype=dtype))
        for name in self.architecture.extra_parameters:
            setattr(self, name, nn.Parameter(torch.zeros(n, dtype=dtype)))
        if config.skip:
            self.W_skip = nn.Parameter(torch.zeros(config.d_in, config.width_out, dtype=dtype))

    @classmethod
    def from_tensors(
        cls,
        *,
        W_enc: ArrayLike,
        W_dec: ArrayLike,
        b_enc: ArrayLike | None = None,
        b_dec: ArrayLike | None = None,
        activation: str = "relu",
        threshold: ArrayLike | float | None = None,
        b_mag: ArrayLike | None = None,
        r_mag: ArrayLike | None = None,
        W_skip: ArrayLike | None = None,
        **fields: Any,
    ) -> SAE:
        """An SAE of tensors or numpy arrays from anywhere: W_enc [d_in, d_sae], W_dec [d_sae, d_out], vectors over
        features or outputs.

        Biases that are left out are 0; one threshold may stand for all. `fields` are fields of SAEConfig: k,
        hook_name, apply_b_dec_to_input (True unless it is a transcoder), input_normalisation, and so on. Weights are
        copied, in float32 or float64, without gradients. ConfigError for shapes that do not fit, with the matrix that
        is transposed; UnknownKeywordError for another keyword.

        >>> W = torch.randn(32, 8)
        >>> sae = sk.SAE.from_tensors(W_enc=W.T, W_dec=W, activation="jumprelu", threshold=0.5, hook_name=HOOK)
        >>> sae.config.d_in, sae.config.d_sae, bool((sae.threshold == 0.5).all())
        (8, 32, True)
        """
        if W_skip is not None:
            fields = {"skip": True, **fields}
        biases = {"b_enc": b_enc, "b_dec": b_dec, "threshold": threshold, "b_mag": b_mag, "r_mag": r_mag}
        tensors = as_tensors({"W_enc": W_enc, "W_dec": W_dec, **biases, "W_skip": W_skip})
        return fill(cls(configuration(tensors, activation, fields)), tensors)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: a copy has weights of its own, and is hashed by itself."""
        return {**super().__getstate__(), "_fingerprint": None}

    def __repr__(self) -> str:
        c = self.config
        k = f", k {c.k}" if c.k else ""
        hooks = c.hook_name if isinstance(c.hook_name, str) or not c.hook_name else " + ".join(c.hook_name)
        to = f" -> {c.hook_out}" if c.hook_out else ""
        where = f"\n  {c.model_name or 'unknown model'} at {hooks}{to}" if hooks else ""
        excluded = f"\n  {c.token_filter.describe()}" if c.token_filter else ""
        kind = "Transcoder" if c.is_transcoder else "Crosscoder" if c.is_crosscoder else "SAE"
        return f"{kind} {c.activation}{k}: d_in {c.d_in}, d_sae {c.d_sae}, on {self.W_dec.device}{where}{excluded}"

    _repr_html_ = sae_html

    @property
    def k(self) -> int:
        """Active features per token; ConfigError for an architecture without k."""
        if self.config.k is None:
            raise ConfigError(
                f"the {self.config.activation} architecture has no k", accepted=", ".join(with_option("k"))
            )
        return self.config.k

    @property
    def density(self) -> Tensor | None:
        """Fraction of tokens each feature fired on, at the end of training or as its file says; None: not known."""
        self._catch_up()
        return self._density

    @density.setter
    def density(self, value: Tensor | None) -> None:
        self._catch_up()
        self._density = value

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The tensors that make up this SAE, by attribute."""
        return tuple(weight_shapes(self.config))

    @property
    def encoder(self) -> EncoderWeights:
        """What pre-activations are made of, for selecting among them; without gradients."""
        b_dec = self.b_dec.detach() if self.config.subtracts_b_dec else None
        return EncoderWeights(self.W_enc.detach().T.contiguous(), self.b_enc.detach(), b_dec, self.matmul_dtype)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the architecture and every weight; the same after saving and loading.

        Hashed once, and again after a weight has changed, see fingerprint.py.
        """
        if self._fingerprint is None or not self._fingerprint.is_of(self):
            self._fingerprint = fingerprint(self)
        return self._fingerprint.digits

    # ---- inference ----------------------------------------------------------------------------------------------

    def read(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "n d_in"]:
        """The activations as rows of the weights' type, normalised as the configuration says.

        MismatchError when the last dimension is not d_in.
        """
        return normalised(self.config.input_normalisation, self._rows(x))

    def pre_acts(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        """Pre-activations: (x - b_dec) @ W_enc + b_enc, of x as `read` returns it."""
        return torch.addmm(self.b_enc, x - self.b_dec if self.config.subtracts_b_dec else x, self.W_enc)

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Feature activations, in the model's units. MismatchError when the last dimension is not d_in.

        >>> sae.encode(torch.zeros(2, 7, sae.config.d_in)).shape == (2, 7, sae.config.d_sae)
        True
        """
        flat = self.read(x)
        parts = [self.architecture.acts(self.pre_acts(chunk), self) for chunk in self._chunks(flat)]
        acts = parts[0] if len(parts) == 1 else torch.cat(parts)
        return acts.reshape(*x.shape[:-1], self.config.d_sae)

    def encode_features(self, x: Float[Tensor, "n d_in"], features: Sequence[int]) -> Float[Tensor, "n n_features"]:
        """The columns of `encode` for some features; only these are computed where each is looked at
        alone.

        >>> x = torch.randn(20, sae.config.d_in)
        >>> bool((sae.encode_features(x, [5, 2]) == sae.encode(x)[:, [5, 2]]).all())
        True
        """
        chosen = torch.as_tensor(features, device=self.W_enc.device)
        if not self.architecture.elementwise:
            return self.encode(x)[:, chosen]
        x = self.read(x)
        x = x - self.b_dec if self.config.subtracts_b_dec else x
        return self.architecture.acts(torch.addmm(self.b_enc[chosen], x, self.W_enc[:, chosen]), self, chosen)

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseActs:
        """The same numbers as `encode` without their zeros; never holds a dense [n, d_sae]. No gradient.

        >>> x = torch.randn(20, sae.config.d_in)
        >>> bool((sae.encode_sparse(x).to_dense() == sae.encode(x)).all())
        True
        """
        rows = self.read(x)
        with torch.no_grad():
            token, feature, value = self.architecture.select(self, rows)
        return SparseActs(token, feature, value, len(rows), self.config.d_sae)

    def decode(
        self, feature_acts: Float[Tensor, "*batch d_sae"] | SparseActs, x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """The reconstruction x_hat = feature_acts @ W_dec + b_dec, in the model's units.

        A transcoder with a skip adds x @ W_skip and needs `x`, what it has read, and so does an SAE that normalises
        each token; others take no notice of it.
        """
        if isinstance(feature_acts, SparseActs):
            decoded = kernels.decode(feature_acts.value, feature_acts.pattern, self.W_dec)
            return self.reconstruct(decoded, x)
        if feature_acts.shape[-1] != self.config.d_sae:
            raise MismatchError(
                "feature_acts are of another width than this SAE",
                got=tuple(feature_acts.shape),
                accepted=f"[..., {self.config.d_sae}]",
                fix="pass what encode() of this SAE returned",
            )
        return self.reconstruct(feature_acts @ self.W_dec, x)

    def reconstruct(self, decoded: Tensor, x: Tensor | None, frozen: bool = False) -> Float[Tensor, "*batch d_out"]:
        """What the features have decoded, with b_dec and the skip added; `frozen`: without gradients to these."""
        b_dec = self.b_dec.detach() if frozen else self.b_dec
        restored = self.config.normalises_input and not self.config.is_transcoder
        if not self.config.skip and not restored:
            return decoded + b_dec
        if x is None:
            raise ConfigError(
                "this SAE normalises each token and needs x to undo it"
                if restored
                else "this transcoder has a skip connection and reconstructs from x too",
                got="x=None",
                accepted="the activations it has read",
                fix="call sae.decode(feature_acts, x), or sae(x).x_hat",
            )
        if restored:
            shift, scale = token_units(self.config.input_normalisation, x.to(b_dec.dtype))
            return (decoded + b_dec) * scale + shift
        return decoded + b_dec + x.to(self.W_skip.dtype) @ (self.W_skip.detach() if frozen else self.W_skip)

    def written(
        self, acts: Float[Tensor, "n n_features"], features: Sequence[int], x: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_out"]:
        """What activations of some features add to the reconstruction of x, in the model's units.

        acts @ W_dec[features], times each token's own scale for an SAE that normalises tokens.

        >>> x, acts = torch.randn(5, sae.config.d_in), torch.ones(5, 2)
        >>> torch.allclose(sae.written(acts, [3, 7], x), (sae.W_dec[3] + sae.W_dec[7]).expand(5, -1))
        True
        """
        return acts @ self.W_dec[list(features)] * self.unit_of(x)

    def unit_of(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n 1"]:
        """What one unit of activation is worth at each token: 1, or the scale that it was divided by."""
        if not self.config.normalises_input or self.config.is_transcoder:
            return x.new_ones(len(x), 1)
        return token_units(self.config.input_normalisation, x)[1]

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> SAEOutput:
        """Encodes and decodes."""
        acts = self.encode(x)
        return SAEOutput(self.decode(acts, x), acts)

    # ---- training -----------------------------------------------------------------------------------------------

    def training_forward(
        self, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"] | None = None
    ) -> TrainingForward:
        """One batch as in training; `target` is what to reconstruct, None for x itself.

        Raises DataError for NaN or infinity, on a CPU; on a GPU the loss shows them, without a wait.
        """
        if self.config.normalises_input:
            raise ConfigError(
                "an SAE that normalises each token is read from files, not trained",
                got=f"input_normalisation={self.config.input_normalisation!r}",
                accepted="none",
                fix="leave input_normalisation out: training scales activations itself and folds that into the weights",
            )
        if not kernels.on_gpu(x) and not torch.isfinite(x.sum()) and not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x).all(dim=1)).sum())
            raise DataError(
                "activations contain NaN or infinity",
                got=f"{bad} of {x.shape[0]} tokens in this batch",
                fix="find the text that produces them, or load the model in float32",
            )
        return self.architecture.training_forward(self, x, x if target is None else target)

    # ---- files and provenance -----------------------------------------------------------------------------------

    @checks_arguments
    def save(self, folder: str | Path) -> Path:
        """Writes the SAE in SAELens' layout and returns the folder. DiskFullError leaves what was there before.

        >>> path = sae.save(tmp_path / "sae")
        >>> sk.load_sae(path).fingerprint == sae.fingerprint
        True
        """
        from .formats.saelens import save_sae

        return save_sae(self, folder)

    def check(self, model: Any, hook_name: HookPoint | None = None) -> None:
        """Raises MismatchError unless this SAE was trained on `model` at `hook_name` (None: its own hook point).

        A crosscoder's is a tuple of names, a transcoder's the one it reads. What the SAE does not say of itself (files
        from elsewhere) is not held against it; the widths always are.

        >>> sae.check(model)
        >>> sae.check(model, "blocks.1.hook_resid_post")
        Traceback (most recent call last):
        saekit.errors.MismatchError: this SAE belongs to another hook point
          seen:     blocks.1.hook_resid_post
          accepted: blocks.0.hook_resid_post
          fix:      pass hook_name='blocks.0.hook_resid_post', or load the SAE of that hook point
        """
        check_model(self.config, model, hook_name)

    def _rows(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise ConfigError(
                "activations are no tensor",
                got=f"{type(x).__name__}: {x!r:.80}",
                accepted=f"a tensor [..., {self.config.d_in}]",
                fix="pass torch.as_tensor(x)",
            )
        if x.shape[-1:] != (self.config.d_in,):
            raise MismatchError(
                "activations are of another width than this SAE reads",
                got=tuple(x.shape),
                accepted=f"[..., {self.config.d_in}]",
                fix="pass activations of the SAE's own hook point",
            )
        return x.reshape(-1, self.config.d_in).to(self.W_enc.dtype)

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        rows = max(256, CHUNK_ELEMENTS // self.config.d_sae)
        yield from torch.split(x, rows) if x.shape[0] else (x,)


def _random_rows(n: int, width: int, norm: float, generator: torch.Generator) -> Tensor:
    rows = torch.randn(n, width, generator=generator)
    rows *= norm / rows.norm(dim=1, keepdim=True)
    return rows
