"""The fingerprint is hashed once for as long as the weights stay, and again after any change of them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle

import pytest
import torch

import saekit as sk


@pytest.fixture
def hashes(monkeypatch):
    """How often something was hashed."""
    made, plain = [], hashlib.sha256
    monkeypatch.setattr("hashlib.sha256", lambda *a: made.append(1) or plain(*a))
    return made


@pytest.fixture
def sae():
    return sk.SAE(sk.SAEConfig(d_in=8, d_sae=32, activation="gated"))


def test_a_second_call_does_not_hash(sae, hashes):
    first = sae.fingerprint
    assert [sae.fingerprint for _ in range(3)] == [first] * 3 and len(hashes) == 1
    sae.encode(torch.zeros(2, 8))
    sae.eval().requires_grad_(False)
    assert sae.fingerprint == first and len(hashes) == 1


def test_a_change_of_one_weight_in_place_is_another_fingerprint(sae):
    seen = [sae.fingerprint]
    for name in (*sae.weight_names, "threshold"):
        with torch.no_grad():
            weight = getattr(sae, name)
            weight[(0,) * weight.ndim] += 1
        seen.append(sae.fingerprint)
    assert len(set(seen)) == len(seen)


def test_writes_that_torch_does_not_count_are_noticed(sae):
    seen = [sae.fingerprint]
    sae.W_dec.data[3] *= -1
    seen.append(sae.fingerprint)
    sae.W_dec.data[[5, 6]] = sae.W_dec.data[[6, 5]]
    seen.append(sae.fingerprint)
    sae.W_enc.detach().numpy()[2, 7] *= 1 + 1e-7
    seen.append(sae.fingerprint)
    assert len(set(seen)) == len(seen)


def test_an_optimisers_step_loading_and_moves_are_noticed(sae):
    seen = [sae.fingerprint]
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(sae.parameters(), fused=True)
    sae.training_forward(x).squared_error.backward()
    adam.step()
    seen.append(sae.fingerprint)
    sae.load_state_dict({name: weight + 1 for name, weight in sae.state_dict().items()})
    seen.append(sae.fingerprint)
    sae.to(torch.bfloat16)
    seen.append(sae.fingerprint)
    sae.b_dec = torch.nn.Parameter(sae.b_dec.detach() + 1)
    seen.append(sae.fingerprint)
    sae.config = dataclasses.replace(sae.config, apply_b_dec_to_input=False)
    seen.append(sae.fingerprint)
    assert len(set(seen)) == len(seen)
    assert seen == [*seen[:-1], fresh(sae)]


def fresh(sae):
    return copy.deepcopy(sae).fingerprint


def test_a_trainers_sae_has_another_fingerprint_after_every_step(sae):
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=640, batch_size=64))
    generator = torch.Generator().manual_seed(0)
    seen = [sae.fingerprint]
    for _ in range(3):
        trainer.step(torch.randn(64, 8, generator=generator))
        seen.append(trainer.sae.fingerprint)
    assert len(set(seen)) == 4 and sae.fingerprint == seen[-1]


def test_an_sae_can_be_pickled_after_it_was_hashed(sae):
    before = sae.fingerprint
    assert pickle.loads(pickle.dumps(sae)).fingerprint == before


def test_a_copy_is_hashed_by_itself(sae):
    before = sae.fingerprint
    other = copy.deepcopy(sae)
    assert other.fingerprint == before
    with torch.no_grad():
        other.W_dec[0, 0] += 1
    assert other.fingerprint != before and sae.fingerprint == before
