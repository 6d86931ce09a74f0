"""Trainer.step: what it minimises, what it keeps fixed, what it refuses, and that it finds features."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import saekit as sk
from saekit.errors import DataError, MismatchError
from saekit.sae.architectures import with_option

LOSSES = Path(__file__).parent / "assets" / "losses"
ARCHITECTURES = ["relu", "topk", "batchtopk"]


def sae_of(activation="topk", d_in=16, d_sae=64, k=4, **fields):
    k = k if activation.endswith("topk") else None
    if k is not None:
        fields.pop("sparsity_coefficient", None)
    return sk.SAE(sk.SAEConfig(d_in=d_in, d_sae=d_sae, activation=activation, k=k, **fields))


def superposition(d_in=16, n_features=32, active=2.0, seed=0):
    """A stream of batches made of known directions, a few at a time, far from the origin and off scale."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n_features, d_in, generator=generator), dim=1)
    centre = 3 * torch.randn(d_in, generator=generator)

    def batch(n=256):
        on = torch.rand(n, n_features, generator=generator) < active / n_features
        size = 1 + torch.rand(n, n_features, generator=generator)
        return 20 * ((on * size) @ directions + centre)

    return batch, directions


def trained(activation="topk", steps=30, config=None, batch_size=256, **fields):
    batch, _ = superposition()
    config = config or sk.TrainConfig(n_tokens=steps * batch_size, batch_size=batch_size, lr=2e-3)
    trainer = sk.Trainer(sae_of(activation, **fields), config)
    metrics = [trainer.step(batch(batch_size)) for _ in range(steps)]
    return trainer, metrics, batch


def golden_run(activation):
    """The run whose losses are kept; relu at a fixed weight, Anthropic's."""
    return trained(activation, steps=60, d_sae=96, sparsity_coefficient=5.0)


# ---- it learns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "l1"), [("relu", 2.0), ("topk", 5.0), ("batchtopk", 5.0)])
@pytest.mark.slow
def test_known_features_are_found(activation, l1):
    batch, directions = superposition(d_in=32, n_features=64, active=3.0)
    sae = sae_of(activation, d_in=32, d_sae=64, k=3, sparsity_coefficient=l1)
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=2000 * 256, batch_size=256, lr=3e-3))
    for _ in range(2000):
        metrics = trainer.step(batch())
    found = trainer.finish()
    cosine = directions @ found.W_dec.T
    assert float(cosine.max(dim=1).values.mean()) > 0.9
    assert metrics.explained_variance > 0.8


@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_losses_are_those_of_the_golden_file(activation):
    """The loss curve on a seeded stream. After a change that is meant: `python -m tests.rewrite_losses`."""
    lines = (LOSSES / f"{activation}.txt").read_text().split()
    _, metrics, _ = golden_run(activation)
    assert [m.loss for m in metrics] == pytest.approx([float(v) for v in lines], rel=1e-4)


# ---- units and constraints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_every_sae_that_leaves_is_in_the_models_units_with_unit_rows(activation):
    trainer, metrics, batch = trained(activation, steps=200, sparsity_coefficient=1.0)
    x = batch(2000)
    for sae in (trainer.sae, trainer.finish()):
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64), rtol=1e-5, atol=1e-5)
        error = (x - sae(x).x_hat).square().sum()
        variance = (x - x.mean(0)).square().sum()
        assert float(1 - error / variance) == pytest.approx(metrics[-1].explained_variance, abs=0.1)
        assert float(error) / len(x) == pytest.approx(metrics[-1].mse, rel=0.3)


def test_the_batchtopk_threshold_gives_k_features_per_token_at_inference():
    trainer, _, batch = trained("batchtopk", steps=300)
    sae = trainer.finish()
    assert sae.threshold.unique().numel() == 1
    assert float(sae.threshold[0]) > 0
    assert float((sae.encode(batch(4000)) != 0).sum(1).float().mean()) == pytest.approx(4, rel=0.15)


def test_the_batchtopk_threshold_is_a_running_mean_of_the_smallest_kept(monkeypatch):
    batch, _ = superposition()
    trainer = sk.Trainer(sae_of("batchtopk"), sk.TrainConfig(n_tokens=400 * 64, batch_size=64))
    smallest = []
    forward = trainer._sae.training_forward

    def recorded(*batch):
        smallest.append(float(forward(*batch).smallest))
        return forward(*batch)

    monkeypatch.setattr(trainer._sae, "training_forward", recorded)
    for _ in range(5):
        trainer.step(batch(64))
    assert len(set(smallest)) == 5
    assert float(trainer._sae.threshold[0]) == pytest.approx(sum(smallest) / 5, rel=1e-5)


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_the_gradient_along_a_decoder_row_is_removed(activation, monkeypatch):
    seen = {}
    trainer, _, batch = trained(activation, steps=3)
    before = trainer._sae.W_dec.detach().clone()
    monkeypatch.setattr(trainer._optimiser.adam, "step", lambda: seen.update(grad=trainer._sae.W_dec.grad.clone()))
    trainer.step(batch())
    along = (seen["grad"] * before).sum(1)
    assert float(seen["grad"].norm()) > 1e-6
    assert float(along.abs().max()) < 1e-6 * float(seen["grad"].norm())


