"""The largest products of two matrices against all of them in float64."""

from __future__ import annotations

import pytest
import torch

from saekit.index import exact_topk
from saekit.index.directions import logit_effects
from saekit.index.exact_topk import largest_products
from saekit.sae.sparse.int8_bounds import N_SIGMA, supported

M, D = 64 * 50 + 37, 24  # enough directions not to be multiplied in full, and a last group that is not full
INT8 = pytest.param(torch.int8, marks=pytest.mark.skipif(not supported(), reason="no products of 8-bit integers"))
DTYPES = [INT8, torch.bfloat16, torch.float32]


def directions(seed: int = 0) -> torch.Tensor:
    """Of lengths that differ tenfold, some nearly the same, some zero."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.randn(M, D, generator=generator) * torch.rand(M, 1, generator=generator).mul(2.3).exp()
    out[100:120] = out[99] + 1e-4 * torch.randn(20, D, generator=generator)
    out[200:203] = 0
    return out


@pytest.fixture
def in_full(monkeypatch) -> list[int]:
    """How many rows were multiplied in full, call by call."""
    real, rows = exact_topk._in_full, []

    def counted(x, *args):
        rows.append(len(x))
        return real(x, *args)

    monkeypatch.setattr(exact_topk, "_in_full", counted)
    return rows


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hard(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and directions that are far from evenly spread; the rows are the first of the directions' own kind."""
    both = drawn(6, M + 200, D)
    if kind == "heavy tails":
        both = both.sign() * both.abs() ** 4
    elif kind == "one huge coordinate":
        both[::7, 3] = 1e5
        both[5, 2], both[-5, 2] = -3e7, 3e7
    elif kind == "uneven dimensions":
        both *= torch.logspace(-4, 3, D)
    elif kind == "tiny and huge":
        both *= torch.logspace(-20, 5, M + 200)[drawn(7, M + 200).argsort(), None]
    elif kind == "zeros":
        both[drawn(7, M + 200) > 0] = 0
        both[:, 4:6] = 0
    elif kind == "duplicates":
        both[1000:1600] = both[torch.arange(200).repeat(3)]
        both[1600:1610] = -both[:10]
    elif kind == "whole numbers":
        both.round_()
    return both[-200:], both[:M]


def check(rows: torch.Tensor, U: torch.Tensor, n: int, *, itself: bool = False, **kwargs) -> None:
    """The n largest and the n smallest are those of the products in float64, but for what float32 cannot
    distinguish."""
    found = largest_products(rows, U, n, block=128, signs=(1, -1), itself=itself, **kwargs)
    product, length = rows.double() @ U.double().T, rows.double().norm(dim=1, keepdim=True) * U.double().norm(dim=1)
    for sign, (column, value) in zip((1, -1), found, strict=True):
        signed = sign * product
        if itself:
            signed[torch.arange(len(rows)), torch.arange(len(rows))] = -torch.inf
        best = signed.topk(n)
        room = 2e-6 * torch.maximum(length.gather(1, best.indices), length.gather(1, column)) + 1e-37
        assert ((sign * value.double() - best.values).abs() <= room).all()
        assert ((sign * value.double() - signed.gather(1, column)).abs() <= room).all()
        assert all(len(set(row)) == n for row in column.tolist())


@pytest.mark.parametrize("approximate_dtype", DTYPES)
@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "heavy tails",
        "one huge coordinate",
        "uneven dimensions",
        "tiny and huge",
        "zeros",
        "duplicates",
        "whole numbers",
    ],
)
def test_nothing_is_missed_in_data_that_are_hard_to_round(kind, itself, approximate_dtype):
    rows, U = hard(kind)
    check(U[:200] if itself else rows, U, 10, itself=itself, approximate_dtype=approximate_dtype)


