"""The sparse sums against dense products: values and every gradient."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.sae.sparse import kernels
from saekit.sae.sparse.kernels import Pattern, SparseActs

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def dense_reference(sae, x, mask):
    """The five obvious lines."""
    pre = (x - sae.b_dec * sae.config.apply_b_dec_to_input) @ sae.W_enc + sae.b_enc
    acts = pre.relu() * mask
    return x - acts @ sae.W_dec - sae.b_dec, (acts.sum(0) * sae.W_dec.norm(dim=1)).sum() / len(x)


def training_mask(sae, x):
    """Which pre-activations the architecture keeps in training, by sorting everything."""
    pre = (x - sae.b_dec * sae.config.apply_b_dec_to_input) @ sae.W_enc + sae.b_enc
    if sae.config.activation == "relu":
        return pre > 0
    if sae.config.activation == "topk":
        return pre >= pre.sort(dim=1, descending=True).values[:, sae.k - 1 : sae.k]
    return pre >= pre.flatten().sort(descending=True).values[sae.k * len(x) - 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
def test_training_forward_matches_dense_in_values_and_every_gradient(activation, apply_b_dec, dtype, monkeypatch):
    monkeypatch.setattr("saekit.sae.sparse.pairs.SPARSE_BELOW", 1.1)  # relu by the sparse path too
    generator = torch.Generator().manual_seed(1)
    config = sk.SAEConfig(
        d_in=12,
        d_sae=40,
        activation=activation,
        k=None if activation == "relu" else 5,
        apply_b_dec_to_input=apply_b_dec,
        dtype=str(dtype).removeprefix("torch."),
    )
    fast, slow = sk.SAE(config), sk.SAE(config)
    with torch.no_grad():
        for sae in (fast, slow):
            noise = torch.Generator().manual_seed(2)
            sae.b_enc += 0.3 * torch.randn(40, generator=noise, dtype=dtype)
            sae.b_dec += torch.randn(12, generator=noise, dtype=dtype)
    x = torch.randn(30, 12, generator=generator, dtype=dtype)
    a = torch.randn(30, 12, generator=generator, dtype=dtype)
    out = fast.training_forward(x)
    mask = training_mask(slow, x)
    error, l1 = dense_reference(slow, x, mask)
    torch.testing.assert_close(out.error, error, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert torch.equal(out.counts, mask.sum(0))
    loss, want = (out.error.pow(2) * a + out.error * a).sum(), (error.pow(2) * a + error * a).sum()
    if activation == "relu":
        torch.testing.assert_close(out.penalty, l1, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        loss, want = loss + 3.0 * out.penalty, want + 3.0 * l1
    loss.backward()
    want.backward()
    for name, weight in fast.named_parameters():
        want = dict(slow.named_parameters())[name].grad
        scale = want.abs().max()
        torch.testing.assert_close(weight.grad / scale, want / scale, rtol=0, atol=TOLERANCE[dtype], msg=name)


def test_dense_and_sparse_paths_of_relu_agree(monkeypatch):
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    grads = []
    for limit in (0.0, 1.1):
        monkeypatch.setattr("saekit.sae.sparse.pairs.SPARSE_BELOW", limit)
        sae = sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, activation="relu"))
        out = sae.training_forward(x)
        (out.squared_error + 50 * out.penalty).backward()
        grads.append([p.grad for p in sae.parameters()] + [out.counts.float()])
    for dense, sparse in zip(*grads, strict=True):
        torch.testing.assert_close(dense, sparse, rtol=1e-5, atol=1e-5)


def test_gradients_by_finite_differences():
    generator = torch.Generator().manual_seed(3)
    token, feature = torch.tensor([0, 0, 2, 3, 3, 3]), torch.tensor([1, 4, 0, 1, 2, 4])
    pattern = Pattern(token, feature, n_tokens=4, d_sae=5)
    x, value = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((4, 3), (6,)))
    W_enc, W_dec = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((3, 5), (5, 3)))
    b_enc, b_dec = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((5,), (3,)))

    def autoencode(W_enc, b_enc, b_dec, W_dec):
        selected = ((x - b_dec) @ W_enc + b_enc).detach()[token, feature]
        return kernels.decode(kernels.pre_acts(selected, pattern, x, W_enc, b_enc, b_dec), pattern, W_dec)

    inputs = [t.requires_grad_() for t in (W_enc, b_enc, b_dec, W_dec)]
    assert torch.autograd.gradcheck(autoencode, inputs)
    assert torch.autograd.gradcheck(lambda v, W: kernels.decode(v, pattern, W), [value.requires_grad_(), W_dec])


def test_a_token_without_features_decodes_to_nothing_and_an_empty_pattern_works():
    pattern = Pattern(torch.tensor([1]), torch.tensor([2]), n_tokens=3, d_sae=4)
    out = kernels.decode(torch.ones(1), pattern, torch.eye(4))
    assert out.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    nothing = torch.zeros(0, dtype=torch.int64)
    W = torch.eye(4, requires_grad=True)
    out = kernels.decode(torch.zeros(0), Pattern(nothing, nothing, 3, 4), W)
    out.sum().backward()
    assert not out.any()
    assert not W.grad.any()


def test_sparse_acts_to_dense_and_repr():
    acts = SparseActs(torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([1.0, 2.0]), n_tokens=2, d_sae=3)
    assert acts.to_dense().tolist() == [[0, 0, 1], [2, 0, 0]]
    assert repr(acts) == "SparseActs of 2 tokens, 3 features: 2 non-zero, l0 1.0"
