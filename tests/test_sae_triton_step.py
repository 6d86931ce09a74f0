"""Whole training steps through the kernels, against the steps a CPU takes."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.sae.sparse import kernels

from .triton_kernels import DEVICE, interpreted

__all__ = ["interpreted"]  # a fixture


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.slow
def test_three_steps_through_the_kernels_are_three_steps(activation, monkeypatch):
    g = torch.Generator().manual_seed(0)
    batches = [torch.randn(20, 16, generator=g) for _ in range(3)]
    runs = []
    for on_gpu in (False, True):
        monkeypatch.setattr(kernels, "on_gpu", lambda tensor, answer=on_gpu: answer)
        trainer = sk.Trainer(
            sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, activation=activation, k=3)),
            sk.TrainConfig(
                n_tokens=200,
                batch_size=20,
                matmul_dtype="float32",
                device=DEVICE.type if on_gpu else "cpu",
                dead_after_tokens=20,
                log_every=1,
            ),
        )
        runs.append(([trainer.step(x) for x in batches], trainer.finish()))
    (plain, sae), (fused, other) = runs
    assert (plain[0].loss, plain[0].grad_norm) == pytest.approx((fused[0].loss, fused[0].grad_norm), rel=1e-5)
    # Adam's first steps have the size of the rate whatever the gradient's, so its rounding shows from the second on
    assert [m.loss for m in plain] == pytest.approx([m.loss for m in fused], rel=5e-4)
    assert fused[-1].aux_loss > 0
    for name in sae.weight_names:
        torch.testing.assert_close(getattr(sae, name), getattr(other, name), rtol=0, atol=0.02)
