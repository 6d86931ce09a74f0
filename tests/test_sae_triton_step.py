"""Whole training steps through the kernels, against the steps a CPU takes, and through kernels that fail on the way."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.sae.sparse import kernels
from saekit.sae.triton import gate, isolation, outcome, reference, tiles

from .triton_kernels import DEVICE, adam, decode, interpreted, weight_grads

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


def right_until(call, error, monkeypatch):
    """The kernels' places are taken by their references, each of which raises `error` from the `call`-th call on.

    Where the error is one of memory, it raises in that call alone.
    """
    failed = []

    def replaced(name, plain):
        calls = []

        def kernel(*args, **options):
            calls.append(1)
            if len(calls) == call or (len(calls) > call and not isinstance(error, torch.OutOfMemoryError)):
                failed.append(name)
                raise error
            return plain(*args, **options)

        return kernel

    def decode_error(start, *rest):
        return reference.decode_error(*rest) if start is None else reference.decode_error_of_pairs(start, *rest)

    for module, name, plain in (
        (decode, "decode_error", decode_error),
        (weight_grads, "weight_grad", reference.weight_grad),
        (adam, "adam_", reference.adam_),
        (adam, "project_", reference.project_),
    ):
        monkeypatch.setattr(module, name, replaced(name, plain))
    return failed


@pytest.mark.usefixtures("interpreted")
@pytest.mark.skipif(DEVICE.type != "cpu", reason="failures are simulated here")
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("launch failed")])
def test_a_kernel_that_fails_in_a_run_costs_that_step_nothing(error, monkeypatch, tmp_path):
    """Short of memory, the same bits; after another failure the optimiser is torch's own, with the same moments."""
    g = torch.Generator().manual_seed(0)
    batches = [torch.randn(20, 16, generator=g) for _ in range(6)]
    monkeypatch.setattr(kernels, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(gate, "CHECKED", ("cpu", "cuda"))
    monkeypatch.setattr(tiles, "quickest", lambda *_: tiles.DENSE)
    one = outcome.KernelCheck(kernel="adam_", case="", difference=0.0, tolerance=0.0)
    monkeypatch.setattr(
        isolation, "check_in_own_process", lambda device, key: outcome.SelfCheck(key=key, checks=(one,))
    )
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    runs = []
    for fails in (10**9, 3):
        gate.forget()
        failed = right_until(fails, error, monkeypatch)
        config = sk.SAEConfig(d_in=16, d_sae=64, activation="topk", k=3)
        training = sk.TrainConfig(n_tokens=200, batch_size=20, matmul_dtype="float32", device="cpu", log_every=1)
        trainer = sk.Trainer(sk.SAE(config), training)
        if fails > 3:
            losses = [trainer.step(x).loss for x in batches]
        else:
            with pytest.warns(UserWarning, match="failed in use"):
                losses = [trainer.step(x).loss for x in batches]
        runs.append((losses, trainer.finish()))
    if isinstance(error, torch.OutOfMemoryError):
        assert set(failed) == {"decode_error", "weight_grad", "adam_", "project_"} and gate.available("cpu")
    else:
        assert len(failed) == 1 and not gate.available("cpu")
    (losses, sae), (others, other) = runs
    exact = isinstance(error, torch.OutOfMemoryError)
    assert losses == (others if exact else pytest.approx(others, rel=1e-4))
    for name in sae.weight_names:
        tolerance = 0.0 if exact else 1e-4
        torch.testing.assert_close(getattr(sae, name), getattr(other, name), rtol=0, atol=tolerance)
    gate.forget()
