"""Training an SAE that comes from elsewhere, as it is: of tensors, of files, with decoder rows of any norm."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, MismatchError
from saekit.sae.architectures import with_option

D_IN, D_SAE, N = 16, 48, 512


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(24, D_IN, generator=generator)
    return 2 * torch.rand(N, 24, generator=generator).pow(6) @ basis + 4 * torch.randn(D_IN, generator=generator)


def config(n_steps=50, **fields):
    return sk.TrainConfig(n_tokens=N * n_steps, batch_size=N, **fields)


def trained(activation, x, n_steps=50):
    k = 6 if activation in with_option("k") else None
    fields = {} if k else {"target_l0": None}
    sae = sk.SAE(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, activation=activation, k=k, **fields))
    trainer = sk.Trainer(sae, config(n_steps, lr=3e-3))
    for _ in range(n_steps):
        trainer.step(x)
    return trainer.finish()


def with_row_norms(sae, norms):
    """The same SAE (one that looks at each feature alone) with decoder rows of these norms."""
    tensors = {name: getattr(sae, name).clone() for name in sae.weight_names}
    for name in ("W_enc", "b_enc", "threshold", "b_mag"):
        if name in tensors:
            tensors[name] = tensors[name] / norms
    tensors["W_dec"] = tensors["W_dec"] * norms[:, None]
    return sk.SAE.from_tensors(activation=sae.config.activation, k=sae.config.k, target_l0=None, **tensors)


def explained(sae, x):
    return 1 - float((sae(x).x_hat - x).square().sum() / (x - x.mean(0)).square().sum())


EQUAL, MANY = torch.full((D_SAE,), 3.0), torch.linspace(0.2, 5.0, D_SAE)
STILL = config(lr=1e-9, sparsity_warmup_fraction=0)


@pytest.mark.parametrize("norms", [EQUAL, MANY], ids=["equal", "many"])
@pytest.mark.parametrize("activation", sorted(sk.sae.ARCHITECTURES))
def test_a_step_of_no_length_leaves_an_sae_with_rows_of_any_norm_as_it_is(activation, norms):
    x = batch()
    sae = with_row_norms(trained(activation, x), norms)
    before = explained(sae, x)
    metrics = sk.Trainer(sae, STILL).step(x)
    assert metrics.explained_variance == pytest.approx(before, abs=1e-3)
    assert explained(sae, x) == pytest.approx(before, abs=1e-3)
    kept = activation == "topk" and norms is MANY
    torch.testing.assert_close(sae.W_dec.norm(dim=1), MANY if kept else torch.ones(D_SAE))


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_rows_whose_norms_decide_what_is_chosen_keep_them(activation):
    """Trained further, and resumed, too: only their directions move."""
    x = batch()
    made = trained(activation, x)
    tensors = {name: getattr(made, name) for name in made.weight_names if name != "W_dec"}
    decoder = torch.linalg.lstsq(made.encode(x), x - made.b_dec).solution
    decoder[3] = 0.0  # a row that was pruned stays that
    sae = sk.SAE.from_tensors(activation=activation, k=6, W_dec=decoder, **tensors)
    norms, before = sae.W_dec.norm(dim=1), explained(sae, x)
    trainer = sk.Trainer(sae, STILL)
    assert trainer.step(x).explained_variance == pytest.approx(before, abs=1e-3)
    assert explained(sae, x) == pytest.approx(before, abs=1e-3)

    trainer = sk.Trainer(sae, config(20, lr=1e-3))
    for _ in range(5):
        trainer.step(x)
    again = sk.Trainer(sk.SAE(sae.config), trainer.config)
    again.load_state_dict(trainer.state_dict())
    for t in (trainer, again):
        for _ in range(5):
            t.step(x)
        torch.testing.assert_close(t.sae.W_dec.norm(dim=1), norms, rtol=1e-4, atol=1e-6)
    assert again.sae.fingerprint == trainer.sae.fingerprint
    assert explained(sae, x) > before


def test_thresholds_of_an_sae_without_biases_are_not_begun_again():
    x = batch() - batch().mean(0)
    W = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=torch.Generator().manual_seed(0)), dim=1)
    sae = sk.SAE.from_tensors(W_enc=W.T, W_dec=W, activation="jumprelu", threshold=2.0)
    before = explained(sae, x)
    sk.Trainer(sae, STILL).step(x)
    assert explained(sae, x) == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["copy", "pickle"])
@pytest.mark.parametrize("activation", sorted(sk.sae.ARCHITECTURES))
def test_a_copy_of_a_trainer_goes_on_alone_and_bit_for_bit(activation, copied):
    k = 6 if activation in with_option("k") else None
    sae = sk.SAE(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, activation=activation, k=k))
    trainer = sk.Trainer(sae, config(20, lr=1e-3))
    for i in range(3):
        trainer.step(batch(i))
    at_three = sae.fingerprint
    branch, (pair, given) = copied(trainer), copied((trainer, sae))
    assert given is not sae and given.fingerprint == at_three == branch.sae.fingerprint
    for i in range(3, 6):
        metrics = branch.step(batch(i))
        assert pair.step(batch(i)) == metrics
    assert sae.fingerprint == trainer.sae.fingerprint == at_three
    assert branch.sae.fingerprint == pair.sae.fingerprint == given.fingerprint != at_three
    for i in range(3, 6):
        metrics_here = trainer.step(batch(i))
    assert metrics_here == metrics
    assert sae.fingerprint == branch.sae.fingerprint


def test_a_configuration_and_arrays_do_what_an_sae_and_tensors_do():
    made, x = sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, activation="topk", k=6), batch()
    by_hand, by_config = (sk.Trainer(a, config()) for a in (sk.SAE(made), made))
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    for array in (x.numpy(), frozen, x.numpy().astype(">f4")):
        assert by_config.step(array) == by_hand.step(x)
    assert by_config.sae.fingerprint == by_hand.sae.fingerprint
    pairs = sk.Trainer(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, d_out=D_IN, activation="topk", k=6), config())
    assert pairs.step(x.numpy(), x.numpy()).n_tokens == N


@pytest.mark.parametrize("wrong", [[[0.0] * D_IN], None, np.array([["a"] * D_IN])], ids=["list", "None", "text"])
def test_a_batch_that_is_no_array_is_refused(wrong):
    trainer = sk.Trainer(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, activation="topk", k=6), config())
    with pytest.raises(ConfigError, match=r"neither a tensor nor an array[\s\S]*\[batch, width\]"):
        trainer.step(wrong)


def test_a_trainer_of_something_else_is_refused():
    made = sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, activation="topk", k=6)
    with pytest.raises(ConfigError, match=r"not an SAE[\s\S]*dict"):
        sk.Trainer(made.to_dict(), config())
    with pytest.raises(ConfigError, match=r"not a TrainConfig[\s\S]*SAEConfig"):
        sk.Trainer(made, made)
    with pytest.raises(MismatchError):
        sk.Trainer(made, config()).step(np.zeros((4, D_IN + 1)))


def test_arrays_make_the_sae_that_tensors_make():
    W, b = torch.randn(8, 32), torch.randn(32)
    of_tensors = sk.SAE.from_tensors(W_enc=W, W_dec=W.T, b_enc=b, activation="jumprelu", threshold=b.abs())
    of_arrays = sk.SAE.from_tensors(
        W_enc=W.numpy(), W_dec=W.T.numpy(), b_enc=b.numpy(), activation="jumprelu", threshold=b.abs().numpy()
    )
    assert of_arrays.fingerprint == of_tensors.fingerprint
    doubles = sk.SAE.from_tensors(W_enc=W.double().numpy(), W_dec=W.double().T.numpy())
    assert doubles.config.dtype == "float64"
    with pytest.raises(ConfigError, match="W_dec is not a tensor"):
        sk.SAE.from_tensors(W_enc=W, W_dec="W_dec.npy")


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((8, 32), (16, 8)), "W_enc and W_dec do not fit each other"),
        (((8, 32), (16, 8), 8), "W_enc and W_dec are transposed"),
        (((64, 8), (16, 64)), "W_enc and W_dec are transposed"),
        (((32, 8), (8, 32), 32), "W_enc and W_dec are transposed"),
        (((32, 8), (8, 32), 32, 8), "W_enc and W_dec are transposed"),
        (((32, 8), (8, 32), None, 8), "W_enc and W_dec are transposed"),
        (((32, 8), (8, 32), 32, 32), "b_enc has the wrong shape"),
        (((32, 8), (8, 32), 7), "b_enc has the wrong shape"),
        (((32, 8), (32, 8)), "W_enc is transposed"),
        (((8, 32), (8, 32)), "W_dec is transposed"),
        (((8, 32), (8, 32), 8), "W_enc is transposed"),
    ],
)
def test_matrices_that_do_not_fit_are_called_what_they_are(shapes, said):
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    tensors = {name: torch.zeros(shape) for name, shape in zip(names, shapes, strict=False) if shape is not None}
    with pytest.raises(ConfigError, match=said):
        sk.SAE.from_tensors(**tensors)
