"""Dead features: how long each has been silent, and the auxiliary loss that revives them."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.training.dead_features import FiringTracker, auxiliary_loss

from .test_training import sae_of, superposition


def with_dead_features():
    sae = sae_of("topk", d_sae=64)
    with torch.no_grad():
        sae.b_enc[40:] = -1e3
        sae.b_enc[40:44] = 0.5  # silent because they lose, not because they are negative
        sae.b_dec += 1.0
    return sae, torch.arange(40, 64)


def test_auxiliary_loss_matches_its_definition_and_does_not_count_b_dec():
    sae, dead = with_dead_features()
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    error = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc)[:, dead]
    kept = pre.relu() * (pre >= pre.topk(3, dim=1).values[:, -1:])
    want = (error - kept @ sae.W_dec[dead]).square().sum() / error.square().sum()
    got = auxiliary_loss(sae, x, error, dead, 3).detach()
    assert float(got) == pytest.approx(float(want.detach()), rel=1e-5)
    with torch.no_grad():  # nothing active: all of the error is left, whatever b_dec is
        sae.b_enc[dead] = -1e3
    assert float(auxiliary_loss(sae, x, error, dead, 3).detach()) == pytest.approx(1.0)


def test_auxiliary_loss_moves_dead_features_and_only_these():
    sae, dead = with_dead_features()
    generator = torch.Generator().manual_seed(0)
    x, error = (torch.randn(50, 16, generator=generator).requires_grad_() for _ in range(2))
    auxiliary_loss(sae, x, error, dead, 8).backward()
    for grad in (sae.W_enc.grad.T, sae.W_dec.grad, sae.b_enc.grad[:, None]):
        assert not grad[:40].any()
        assert bool((grad[40:44].abs().amax(dim=1) > 0).all())
    assert sae.b_dec.grad is None
    assert x.grad is None
    assert error.grad is None


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.slow
def test_auxiliary_loss_revives_dead_features_in_training(activation):
    last = {}
    for coefficient in (0.0, 1 / 32):
        batch, _ = superposition(n_features=64)
        config = sk.TrainConfig(n_tokens=300 * 256, batch_size=256, lr=3e-3, dead_after_tokens=2560)
        trainer = sk.Trainer(sae_of(activation, aux_coefficient=coefficient), config)
        trainer.step(batch())
        with torch.no_grad():
            trainer._sae.W_enc[:, 32:] *= 0.02  # too weak ever to be among the largest
        metrics = [trainer.step(batch()) for _ in range(299)]
        assert metrics[20].dead_features == 32
        last[coefficient] = metrics[-1]
    assert last[0.0].dead_features > 28
    assert last[1 / 32].dead_features < 20
    assert last[1 / 32].explained_variance > last[0.0].explained_variance + 0.01


def test_silence_counts_tokens_since_a_feature_fired():
    silence = FiringTracker(3, torch.device("cpu"))
    silence.update(torch.tensor([1, 0, 0]), 10)
    silence.update(torch.tensor([0, 2, 0]), 10)
    assert silence.n_silent.tolist() == [10, 0, 20]
    assert silence.dead(20).tolist() == [2]
    assert silence.density().tolist() == pytest.approx([0.05, 0.1, 0])
    silence.restart()
    assert silence.density() is None
    assert silence.n_silent.tolist() == [10, 0, 20]


def test_dead_counts_follow_the_configured_span():
    batch, _ = superposition()
    sae = sae_of("topk", aux_coefficient=0.0)
    with torch.no_grad():
        sae.b_dec += 1e-3
        sae.b_enc[60:] = -1e4
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=2560, batch_size=256, dead_after_tokens=512))
    counts = [trainer.step(batch()).dead_features for _ in range(4)]
    assert counts[:2] == [0, 0]  # before step 3 nothing has been silent for 512 tokens
    assert counts[2] >= 4
