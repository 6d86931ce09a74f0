"""The default target L0 of architectures with a penalty, and what a run says when it misses its target."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import saekit as sk
from saekit.errors import ConfigError
from saekit.sae import precision
from saekit.sae.architectures import with_option

PENALISED = with_option("target_l0")
TRUTH = sk.synthetic.independent(d_model=24, n_features=48, n_active=2.5, directions="spread")
BATCH = 256


@pytest.fixture(autouse=True)
def _one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def config(activation="gated", d_in=576, d_sae=4096, **fields):
    return sk.SAEConfig(d_in=d_in, d_sae=d_sae, activation=activation, **fields)


def trainer_of(n_steps, **fields):
    sae = sk.SAE(config(d_in=24, d_sae=48, **fields))
    return sk.Trainer(sae, sk.TrainConfig(n_tokens=n_steps * BATCH, batch_size=BATCH))


def after(trainer, n_steps):
    for _, x in zip(range(n_steps), TRUTH.batches(BATCH), strict=False):
        trainer.step(x)
    return trainer


@pytest.mark.parametrize("activation", PENALISED)
def test_a_target_is_taken_where_nothing_says_how_sparse(activation):
    assert config(activation).target_l0 == 32
    assert config(activation, d_in=64, d_sae=256).target_l0 == 8  # d_in / 8
    assert config(activation, d_sae=64).target_l0 == 8  # d_sae / 8
    assert config(activation, target_l0=None).target_l0 is None
    assert config(activation, sparsity_coefficient=2.0).target_l0 is None
    assert config(activation, sparsity_coefficient=2.0, target_l0=9).target_l0 == 9


def test_an_architectures_own_way_to_say_it_counts_too():
    assert config("kl", firing_rate=0.01).target_l0 is None
    assert config("jumprelu", l0_penalty="quadratic").target_l0 == 32
    assert config("jumprelu", l0_penalty="quadratic", sparsity_coefficient=3.0).target_l0 == 32
    with pytest.raises(ConfigError, match="the quadratic L0 penalty needs its target"):
        config("jumprelu", l0_penalty="quadratic", target_l0=None)
    assert config("topk", k=4).target_l0 is None
    with pytest.raises(
        ConfigError, match=r"the topk architecture has no target_l0\n.*4[\s\S]*relu, kl, jumprelu, gated"
    ):
        config("topk", k=4, target_l0=4)


def test_a_saved_configuration_keeps_what_it_says():
    saved = config("relu", target_l0=None).to_dict()
    assert sk.SAEConfig.from_dict(saved).target_l0 is None
    del saved["target_l0"]  # written before there were targets
    assert sk.SAEConfig.from_dict(saved).target_l0 is None
    assert sk.SAEConfig.from_dict(config("relu").to_dict()) == config("relu")
    assert config("relu").replace(d_sae=64).target_l0 == 32


@pytest.mark.slow
def test_the_default_of_gated_finds_planted_features():
    """It was a fixed weight before, and ended at L0 30 with a mean maximum cosine of 0.61."""
    truth = sk.synthetic.independent(64, 256, 5)
    trainer = sk.Trainer(
        sk.SAE(config("gated", d_in=64, d_sae=256)), sk.TrainConfig(n_tokens=1000 * BATCH, batch_size=BATCH)
    )
    for _, x in zip(range(1000), truth.batches(BATCH), strict=False):
        trainer.advance(x)
    found = sk.recovery(trainer.finish(), truth, n_tokens=4096)
    assert found.l0 == pytest.approx(8, rel=0.1)
    assert found.mean_max_cosine > 0.95


def test_a_run_that_misses_its_target_warns_when_it_is_over():
    trainer = after(trainer_of(20, target_l0=0.3), 19)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.finish()  # not over yet
    after(trainer, 1)
    with pytest.warns(
        UserWarning, match=r"missed the target\n.*L0 \d.*20 steps\n.*target_l0 = 0.3.*10%\n.*train for mo"
    ):
        trainer.finish()
    summary = trainer.l0_summary()
    assert summary["missed_target_l0"] and summary["target_l0"] == 0.3 and summary["l0_at_end"] > 0.33


@pytest.mark.parametrize("fields", [{"target_l0": 3.0}, {"sparsity_coefficient": 1.0}, {"activation": "topk", "k": 3}])
@pytest.mark.slow
def test_a_run_that_reaches_its_target_or_has_none_says_nothing(fields):
    trainer = after(trainer_of(800, **fields), 800)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.finish()
    assert trainer.l0_summary().get("missed_target_l0") == (False if "target_l0" in fields else None)


def test_the_training_summary_says_it_and_the_file_keeps_it(model, corpus, tmp_path):
    settings = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    sae = config("relu", d_in=32, d_sae=64, target_l0=0.5)
    with pytest.warns(UserWarning, match="missed the target"):
        sk.train(
            model, corpus, sae=sae, hook_name="blocks.0.hook_resid_post", config=settings, out=tmp_path, progress=False
        )
    assert sk.load_sae(tmp_path).training_summary["missed_target_l0"] is True


class _NoFloat64(TorchDispatchMode):
    """A device without float64, as MPS is."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
            raise TypeError(f"this device has no float64: {func}")
        return out


def test_a_step_toward_a_target_works_where_there_is_no_float64(monkeypatch):
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", ("cpu",))
    sae = sk.SAE(sk.SAEConfig(d_in=8, d_sae=32, activation="relu", target_l0=4))
    with _NoFloat64():
        trainer = sk.Trainer(sae, sk.TrainConfig(n_tokens=640, batch_size=64))
        for _ in range(8):
            metrics = trainer.step(torch.randn(64, 8))
    assert metrics.coefficient > 0
