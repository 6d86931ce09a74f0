"""Selection against full sorts, with and without the 8-bit bounds, and the bounds against the pre-activations."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.sae.sparse import int8_bounds as int8_bounds
from saekit.sae.sparse.int8_bounds import Int8Bounds
from saekit.sae.sparse.selection import EncoderWeights, above, largest_of_batch, largest_of_tokens


@pytest.fixture
def products(monkeypatch):
    """8-bit products, by other means where this CPU has none."""
    if not int8_bounds.supported():
        monkeypatch.setattr(torch, "_int_mm", lambda a, b, out: out.copy_(a.double() @ b.double()))
        monkeypatch.setattr(int8_bounds, "supported", lambda: True)


def data(kind, n=200, d_in=48, d_sae=2300, seed=0):
    """Tokens, and an encoder: what real activations are not, too."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(d_sae, d_in, generator=g) * (0.3 + torch.rand(d_sae, 1, generator=g))
    b_enc, b_dec = 0.3 * torch.randn(d_sae, generator=g), torch.randn(d_in, generator=g)
    x = torch.randn(n, d_in, generator=g)
    if kind == "outlier dimensions":
        x[:, 3] *= 300
        x[:, 7] += 1000
        rows[::5, 9] *= 100
    elif kind == "scales of tokens":
        x *= 10 ** (4 * torch.rand(n, 1, generator=g) - 2)
    elif kind == "one direction":
        rows = torch.ones(d_sae, d_in) + 1e-3 * rows
        x = torch.ones(n, d_in) * (1 + torch.arange(n)[:, None] / n)
    elif kind == "copied features":
        rows = rows[: d_sae // 50].repeat(50, 1)
        b_enc = b_enc[: d_sae // 50].repeat(50)
    elif kind == "zero tokens":
        x[::3] = b_dec
    elif kind == "nearly one-hot":
        x = torch.zeros(n, d_in).scatter(1, torch.randint(0, d_in, (n, 1), generator=g), 5.0)
    return x, EncoderWeights(rows, b_enc, b_dec)


KINDS = [
    "normal",
    "outlier dimensions",
    "scales of tokens",
    "one direction",
    "copied features",
    "zero tokens",
    "nearly one-hot",
]


def reference(x, encoder):
    return ((x.double() - encoder.b_dec) @ encoder.rows.double().T + encoder.b_enc).float()


@pytest.fixture(params=[True, False], ids=["bounds", "product"])
def bounded(request, products, monkeypatch):
    """With the 8-bit bounds, and without."""
    monkeypatch.setattr(int8_bounds, "supported", lambda: request.param)
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_k_largest_of_each_token_are_those_of_a_full_sort(kind, k, bounded):
    x, encoder = data(kind)
    feature, value = largest_of_tokens(encoder, x, k)
    pre = reference(x, encoder)
    want = pre.sort(dim=1, descending=True).values[:, :k]
    scale = pre.abs().amax(1, keepdim=True)
    torch.testing.assert_close(value.sort(dim=1, descending=True).values / scale, want / scale, rtol=0, atol=2e-6)
    torch.testing.assert_close(pre.gather(1, feature) / scale, value / scale, rtol=0, atol=2e-6)
    assert bool((feature.diff(dim=1) > 0).all())


@pytest.mark.parametrize("count", [1, 700, 4000, 200 * 2300])
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_of_a_batch_are_those_of_a_full_sort(kind, count, bounded):
    x, encoder = data(kind)
    token, feature, value = largest_of_batch(encoder, x, count)
    pre = reference(x, encoder)
    want = pre.flatten().sort(descending=True).values[:count]
    scale = float(pre.abs().max())
    torch.testing.assert_close(value.sort(descending=True).values / scale, want / scale, rtol=0, atol=2e-6)
    torch.testing.assert_close(pre[token, feature] / scale, value / scale, rtol=0, atol=2e-6)
    assert bool(((token * 2300 + feature).diff() > 0).all())


@pytest.mark.parametrize("fraction", [0.0005, 0.01, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_above_its_threshold_is_found(kind, fraction, bounded):
    x, encoder = data(kind)
    pre = reference(x, encoder)
    threshold = torch.quantile(pre, 1 - fraction, dim=0) + 1e-4 * pre.abs().amax(0)
    token, feature, value = above(encoder, x, threshold)
    near = (pre - threshold).abs() < 1e-5 * pre.abs().amax()
    got = torch.zeros_like(pre, dtype=torch.bool).index_put_((token, feature), torch.tensor(True))
    assert bool(((got == (pre > threshold)) | near).all())
    torch.testing.assert_close(value, pre[token, feature], rtol=1e-5, atol=1e-5 * float(pre.abs().max()))
    assert bool(((token * 2300 + feature).diff() > 0).all())


@pytest.mark.parametrize("where", ["token", "weight", "bias"])
def test_what_is_not_finite_is_not_lost(where, bounded):
    x, encoder = data("normal")
    broken = {"token": x[7], "weight": encoder.rows[9], "bias": encoder.b_enc[9:10]}[where]
    broken[0] = torch.nan
    _, value = largest_of_tokens(encoder, x, 3)
    assert bool(value[7].isnan().any())
    assert bool(value.isnan().any(1).all()) == (where != "token")


@pytest.mark.parametrize("n_on", [2, 2000])
def test_features_of_bias_minus_infinity_are_chosen_last(n_on, bounded):
    x, encoder = data("normal")
    encoder.b_enc[n_on:] = -torch.inf
    feature, value = largest_of_tokens(encoder, x, 5)
    assert bool((feature[value > -torch.inf] < n_on).all())
    assert int((value > -torch.inf).sum(1).min()) == min(5, n_on)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("kind", ["normal", "one direction", "dither p", "dither q"])
def test_a_bound_is_what_its_equation_says(kind):
    """In double precision; data along a dither have corrections as large as they come, which need all their columns."""
    g = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 600, generator=g) - 0.5
    x, encoder = data(kind, n=150, d_in=600)
    rows, z = encoder.rows, encoder.centred(x)
    if kind.startswith("dither"):
        sign = {"dither p": p, "dither q": q}[kind].sign()
        rows, z = torch.cat([sign, -sign]).view(2, 600).repeat(1150, 1), sign * (1 + torch.rand(150, 1, generator=g))
    quantised = Int8Bounds(rows, encoder.b_enc, z)
    bound = torch.cat([b.clone() for _, b in quantised.bounds(z)])[:, :2300].double()
    u, v = z / quantised._c, rows * quantised._c
    s, r = u.abs().amax(1, keepdim=True) / int8_bounds.LARGEST, v.abs().amax(1, keepdim=True) / int8_bounds.LARGEST
    a, c = (u / s + p).round().double() - p, (v / r + q).round().double() - q
    squares = (c.norm(dim=1) ** 2 + ((u / s).double().norm(dim=1, keepdim=True)) ** 2) / 2
    want = (
        s * r.T * (a @ c.T + int8_bounds.MARGIN * (squares / quantised._usual + quantised._usual / 2)) + encoder.b_enc
    )
    steps = (bound - want) / (s * r.T)
    assert float(steps.min()) > -1
    assert float((steps / (int8_bounds.MARGIN * squares / quantised._usual)).max()) < 0.03  # its roundings are upwards


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("kind", KINDS)
def test_no_pre_activation_exceeds_its_bound(kind):
    x, encoder = data(kind, n=300)
    z = encoder.centred(x)
    pre = (z.double() @ encoder.rows.double().T + encoder.b_enc).float()
    bound = torch.cat([b.clone() for _, b in Int8Bounds(encoder.rows, encoder.b_enc, z).bounds(z)])
    assert bool((bound[:, 2300:] == -torch.inf).all())
    excess = pre - bound[:, :2300]
    assert float((excess / pre.abs().amax()).max()) < 1e-6


@pytest.mark.usefixtures("products")
def test_bounds_are_close_where_data_are_as_usual():
    x, encoder = data("normal", n=256, d_in=576)
    z = encoder.centred(x)
    bound = next(Int8Bounds(encoder.rows, encoder.b_enc, z).bounds(z))[1][:, :2300]
    pre = torch.addmm(encoder.b_enc, z[: len(bound)], encoder.rows.T)
    assert float((bound - pre).mean() / pre.std()) < 0.2
    wide = Int8Bounds(encoder.rows, encoder.b_enc, z).bounds(z, torch.full((2300,), 7.0))
    torch.testing.assert_close(next(wide)[1][:, :2300], bound - 7.0, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_training_is_the_same_with_bounds_and_without(activation, monkeypatch):
    """Ten steps either way: losses within 1e-5, and the first step's gradients of every weight too."""
    losses, gradients = [], []
    for supported in (True, False):
        monkeypatch.setattr(int8_bounds, "supported", lambda answer=supported: answer)
        g = torch.Generator().manual_seed(3)
        directions = torch.randn(100, 64, generator=g)
        trainer = sk.Trainer(
            sk.SAE(sk.SAEConfig(d_in=64, d_sae=2048, activation=activation, k=8)),
            sk.TrainConfig(n_tokens=256 * 100, batch_size=256),
        )
        run = []
        for step in range(10):
            x = (torch.randn(256, 100, generator=g) - 1).relu() @ directions
            if step == 0:
                out = trainer.sae.training_forward(x)
                sae = trainer.sae.requires_grad_(True)
                out = sae.training_forward(x)
                out.squared_error.backward()
                gradients.append({name: w.grad for name, w in sae.named_parameters()})
            run.append(trainer.step(x).loss)
        losses.append(run)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, grad in gradients[0].items():
        other = gradients[1][name]
        torch.testing.assert_close(grad / other.abs().max(), other / other.abs().max(), rtol=0, atol=1e-5)


def test_memory_of_a_gradient_is_lent_once():
    from saekit.sae.sparse import kernels

    weight = torch.nn.Parameter(torch.zeros(3, 2))
    assert kernels.spare(weight) is None
    weight.spare = torch.zeros(3, 2)
    assert kernels.spare(weight) is not None
    assert kernels.spare(weight) is None


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("kind", ["normal", "outlier dimensions", "one direction"])
def test_without_its_margin_a_bound_errs_as_much_as_rounding_must(kind, monkeypatch):
    monkeypatch.setattr(int8_bounds, "MARGIN", 0.0)
    monkeypatch.setattr(int8_bounds, "ROUNDING", 0)
    x, encoder = data(kind, n=128, d_in=300)
    z = encoder.centred(x)
    quantised = Int8Bounds(encoder.rows, encoder.b_enc, z)
    got = next(quantised.bounds(z))[1][:, :2300].double()
    u, v = z.double() / quantised._c, encoder.rows.double() * quantised._c
    s, r = u.abs().amax(1, keepdim=True) / int8_bounds.LARGEST, v.abs().amax(1) / int8_bounds.LARGEST
    variance = (s * v.norm(dim=1)).square() / 12 + (r * u.norm(dim=1, keepdim=True)).square() / 12
    ratio = ((got - reference(x, encoder)).square() / variance).mean()
    assert 0.5 < float(ratio) < 1.5