@pytest.mark.parametrize("approximate_dtype", DTYPES)
def test_nothing_is_missed_among_products_closer_than_the_approximation_can_tell(approximate_dtype, in_full):
    """Forty directions of different groups, whose products with the rows differ by less than a rounding error."""
    U, x = 8 * drawn(8, M, D), torch.nn.functional.normalize(drawn(9, D), dim=0)
    U -= (U @ x)[:, None] * x
    large, small = drawn(10, M).argsort()[:80].split(40)
    U[large] += torch.linspace(8, 8.1, 40)[:, None] * x
    U[small] -= torch.linspace(8, 8.1, 40)[:, None] * x
    rows = (x + 1e-4 * drawn(11, 100, D)) * torch.logspace(-6, 6, 100)[:, None]
    check(rows, U, 10, approximate_dtype=approximate_dtype)
    assert sum(in_full) < 10


@pytest.mark.skipif(not supported(), reason="no products of 8-bit integers")
@pytest.mark.parametrize("kind", ["", "heavy tails", "uneven dimensions", "zeros", "all rounded alike", "wide"])
def test_products_in_8_bits_are_wrong_by_as_much_as_they_say(kind):
    """The error's bound is that of N_SIGMA standard deviations, and holds with room to spare, whatever the data."""
    rows, U = hard(kind)
    if kind == "all rounded alike":  # half a step from a whole number, but for what sets the step
        rows, U = torch.full((200, 256), 10.45), torch.full((M, 256), 10.45)
        rows[:, 0] = U[:, 0] = 126
    elif kind == "wide":
        rows, U = drawn(12, 200, 3000), drawn(13, M, 3000) + 1
    table = exact_topk._Int8Products(U, rows, 200)
    number, shift, scale, error = table.of_rows(rows)
    step = (rows / table._c).abs().amax(1, keepdim=True) / 126
    exact = torch.zeros(200, number[0].numel(), dtype=torch.float64)
    exact[:, :M] = (rows.double() @ U.double().T)[:, table.order[:M]] / step.clamp_min(1e-30)
    about = scale[:, None].double() * (number + shift.double()[:, :, None])
    ratio = ((about - exact.view_as(about)) / error[:, :, None]).flatten(1)[:, :M]
    assert ratio.abs().max() < 6.5 / N_SIGMA
    if kind in ("", "wide"):
        assert 0.85 < ratio.std() * N_SIGMA < 1.05
        assert abs(ratio.mean()) * N_SIGMA < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["", "heavy tails", "uneven dimensions", "zeros"])
def test_products_of_rounded_numbers_are_wrong_by_no_more_than_they_say(kind, dtype):
    """Also where nothing is lost of the rows, so that all error is the directions'."""
    rows, U = hard(kind)
    rows = rows.bfloat16().float()
    table = exact_topk._FloatProducts(U, dtype, 200)
    about = table.of_rows(rows)
    exact = (rows.double() @ U.double().T)[:, table.order[:M]]
    room = about.error.repeat_interleave(64, 1)[:, :M] + exact.abs() * torch.finfo(dtype).eps
    assert ((about.number.flatten(1)[:, :M] - exact).abs() <= room).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_are_found_whatever_the_shift_and_the_scale(sign):
    """From approximate products that are right, so that nothing wrong is hidden by their error."""
    rows, U = (drawn(14, 200, D) * 3).round_(), (drawn(15, M, D) * 3).round_()
    table = exact_topk._FloatProducts(U, torch.float32, 200)
    scale = 2.0 ** torch.randint(-3, 1, (table.n_groups,), generator=torch.Generator().manual_seed(16))
    shift = (drawn(17, 200, 1) * 1e4).round_()
    number = ((rows @ U[table.order].T).view(200, -1, 64) / scale[:, None] - shift[:, :, None]).int()
    number.flatten(1)[:, M:] = -sign * (2**31 - 1)
    about = exact_topk._Approximation(number, shift, scale, torch.full((200, table.n_groups), 1e-3))
    found, certain = exact_topk._largest(rows, about, sign, table, 10)
    assert certain.float().mean() > 0.9
    expected = (sign * (rows @ U.T)).topk(10).values
    assert torch.equal(sign * found.value[certain], expected[certain])


