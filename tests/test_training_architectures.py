"""Trainer.step for every architecture: features are found, L0 is what was asked for, the dead come back."""

from __future__ import annotations

import copy

import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, MismatchError
from saekit.training.dead_features import resample
from saekit.training.sparsity import SparsityController

TRUTH = sk.synthetic.independent(d_model=24, n_features=48, n_active=2.5, directions="spread")
KINDS = {
    "relu": {"activation": "relu", "target_l0": 3.0},
    "kl": {"activation": "kl", "target_l0": 3.0},
    "topk": {"activation": "topk", "k": 3},
    "topk multi-k": {"activation": "topk", "k": 3, "multi_k_coefficient": 0.125},
    "batchtopk": {"activation": "batchtopk", "k": 3},
    "batchtopk matryoshka": {"activation": "batchtopk", "k": 3, "matryoshka": (24, 48)},
    "jumprelu linear": {"activation": "jumprelu", "target_l0": 3.0},
    "jumprelu quadratic": {"activation": "jumprelu", "target_l0": 3.0, "l0_penalty": "quadratic"},
    "gated": {"activation": "gated", "target_l0": 3.0},
}
CPU = torch.device("cpu")
BATCH = 256


def trainer_of(name, n_steps=1500, seed=0, **settings):
    sae = sk.SAE(sk.SAEConfig(d_in=24, d_sae=48, seed=seed, **KINDS[name]))
    return sk.Trainer(sae, sk.TrainConfig(n_tokens=n_steps * BATCH, batch_size=BATCH, **settings))


@pytest.fixture(scope="module")
def trained():
    """Every architecture after the same 1,500 batches, by its own learning rate; made when first asked for."""
    done = {}

    def get(name):
        if name not in done:
            trainer, batches = trainer_of(name), TRUTH.batches(BATCH)
            metrics = [trainer.step(next(batches)) for _ in range(1500)]
            done[name] = trainer, metrics
        return done[name]

    return get


def test_every_architecture_is_among_these():
    assert {fields["activation"] for fields in KINDS.values()} == set(sk.sae.ARCHITECTURES)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_known_features_are_found_by_every_architecture(name, trained):
    found = sk.recovery(trained(name)[0].finish(), TRUTH, n_tokens=8192)
    assert found.mean_max_cosine > (0.9 if name in ("batchtopk matryoshka", "jumprelu quadratic") else 0.96)
    assert found.silent <= 3
    chance = sk.recovery(sk.SAE(sk.SAEConfig(d_in=24, d_sae=48, **KINDS[name])), TRUTH, n_tokens=2048)
    assert chance.mean_max_cosine < 0.7


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_the_sae_that_leaves_has_unit_rows_and_the_l0_that_was_asked_for(name, trained):
    sae = trained(name)[0].finish()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48), rtol=1e-5, atol=1e-5)
    x = torch.cat([next(batch) for batch in [TRUTH.batches(4096, seed=5)] * 4])
    l0 = float((sae.encode(x) != 0).sum(1).float().mean())
    tolerance = 0.02 if "batchtopk" in name else 0.10
    assert l0 == pytest.approx(3.0, rel=tolerance)


@pytest.mark.slow
def test_only_penalised_architectures_report_a_penalty(trained):
    for name in KINDS:
        last = trained(name)[1][-1]
        assert (last.penalty > 0 and last.coefficient > 0) == ("topk" not in name)


@pytest.mark.slow
def test_l1_shrinks_and_topk_does_not(trained):
    """The relative reconstruction bias: what L1 costs in strength, and what architectures without it do not pay."""
    bias = {
        n: sk.recovery(trained(n)[0].finish(), TRUTH, n_tokens=8192).shrinkage
        for n in ("relu", "topk", "batchtopk", "gated")
    }
    assert bias["relu"] < 0.9
    assert all(abs(bias[n] - 1) < 0.02 for n in ("topk", "batchtopk", "gated")), bias


@pytest.mark.slow
def test_matryoshka_prefixes_reconstruct_on_their_own(trained):
    """Half of the features leave less error than half of the features of an SAE without prefixes."""
    x = next(TRUTH.batches(4096, seed=6))

    def error(name):
        sae = trained(name)[0].finish()
        acts = sae.encode(x)
        acts[:, 24:] = 0
        return float((x - sae.decode(acts)).square().sum())

    assert error("batchtopk matryoshka") < 0.9 * error("batchtopk")


