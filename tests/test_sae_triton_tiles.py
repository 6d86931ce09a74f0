"""Which plan is chosen: the quickest by a timer that is given, among those that are right; and that it is kept."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import pytest
import torch

from saekit.sae import triton as triton_kernels
from saekit.sae.triton import device_key, gate, isolation, outcome, plan, reference, tiles
from saekit.sae.triton.plan import DENSE, TILES

from .triton_kernels import ON_GPU, encode, interpreted, random

__all__ = ["interpreted"]  # a fixture
CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(ON_GPU, reason="devices are simulated here")
PLANS = (DENSE, *TILES)


def timed(seconds, choose, plans=PLANS):
    """`time_plans` where the timer says what `seconds` has for each plan that it is asked about, in turn."""
    said = iter(seconds)
    return tiles.time_plans("top_k n 16", plans, choose, lambda call: (call(), next(said))[1])


def right(plan):
    return torch.arange(12.0).reshape(3, 4), torch.zeros(3, 4)


def test_the_quickest_is_chosen():
    found = timed([5.0, 3.0, 1.0, 2.0, 4.0], right)
    assert found.chosen == TILES[1].label and found.dropped == {}
    assert list(found.seconds.values()) == [5.0, 3.0, 1.0, 2.0, 4.0]
    assert timed([1.0, 3.0, 2.0, 2.0, 4.0], right).chosen == "dense"


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (lambda value: value + 0.5, "differs from the dense plan by 0.045"),
        (lambda value: value * float("nan"), "differs from the dense plan by inf"),
        (lambda value: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["wrong", "NaN", "raises"],
)
def test_a_wrong_candidate_is_dropped_however_quick(break_, said):
    def choose(plan):
        value, feature = right(plan)
        return (break_(value) if plan == TILES[0] else value), feature

    found = timed([5.0, 4.0, 3.0, 2.0], choose)
    assert found.chosen == TILES[3].label and said in found.dropped[TILES[0].label]
    assert TILES[0].label not in found.seconds


def test_equal_values_in_another_order_are_equal():
    def choose(plan):
        value, feature = right(plan)
        return (value if plan == DENSE else value.flip(1)), feature

    assert timed([2.0, 1.0], choose, PLANS[:2]).chosen == TILES[0].label


def test_where_the_dense_plan_has_no_memory_the_others_are_timed_and_where_all_fail_dense_says_why():
    def choose(plan):
        if plan == DENSE:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(plan)

    found = timed([2.0, 1.0], choose, PLANS[:3])
    assert found.chosen == TILES[1].label and "OutOfMemoryError" in found.dropped["dense"]

    def never(plan):
        raise RuntimeError("no")

    assert timed([], never).chosen == "dense"


@pytest.fixture
def device(interpreted, monkeypatch, tmp_path):
    """The CPU as a GPU on which the last two choices of tiles passed; its timer prefers what comes last."""
    rows = [
        outcome.KernelCheck(
            kernel="top_k", case="", tiles=p.label, difference=0.0 if p in TILES[2:] else 1.0, tolerance=0
        )
        for p in TILES
    ]
    rows.append(outcome.KernelCheck(kernel="adam_", case="", difference=0.0, tolerance=0.0))
    timings = []

    def seconds(call):
        call()
        timings.append(1)
        return 1.0 / len(timings)

    monkeypatch.setattr(gate, "CHECKED", ("cpu", "cuda"))
    monkeypatch.setattr(
        isolation, "check_in_own_process", lambda device, key: outcome.SelfCheck(key=key, checks=tuple(rows))
    )
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(tiles, "cuda_seconds", seconds)
    monkeypatch.setattr(encode, "top_k", lambda *args: used.append(args[-1]) or reference.top_k(*args[:-1]))
    used: list[plan.Plan] = []
    forget()
    yield timings, used
    forget()


def forget():
    gate.forget()
    tiles.forget()


def top_k(n=9, dtype=torch.bfloat16, k=3):
    x, W, b = random(n, 8), random(64, 8, seed=1), random(64, seed=2)
    found = triton_kernels.top_k(x, W, b, k, dtype=dtype)
    torch.testing.assert_close(found, reference.top_k(x.to(dtype), W.to(dtype), b, k))


def test_only_tiles_that_passed_are_timed_once_for_each_size_and_kept(device):
    timings, used = device
    top_k()
    assert len(timings) == 3 and set(used) == set(TILES[2:]) and used[-1] == TILES[3]
    top_k()
    top_k(n=12)  # also up to 16 tokens
    assert len(timings) == 3
    top_k(n=17)
    assert len(timings) == 6
    forget()  # the next process
    top_k()
    top_k(n=17)
    assert len(timings) == 6 and used[-1] == TILES[3]
    kept = tiles.timings(device_key.device_key(CPU))
    assert set(kept) == {f"top_k n {n} d_in 8 d_sae 64 k 3" for n in (16, 32)}
    assert {t.chosen for t in kept.values()} == {TILES[3].label}


def test_float32_and_what_fused_cannot_do_are_dense_without_a_timing(device):
    timings, used = device
    top_k(dtype=torch.float32)
    top_k(k=5)  # of 4 groups
    assert timings == [] and used == []


@pytest.mark.parametrize("damage", [lambda t: t[:50], lambda t: "", lambda t: t.replace('"dense"', '"sparse"', 1)])
def test_damaged_timings_and_other_versions_are_timed_again(damage, device, monkeypatch):
    timings, _ = device
    top_k()
    path = device_key.device_key(CPU).file("tiles")
    path.write_text(damage(path.read_text()))
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        top_k()
    assert len(timings) == 6 and tiles.timings(device_key.device_key(CPU))
    forget()
    of = device_key.device_key
    for module in (gate, tiles):
        monkeypatch.setattr(module, "device_key", lambda device: replace(of(device), driver="another"))
    top_k()
    assert len(timings) == 9


def test_a_chosen_plan_that_is_no_candidate_any_more_is_not_taken(device):
    timings, used = device
    top_k()
    key = device_key.device_key(CPU)
    kept = {size: replace(t, chosen=TILES[0].label) for size, t in tiles.timings(key).items()}  # did not pass here
    outcome.keep(key.file("tiles"), {size: asdict(t) for size, t in kept.items()})
    forget()
    top_k()
    assert len(timings) == 6 and used[-1] != TILES[0]


def test_without_a_gpu_the_plan_is_dense_and_nothing_is_timed(interpreted, monkeypatch):
    monkeypatch.setattr(tiles, "time_plans", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(encode, "top_k", lambda *_: pytest.fail("fused"))
    top_k()
