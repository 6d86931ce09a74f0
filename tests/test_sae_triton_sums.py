"""The summing kernels against dense matrices, and Adam against torch.optim.Adam and the trainer's constraints."""

from __future__ import annotations

import pytest
import torch

from saekit.errors import MismatchError
from saekit.sae import triton as triton_kernels
from saekit.sae.triton import reference as reference
from saekit.sae.triton.segments import CHUNK

from .triton_kernels import DEVICE, adam, decode, interpreted, random, weight_grads

__all__ = ["interpreted"]  # a fixture

pytestmark = pytest.mark.usefixtures("interpreted")


def pairs(n, k, d_sae, seed=0):
    """k different features for each token, some of them with value 0."""
    feature = random(n, d_sae, seed=seed).topk(k, dim=1).indices.sort(dim=1).values
    return feature, random(n, k, seed=seed + 1).relu()


def dense(feature, value, d_sae):
    return torch.zeros(len(feature), d_sae, device=DEVICE).scatter(1, feature, value)


@pytest.mark.parametrize(("n", "k", "d_sae", "d"), [(7, 3, 20, 33), (1, 1, 5, 64), (3, 20, 20, 130), (4, 5, 9, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_error_is_the_dense_one(n, k, d_sae, d, dtype):
    feature, value = pairs(n, k, d_sae)
    W, b, target = random(d_sae, d, seed=2), random(d, seed=3), random(n, d, seed=4)
    rounded = W.to(dtype).float()
    want = target - b - dense(feature, value, d_sae) @ rounded
    products = (want @ rounded.T).gather(1, feature)
    for error, d_value in (
        triton_kernels.decode_error(feature, value, W, b, target, dtype=dtype),
        reference.decode_error(feature, value, W.to(dtype), b, target),
    ):
        torch.testing.assert_close(error, want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(d_value, products, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("most", [16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_with_many_features_and_with_none(most, dtype, monkeypatch):
    """One token with all of the features, several blocks of pairs, one with none; and k beyond a block."""
    monkeypatch.setattr(decode, "MOST_PAIRS", most)
    acts = random(5, 70, seed=1) * (random(5, 70, seed=2) > 1.0)
    acts[1], acts[3] = random(70, seed=3), 0.0
    token, feature = acts.nonzero().unbind(1)
    start = torch.nn.functional.pad((acts != 0).sum(1).cumsum(0), (1, 0))
    W, b, target = random(70, 37, seed=4), random(37, seed=5), random(5, 37, seed=6)
    want = target - b - acts @ W.to(dtype).float()
    products = want @ W.to(dtype).float().T
    listed = (start, feature, acts[token, feature])
    for error, d_value in (
        triton_kernels.decode_error_of_pairs(*listed, W, b, target, dtype=dtype),
        reference.decode_error_of_pairs(*listed, W.to(dtype), b, target),
    ):
        torch.testing.assert_close(error, want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(d_value, products[token, feature], rtol=1e-5, atol=5e-5)
    everything = torch.arange(70, device=DEVICE).expand(5, 70)
    error, d_value = triton_kernels.decode_error(everything, acts, W, b, target, dtype=dtype)
    torch.testing.assert_close(error, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(d_value, products, rtol=1e-5, atol=5e-5)


def test_references_decode_in_pieces(monkeypatch):
    feature, value = pairs(3, 3, 10)
    W, b, target = random(10, 6), random(6), random(3, 6, seed=5)
    want = target - b - dense(feature, value, 10) @ W
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 4 * 3 * 6)  # a token, or three pairs, at a time
    start = torch.tensor([0, 3, 6, 9], device=DEVICE)
    flat = reference.decode_error_of_pairs(start, feature.reshape(-1), value.reshape(-1), W, b, target)
    for error, d_value in (reference.decode_error(feature, value, W, b, target), flat):
        torch.testing.assert_close(error, want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(d_value.reshape(3, 3), (want @ W.T).gather(1, feature), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_everywhere", [0, 1])
@pytest.mark.parametrize(("n", "k", "d_sae", "d"), [(9, 3, 40, 33), (1, 1, 3, 5), (2 * CHUNK + 7, 2, 5, 20)])
def test_weight_gradients_are_dense_products(n, k, d_sae, d, n_everywhere):
    """Features never active, one active on every token (several chunks of pairs), odd sizes."""
    feature, value = pairs(n, k, d_sae - 1)  # the last feature is never active
    if n_everywhere:
        feature[:, 0] = 0
        value[:, 0] = 1.0
        feature[:, 1:] = feature[:, 1:].clamp(min=1)
    rows, token = random(n, d, seed=4), torch.arange(n, device=DEVICE).repeat_interleave(k)
    want = torch.zeros(n, d_sae, device=DEVICE).scatter_add(1, feature, value).double().T @ rows.double()
    scale = want.abs().max()
    found = triton_kernels.weight_grad(feature.reshape(-1), value.reshape(-1), rows, token, d_sae)
    torch.testing.assert_close(found.double() / scale, want / scale, rtol=1e-5, atol=1e-6)
    again = torch.full_like(found, 7.0)
    sorted_ = triton_kernels.segments(feature, d_sae)
    assert triton_kernels.weight_grad(feature, value, rows, token, d_sae, again, sorted_=sorted_) is again
    assert torch.equal(found, again)  # the same bits
    got = reference.weight_grad(value.reshape(-1), rows, token, d_sae, sorted_, torch.empty_like(found))
    torch.testing.assert_close(got.double() / scale, want / scale, rtol=1e-5, atol=1e-6)
    rounded = rows.bfloat16()
    want = torch.zeros(n, d_sae, device=DEVICE).scatter_add(1, feature, value).double().T @ rounded.double()
    found = triton_kernels.weight_grad(feature, value, rounded, token, d_sae, sorted_=sorted_)
    torch.testing.assert_close(found.double() / scale, want / scale, rtol=1e-5, atol=1e-6)


def test_chunks_cover_every_pair_once_and_fit_their_room():
    for feature in (torch.zeros(3 * CHUNK + 1), torch.arange(700) % 2, torch.zeros(0), torch.full((CHUNK,), 3.0)):
        s = triton_kernels.segments(feature.long(), 4)
        n_chunks = s.chunk_end.diff(prepend=s.chunk_end.new_zeros(1))
        assert s.start[-1] == len(feature)
        assert n_chunks.tolist() == [max(1, -(-int((feature == f).sum()) // CHUNK)) for f in range(4)]
        assert s.chunk_end[-1] <= len(s.chunk_feature)
        assert s.chunk_feature.tolist().count(4) == len(s.chunk_feature) - int(s.chunk_end[-1])
        assert n_chunks[n_chunks > 1].sum() <= s.n_partials


def test_counts_are_of_values_above_zero():
    feature, value = pairs(50, 3, 12)
    want = (dense(feature, value, 12) > 0).sum(0)
    assert torch.equal(triton_kernels.segment_counts(feature, value, 12), want)
    assert triton_kernels.segment_counts(feature, value, 12).dtype == torch.int64
    assert (triton_kernels.segment_counts(feature.reshape(-1), torch.zeros_like(value), 12) == 0).all()


def scalar(number, dtype=torch.float32):
    return torch.tensor(number, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("move", [triton_kernels.adam_, reference.adam_], ids=["kernel", "reference"])
@pytest.mark.parametrize(("shape", "unit_rows"), [((5, 33), True), ((3, 64), False), ((70,), False), ((1100,), False)])
def test_adam_is_torchs_with_clipping_and_unit_rows(move, shape, unit_rows):
    """The reference is the trainer's own sequence: projection apart, clip, torch.optim.Adam, division by norms."""
    param = torch.nn.Parameter(random(*shape))
    ours = param.detach().clone()
    mean, square, copy = torch.zeros_like(ours), torch.zeros_like(ours), torch.empty_like(ours).bfloat16()
    optimiser = torch.optim.Adam([param], lr=0.01, betas=(0.9, 0.999), eps=6.25e-10)
    for step in range(1, 5):
        grad = random(*shape, seed=step) * 10.0 ** (step - 3)
        param.grad = grad.clone()
        norm = torch.nn.utils.clip_grad_norm_([param], 1.0)
        scale = (1.0 / (norm + 1e-6)).clamp(max=1.0)
        optimiser.step()
        if unit_rows:
            with torch.no_grad():
                param.div_(param.norm(dim=1, keepdim=True))
        move(
            ours,
            grad,
            mean,
            square,
            lr=0.01,
            beta1=0.9,
            beta2=0.999,
            eps=6.25e-10,
            step=scalar(step, torch.int64),
            scale=scale,
            skip=scalar(False, torch.bool),
            unit_rows=unit_rows,
            copy=copy,
        )
        torch.testing.assert_close(ours, param.detach(), rtol=1e-5, atol=1e-6)
    state = optimiser.state[param]
    torch.testing.assert_close(mean, state["exp_avg"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(square, state["exp_avg_sq"], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(copy.float(), ours, rtol=2**-7, atol=0)  # the interpreter cuts off what a GPU rounds


@pytest.mark.parametrize("step", [1, 2, 1000, 200_000])
def test_adams_corrections_are_exact_early_and_late(step):
    """1 - 0.999 in float32 is wrong by 5e-5 of itself: both ways compute it in double precision."""
    grad = random(4, 8)
    for move in (triton_kernels.adam_, reference.adam_):
        param, mean, square = torch.zeros(3, 4, 8, device=DEVICE)
        move(
            param,
            grad,
            mean,
            square,
            lr=1.0,
            beta1=0.9,
            beta2=0.999,
            eps=1e-9,
            step=scalar(step, torch.int64),
            scale=scalar(1.0),
            skip=scalar(False, torch.bool),
            unit_rows=False,
            copy=None,
        )
        g = grad.double()
        want = -(0.1 * g / (1 - 0.9**step)) / ((0.001 * g * g).sqrt() / (1 - 0.999**step) ** 0.5 + 1e-9)
        torch.testing.assert_close(param.double(), want, rtol=2e-6, atol=0)


@pytest.mark.parametrize("move", [triton_kernels.adam_, reference.adam_], ids=["kernel", "reference"])
def test_a_skipped_step_leaves_everything_even_for_nan(move):
    state = [random(3, 10, seed=s) for s in range(3)]
    kept, copy = [t.clone() for t in state], torch.ones(3, 10, device=DEVICE).bfloat16()
    for skip in (scalar(True, torch.bool), scalar(1.0)):
        move(
            state[0],
            torch.full((3, 10), float("nan"), device=DEVICE),
            state[1],
            state[2],
            lr=1.0,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            step=scalar(1, torch.int64),
            scale=scalar(float("nan")),
            skip=skip,
            unit_rows=True,
            copy=copy,
        )
        assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
        assert (copy == 1).all()


@pytest.mark.parametrize("project_", [triton_kernels.project_, reference.project_], ids=["kernel", "reference"])
def test_projection_leaves_what_is_at_right_angles(project_):
    param = torch.nn.functional.normalize(random(6, 33))
    grad = random(6, 33, seed=1)
    want = grad - param * (grad * param).sum(1, keepdim=True)
    again = grad.clone()
    squared = project_(param, grad)
    torch.testing.assert_close(grad, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(squared, want.square().sum(), rtol=1e-5, atol=1e-6)
    assert torch.equal(squared, project_(param, again))
    assert torch.equal(grad, again)
    assert (grad * param).sum(1).abs().max() < 1e-5


def test_what_is_changed_in_place_must_be_contiguous_and_of_one_shape():
    rows = random(6, 4)
    with pytest.raises(MismatchError, match=r"(?s)do not match.*strides \(1, 6\).*W_enc.T, not W_enc"):
        triton_kernels.project_(rows, rows.reshape(4, 6).T)
    with pytest.raises(MismatchError, match="do not match"):
        triton_kernels.weight_grad(*[torch.zeros(0)] * 2, rows, torch.zeros(0), 4, out=rows.T)
    state = {"lr": 1.0, "step": scalar(1), "scale": scalar(1.0), "skip": scalar(0.0)}
    with pytest.raises(MismatchError, match="do not match"):
        triton_kernels.adam_(rows, rows, rows, rows[:3], **state)
    with pytest.raises(MismatchError, match="do not match"):
        triton_kernels.adam_(rows, rows, rows, rows, copy=rows.T, **state)


def test_kernels_and_not_their_references_were_tested(monkeypatch):
    for module, name in ((decode, "decode_error"), (weight_grads, "weight_grad"), (adam, "adam_"), (adam, "project_")):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: name)
    feature, value = pairs(2, 2, 6)
    rows = random(6, 4)
    assert triton_kernels.decode_error(feature, value, rows, rows[0], rows[:2]) == "decode_error"
    assert triton_kernels.weight_grad(feature, value, rows[:2], torch.tensor([0, 0, 1, 1]), 6) == "weight_grad"
    assert triton_kernels.project_(rows, rows.clone()) == "project_"
