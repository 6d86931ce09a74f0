"""The selecting kernels against sorting everything: values, indices, ties, odd sizes, and the same bits twice."""

from __future__ import annotations

import pytest
import torch

from saekit.errors import ConfigError
from saekit.sae import triton as triton_kernels
from saekit.sae.triton.launch import launch

from .triton_kernels import DEVICE, SMALL, batch, encode, interpreted, random

__all__ = ["interpreted"]  # a fixture

pytestmark = pytest.mark.usefixtures("interpreted")
DENSE = triton_kernels.Plan(kind="dense")


def reference(x, W, b, dtype):
    """Every pre-activation, from inputs rounded to `dtype`, in double precision."""
    return x.to(dtype).double() @ W.to(dtype).double().T + b.double()


def largest_of_rows(pre, k):
    """By a stable sort: of equal values the first."""
    feature = pre.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    return pre.gather(1, feature), feature


def largest_of_all(pre, count):
    position = pre.flatten().sort(descending=True, stable=True).indices[:count].sort().values
    return pre.flatten()[position], position


def data(kind, n, d_in, d_sae):
    x, W, b = random(n, d_in), random(d_sae, d_in, seed=1), random(d_sae, seed=2)
    if kind == "ties":  # small integers: many equal sums, exact in every order
        return x.sign() * (x.abs() > 0.7), W.sign() * (W.abs() > 0.7), torch.zeros_like(b)
    if kind == "all equal":
        return torch.zeros_like(x), W, torch.zeros_like(b)
    if kind == "one group":  # all of the largest are neighbours, which two candidates cannot hold
        b[17:31] += 50.0
    if kind == "one token":
        x[n // 2] *= 30.0
    if kind == "negative":  # the caller leaves these out; the choice among them is the same
        b -= 100.0
    return x, W, b


CASES = [
    ("random", 5, 20, 70, 3),
    ("random", 1, 16, 200, 1),
    ("random", 17, 33, 131, 5),
    ("ties", 6, 33, 130, 7),
    ("all equal", 3, 8, 100, 6),
    ("one group", 4, 40, 129, 8),
    ("one token", 4, 24, 130, 6),
    ("negative", 3, 70, 64, 4),
    ("random", 2, 5, 3, 1),
]


@pytest.mark.parametrize(("kind", "n", "d_in", "d_sae", "k"), CASES)
@pytest.mark.slow
def test_top_k_is_what_a_sort_of_everything_gives(kind, n, d_in, d_sae, k):
    x, W, b = data(kind, n, d_in, d_sae)
    value, feature = triton_kernels.top_k(x, W, b, k, plan=SMALL)
    want, where = largest_of_rows(reference(x, W, b, torch.float32), k)
    assert torch.equal(feature, where)
    torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)
    dense, _ = triton_kernels.top_k(x, W, b, k, plan=DENSE)
    torch.testing.assert_close(value.sort(dim=1).values, dense.sort(dim=1).values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "n", "d_in", "d_sae", "k"), CASES)
def test_top_of_batch_is_what_a_sort_of_everything_gives(kind, n, d_in, d_sae, k):
    x, W, b = data(kind, n, d_in, d_sae)
    want, where = largest_of_all(reference(x, W, b, torch.float32), n * k)
    for plan in (SMALL, DENSE):
        value, position = triton_kernels.top_of_batch(x, W, b, n * k, plan=plan)
        assert torch.equal(position, where), plan
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)


def test_a_list_longer_than_what_is_wanted_is_cut_at_the_new_bound():
    """Nearly every chosen feature hides behind two candidates, so completing the groups finds far more than count."""
    x = torch.ones(2, 16, device=DEVICE)
    W = random(256, 16) * 0.01
    W[32:64] += 1.0  # two groups of sixteen
    b = torch.zeros(256, device=DEVICE)
    for count in (4, 11, 32):
        value, position = triton_kernels.top_of_batch(x, W, b, count, plan=SMALL)
        want, where = largest_of_all(reference(x, W, b, torch.float32), count)
        assert torch.equal(position, where)
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_products_are_summed_in_float32():
    """Against inputs rounded to bfloat16: what is left is the rounding of float32 sums, 1e-5."""
    x, W, b = data("random", 9, 50, 140)
    pre = reference(x, W, b, torch.bfloat16)
    for plan in (SMALL, DENSE):
        value, feature = triton_kernels.top_k(x, W, b, 4, dtype=torch.bfloat16, plan=plan)
        want, where = largest_of_rows(pre, 4)
        assert torch.equal(feature, where)
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)
        value, position = triton_kernels.top_of_batch(x, W.bfloat16(), b, 36, dtype=torch.bfloat16, plan=plan)
        want, where = largest_of_all(pre, 36)
        assert torch.equal(position, where)
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-5)


