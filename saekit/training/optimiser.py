"""Adam within the constraints of an SAE: decoder rows of unit norm, a gradient of bounded norm.

Where decoder rows are held at unit norm, the part of the gradient along the row is taken out before Adam sees it. Rows
that come with other norms have them moved into the encoder first; where other features would be chosen then (topk and
batchtopk compare them), every row keeps the norm it has. The
epsilon is the 6.25e-10 of Gao et al. 2024: gradients of rare features are small. A matrix is moved as it lies in memory
(W_enc is the transpose of its storage) and the memory of its gradient is kept for the next one. On a GPU two kernels do
all of it (sae/triton); nothing is read back there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..sae import SAE, fold_decoder_norms
from ..sae import triton as triton_kernels
from ..sae.sparse import kernels

BETAS, EPS = (0.9, 0.999), 6.25e-10
UNIT = 1e-3  # how far from 1 a row's norm may be and count as 1: half precision in a file
SAME = 1e-3  # relative difference of two reconstructions that count as one


class Optimiser:
    """Moves the weights of one SAE, in place."""

    def __init__(self, sae: SAE, grad_clip: float) -> None:
        self._sae, self._grad_clip = sae, grad_clip
        trained = dict(sae.named_parameters())
        self._pace = {
            trained[name]: sae.architecture.lr_factor(name, sae.config) for name in sae.weight_names if name in trained
        }
        self._weights: list[Any] = list(self._pace)
        self._stored = {w: torch.nn.Parameter(_as_stored(w.detach())) for w in self._weights}
        groups = [{"params": [self._stored[w]], "pace": self._pace[w]} for w in self._weights]
        self.adam = torch.optim.Adam(groups, lr=0.0, betas=BETAS, eps=EPS, fused=True)
        self._keeps_norms = False

    def __getstate__(self) -> dict[str, Any]:
        return {"sae": self._sae, "grad_clip": self._grad_clip, "adam": self.adam.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy moves the weights of the SAE that was copied with it."""
        self.__init__(state["sae"], state["grad_clip"])  # type: ignore[misc]
        self.load_state_dict(state["adam"])

    @torch.no_grad()
    def begin(self, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]) -> None:
        """Makes decoder rows of other norms unit ones before the first step, in place, with the same reconstruction.

        They keep their norms where training would then choose other features than the SAE does at inference.
        """
        sae = self._sae
        if not sae.architecture.unit_decoder or _of_unit_norm(sae.W_dec):
            return
        as_is = copy.deepcopy(sae)
        as_is.matmul_dtype = torch.float32  # the rounding of a narrower type is no difference between the two
        folded = fold_decoder_norms(as_is)
        error = target - as_is.decode(as_is.encode_sparse(x), x)
        changed, kept = ((s.training_forward(x, target).error - error).norm() for s in (folded, as_is))
        if changed <= kept + SAME * (target - error).norm():
            sae.load_state_dict(folded.state_dict())
        self._keeps_norms = not _of_unit_norm(sae.W_dec)

    @torch.no_grad()
    def step(self, lr: float, finite: Bool[Tensor, ""]) -> Float[Tensor, ""]:
        """Takes the gradients into the weights, unless the batch was not finite; their norm before clipping."""
        sae, stored = self._sae, self._stored
        for weight, p in stored.items():
            p.grad = None if weight.grad is None else _as_stored(weight.grad)
        on_gpu = (
            kernels.on_gpu(sae.W_dec)
            and triton_kernels.available(sae.W_dec.device)
            and sae.W_dec.dtype == torch.float32
        )
        norm = self._by_kernels(lr, finite) if on_gpu else self._by_torch(lr, finite)
        for weight, p in stored.items():
            weight.spare, weight.grad, p.grad = weight.grad, None, None
        sae.architecture.constrain(sae)
        return norm

    def _by_torch(self, lr: float, finite: Tensor) -> Tensor:
        W_dec, p = self._sae.W_dec, self._stored[self._sae.W_dec]
        unit, kept = self._unit_rows, self._kept_norms()
        if p.grad is not None and (unit or kept is not None):
            _remove_along(p.grad, W_dec, kept)
        norm = torch.nn.utils.clip_grad_norm_(self._stored.values(), self._grad_clip)
        for group in self.adam.param_groups:
            group["lr"] = lr * group["pace"]
        if kernels.on_gpu(W_dec):
            self.adam.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.adam.step()
        if unit:
            W_dec.div_(torch.where(finite, W_dec.norm(dim=1, keepdim=True), 1.0))
        _restore(W_dec, kept)
        return norm

    def _by_kernels(self, lr: float, finite: Tensor) -> Tensor:
        W_dec, unit, kept = self._sae.W_dec, self._unit_rows, self._kept_norms()
        moved = [(w, p, p.grad) for w, p in self._stored.items() if p.grad is not None]
        if kept is not None and (grad := self._stored[W_dec].grad) is not None:
            _remove_along(grad, W_dec, kept)
        squares = [triton_kernels.project_(p, g) if unit and w is W_dec else g.square().sum() for w, p, g in moved]
        norm = torch.stack(squares).sum().sqrt()
        scale = (self._grad_clip / (norm + 1e-6)).clamp(max=1.0)
        for weight, p, grad in moved:
            state = self.adam.state[p]
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += finite
            triton_kernels.adam_(
                p.data,
                grad,
                state["exp_avg"],
                state["exp_avg_sq"],
                lr=lr * self._pace[weight],
                beta1=BETAS[0],
                beta2=BETAS[1],
                eps=EPS,
                step=state["step"],
                scale=scale,
                skip=~finite,
                unit_rows=unit and weight is W_dec,
            )
        _restore(W_dec, kept)
        return norm

    @property
    def _unit_rows(self) -> bool:
        return self._sae.architecture.unit_decoder and not self._keeps_norms

    def _kept_norms(self) -> Tensor | None:
        """The norms of decoder rows before a step, where they are kept and are not all 1."""
        return self._sae.W_dec.norm(dim=1, keepdim=True) if self._keeps_norms else None

    def moments(self) -> Mapping[Tensor, Mapping[str, Any]]:
        """Adam's memory of each weight, laid out by feature: exp_avg and exp_avg_sq; empty before the first step."""
        return {w: self.adam.state[p] for w, p in self._stored.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to resume."""
        return self.adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from a saved state; the SAE has its weights already."""
        self.adam.load_state_dict(state)
        self._keeps_norms = self._sae.architecture.unit_decoder and not _of_unit_norm(self._sae.W_dec)


def _of_unit_norm(W_dec: Tensor) -> bool:
    return bool(((W_dec.detach().norm(dim=1) - 1).abs() < UNIT).all())


def _remove_along(grad: Tensor, rows: Tensor, norm: Tensor | None) -> None:
    """Takes the part along each row out of its gradient, in place; `norm`: of the rows, None where it is 1."""
    along = torch.einsum("fd,fd->f", grad, rows)[:, None]
    if norm is not None:
        along = along / norm.square().clamp(min=torch.finfo(norm.dtype).tiny)
    grad.addcmul_(rows, along, value=-1.0)


def _restore(rows: Tensor, norm: Tensor | None) -> None:
    """Gives each row this norm again, in place; a row of zeros stays."""
    if norm is not None:
        rows.mul_(norm / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny))


def _as_stored(weight: Tensor) -> Tensor:
    """A matrix as it lies in memory."""
    return weight.T if weight.ndim == 2 and not weight.is_contiguous() else weight