def test_relu_penalty_is_weighted_by_decoder_norms_and_ramped():
    batch, _ = superposition()
    config = sk.TrainConfig(n_tokens=100 * 256, batch_size=256, sparsity_warmup_fraction=0.1)
    trainer = sk.Trainer(sae_of("relu", sparsity_coefficient=3.0), config)
    for step in range(15):
        x = batch()
        if step == 0:
            assert trainer.step(x).loss > 0
            continue
        z = trainer._normalisation.apply(x)
        inner = trainer._sae(z)
        mse = (z - inner.x_hat).square().sum(1).mean()
        l1 = (inner.feature_acts * trainer._sae.W_dec.norm(dim=1)).sum(1).mean()
        want = float((mse + 3.0 * min(1.0, step / 10) * l1).detach())
        metrics = trainer.step(x)
        assert metrics.loss == pytest.approx(want, rel=1e-4)
        assert metrics.penalty == pytest.approx(float(l1.detach()), rel=1e-4)


def test_normalised_activations_have_mean_square_d_in():
    trainer, _, batch = trained(steps=1)
    z = trainer._normalisation.apply(batch(5000))
    assert float(z.square().sum(1).mean()) == pytest.approx(16, rel=0.1)


def test_explained_variance_is_zero_for_the_mean_and_never_inflated():
    """Subtracting mean(x^2) in place of mean(x)^2 makes a useless SAE look good: data far from the origin shows it."""
    batch, _ = superposition()
    sae = sae_of("relu", sparsity_coefficient=0.0)
    with torch.no_grad():
        sae.W_dec.zero_()
        x = batch(512)
        sae.b_dec.copy_(x.mean(0))
    metrics = sk.Trainer(sae, sk.TrainConfig(n_tokens=512, batch_size=512, normalise=False)).step(x)
    assert metrics.explained_variance == pytest.approx(0.0, abs=1e-5)
    assert metrics.mse == pytest.approx(float((x - x.mean(0)).square().sum(1).mean()), rel=1e-4)


@pytest.mark.parametrize("activation", sorted(sk.sae.ARCHITECTURES))
def test_the_sae_that_was_given_is_the_trained_one_after_every_step(activation):
    """However it is looked at: by attribute, as parameters, through a parent, saved, copied, moved or written to."""
    sae = sk.SAE(
        sk.SAEConfig(d_in=16, d_sae=64, activation=activation, k=4 if activation in with_option("k") else None)
    )
    batch, _ = superposition()
    parent = torch.nn.ModuleDict({"sae": sae})
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=3072, batch_size=256, lr=2e-3))
    looks = [
        lambda s: {n: getattr(s, n) for n in s.weight_names},
        lambda s: dict(s.named_parameters()) | dict(s.named_buffers()),
        lambda s: s.state_dict(),
        lambda s: copy.deepcopy(s).state_dict(),
        lambda s: s.to("cpu", torch.float32).__dict__["_parameters"],
        lambda s: [s.load_state_dict({}, strict=False), s.__dict__["_parameters"]][1],
        lambda s: {n.removeprefix("sae."): p for n, p in parent.named_parameters()},
        lambda s: {n.removeprefix("sae."): b for n, b in parent.named_buffers()},
        lambda s: {n.removeprefix("sae."): p for n, p in parent.state_dict().items()},
        lambda s: dict(zip((n for n, _ in s.named_parameters()), parent.parameters(), strict=True)),
    ]
    for look in looks:
        x = batch()
        trainer.step(x)
        seen, now = look(sae), trainer.sae
        assert all(torch.equal(seen[n], getattr(now, n)) for n in seen if n in now.weight_names)
        assert torch.equal(sae.encode(x), now.encode(x))
    trainer.step(batch())
    assert torch.equal(sae.density, trainer.sae.density)
    assert not any(p.requires_grad for p in sae.parameters())


