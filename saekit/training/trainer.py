"""One training step, for people with their own loop and for `train`.

A Trainer works on a copy of the SAE it is given, in normalised units; `trainer.sae` is that copy as anyone may have it,
with the normalisation folded into its weights. It knows nothing of models, text or files.

Choices: loss of topk and batchtopk is the unexplained share of the batch's variance plus the auxiliary loss of Gao et
al. 2024; their decoder rows stay at unit norm, with the part of the gradient along the row taken out before Adam sees
it. relu follows Anthropic's April 2024 update. Adam's epsilon is the 6.25e-10 of Gao et al.: gradients of rare features
are small.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError, MismatchError
from ..sae import SAE, TrainingForward, fold_decoder_norms, fold_normalisation, unfold_normalisation
from .config import TrainConfig, difference, peak_lr
from .dead import Silence, auxiliary_loss
from .metrics import StepMetrics
from .schedules import learning_rate, ramp

THRESHOLD_MEMORY = 100  # steps, or a twentieth of a short run, over which the batchtopk threshold is averaged
DENSITY_SHARE = 0.2  # firing frequencies are counted over the last fifth of a run


class Trainer:
    """Trains an SAE batch by batch; the SAE it was given stays as it is.

    An SAE whose biases are all zero counts as new, and its b_dec begins at the geometric median of the first batch.

    >>> trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=640, batch_size=64))
    >>> for _ in range(10):
    ...     metrics = trainer.step(torch.randn(64, sae.config.d_in))
    >>> metrics.step, metrics.l0, trainer.finish().config.d_sae
    (10, 4.0, 64)
    """

    def __init__(self, sae: SAE, config: TrainConfig) -> None:
        self.config = config
        self.device = config.torch_device
        self.n_steps_done = 0
        self.n_tokens_done = 0
        self._new = not bool(sae.b_enc.any()) and not bool(sae.b_dec.any())
        self._sae = copy.deepcopy(sae).to(self.device).requires_grad_(True)
        self._mean = torch.zeros_like(self._sae.b_dec, requires_grad=False)
        self._scale = 1.0
        self._weights = [self._sae.W_enc, self._sae.W_dec, self._sae.b_enc, self._sae.b_dec]
        self._adam = torch.optim.Adam(self._weights, lr=0.0, betas=(0.9, 0.999), eps=6.25e-10, fused=True)
        self._silence = Silence(sae.config.d_sae, self.device)
        self._peak = peak_lr(sae.config, config)
        n = config.n_steps
        self._warmup = min(1000, n // 20) if config.warmup_steps is None else config.warmup_steps
        self._k_aux = min(512, max(1, sae.config.d_in // 2))

    @property
    def sae(self) -> SAE:
        """The SAE as trained so far, normalisation folded in: features and x_hat in the model's units. A new copy."""
        out = self._sae if self._sae.rule.unit_decoder else fold_decoder_norms(self._sae)
        out = fold_normalisation(out, self._mean, self._scale).requires_grad_(False)
        density = self._silence.density()
        out.density = None if density is None else density.cpu()
        return out

    def finish(self) -> SAE:
        """The trained SAE on the CPU, normalisation folded in. The trainer may go on afterwards."""
        return self.sae.cpu()

    def step(self, x: Float[Tensor, "batch d_in"]) -> StepMetrics:
        """Moves the weights by one batch of activations in the model's units.

        Raises DataError for NaN or infinity and MismatchError for another width; the weights then stay as they were.
        """
        x = self._checked(x)
        if self.n_steps_done == 0:
            self._begin(x)
        x = (x - self._mean) * self._scale
        out = self._sae.training_forward(x)
        error = x - out.x_hat
        squared = error.square().sum()
        variance = float((x - x.mean(0)).square().sum())
        l1 = (out.total * self._sae.W_dec.norm(dim=1)).sum() / len(x) if self._is_relu else out.total.sum() / len(x)
        dead = self._silence.dead(self.config.dead_after)
        aux: Tensor | None = None
        if self._is_relu:
            rise = ramp(self.n_steps_done, n_steps=self.config.n_steps, share=self.config.l1_warmup_share)
            loss = squared / len(x) + self._sae.config.l1_coefficient * rise * l1
        else:
            loss = squared / max(variance, torch.finfo(x.dtype).tiny)
            if dead.numel() and self._sae.config.aux_coefficient:
                aux = auxiliary_loss(self._sae, x, error, dead, self._k_aux)
                loss = loss + self._sae.config.aux_coefficient * aux
        loss_value = float(loss.detach())
        if not torch.isfinite(loss.detach()):
            raise DataError(
                f"the loss is not finite at batch {self.n_steps_done + 1}", got=loss_value, accepted="a finite number",
                fix="the weights are as before this batch: lower lr, or look for activations of extreme size",
            )  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        lr, grad_norm = self._update()
        self._after(out, len(x))
        return StepMetrics(
            step=self.n_steps_done, n_tokens=self.n_tokens_done, loss=loss_value, lr=lr, grad_norm=grad_norm,
            mse=float(squared.detach()) / len(x) / self._scale**2, l0=float(out.counts.sum()) / len(x),
            explained_variance=1.0 - float(squared.detach()) / variance if variance > 0 else float("nan"),
            dead_features=dead.numel(), aux_loss=0.0 if aux is None else float(aux.detach()), l1=float(l1.detach()),
        )  # fmt: skip

    # ---- parts of a step ----------------------------------------------------------------------------------------

    @property
    def _is_relu(self) -> bool:
        return self._sae.config.activation == "relu"

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self._sae.config.d_in or not len(x):
            raise MismatchError(
                "a batch does not fit this SAE", got=tuple(x.shape), accepted=f"[batch, {self._sae.config.d_in}]",
                fix="pass activations of the hook point the SAE is for",
            )  # fmt: skip
        x = x.detach().to(device=self.device, dtype=self._sae.W_enc.dtype)
        finite = torch.isfinite(x).all(dim=1)
        if not bool(finite.all()):
            bad = (~finite).nonzero().squeeze(1)
            raise DataError(
                f"activations contain NaN or infinity in batch {self.n_steps_done + 1}",
                got=f"{bad.numel()} of {len(x)} tokens, the first at row {int(bad[0])}", accepted="finite numbers",
                fix="the weights are as before this batch: leave it out, or run the model in float32",
            )  # fmt: skip
        return x

    @torch.no_grad()
    def _begin(self, x: Tensor) -> None:
        """Takes normalisation and the first b_dec from the first batch."""
        if self.config.normalise:
            self._mean = x.mean(0)
            variance = (x - self._mean).square().sum(1).mean()
            self._scale = float((x.shape[1] / variance) ** 0.5) if variance > 0 else 1.0
        if self._new:
            self._sae.b_dec.copy_(geometric_median((x - self._mean) * self._scale))
        else:
            normalised = unfold_normalisation(self._sae, self._mean, self._scale)
            self._sae.load_state_dict(normalised.state_dict())

    @torch.no_grad()
    def _update(self) -> tuple[float, float]:
        """Adam's step within the constraints; the learning rate and the norm of the gradient."""
        W_dec = self._sae.W_dec
        if self._sae.rule.unit_decoder and W_dec.grad is not None:
            W_dec.grad.addcmul_(W_dec, (W_dec.grad * W_dec).sum(dim=1, keepdim=True), value=-1.0)
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self._weights, self.config.grad_clip))
        lr = learning_rate(
            self.n_steps_done, peak=self._peak, n_steps=self.config.n_steps, warmup_steps=self._warmup,
            decay_share=self.config.decay_share,
        )  # fmt: skip
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        if self._sae.rule.unit_decoder:
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))
        return lr, grad_norm

    def _after(self, out: TrainingForward, n: int) -> None:
        """Bookkeeping: threshold, silence, counters."""
        if self._sae.rule.has_threshold and out.smallest is not None:
            memory = min(THRESHOLD_MEMORY, max(1, self.config.n_steps // 20))
            share = 1.0 / min(self.n_steps_done + 1, memory)
            self._sae.threshold.lerp_(torch.full_like(self._sae.threshold, out.smallest), share)
        self.n_steps_done += 1
        self.n_tokens_done += n
        if self.n_steps_done == int((1 - DENSITY_SHARE) * self.config.n_steps):
            self._silence.restart()
        self._silence.update(out.counts, n)

    # ---- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on bit for bit; copies, so later steps do not change them."""
        state = {
            "sae_config": self._sae.config.to_dict(), "train_config": self.config.to_dict(),
            "n_steps_done": self.n_steps_done, "n_tokens_done": self.n_tokens_done,
            "sae": self._sae.state_dict(), "adam": self._adam.state_dict(), "mean": self._mean, "scale": self._scale,
            "new": self._new, "n_silent": self._silence.n_silent, "n_fired": self._silence.n_fired,
            "n_counted": self._silence.n_counted,
        }  # fmt: skip
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state; MismatchError when it is of another configuration."""
        for name, now in (("sae_config", self._sae.config.to_dict()), ("train_config", self.config.to_dict())):
            if differs := difference(state[name], now):
                raise configuration_differs(*differs)
        state = copy.deepcopy(state)
        self.n_steps_done, self.n_tokens_done = state["n_steps_done"], state["n_tokens_done"]
        self._sae.load_state_dict(state["sae"])
        self._adam.load_state_dict(state["adam"])
        self._mean, self._scale, self._new = state["mean"].to(self.device), state["scale"], state["new"]
        self._silence.n_silent = state["n_silent"].to(self.device)
        self._silence.n_fired = state["n_fired"].to(self.device)
        self._silence.n_counted = state["n_counted"]


def configuration_differs(name: str, saved: object, now: object) -> MismatchError:
    """The error for going on with a run under another configuration."""
    return MismatchError(
        f"a run with another {name} lies here, and going on would mix the two", got=f"{name} = {now}",
        accepted=f"{name} = {saved}",
        fix="pass the same configuration to go on, or another out= (resume=False starts anew)",
    )  # fmt: skip


@torch.no_grad()
def geometric_median(x: Float[Tensor, "n d_in"], n_iterations: int = 20) -> Float[Tensor, " d_in"]:
    """The point with the least sum of distances to the rows of x, by Weiszfeld's iteration from their mean.

    >>> geometric_median(torch.tensor([[0.0], [1.0], [1e6]])).round()
    tensor([1.])
    """
    median = x.mean(0)
    for _ in range(n_iterations):
        weight = 1.0 / (x - median).norm(dim=1).clamp(min=1e-6)
        median = (x * weight[:, None]).sum(0) / weight.sum()
    return median
