"""TrainConfig: what it refuses and what its None fields stand for; and the start of b_dec."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError
from saekit.training.config import peak_lr
from saekit.training.normalisation import geometric_median


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_tokens": 100}, r"n_tokens is less than one batch\n.*100\n.*batch_size = 256"),
        ({"batch_size": 0}, "batch_size is out of range"),
        ({"n_tokens": 1e6}, "n_tokens is out of range"),
        ({"lr": -1.0}, "lr is not positive"),
        ({"decay_fraction": 1.5}, "decay_fraction is not a fraction"),
        ({"checkpoint_every": 0}, "checkpoint_every is out of range"),
    ],
)
def test_config_refuses_what_cannot_be(fields, message):
    with pytest.raises(ConfigError, match=message):
        sk.TrainConfig(**{"n_tokens": 1000, "batch_size": 256, **fields})


def test_an_unknown_device_is_a_clear_error():
    for device in ("tpu9", "cuda:99"):
        with pytest.raises(ConfigError, match=r"no such device here\n.*\n.*auto"):
            sk.Trainer(
                sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, k=4)),
                sk.TrainConfig(n_tokens=512, batch_size=256, device=device),
            )


def test_own_rates_follow_width_and_length():
    def rate(activation, d_sae, n_steps):
        config = sk.SAEConfig(d_in=8, d_sae=d_sae, activation=activation, k=None if activation == "relu" else 4)
        return peak_lr(config, sk.TrainConfig(n_tokens=n_steps * 10, batch_size=10))

    assert rate("topk", 4096, 1000) == pytest.approx(2 * rate("topk", 16_384, 1000))
    assert rate("batchtopk", 16_384, 10**6) == pytest.approx(2e-4)
    assert rate("relu", 4096, 10**6) == pytest.approx(5e-5)
    assert rate("relu", 4096, 1000) > rate("relu", 4096, 20_000) > rate("relu", 4096, 10**6)
    config = sk.TrainConfig(n_tokens=100, batch_size=10, lr=0.5)
    assert peak_lr(sk.SAEConfig(d_in=8, d_sae=16, activation="relu"), config) == 0.5


def test_geometric_median_shrugs_off_outliers():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 4, generator=generator)
    x[:50] += 1000
    assert float(geometric_median(x).abs().max()) < 0.3
    assert float(x.mean(0).abs().max()) > 10
