"""SAE: encoding, decoding, folding, checking, configuration."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.sae import Normalisation, fold_decoder_norms, fold_normalisation

ARCHITECTURES = list(sk.sae.ARCHITECTURES)


def random_sae(activation="topk", d_in=16, d_sae=64, k=5, **fields):
    """An SAE with nothing at zero."""
    config = sk.SAEConfig(
        d_in=d_in, d_sae=d_sae, activation=activation, k=k if activation.endswith("topk") else None, **fields
    )
    sae = sk.SAE(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        sae.b_enc += 0.2 * torch.randn(d_sae, generator=generator)
        sae.b_dec += torch.randn(d_in, generator=generator)
        if sae.architecture.has_threshold:
            sae.threshold += 1.0 + torch.rand(d_sae, generator=generator)
        if activation == "gated":
            sae.r_mag += 0.3 * torch.randn(d_sae, generator=generator)
            sae.b_mag += 0.2 * torch.randn(d_sae, generator=generator)
    return sae.requires_grad_(False)


def x_of(*shape):
    return torch.randn(*shape, 16, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_encode_follows_the_definition(activation):
    sae, x = random_sae(activation), x_of(40)
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    if activation == "topk":
        want = pre.relu() * (pre >= pre.sort(dim=1, descending=True).values[:, 4:5])
    elif activation == "relu":
        want = pre.relu()
    elif activation == "gated":
        want = (((x - sae.b_dec) @ sae.W_enc) * sae.r_mag.exp() + sae.b_mag).relu() * (pre > 0)
    else:
        want = pre * (pre > sae.threshold)
    torch.testing.assert_close(sae.encode(x), want, rtol=1e-5, atol=1e-6)
    out = sae(x)
    torch.testing.assert_close(out.x_hat, want @ sae.W_dec + sae.b_dec, rtol=1e-4, atol=1e-5)
    assert "x_hat (40, 16)" in repr(out)


@pytest.mark.parametrize("activation", ARCHITECTURES)
@pytest.mark.parametrize("n", [0, 1, 700])
def test_encode_sparse_gives_exactly_the_numbers_of_encode(activation, n, monkeypatch):
    monkeypatch.setattr("saekit.sae.base.CHUNK_ELEMENTS", 64 * 256)  # three chunks
    sae, x = random_sae(activation), x_of(n)
    sparse, dense = sae.encode_sparse(x), sae.encode(x)
    assert torch.equal(sparse.to_dense(), dense)
    assert sparse.value.numel() == int((dense != 0).sum())
    position = sparse.token * 64 + sparse.feature
    assert bool((position[1:] > position[:-1]).all())
    torch.testing.assert_close(sae.decode(sparse), sae.decode(dense), rtol=1e-5, atol=1e-5)


def test_encode_takes_any_leading_shape_and_refuses_another_width():
    sae = random_sae()
    x = x_of(2, 3, 4)
    assert torch.equal(sae.encode(x).reshape(24, 64), sae.encode(x.reshape(24, 16)))
    assert sae.encode(x[0, 0, 0]).shape == (64,)
    with pytest.raises(MismatchError, match=r"activations are of another width.*\n.*\(3, 8\)"):
        sae.encode(torch.zeros(3, 8))
    with pytest.raises(MismatchError, match="feature_acts are of another width"):
        sae.decode(torch.zeros(3, 8))


def test_encode_is_differentiable():
    x = x_of(3).requires_grad_()
    random_sae("batchtopk").encode(x).sum().backward()
    assert bool(x.grad.any())


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("activation", ARCHITECTURES)
def test_folding_normalisation_changes_units_and_nothing_else(activation, apply_b_dec):
    sae, x = random_sae(activation, apply_b_dec_to_input=apply_b_dec), x_of(50) * 30 + 5
    before = sae.fingerprint
    mean, scale = x.mean(0), 0.04
    normalisation = Normalisation(mean=mean, scale=torch.full((sae.config.d_in,), scale))
    folded = fold_normalisation(sae, normalisation)
    inner = sae((x - mean) * scale)
    torch.testing.assert_close(folded.encode(x) * scale, inner.feature_acts, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(folded(x).x_hat, inner.x_hat / scale + mean, rtol=1e-3, atol=1e-2)
    back = fold_normalisation(folded, normalisation.inverse())
    for name, weight in sae.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], weight, rtol=1e-4, atol=1e-4)
    assert sae.fingerprint == before  # the SAE that was given is not edited


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_folding_decoder_norms_keeps_the_reconstruction(activation):
    sae, x = random_sae(activation), x_of(50)
    sae.W_dec.mul_(torch.rand(64, 1) * 3)
    sae.W_dec[3] = 0
    before = sae(x).x_hat
    folded = fold_decoder_norms(sae)
    torch.testing.assert_close(folded(x).x_hat, before, rtol=1e-5, atol=1e-5)
    norms = folded.W_dec.norm(dim=1)
    torch.testing.assert_close(norms[norms > 0], torch.ones(63))


def test_fingerprint_depends_on_weights_architecture_and_k():
    sae = random_sae()
    same, k6 = random_sae(), random_sae(k=6)
    assert sae.fingerprint == same.fingerprint != k6.fingerprint
    same.W_dec[0, 0] += 1e-3
    assert sae.fingerprint != same.fingerprint
    assert len(sae.fingerprint) == 16


def test_initial_weights_follow_the_recipes():
    topk, relu = (sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, activation=a, k=k)) for a, k in (("topk", 4), ("relu", None)))
    for sae, norm in ((topk, 1.0), (relu, 0.1)):
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((64,), norm))
        assert torch.equal(sae.W_enc, sae.W_dec.T)
        assert sae.W_enc.data_ptr() != sae.W_dec.data_ptr()


class Model:
    """What SAE.check asks of a model."""

    name, fingerprint, weight_processing = "tiny", "f" * 16, "none"

    def hook_width(self, hook_name):
        return {"a": 16, "b": 8}[hook_name]


def test_check_accepts_its_model_and_refuses_others():
    mine = {"hook_name": "a", "model_name": "tiny", "model_fingerprint": "f" * 16, "weight_processing": "none"}
    model = Model()
    sae = random_sae(**mine)
    sae.check(model)
    sae.check(model, "a")
    random_sae().check(model, "a")  # a file that says nothing of itself
    random_sae(**{**mine, "model_name": "renamed/other"}).check(model)  # the same weights under another name
    with pytest.raises(MismatchError, match=r"another hook point\n.*seen: +b\n.*accepted: a"):
        sae.check(model, "b")
    with pytest.raises(MismatchError, match=r"another model\n.*seen: +tiny\n.*accepted: other"):
        random_sae(model_name="other").check(model)
    renamed = random_sae(model_name="other", hook_name="a")
    with pytest.raises(MismatchError, match=r"say so: sae.config = sae.config.replace\(model_name='tiny'\)"):
        renamed.check(model)
    renamed.config = renamed.config.replace(model_name="tiny")
    renamed.check(model)
    with pytest.raises(MismatchError, match=r"prepared in another way.*\n.*seen: +none\n.*compatibility"):
        random_sae(**{**mine, "weight_processing": "compatibility"}).check(model)
    with pytest.raises(MismatchError, match=r"activations at b are of another width.*\n.*seen: +8\n.*accepted: 16"):
        random_sae().check(model, "b")
    with pytest.raises(MismatchError, match=r"other weights than the model of that name[\s\S]*model_fingerprint=None"):
        random_sae(**{**mine, "model_fingerprint": "0" * 16}).check(model)
    random_sae(model_name="gpt2-small").check(type("M", (Model,), {"name": "openai-community/gpt2"})(), "a")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"activation": "topq", "k": 4}, UnknownNameError, "unknown architecture 'topq'; did you mean 'topk'"),
        ({"activation": "topk"}, ConfigError, r"k does not fit the topk architecture[\s\S]*from 1 to d_sae = 64"),
        ({"activation": "batchtopk", "k": 65}, ConfigError, "k does not fit the batchtopk architecture"),
        ({"activation": "relu", "k": 4}, ConfigError, "the relu architecture has no k"),
        ({"activation": "relu", "d_in": 0}, ConfigError, "d_in is not a positive integer"),
        ({"activation": "relu", "d_sae": 1.5}, ConfigError, "d_sae is not a positive integer"),
        ({"activation": "relu", "sparsity_coefficient": -1.0}, ConfigError, "sparsity_coefficient is out of range"),
        ({"activation": "relu", "dtype": "float8"}, UnknownNameError, "unknown dtype 'float8'"),
    ],
)
def test_config_refuses_what_cannot_be(fields, error, message):
    with pytest.raises(error, match=message):
        sk.SAEConfig(**{"d_in": 16, "d_sae": 64, **fields})


def test_config_round_trips_and_names_an_unknown_field():
    config = sk.SAEConfig(
        d_in=4, d_sae=8, k=2, token_filter=sk.TokenFilter(special_ids=(0, 2), max_norm=5.5), hook_name="h"
    )
    assert sk.SAEConfig.from_dict(config.to_dict()) == config
    with pytest.raises(UnknownNameError, match="unknown SAEConfig field 'hook_nam'; did you mean 'hook_name'"):
        sk.SAEConfig.from_dict({**config.to_dict(), "hook_nam": "x"})


def test_token_filter_keeps_one_token_as_it_keeps_many():
    token_filter = sk.TokenFilter(special_ids=(0, 3), max_norm=4.0)
    tokens = torch.tensor([[0, 1, 2], [3, 4, 5]])
    x = torch.ones(2, 3, 4)
    x[1, 2] = 100
    want = torch.tensor([[False, True, True], [False, True, False]])
    assert torch.equal(token_filter.keep(tokens, x), want)
    for b in range(2):
        for p in range(3):
            assert bool(token_filter.keep(tokens[b, p : p + 1], x[b, p : p + 1])) == bool(want[b, p])
    assert bool(sk.TokenFilter().keep(tokens, x).all())
    with pytest.raises(ConfigError, match="max_norm is not positive"):
        sk.TokenFilter(max_norm=0.0)


def test_training_forward_refuses_nan():
    x = x_of(5)
    x[2, 3] = float("nan")
    with pytest.raises(DataError, match=r"NaN or infinity\n.*1 of 5 tokens"):
        random_sae().training_forward(x)


def test_repr_says_what_it_is():
    sae = random_sae(hook_name="a", model_name="tiny", token_filter=sk.TokenFilter(special_ids=(0,)))
    assert repr(sae).splitlines() == [
        "SAE topk, k 5: d_in 16, d_sae 64, on cpu",
        "  tiny at a",
        "  tokens excluded: 1 special ids",
    ]
