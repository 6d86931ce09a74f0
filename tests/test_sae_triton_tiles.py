"""Which plan is chosen: the quickest by a timer that is given, among those that are right; and that it is kept."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import saekit as sk
from saekit.sae import triton as triton_kernels
from saekit.sae.triton import device_key, gate, isolation, outcome, plan, reference, tiles
from saekit.sae.triton.plan import DENSE, TILES

from .triton_kernels import ON_GPU, batch, encode, interpreted, random

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
    monkeypatch.setattr(batch, "top_of_batch", lambda *args: reference.top_of_batch(*args[:-1]))
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


def test_a_timing_made_while_memory_was_short_is_not_kept(device, monkeypatch):
    _, used = device
    fused = encode.top_k

    def short(*args):
        if args[-1] == TILES[3]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fused(*args)

    monkeypatch.setattr(encode, "top_k", short)
    top_k()
    assert used[-1] == TILES[2] and tiles.timings(device_key.device_key(CPU)) == {}
    monkeypatch.setattr(encode, "top_k", fused)
    forget()
    top_k()
    assert used[-1] == TILES[3] and len(tiles.timings(device_key.device_key(CPU))) == 1


def test_a_chosen_plan_that_is_no_candidate_any_more_is_not_taken(device):
    timings, used = device
    top_k()
    key = device_key.device_key(CPU)
    kept = {size: replace(t, chosen=TILES[0].label) for size, t in tiles.timings(key).items()}  # did not pass here
    outcome.keep(key.file("tiles"), {"timings": {size: asdict(t) for size, t in kept.items()}})
    forget()
    top_k()
    assert len(timings) == 6 and used[-1] != TILES[0]


def test_seconds_are_the_median_between_events_after_a_warm_up(monkeypatch):
    clock = iter([9.0, 1.0, 2.0, 8.0, 3.0])  # milliseconds

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        record = synchronize = lambda self: None

        def elapsed_time(self, end):
            return next(clock)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    calls = []
    assert tiles.cuda_seconds(lambda: calls.append(1)) == pytest.approx(0.003)
    assert len(calls) == tiles.WARM_UP + tiles.REPEATS


def test_without_a_gpu_the_plan_is_dense_and_nothing_is_timed(interpreted, monkeypatch):
    monkeypatch.setattr(tiles, "time_plans", lambda *_: pytest.fail("timed"))
    monkeypatch.setattr(encode, "top_k", lambda *_: pytest.fail("fused"))
    top_k()


def test_the_gpu_check_times_both_operations_and_prints_each_choice(device, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    import gpu_check

    monkeypatch.setattr(gpu_check, "SIZES", ((8, 64, 3),))
    made = gpu_check.time_tiles("cpu", n=16)
    assert [t.size for t in made] == [f"{name} n 16 d_in 8 d_sae 64 k 3" for name in ("top_k", "top_of_batch")]
    diagnosis = sk.Diagnosis(findings=sk.doctor().findings, checks=(gate.self_check("cpu"),))
    monkeypatch.setattr(sk, "doctor", lambda recheck: diagnosis)
    monkeypatch.setattr(gpu_check, "time_tiles", lambda device: made)
    found = gpu_check.kernels("cuda")
    assert found["self_check"]["passed"] and [t["chosen"] for t in found["tiles"]] == [t.chosen for t in made]
    assert f"top_k n 16 d_in 8 d_sae 64 k 3: {made[0].chosen}" in capsys.readouterr().out
    json.dumps(found)
