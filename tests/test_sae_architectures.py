"""Every architecture's training loss and its gradients against a plain dense float64 reference."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.sae.architectures.jumprelu import bandwidth, jump, step
from saekit.sae.architectures.kl import divergence, firing_rate
from saekit.sae.sparse import pairs as pairs_module

D_IN, D_SAE, N, K = 12, 40, 30, 3
KINDS = {
    "relu": {"activation": "relu"},
    "kl": {"activation": "kl", "firing_rate": 0.1},
    "topk": {"activation": "topk", "k": K},
    "topk multi-k": {"activation": "topk", "k": K, "multi_k_coefficient": 0.125},
    "topk matryoshka": {"activation": "topk", "k": K, "matryoshka": (5, 20, D_SAE)},
    "batchtopk": {"activation": "batchtopk", "k": K},
    "batchtopk matryoshka": {"activation": "batchtopk", "k": K, "matryoshka": (1, 39, D_SAE)},
    "jumprelu linear": {"activation": "jumprelu", "bandwidth": 0.3},
    "jumprelu quadratic": {"activation": "jumprelu", "bandwidth": 0.3, "l0_penalty": "quadratic", "target_l0": 4.0},
    "gated": {"activation": "gated"},
}
ENDS = {"autoencoder": {}, "transcoder": {"d_out": 7}, "skip transcoder": {"d_out": 7, "skip": True}}


def sae_and_batch(name, ends="autoencoder", seed=0, **fields):
    """An SAE in float64 with weights that are all in use, a batch, and what it is to reconstruct."""
    generator = torch.Generator().manual_seed(seed)
    sae = sk.SAE(sk.SAEConfig(d_in=D_IN, d_sae=D_SAE, dtype="float64", **KINDS[name], **ENDS[ends], **fields))
    with torch.no_grad():
        for weight in sae.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        if "threshold" in sae.architecture.extra_parameters:
            sae.threshold.abs_()
    x = torch.randn(N, D_IN, generator=generator, dtype=torch.float64)
    target = torch.randn(N, 7, generator=generator, dtype=torch.float64) if sae.config.is_transcoder else x
    return sae, x, target


def reference(sae, x, target):
    """(squared error to minimise, penalty) by the equations, on whole matrices."""
    c, architecture = sae.config, sae.config.activation
    pre = (x - sae.b_dec if c.subtracts_b_dec else x) @ sae.W_enc + sae.b_enc
    skip = x @ sae.W_skip if c.skip else 0.0

    def squared(acts, rows=D_SAE, W_dec=None, b_dec=None):
        W_dec = sae.W_dec if W_dec is None else W_dec
        b_dec = sae.b_dec if b_dec is None else b_dec
        return (target - acts[:, :rows] @ W_dec[:rows] - b_dec - skip).square().sum()

    def among_largest(values, k, whole_batch=False):
        with torch.no_grad():
            flat = values.reshape(1, -1) if whole_batch else values
            least = flat.topk(k * len(values) if whole_batch else k, dim=1).values[:, -1:]
            return (values >= least).double()

    if architecture in ("topk", "batchtopk"):
        acts = pre.relu() * among_largest(pre, K, architecture == "batchtopk")
        sizes = c.matryoshka or (D_SAE,)
        loss = sum(squared(acts, m) for m in sizes) / len(sizes)
        if c.multi_k_coefficient:
            loss = loss + c.multi_k_coefficient * squared(pre.relu() * among_largest(pre, 4 * K))
        return loss, None
    if architecture == "relu":
        acts = pre.relu()
        return squared(acts), (acts * sae.W_dec.norm(dim=1)).sum() / N
    if architecture == "kl":
        acts = pre.relu()
        rho, rate = 0.1, acts.tanh().mean(0)
        return squared(acts), (rho * (rho / rate).log() + (1 - rho) * ((1 - rho) / (1 - rate)).log()).sum()
    if architecture == "gated":
        gate = pre.relu()
        acts = ((pre - sae.b_enc) * sae.r_mag.exp() + sae.b_mag).relu() * (pre > 0).double()
        skip_frozen = x @ sae.W_skip.detach() if c.skip else 0.0
        of_gate = (target - gate @ sae.W_dec.detach() - sae.b_dec.detach() - skip_frozen).square().sum()
        return squared(acts) + of_gate, gate.sum() / N
    raise AssertionError(architecture)


def gradients(sae, loss):
    names = [n for n, _ in sae.named_parameters()]
    grads = torch.autograd.grad(loss, [getattr(sae, n) for n in names], allow_unused=True)
    return {n: torch.zeros_like(getattr(sae, n)) if g is None else g for n, g in zip(names, grads, strict=True)}


def test_every_architecture_is_among_these():
    assert {fields["activation"] for fields in KINDS.values()} == set(sk.sae.ARCHITECTURES)


@pytest.mark.parametrize("form", ["sparse", "dense"])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", [n for n in KINDS if "jumprelu" not in n])
def test_loss_and_every_gradient_agree_with_a_plain_reference(name, ends, form, monkeypatch):
    monkeypatch.setattr(pairs_module, "SPARSE_BELOW", 2.0 if form == "sparse" else -1.0)
    sae, x, target = sae_and_batch(name, ends)
    out = sae.training_forward(x, target)
    squared, penalty = reference(sae, x, target)
    torch.testing.assert_close(out.squared_error, squared, rtol=1e-10, atol=1e-10)
    total, want = out.squared_error, squared
    if penalty is not None:
        torch.testing.assert_close(out.penalty, penalty, rtol=1e-10, atol=1e-10)
        total, want = total + 0.7 * out.penalty, want + 0.7 * penalty
    got, expected = gradients(sae, total), gradients(sae, want)
    for weight, grad in expected.items():
        assert bool(grad.any()), weight
        torch.testing.assert_close(got[weight], grad, rtol=1e-9, atol=1e-9)


# ---- jumprelu: a gradient that is not the derivative of what is computed -------------------------------------------


def smoothed_jump(pre, theta, epsilon):
    """JumpReLU with its step blurred by the kernel: the function whose derivative in theta is the estimate."""
    high, low = pre + epsilon / 2, pre - epsilon / 2
    inside = torch.minimum(torch.maximum(theta.expand_as(pre), low), high)
    return (high.square() - inside.square()) / (2 * epsilon)


def smoothed_step(pre, theta, epsilon):
    return ((pre - theta) / epsilon + 0.5).clamp(0, 1)


def test_threshold_gradients_are_finite_differences_of_the_kernel_smoothed_functions():
    generator = torch.Generator().manual_seed(0)
    pre = torch.rand(200, 5, generator=generator, dtype=torch.float64) * 2 - 0.2
    weight = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    theta = torch.linspace(0.3, 1.2, 5, dtype=torch.float64).requires_grad_()
    epsilon, h = 0.2, 1e-6
    for hard, smooth in ((jump, smoothed_jump), (step, smoothed_step)):
        (got,) = torch.autograd.grad((weight * hard(pre, theta.expand_as(pre), epsilon)).sum(), theta)
        with torch.no_grad():
            up, down = (smooth(pre, theta + s * h, epsilon) for s in (1, -1))
            want = (weight * (up - down)).sum(0) / (2 * h)
        assert float(want.abs().min()) > 0.1
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["sparse", "dense"])
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", ["jumprelu linear", "jumprelu quadratic"])
def test_the_whole_jumprelu_loss_has_the_gradient_of_its_kernel_smoothed_form(name, ends, form, monkeypatch):
    """Finite differences in theta of the loss with smoothed jumps, linearised in f about the hard ones; the other
    weights against autograd with theta's choice of features held fixed."""
    monkeypatch.setattr(pairs_module, "SPARSE_BELOW", 2.0 if form == "sparse" else -1.0)
    sae, x, target = sae_and_batch(name, ends)
    out = sae.training_forward(x, target)
    got = gradients(sae, out.squared_error + 0.7 * out.penalty)

    pre = (x - sae.b_dec if sae.config.subtracts_b_dec else x) @ sae.W_enc + sae.b_enc
    on = (pre > sae.threshold).double()
    acts = pre * on
    skip = x @ sae.W_skip if sae.config.skip else 0.0
    squared = (target - acts @ sae.W_dec - sae.b_dec - skip).square().sum()
    l0 = on.sum() / N
    penalty = l0 if "linear" in name else (l0 / 4.0 - 1) ** 2
    torch.testing.assert_close((out.squared_error, out.penalty), (squared, penalty))
    others = [n for n, _ in sae.named_parameters() if n != "threshold"]
    for weight, grad in zip(others, torch.autograd.grad(squared, [getattr(sae, n) for n in others]), strict=True):
        torch.testing.assert_close(got[weight], grad, rtol=1e-9, atol=1e-9)

    with torch.no_grad():
        epsilon, h = bandwidth(sae), 1e-6
        slope = -2 * (target - acts @ sae.W_dec - sae.b_dec - skip) @ sae.W_dec.T  # of the squared error in f
        slope_l0 = 1.0 if "linear" in name else 2 * (l0 / 4.0 - 1) / 4.0
        want = torch.zeros(D_SAE, dtype=torch.float64)
        for sign in (1, -1):
            theta = sae.threshold + sign * h
            change = (slope * smoothed_jump(pre, theta, epsilon)).sum(0)
            change += 0.7 * slope_l0 * smoothed_step(pre, theta, epsilon).sum(0) / N
            want += sign * change / (2 * h)
    assert int((want != 0).sum()) > D_SAE / 2
    torch.testing.assert_close(got["threshold"], want, rtol=1e-4, atol=1e-4)