def test_every_feature_and_a_single_one():
    x, W, b = data("random", 3, 12, 40)
    value, feature = triton_kernels.top_k(x, W, b, 40)
    assert torch.equal(feature, torch.arange(40, device=DEVICE).expand(3, 40))
    torch.testing.assert_close(value, x @ W.T + b, rtol=1e-5, atol=1e-5)
    value, position = triton_kernels.top_of_batch(x, W, b, 120)
    assert torch.equal(position, torch.arange(120, device=DEVICE))
    assert triton_kernels.top_of_batch(x, W, b, 1, plan=SMALL)[1].item() == (x @ W.T + b).argmax().item()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, from the interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_batch_that_is_not_finite_gives_indices_within_bounds(bad):
    x, W, b = data("random", 4, 20, 70)
    x[1, 3] = bad
    x[2] = bad
    for plan in (SMALL, DENSE):
        feature = triton_kernels.top_k(x, W, b, 3, plan=plan)[1]
        position = triton_kernels.top_of_batch(x, W, b, 12, plan=plan)[1]
        assert bool(((feature >= 0) & (feature < 70)).all())
        assert bool(((position >= 0) & (position < 280)).all())


@pytest.mark.slow
def test_two_runs_give_the_same_bits():
    x, W, b = data("one group", 5, 40, 130)
    for choose, count in ((triton_kernels.top_k, 4), (triton_kernels.top_of_batch, 20)):
        one, two = choose(x, W, b, count, plan=SMALL), choose(x, W, b, count, plan=SMALL)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


def test_two_candidates_of_one_group_come_in_order_of_feature():
    """Rounding in a group that was computed again can lower the bound below the second candidate of another."""
    top = torch.tensor([[[5.0, 4.0]], [[3.0, 2.0]]], device=DEVICE)  # the largest of groups 0 and 1, then the next
    index = torch.tensor([[7 | 2 << 4, 1 | 9 << 4]], dtype=torch.uint8, device=DEVICE)
    zero = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    value, place = torch.zeros(4, device=DEVICE), torch.zeros(4, dtype=torch.int64, device=DEVICE)
    launch(
        batch._list, (1,), top[0], top[1], index, zero, zero, zero, zero, value, zero, zero, value, place, 4, 32, 2, 16
    )
    assert place.tolist() == [2, 7, 17, 25]
    assert value.tolist() == [3, 5, 4, 2]


def test_candidates_are_the_two_largest_of_sixteen():
    x, W, b = data("random", 18, 70, 150)
    top, index = encode.candidates(x, W, b, SMALL)
    pre = torch.nn.functional.pad(x @ W.T + b, (0, 10), value=float("-inf")).reshape(18, 10, 16)
    want, place = pre.topk(2, dim=2)
    torch.testing.assert_close(top.permute(1, 2, 0), want, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.stack([index & 15, index >> 4], dim=2).long(), place)


def test_the_plan_is_chosen_by_size_and_misuse_is_named():
    x, W, b = data("random", 4, 20, 70)
    with pytest.raises(ConfigError, match="cannot choose that many"):
        triton_kernels.top_k(x, W, b, 60, plan=SMALL)
    with pytest.raises(ConfigError, match="another type"):
        triton_kernels.top_k(x, W, b, 3, dtype=torch.float16)
    with pytest.raises(ConfigError, match="unknown plan"):
        triton_kernels.Plan(kind="sparse")
    with pytest.raises(ConfigError, match="multiple of 64"):
        triton_kernels.Plan(kind="fused", tile_f=96)
