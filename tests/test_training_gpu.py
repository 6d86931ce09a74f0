"""The GPU's route through a training step, on CPU tensors: the same numbers, and nothing that makes a host wait.

`on_gpu` is made to return True, so everything that depends on the device goes the GPU's way, with the kernels'
references in plain PyTorch; tests/test_sae_fused.py holds the kernels themselves to these references.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

import saekit as sk
from saekit.errors import DataError
from saekit.sae.sparse import kernels

N, D_IN, D_SAE = 64, 24, 128
KINDS = {
    "topk": {"activation": "topk", "k": 4},
    "multi-k": {"activation": "topk", "k": 4, "multi_k_coefficient": 0.125},
    "batchtopk": {"activation": "batchtopk", "k": 4},
    "matryoshka": {"activation": "batchtopk", "k": 4, "matryoshka": (32, 128)},
    "jumprelu": {"activation": "jumprelu", "target_l0": 4.0},
    "gated": {"activation": "gated", "target_l0": 4.0},
    "relu": {"activation": "relu", "target_l0": 4.0},
    "kl": {"activation": "kl"},
}


def take_the_gpus_route(monkeypatch):
    monkeypatch.setattr(kernels, "on_gpu", lambda tensor: True)


def batches(n, n_tokens=N):
    g = torch.Generator().manual_seed(0)
    directions = torch.randn(60, D_IN, generator=g)
    return [(torch.randn(n_tokens, 60, generator=g) - 1.3).relu() @ directions for _ in range(n)]


def trainer_of(kind, **changes):
    options = {"n_tokens": 100 * N, "batch_size": N, "matmul_dtype": "float32", "dead_after_tokens": 3 * N, **changes}
    return sk.Trainer(sk.SAE(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, **KINDS[kind])), sk.TrainConfig(**options))


@pytest.mark.parametrize("kind", KINDS)
def test_both_routes_train_the_same_sae(kind, monkeypatch):
    runs = []
    for gpu in (False, True):
        if gpu:
            take_the_gpus_route(monkeypatch)
        trainer = trainer_of(kind, log_every=1)
        metrics = [trainer.step(x) for x in batches(25)]
        runs.append((metrics, trainer.finish()))
    (plain, sae), (other, other_sae) = runs
    for name in ("loss", "l0", "explained_variance", "grad_norm", "aux_loss", "coefficient", "mse"):
        a, b = ([getattr(m, name) for m in run] for run in (plain, other))
        assert a == pytest.approx(b, rel=2e-4, abs=1e-6), name
    assert max(m.aux_loss for m in other) > 0 or "topk" not in sae.config.activation  # it took part
    for name in sae.weight_names:
        torch.testing.assert_close(getattr(sae, name), getattr(other_sae, name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_makes_no_host_wait(kind, monkeypatch):
    """Fake tensors have no values: whoever asks for one is caught."""
    take_the_gpus_route(monkeypatch)
    trainer = trainer_of(kind)
    x = batches(2)
    trainer.advance(x[0])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        trainer.advance(mode.from_tensor(x[1]))


def test_fake_tensors_catch_who_waits():
    with FakeTensorMode() as mode:
        x = mode.from_tensor(torch.ones(3))
        with pytest.raises(DataDependentOutputException):
            float(x.sum())
        with pytest.raises(DynamicOutputShapeException):
            x.nonzero()


def test_a_batch_that_is_not_finite_leaves_the_weights_alone_and_is_reported_when_metrics_are_read(monkeypatch):
    take_the_gpus_route(monkeypatch)
    trainer = trainer_of("batchtopk")
    good = batches(4)
    trainer.advance(good[0])
    trainer.advance(good[1])
    before = {name: w.clone() for name, w in trainer._sae.state_dict().items()}
    bad = good[2].clone()
    bad[5, 3] = torch.nan
    trainer.advance(bad)
    for name, weight in trainer._sae.state_dict().items():
        assert torch.equal(weight, before[name]), name
    trainer.advance(good[3])
    assert not torch.equal(trainer._sae.W_dec, before["W_dec"])
    with pytest.raises(DataError, match=r"not finite at batch 3\n"):
        trainer.metrics()
    assert math.isfinite(trainer.metrics().loss)  # said once


def test_products_in_bfloat16_stay_close(monkeypatch):
    take_the_gpus_route(monkeypatch)
    ends = []
    for matmul_dtype in ("float32", "bfloat16"):
        trainer = trainer_of("topk", matmul_dtype=matmul_dtype)
        ends.append([trainer.step(x).explained_variance for x in batches(60)][-1])
    assert ends[0] == pytest.approx(ends[1], abs=0.02)
    assert ends[0] != ends[1]