@pytest.mark.parametrize("approximate_dtype", DTYPES)
@pytest.mark.parametrize("itself", [False, True])
def test_the_largest_are_those_of_all_products(approximate_dtype, itself, in_full):
    U = directions()
    x = U[:300] if itself else torch.randn(300, D, generator=torch.Generator().manual_seed(1))
    found = largest_products(x, U, 10, block=128, signs=(1, -1), itself=itself, approximate_dtype=approximate_dtype)
    product = x.double() @ U.double().T
    assert sum(in_full) < 30  # the zero rows and those whose largest products are many near-ties
    for sign, (column, value) in zip((1, -1), found, strict=True):
        signed = sign * product
        if itself:
            signed[torch.arange(300), torch.arange(300)] = -torch.inf
        assert column.shape == (300, 10) and value.dtype == torch.float32
        torch.testing.assert_close(sign * value.double(), signed.topk(10).values, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sign * value.double(), signed.gather(1, column), rtol=1e-5, atol=1e-5)
        assert all(len(set(row)) == 10 for row in column.tolist())


@pytest.mark.parametrize("approximate_dtype", DTYPES)
def test_near_ties_that_an_approximation_cannot_resolve_are_resolved(approximate_dtype):
    """Twenty directions that differ by less than an approximation resolves are in the order of their float32
    products."""
    U = torch.randn(M, D, generator=torch.Generator().manual_seed(2))
    U[500:520] = 20 * U[500] / U[500].norm() * (1 + 1e-4 * torch.randperm(20)[:, None])
    x = U[500:501] / U[500].norm()
    (found,) = largest_products(x, U, 10, block=8, approximate_dtype=approximate_dtype)
    assert found.column[0].tolist() == (x @ U.T)[0].topk(10).indices.tolist()


@pytest.mark.parametrize("approximate_dtype", DTYPES)
def test_products_that_are_small_beside_the_lengths_are_not_left_to_rounding(approximate_dtype):
    """Rows lie in a plane that directions hardly enter, so an approximation resolves next to nothing of the
    products."""
    U = torch.randn(M, D, generator=torch.Generator().manual_seed(3))
    U[:, :2] *= 1e-2
    x = torch.zeros(50, D)
    x[:, :2] = torch.randn(50, 2, generator=torch.Generator().manual_seed(4))
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5))).Q
    U, x = U @ turn, x @ turn
    found = largest_products(x, U, 10, block=50, signs=(1, -1), approximate_dtype=approximate_dtype)
    for sign, (column, value) in zip((1, -1), found, strict=True):
        expected = (sign * (x.double() @ U.double().T)).topk(10)
        torch.testing.assert_close(sign * value.double(), expected.values, rtol=1e-5, atol=1e-6)
        assert (column == expected.indices).float().mean() > 0.99


@pytest.mark.parametrize("approximate_dtype", DTYPES)
def test_rows_that_cannot_be_resolved_are_multiplied_in_full(approximate_dtype, in_full):
    U = directions()
    x = torch.randn(40, D, generator=torch.Generator().manual_seed(1))
    x[3] = 0
    x[8, 2] = torch.nan
    expected = (x @ U.T).topk(5).values
    (found,) = largest_products(x, U, 5, block=40, approximate_dtype=approximate_dtype)
    assert in_full == [2]
    torch.testing.assert_close(found.value, expected, equal_nan=True)
    in_full.clear()
    largest_products(x, U[:500], 5, block=40)
    largest_products(x, U, 40, block=40)
    assert in_full == [40, 40]  # few directions, and many of them wanted
    in_full.clear()
    U[77, 0] = torch.nan
    (found,) = largest_products(x, U, 5, block=40, approximate_dtype=approximate_dtype)
    assert in_full == [40]
    assert (found.column == 77).any(1)[:8].all()  # as topk has it
    assert largest_products(x[:0], U, 5, block=40, approximate_dtype=approximate_dtype) == []


def test_progress_is_reported_and_nothing_that_was_given_is_changed():
    W_dec, U = directions()[:70], directions(1).T
    before, seen = U.clone(), []
    promoted, _ = logit_effects(W_dec, U, 3, block=32, report=seen.append)
    assert seen == [32, 64, 70] and torch.equal(U, before)
    torch.testing.assert_close(promoted.value, (W_dec @ (U - U.mean(1, keepdim=True))).topk(3).values)