@pytest.mark.parametrize("name", KINDS)
def test_going_on_from_a_state_is_bit_for_bit(name):
    batches = [next(b) for b in [TRUTH.batches(BATCH, seed=2)] * 20]
    whole, half = (trainer_of(name, n_steps=20, resample_every=4, dead_after_tokens=512) for _ in range(2))
    for x in batches[:9]:
        half.step(x)
    again = trainer_of(name, n_steps=20, resample_every=4, dead_after_tokens=512)
    again.load_state_dict(half.state_dict())
    metrics = [whole.step(x) for x in batches]
    assert [again.step(x) for x in batches[9:]] == metrics[9:]
    assert again.finish().fingerprint == whole.finish().fingerprint


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.slow
def test_a_finished_sae_goes_on_where_it_was(name, trained):
    trainer, metrics = trained(name)
    config = sk.TrainConfig(n_tokens=10 * BATCH, batch_size=BATCH, lr=1e-7, sparsity_warmup_fraction=0)
    sae = trainer.finish()
    again = sk.Trainer(sae, config)
    first = again.step(next(TRUTH.batches(BATCH, seed=9)))
    assert first.explained_variance == pytest.approx(metrics[-1].explained_variance, abs=0.08)
    if "batchtopk" not in name:  # in training it looks at a batch
        x = next(TRUTH.batches(512, seed=10))
        torch.testing.assert_close(again.sae.encode(x), sae.encode(x), rtol=1e-3, atol=1e-3)


# ---- the weight of the penalty ------------------------------------------------------------------------------------


def test_the_coefficient_stays_where_no_target_is_given_and_rises_over_the_warm_up():
    config = sk.SAEConfig(d_in=4, d_sae=8, activation="relu", sparsity_coefficient=3.0)
    sparsity = SparsityController(
        config, sk.TrainConfig(n_tokens=1000, batch_size=10, sparsity_warmup_fraction=0.1), CPU
    )
    assert [sparsity.at(step) for step in (0, 5, 10, 99)] == [0.0, 1.5, 3.0, 3.0]
    sparsity.update(50, torch.tensor(8.0))
    assert sparsity.at(99) == 3.0


@pytest.mark.parametrize(("l0", "direction"), [(40.0, 1), (1.0, -1)])
def test_the_coefficient_grows_with_too_many_features_and_shrinks_with_too_few(l0, direction):
    config = sk.SAEConfig(d_in=4, d_sae=80, activation="gated", target_l0=8.0)
    sparsity = SparsityController(config, sk.TrainConfig(n_tokens=1000, batch_size=10), CPU)
    for step in range(100):
        sparsity.update(step, torch.tensor(l0))
    assert sparsity.coefficient > 2.0 if direction > 0 else sparsity.coefficient < 0.5


def test_the_quadratic_penalty_is_left_alone():
    config = sk.SAEConfig(d_in=4, d_sae=80, activation="jumprelu", target_l0=8.0, l0_penalty="quadratic")
    sparsity = SparsityController(config, sk.TrainConfig(n_tokens=1000, batch_size=10), CPU)
    for step in range(100):
        sparsity.update(step, torch.tensor(40.0))
    assert sparsity.coefficient == 8.0  # 2 d_in


# ---- resampling ---------------------------------------------------------------------------------------------------


def test_resampling_points_dead_features_at_large_errors_and_forgets_their_moments():
    sae = sk.SAE(sk.SAEConfig(d_in=4, d_sae=6, activation="relu"))
    adam = torch.optim.Adam(list(sae.parameters()), lr=1e-3)
    sae.training_forward(torch.randn(32, 4)).squared_error.backward()
    adam.step()
    with torch.no_grad():
        sae.b_enc += 1.0
    before = copy.deepcopy(sae.state_dict())
    error = torch.zeros(10, 4)
    error[7] = torch.tensor([0.0, 3.0, 4.0, 0.0])
    dead = torch.tensor([1, 4])
    moments = {
        w: {name: m.T if w is sae.W_enc and m.ndim == 2 else m for name, m in adam.state[w].items()}
        for w in sae.parameters()
    }
    resample(sae, moments, torch.randn(10, 4), error, dead, seed=0)
    alive = torch.tensor([0, 2, 3, 5])
    rows = before["W_dec"][alive].norm(dim=1).mean() * torch.tensor([0.0, 0.6, 0.8, 0.0])
    torch.testing.assert_close(sae.W_dec[dead].detach(), rows.expand(2, 4))
    norm = 0.2 * before["W_enc"].T[alive].norm(dim=1).mean()
    torch.testing.assert_close(sae.W_enc.T[dead].detach().norm(dim=1), norm.expand(2))
    assert not sae.b_enc[dead].any()
    for name in ("W_dec", "W_enc", "b_enc"):
        moment = adam.state[getattr(sae, name)]["exp_avg"]
        rows = moment.T if name == "W_enc" else moment
        assert not rows[dead].any() and rows[alive].any()
        same = getattr(sae, name).T[alive] if name == "W_enc" else getattr(sae, name)[alive]
        assert torch.equal(same, before[name].T[alive] if name == "W_enc" else before[name][alive])


