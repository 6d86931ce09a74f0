"""The largest products of two matrices against all of them in float64."""

from __future__ import annotations

import pytest
import torch

from saekit.index import products
from saekit.index.directions import logit_effects
from saekit.index.products import largest_products

M, D = 64 * 50 + 37, 24  # enough directions to be screened, and a last group that is not full


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
    real, rows = products._in_full, []

    def counted(x, *args):
        rows.append(len(x))
        return real(x, *args)

    monkeypatch.setattr(products, "_in_full", counted)
    return rows


@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("itself", [False, True])
def test_the_largest_are_those_of_all_products(screen, itself, in_full):
    U = directions()
    x = U[:300] if itself else torch.randn(300, D, generator=torch.Generator().manual_seed(1))
    found = largest_products(x, U, 10, block=128, signs=(1, -1), itself=itself, screen=screen)
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


def test_near_ties_that_bfloat16_cannot_tell_apart_are_told_apart():
    """Twenty directions that differ by less than bfloat16 resolves are in the order of their float32 products."""
    U = torch.randn(M, D, generator=torch.Generator().manual_seed(2))
    U[500:520] = 20 * U[500] / U[500].norm() * (1 + 1e-4 * torch.randperm(20)[:, None])
    x = U[500:501] / U[500].norm()
    (found,) = largest_products(x, U, 10, block=8, screen=torch.bfloat16)
    assert found.column[0].tolist() == (x @ U.T)[0].topk(10).indices.tolist()


def test_products_that_are_small_beside_the_lengths_are_not_left_to_rounding():
    """Rows lie in a plane that the directions hardly enter, so that bfloat16 knows next to nothing of the products."""
    U = torch.randn(M, D, generator=torch.Generator().manual_seed(3))
    U[:, :2] *= 1e-2
    x = torch.zeros(50, D)
    x[:, :2] = torch.randn(50, 2, generator=torch.Generator().manual_seed(4))
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(5))).Q
    U, x = U @ turn, x @ turn
    found = largest_products(x, U, 10, block=50, signs=(1, -1), screen=torch.bfloat16)
    for sign, (column, value) in zip((1, -1), found, strict=True):
        expected = (sign * (x.double() @ U.double().T)).topk(10)
        torch.testing.assert_close(sign * value.double(), expected.values, rtol=1e-5, atol=1e-6)
        assert (column == expected.indices).float().mean() > 0.99


def test_rows_that_cannot_be_told_are_multiplied_in_full(in_full):
    U = directions()
    x = torch.randn(40, D, generator=torch.Generator().manual_seed(1))
    x[3] = 0
    x[8, 2] = torch.nan
    expected = (x @ U.T).topk(5).values
    (found,) = largest_products(x, U, 5, block=40, screen=torch.bfloat16)
    assert in_full == [2]
    torch.testing.assert_close(found.value, expected, equal_nan=True)
    in_full.clear()
    largest_products(x, U[:500], 5, block=40)
    largest_products(x, U, 40, block=40)
    assert in_full == [40, 40]  # few directions, and many of them wanted


def test_progress_is_reported_and_nothing_that_was_given_is_changed():
    W_dec, U = directions()[:70], directions(1).T
    before, seen = U.clone(), []
    promoted, _ = logit_effects(W_dec, U, 3, block=32, report=seen.append)
    assert seen == [32, 64, 70] and torch.equal(U, before)
    torch.testing.assert_close(promoted.value, (W_dec @ (U - U.mean(1, keepdim=True))).topk(3).values)