def test_what_is_written_into_the_given_sae_after_the_last_step_stays():
    sae, (batch, _) = sae_of(), superposition()
    trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=1024, batch_size=256))
    trainer.step(batch())
    sae.b_dec = torch.nn.Parameter(torch.ones(16), requires_grad=False)
    assert torch.equal(sae.W_dec, trainer.sae.W_dec) and bool((sae.b_dec == 1).all())


def test_a_copy_of_the_moment_stays_and_a_resumed_trainer_takes_its_sae_along():
    (batch, _), config = superposition(), sk.TrainConfig(n_tokens=1024, batch_size=256)
    trainer = sk.Trainer(sae_of(), config)
    trainer.step(batch())
    first, state = trainer.sae, trainer.state_dict()
    trainer.step(batch())
    assert first.fingerprint != trainer.sae.fingerprint
    sk.Trainer(sae := sae_of(), config).load_state_dict(state)
    assert sae.fingerprint == first.fingerprint


@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_a_trained_sae_can_be_trained_further(activation):
    trainer, metrics, batch = trained(activation, steps=300)
    config = sk.TrainConfig(n_tokens=2560, batch_size=256, lr=1e-6, sparsity_warmup_fraction=0)
    again = sk.Trainer(trainer.finish(), config)
    assert again.step(batch()).explained_variance == pytest.approx(metrics[-1].explained_variance, abs=0.08)


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_activations_name_the_batch_and_leave_the_weights(value):
    trainer, _, batch = trained(steps=4)
    before = copy.deepcopy(trainer.state_dict())
    x = batch()
    x[17, 3] = value
    with pytest.raises(DataError, match=r"NaN or infinity in batch 5\n.*1 of 256 tokens, the first at row 17"):
        trainer.step(x)
    after = trainer.state_dict()
    for name, weight in before["sae"].items():
        assert torch.equal(weight, after["sae"][name])
    assert after["n_steps_done"] == 4
    trainer.step(batch())


def test_a_loss_that_overflows_leaves_the_weights():
    trainer, _, batch = trained(steps=2, config=sk.TrainConfig(n_tokens=2560, batch_size=256, normalise=False))
    before = trainer.sae.fingerprint
    with pytest.raises(DataError, match="the loss is not finite at batch 3"):
        trainer.step(batch() * 1e30)
    assert trainer.sae.fingerprint == before


def test_batches_that_do_not_fit():
    trainer = sk.Trainer(sae_of(), sk.TrainConfig(n_tokens=512, batch_size=256))
    for x in (torch.zeros(4, 8), torch.zeros(2, 4, 16), torch.zeros(0, 16)):
        with pytest.raises(MismatchError, match=r"a batch does not fit this SAE\n.*\n.*\[batch, 16\]"):
            trainer.step(x)


# ---- state and schedules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_state_goes_on_bit_for_bit_and_is_a_copy(activation):
    trainer, _, batch = trained(activation, steps=20)
    state = trainer.state_dict()
    rest = [batch() for _ in range(10)]
    for x in rest:
        trainer.step(x)
    again = sk.Trainer(sae_of(activation), trainer.config)
    assert again.sae.fingerprint != trainer.sae.fingerprint
    again.load_state_dict(state)
    for x in rest:
        again.step(x)
    assert again.sae.fingerprint == trainer.sae.fingerprint
    assert torch.equal(again._firing_tracker.n_silent, trainer._firing_tracker.n_silent)


def test_state_of_another_configuration_is_refused():
    trainer, _, _ = trained(steps=2)
    other = sk.Trainer(sae_of(), sk.TrainConfig(n_tokens=512, batch_size=256, lr=9.0))
    with pytest.raises(MismatchError, match=r"a run with another lr lies here[\s\S]*lr = 9.0\n.*lr = 0.002"):
        other.load_state_dict(trainer.state_dict())
    other = sk.Trainer(sae_of(k=5), trainer.config)
    with pytest.raises(MismatchError, match=r"another k lies here"):
        other.load_state_dict(trainer.state_dict())


def test_learning_rate_rises_holds_and_falls():
    config = sk.TrainConfig(n_tokens=100 * 64, batch_size=64, lr=1e-3, warmup_steps=10, decay_fraction=0.2)
    trainer = sk.Trainer(sae_of(), config)
    batch, _ = superposition()
    lrs = [trainer.step(batch(64)).lr for _ in range(100)]
    assert lrs[0] == pytest.approx(1e-4)
    assert lrs[9:80] == pytest.approx([1e-3] * 71)
    assert lrs[99] == pytest.approx(1e-3 / 20)


def test_metrics_read_well():
    _, metrics, _ = trained(steps=1)
    assert str(metrics[0]).startswith("step 1: loss ")
    assert metrics[0].to_dict()["n_tokens"] == 256