@pytest.mark.slow
def test_resampling_revives_features_that_would_stay_dead():
    dead = {}
    for every in (None, 50):
        trainer = trainer_of("relu", n_steps=600, resample_every=every, dead_after_tokens=10 * BATCH)
        batches = TRUTH.batches(BATCH, seed=3)
        trainer.step(next(batches))
        with torch.no_grad():
            trainer._sae.b_enc[24:] = -100.0
        metrics = [trainer.step(next(batches)) for _ in range(599)]
        assert metrics[30].dead_features >= 24
        dead[every] = metrics[-1].dead_features
    assert dead[None] >= 24
    assert dead[50] < 5


# ---- transcoders and crosscoders ----------------------------------------------------------------------------------


def mapped(seed=0, n=BATCH):
    """Inputs made of features, and outputs that are other directions of the same features, on another scale."""
    generator = torch.Generator().manual_seed(99)
    out = 30 * torch.randn(48, 10, generator=generator)
    batch = TRUTH.sample(n, torch.Generator().manual_seed(seed))
    return batch.x, batch.acts.to_dense() @ out + 7.0


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("activation", ["topk", "relu", "batchtopk"])
@pytest.mark.slow
def test_a_transcoder_learns_the_map_and_leaves_in_the_models_units(activation, skip):
    sparsity = {"target_l0": 6.0} if activation == "relu" else {"k": 6}
    config = sk.SAEConfig(d_in=24, d_sae=96, d_out=10, skip=skip, activation=activation, **sparsity)
    trainer = sk.Trainer(sk.SAE(config), sk.TrainConfig(n_tokens=800 * BATCH, batch_size=BATCH))
    for i in range(800):
        metrics = trainer.step(*mapped(i))
    sae = trainer.finish()
    x, target = mapped(10_000, 4096)
    error = (target - sae(x).x_hat).square().sum()
    explained = 1 - float(error / (target - target.mean(0)).square().sum())
    assert explained > 0.5
    assert explained == pytest.approx(metrics.explained_variance, abs=0.1)
    assert float(error) / 4096 == pytest.approx(metrics.mse, rel=0.25)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(96), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_crosscoder_gives_each_hook_point_the_same_weight():
    """One block a hundred times as large as the other: both are reconstructed, where one scale for all loses one."""
    generator = torch.Generator().manual_seed(0)
    other = torch.nn.functional.normalize(torch.randn(48, 24, generator=generator), dim=1)
    explained = {}
    for blocks in ((24, 24), (48,)):
        config = sk.SAEConfig(d_in=48, d_sae=48, activation="batchtopk", k=3)
        trainer = sk.Trainer(sk.SAE(config), sk.TrainConfig(n_tokens=1000 * BATCH, batch_size=BATCH), blocks=blocks)

        def both(seed, n=BATCH):
            batch = TRUTH.sample(n, torch.Generator().manual_seed(seed))
            a, b = batch.acts.to_dense(), batch.acts.to_dense().square()  # the second reads strength otherwise
            return torch.cat([100 * batch.x, (a - b) @ other], dim=1)

        for i in range(1000):
            trainer.step(both(i))
        sae, x = trainer.finish(), both(10_000, 4096)
        error, spread = (x - sae(x).x_hat).square(), (x - x.mean(0)).square()
        explained[blocks] = 1 - float(error[:, 24:].sum() / spread[:, 24:].sum())
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48), rtol=1e-4, atol=1e-4)
    assert explained[(24, 24)] > explained[(48,)] + 0.05


def test_pairs_that_do_not_fit_are_refused_and_change_nothing():
    config = sk.SAEConfig(d_in=24, d_sae=96, d_out=10, activation="topk", k=6)
    trainer = sk.Trainer(sk.SAE(config), sk.TrainConfig(n_tokens=1024, batch_size=BATCH))
    before = trainer.finish().fingerprint
    x, target = mapped()
    with pytest.raises(MismatchError, match="a transcoder is trained on pairs"):
        trainer.step(x)
    with pytest.raises(MismatchError, match="a transcoder is trained on pairs"):
        trainer.step(x, target[:5])
    with pytest.raises(MismatchError, match=r"a batch does not fit this SAE[\s\S]*what it writes"):
        trainer.step(x, x)
    with pytest.raises(MismatchError, match="only a transcoder has a target"):
        trainer_of("topk").step(x, x)
    with pytest.raises(MismatchError, match="do not add up"):
        sk.Trainer(
            sk.SAE(sk.SAEConfig(d_in=24, d_sae=9, k=3)), sk.TrainConfig(n_tokens=256, batch_size=256), blocks=(9,)
        )
    with pytest.raises(ConfigError, match="this transcoder has a skip connection"):
        skip = sk.SAE(sk.SAEConfig(d_in=24, d_sae=96, d_out=10, skip=True, activation="topk", k=6))
        skip.decode(skip.encode(x))
    assert trainer.finish().fingerprint == before