def test_the_window_counts_pairs_below_the_threshold_as_much_as_those_above():
    theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    for pre, wanted in ((0.96, -10.0), (1.04, -10.0), (0.94, 0.0), (1.06, 0.0)):
        out = step(torch.tensor([pre], dtype=torch.float64), theta, 0.1)
        (grad,) = torch.autograd.grad(out.sum(), theta)
        assert float(grad) == pytest.approx(wanted)


def test_expected_loss_moves_with_the_threshold_as_the_gradient_says():
    """On many tokens the estimate is the derivative of the plain, unsmoothed expectation."""
    generator = torch.Generator().manual_seed(0)
    pre = torch.rand(2_000_000, generator=generator, dtype=torch.float64)
    theta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    hard = jump(pre, theta.expand_as(pre), 0.02)
    (got,) = torch.autograd.grad((hard - pre).square().mean(), theta)
    # f in the loss is the hard one, so pairs below theta see f = 0 and those above f = pre: the mean of the two slopes
    assert float(got) == pytest.approx(0.5 * 0.5**2 * 2, rel=0.03)


def test_the_divergence_is_that_of_two_coins_and_zero_at_the_target():
    from scipy.stats import entropy

    rates = torch.tensor([0.01, 0.05, 0.3], dtype=torch.float64)
    want = [entropy([0.05, 0.95], [r, 1 - r]) for r in rates.tolist()]
    assert divergence(0.05, rates).tolist() == pytest.approx(want)
    assert float(divergence(0.05, torch.tensor(0.05))) == pytest.approx(0, abs=1e-7)
    assert bool(torch.isfinite(divergence(0.05, torch.tensor([0.0, 1.0]))).all())
    assert firing_rate(sk.SAEConfig(d_in=4, d_sae=100, activation="kl", target_l0=8)) == 0.02
