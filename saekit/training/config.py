"""How an SAE is trained: one frozen dataclass, and the values that its None fields stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..atomic_io import with_current_keys
from ..errors import ConfigError, MismatchError
from ..sae import SAEConfig
from .displays import config_html


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length, batch, learning rate and bookkeeping of a run. Only n_tokens has no default.

    >>> sk.TrainConfig(n_tokens=1_000_000).n_steps
    488
    """

    n_tokens: int
    """Activations to train on, in tokens; text that is shorter is read several times."""
    batch_size: int = 2048
    """Tokens per step."""
    lr: float | None = None
    """Peak learning rate of Adam. None: the architecture's own, see `Architecture.peak_lr`."""
    warmup_steps: int | None = None
    """Steps of linear rise from 0. None: a twentieth of the run, at most 1000."""
    decay_fraction: float = 0.4
    """Fraction of the run, at its end, over which the rate falls linearly to 0."""
    seed: int = 0
    """Seed of the order of the tokens. The initial weights follow SAEConfig.seed."""
    device: str = "auto"
    """Where to train: "auto" is CUDA where there is one, else the CPU."""
    matmul_dtype: str = "auto"
    """Type in which a GPU multiplies x with W_enc and sums decoder rows: "float32" or "bfloat16", with float32 sums and
    weights either way. "auto" is bfloat16. A CPU always takes float32."""
    dead_after_tokens: int | None = None
    """A feature silent for so many tokens is dead. None: a fiftieth of the run, at least 20 batches, at most ten
    million (Gao et al. 2024, for runs of billions)."""
    grad_clip: float = 1.0
    """Largest norm of the gradient of all weights."""
    sparsity_warmup_fraction: float | None = None
    """With a sparsity penalty: fraction of the run over which it rises from 0. None: the architecture's own, 0.05
    (Anthropic, April 2024), or 0.3 for the quadratic L0 penalty."""
    resample_every: int | None = None
    """With a sparsity penalty: steps between two resamplings of dead features (Bricken et al. 2023), up to where the
    learning rate falls. None: never, as in Anthropic's April 2024 recipe. topk and batchtopk have the auxiliary loss
    instead."""
    normalise: bool = True
    """Whether activations are centred and scaled to E||x - mean||^2 = d_in, by the first batch. Folded into the weights
    of every SAE that leaves training."""
    log_every: int = 10
    """Steps between two rows of metrics."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints. None: a twentieth of the run, at least 50."""
    context_size: int = 128
    """Length of the token windows, in tokens."""
    buffer_tokens: int = 65_536
    """Activations that are mixed at a time, in tokens."""

    def __post_init__(self) -> None:
        for name in ("n_tokens", "batch_size", "log_every", "context_size", "buffer_tokens"):
            _at_least(self, name, 1)
        for name in ("warmup_steps", "dead_after_tokens", "checkpoint_every", "resample_every"):
            if getattr(self, name) is not None:
                _at_least(self, name, 0 if name == "warmup_steps" else 1)
        if self.n_tokens < self.batch_size:
            raise ConfigError(
                "n_tokens is less than one batch",
                got=self.n_tokens,
                accepted=f"at least batch_size = {self.batch_size}",
                fix="pass more tokens or a smaller batch_size",
            )
        if self.matmul_dtype not in ("auto", "float32", "bfloat16"):
            raise ConfigError(
                "unknown type for matmul_dtype",
                got=repr(self.matmul_dtype),
                accepted='"auto", "float32" or "bfloat16"',
                fix="leave matmul_dtype out",
            )
        for name in ("lr", "grad_clip"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0) and not (name == "lr" and value is None):
                raise ConfigError(
                    f"{name} is not positive", got=repr(value), accepted="a number above 0", fix=f"leave {name} out"
                )
        for name in ("decay_fraction", "sparsity_warmup_fraction"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= 1) and not (name != "decay_fraction" and value is None):
                raise ConfigError(
                    f"{name} is not a fraction",
                    got=repr(value),
                    accepted="a number from 0 to 1",
                    fix=f"leave {name} out",
                )

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.n_tokens // self.batch_size

    @property
    def torch_device(self) -> torch.device:
        """The device that `device` means here; ConfigError when there is no such device."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as e:
            raise ConfigError(
                "no such device here",
                got=self.device,
                accepted='"auto", "cpu", or "cuda" where torch finds a GPU',
                fix='pass device="auto"',
            ) from e
        return device

    @property
    def torch_matmul_dtype(self) -> torch.dtype:
        """The type that `matmul_dtype` means."""
        return torch.float32 if self.matmul_dtype == "float32" else torch.bfloat16

    @property
    def steps_between_checkpoints(self) -> int:
        """`checkpoint_every`, or what None stands for."""
        return self.checkpoint_every or max(50, self.n_steps // 20)

    @property
    def dead_after(self) -> int:
        """`dead_after_tokens`, or what None stands for."""
        return self.dead_after_tokens or min(10_000_000, max(20 * self.batch_size, self.n_tokens // 50))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)

    _repr_html_ = config_html


NOT_PART_OF_THE_RUN = ("device", "log_every", "checkpoint_every", "prepend_bos", "exclude_special_tokens")


def difference(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field in which two configurations would give different weights: name, saved value, value now."""
    saved = with_current_keys(saved)
    for name in now:
        if name not in NOT_PART_OF_THE_RUN and saved.get(name) != now[name]:
            return name, saved.get(name), now[name]
    return None


def configuration_differs(name: str, saved: object, now: object) -> MismatchError:
    """The error for resuming a run under another configuration."""
    return MismatchError(
        f"a run with another {name} lies here, and resuming it would mix the two",
        got=f"{name} = {now}",
        accepted=f"{name} = {saved}",
        fix="pass the same configuration to resume, or another out= (resume=False starts again)",
    )


def peak_lr(sae: SAEConfig, config: TrainConfig) -> float:
    """The peak learning rate: `config.lr`, or the architecture's own for this width and length of run."""
    return sae.architecture.peak_lr(sae.d_sae, config.n_steps) if config.lr is None else config.lr


def _at_least(config: TrainConfig, name: str, least: int) -> None:
    value = getattr(config, name)
    whole = isinstance(value, float) and least <= value < math.inf
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name} is out of range",
            got=repr(value),
            accepted=f"an integer of at least {least}",
            fix=f"pass {name}={int(value)}" if whole else f"pass another {name}",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
