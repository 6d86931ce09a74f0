"""One training step, for people with their own loop and for `train`.

A Trainer works in normalised units, on weights of its own. The SAE it was given is trained all the same: whoever looks
at its weights finds those of the last step, with the normalisation folded in (sae/lazy_weights.py).

Architectures without a penalty minimise the unexplained fraction of the batch's variance; those with one minimise the
squared error per token plus the penalty, as their papers do. What else depends on the architecture, its
class says.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError, MismatchError
from ..sae import SAE, Normalisation, SAEConfig, TrainingForward, fold_decoder_norms, fold_normalisation
from ..sae.sparse import kernels
from .batch_checks import Batch, as_batch, check_batch, check_finite, check_kinds, loss_not_finite
from .config import TrainConfig, configuration_differs, difference, peak_lr
from .dead_features import FiringTracker, auxiliary_loss, resample
from .displays import trainer_html
from .metrics import StepMetrics
from .normalisation import fit_normalisation, geometric_median, identity
from .optimiser import Optimiser
from .schedules import learning_rate
from .sparsity import SparsityController

DENSITY_FRACTION = 0.2  # firing frequencies are counted over the last fifth of a run


class Trainer:
    """Trains an SAE batch by batch, in place; of a configuration it makes one: `trainer.sae`.

    After any number of steps the SAE that was given is the trained one: it takes activations in the model's units and
    stays where it is, on its device and without gradients (`sae.requires_grad_(True)` for a loop of your own). Its
    weights are the trainer's: what is written into them between steps is lost at the next one. A tensor that was taken
    from it earlier is brought up to date when the SAE itself is next used. `trainer.sae` is a copy of the moment.
    A copy of a trainer (copy.deepcopy, pickle) goes on bit for bit and leaves that SAE alone.

    An SAE whose biases and thresholds are all zero counts as new, and its b_dec begins at the geometric median of the
    first batch. Where the architecture holds decoder rows at unit norm, rows of other norms (of a file, of
    `from_tensors`) have them moved into the encoder before the first step, with the same reconstruction. Where other
    features would be chosen then, as in a topk SAE whose rows differ in norm, each row keeps its norm instead.
    `blocks` are the widths of the hook points a crosscoder reads, one after the other: each is normalised alone, so
    that none drowns another; one scale for all where features are compared with each other (topk), since the choice
    depends on it.

    >>> trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=640, batch_size=64))
    >>> for _ in range(10):
    ...     metrics = trainer.step(torch.randn(64, sae.config.d_in))
    >>> metrics.step, metrics.l0, trainer.finish().config.d_sae
    (10, 4.0, 64)
    >>> sae.fingerprint == trainer.sae.fingerprint
    True
    """

    def __init__(self, sae: SAE | SAEConfig, config: TrainConfig, blocks: Sequence[int] | None = None) -> None:
        check_kinds(sae, config)
        sae = SAE(sae) if isinstance(sae, SAEConfig) else sae
        c = sae.config
        self.config = config
        self.device = config.torch_device
        self.n_steps_done = 0
        self.n_tokens_done = 0
        self._blocks = [c.d_in] if blocks is None or not c.architecture.elementwise else list(blocks)
        if sum(self._blocks) != c.d_in:
            raise MismatchError("the widths of the hook points do not add up", got=blocks, accepted=f"d_in = {c.d_in}")
        self._new = not any(bool(vector.any()) for vector in (sae.b_enc, sae.b_dec, sae.threshold))
        self._given: Callable[[], SAE | None] = weakref.ref(sae.requires_grad_(False))
        self._sae = copy.deepcopy(sae).to(self.device).requires_grad_(True)
        self._normalisation = identity(self._sae)
        self._sae.matmul_dtype = config.torch_matmul_dtype
        self._optimiser = Optimiser(self._sae, config.grad_clip)
        self._firing_tracker = FiringTracker(c.d_sae, self.device)
        self._dead = self._firing_tracker.dead(config.dead_after)
        self._sparsity = SparsityController(c, config, self.device)
        self._peak = peak_lr(c, config)
        n = config.n_steps
        self._warmup = min(1000, n // 20) if config.warmup_steps is None else config.warmup_steps
        self._k_aux = min(512, max(1, c.width_out // 2))
        self._waits = not kernels.on_gpu(self._sae.W_dec)  # a GPU's host reads nothing back in a step
        self._last: dict[str, Tensor | float] = {}
        self._trouble = torch.zeros((), dtype=torch.int64, device=self.device)  # first step that was not finite

    @property
    def sae(self) -> SAE:
        """The SAE as trained so far, normalisation folded in: features and x_hat in the model's units. A new copy."""
        out = self._sae if self._sae.architecture.unit_decoder else fold_decoder_norms(self._sae)
        out = fold_normalisation(out, self._normalisation).requires_grad_(False)
        density = self.density
        out.density = None if density is None else density.cpu()
        return out

    @property
    def density(self) -> Float[Tensor, " d_sae"] | None:
        """Fraction of tokens each feature fired on, over the last fifth of the run once there; None at first."""
        return self._firing_tracker.density()

    def finish(self) -> SAE:
        """A copy of the trained SAE, on the CPU. The trainer may take more steps afterwards.

        Warns when the run is over and its L0 missed the target by more than a tenth.
        """
        if self.n_steps_done >= self.config.n_steps and (warning := self._sparsity.missed()):
            warnings.warn(warning, stacklevel=2)
        return self.sae.cpu()

    def l0_summary(self) -> dict[str, Any]:
        """For the training summary: the L0 of the last steps, the target, and whether it was missed; {} without one."""
        return self._sparsity.summary()

    def step(self, x: Batch, target: Batch | None = None) -> StepMetrics:
        """Moves the weights by one batch of activations in the model's units; `target` is what a transcoder writes.

        Both are [batch, width], tensors or numpy arrays. Raises ConfigError for anything else, DataError for NaN or
        infinity and MismatchError for another width; the weights then stay as they were.
        """
        self.advance(x, target)
        return self.metrics()

    def advance(self, x: Batch, target: Batch | None = None) -> None:
        """What `step` does, without its metrics: `metrics` has them.

        On a GPU nothing is waited for: a batch that is not finite leaves the weights alone, and `metrics` raises.
        """
        x, target = self._checked(x, target)
        if self.n_steps_done == 0:
            self._begin(x, target)
        x = self._normalisation.apply(x)
        wanted = x if target is None else self._normalisation.apply_to_output(target)
        out = self._sae.training_forward(x, wanted)
        error = out.error.detach()
        squared = error.square().sum(0)
        variance = wanted.var(0, correction=0).sum() * len(x)
        coefficient = self._sparsity.at(self.n_steps_done)
        fraction = 1.0 / variance.clamp(min=torch.finfo(x.dtype).tiny)
        unit = fraction if out.penalty is None else 1.0 / len(x)  # of one squared error in the loss
        loss = out.squared_error * unit
        if out.penalty is not None:
            loss = loss + coefficient * out.penalty
        aux: Tensor | None = None
        if self._waits or self.n_steps_done % self.config.log_every == 0:
            self._dead = self._firing_tracker.dead(self.config.dead_after)
        if self._sae.architecture.auxiliary_loss and self._dead.numel() and self._sae.config.aux_coefficient:
            aux = auxiliary_loss(self._sae, x, error, self._dead, self._k_aux)
            loss = loss + self._sae.config.aux_coefficient * unit / fraction * aux
        finite = torch.isfinite(loss.detach())
        if self._waits and not finite:
            raise loss_not_finite(float(loss.detach()), self.n_steps_done + 1)
        loss.backward()  # type: ignore[no-untyped-call]
        lr = learning_rate(
            self.n_steps_done,
            peak=self._peak,
            n_steps=self.config.n_steps,
            warmup_steps=self._warmup,
            decay_fraction=self.config.decay_fraction,
        )
        grad_norm = self._optimiser.step(lr, finite)
        self._tell_given()
        self._after(out, x, finite)
        self._last = {
            "loss": loss.detach(),
            "lr": lr,
            "grad_norm": grad_norm,
            "l0": out.counts.sum() / len(x),
            "squared": squared.sum(),
            "variance": variance,
            "aux_loss": 0.0 if aux is None else aux.detach(),
            "penalty": 0.0 if out.penalty is None else out.penalty.detach(),
            "coefficient": coefficient,
            "mse": (squared / self._normalisation.of_output[1].square()).sum() / len(x),
        }

    def metrics(self) -> StepMetrics:
        """The metrics of the last step; on a GPU the host waits for it here.

        Raises DataError there for a batch that was not finite since the metrics were last read.
        """
        if not self._last:
            raise ConfigError("no step was made yet", fix="call step(x), or advance(x) first")
        if not self._waits and (step := int(self._trouble)):
            self._trouble.zero_()
            raise loss_not_finite(float("nan"), step)
        f = {name: float(value) for name, value in self._last.items()}
        squared, variance = f.pop("squared"), f.pop("variance")
        return StepMetrics(
            step=self.n_steps_done,
            n_tokens=self.n_tokens_done,
            dead_features=self._dead.numel(),
            explained_variance=1.0 - squared / variance if variance > 0 else float("nan"),
            **f,
        )

    # ---- parts of a step ----------------------------------------------------------------------------------------

    def _checked(self, x: Batch, target: Batch | None) -> tuple[Tensor, Tensor | None]:
        x, target = as_batch(x), None if target is None else as_batch(target)
        check_batch(self._sae.config, x, target)
        x = self._taken(x)
        return x, None if target is None else self._taken(target)

    def _taken(self, x: Tensor) -> Tensor:
        x = x.detach().to(device=self.device, dtype=self._sae.W_enc.dtype)
        if self._waits:
            check_finite(x, self.n_steps_done + 1)
        return x

    @torch.no_grad()
    def _begin(self, x: Tensor, target: Tensor | None) -> None:
        """Takes normalisation and the first b_dec from the first batch."""
        sae = self._sae
        if self.config.normalise:
            self._normalisation = fit_normalisation(x, target, self._blocks)
        norm = self._normalisation
        read = norm.apply(x)
        wanted = read if target is None else norm.apply_to_output(target)
        if self._new:
            sae.b_dec.copy_(geometric_median(wanted))
        else:
            sae.load_state_dict(fold_normalisation(sae, norm.inverse()).state_dict())
        self._optimiser.begin(read, wanted)
        if self._new:
            sae.architecture.begin(sae)

    @torch.no_grad()
    def _after(self, out: TrainingForward, x: Tensor, finite: Tensor) -> None:
        """Bookkeeping: threshold, coefficient, dead features, counters."""
        n, n_steps = len(x), self.config.n_steps
        self._sae.architecture.after_step(self._sae, out, finite, self.n_steps_done, n_steps)
        self._sparsity.update(self.n_steps_done, out.counts.sum() / n)
        self.n_steps_done += 1
        self.n_tokens_done += n
        if not self._waits:
            first = torch.where(self._trouble == 0, self.n_steps_done, self._trouble)
            self._trouble = torch.where(finite, self._trouble, first)
        if self.n_steps_done == int((1 - DENSITY_FRACTION) * n_steps):
            self._firing_tracker.restart()
        self._firing_tracker.update(out.counts, n)
        every, last = self.config.resample_every, (1 - self.config.decay_fraction) * n_steps
        if every and self._sae.architecture.resampling and self.n_steps_done % every == 0 and self.n_steps_done <= last:
            resample(
                self._sae,
                self._optimiser.moments(),
                x,
                out.error.detach(),
                self._dead,
                self.config.seed + self.n_steps_done,
            )
            self._firing_tracker.n_silent[self._dead] = 0

    def _tell_given(self) -> None:
        """Lets the SAE that was given know that it is behind; it may be gone, as in `train`."""
        if (given := self._given()) is not None:
            given.update_when_read(self._write_into)

    @torch.no_grad()
    def _write_into(self, given: SAE) -> None:
        trained = self.sae
        for name, weight in trained.state_dict().items():
            getattr(given, name).copy_(weight)
        given.density = trained.density

    # ---- state --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_given": self._given()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has an SAE of its own: `trainer.sae`, or the one that was copied or pickled together with it."""
        given = state.pop("_given")
        vars(self).update(state)
        self._given = _nothing if given is None else weakref.ref(given)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to resume bit for bit; copies, so later steps do not change them."""
        state = {
            "sae_config": self._sae.config.to_dict(),
            "train_config": self.config.to_dict(),
            "n_steps_done": self.n_steps_done,
            "n_tokens_done": self.n_tokens_done,
            "new": self._new,
            "sae": self._sae.state_dict(),
            "adam": self._optimiser.state_dict(),
            "sparsity": self._sparsity.state_dict(),
            "normalisation": vars(self._normalisation),
            "n_silent": self._firing_tracker.n_silent,
            "n_fired": self._firing_tracker.n_fired,
            "n_counted": self._firing_tracker.n_counted,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from a saved state; MismatchError when it is of another configuration."""
        for name, now in (("sae_config", self._sae.config.to_dict()), ("train_config", self.config.to_dict())):
            if differs := difference(state[name], now):
                raise configuration_differs(*differs)
        state = copy.deepcopy(state)
        self.n_steps_done, self.n_tokens_done = state["n_steps_done"], state["n_tokens_done"]
        self._sae.load_state_dict(state["sae"])
        self._optimiser.load_state_dict(state["adam"])
        self._sparsity.load_state_dict(state["sparsity"])
        kept: dict[str, Any] = {n: None if v is None else v.to(self.device) for n, v in state["normalisation"].items()}
        self._normalisation, self._new = Normalisation(**kept), state["new"]
        self._firing_tracker.n_silent = state["n_silent"].to(self.device)
        self._firing_tracker.n_fired = state["n_fired"].to(self.device)
        self._firing_tracker.n_counted = state["n_counted"]
        self._tell_given()

    _repr_html_ = trainer_html


def _nothing() -> None:
    """In place of a reference to an SAE that is gone."""
