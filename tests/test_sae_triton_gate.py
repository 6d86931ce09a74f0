"""Kernels run only on a device where they were right: simulated devices and failures, with triton's interpreter.

`unchecked` makes the CPU a device that has to pass first, and runs a few cheap checks in this process; the checks
themselves, and the process of their own that they have on a GPU, are tested apart.
"""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from saekit.errors import ConfigError, FileError
from saekit.sae import triton as triton_kernels
from saekit.sae.triton import device_key, gate, isolation, launch, outcome, reference, tiles
from saekit.sae.triton.plan import TILES

from .triton_kernels import ON_GPU, adam, batch, checks, decode, encode, interpreted, random, weight_grads

__all__ = ["interpreted"]  # a fixture
CPU = torch.device("cpu")
CHEAP = [c for c in checks.all_cases() if c.case == "6x33" or c.kernel == "segments"]
pytestmark = pytest.mark.skipif(ON_GPU, reason="devices are simulated here")


class Runs(list):
    """Every time that the self-check ran: what it found."""

    cases = CHEAP


@pytest.fixture
def unchecked(interpreted, monkeypatch, tmp_path):
    """The CPU as a device that nothing is known about; a list of the checks that were run on it."""
    runs = Runs()

    def check(device, key):
        runs.append(outcome.SelfCheck(key=key, checks=checks.run_checks(device, runs.cases)))
        return runs[-1]

    monkeypatch.setattr(gate, "CHECKED", ("cpu", "cuda"))
    monkeypatch.setattr(isolation, "check_in_own_process", check)
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path / "cache"))
    gate.forget()
    tiles.forget()
    yield runs
    gate.forget()
    tiles.forget()


def projected():
    """What `project_` gives, and what the reference would."""
    param, grad = torch.nn.functional.normalize(random(6, 33)), random(6, 33, seed=1)
    want = grad.clone()
    return (triton_kernels.project_(param, grad), grad), (reference.project_(param, want), want)


def quietly(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def wrong(kernel):
    def changed(*args, **kwargs):
        return kernel(*args, **kwargs) + 0.25

    return changed


def nan(kernel):
    return lambda *args, **kwargs: kernel(*args, **kwargs) * float("nan")


def raising(error):
    def replaced(kernel):
        def raises(*_, **__):
            raise error

        return raises

    return replaced


def next_process():
    gate.forget()
    tiles.forget()


def test_a_device_that_passes_is_checked_once_and_uses_the_kernels(unchecked, monkeypatch):
    calls = []
    kernel = adam.project_
    monkeypatch.setattr(adam, "project_", lambda *args: calls.append(1) or kernel(*args))
    got, want = quietly(projected)
    torch.testing.assert_close(got, want)
    during_check = len([c for c in CHEAP if c.kernel == "project_"])
    assert len(unchecked) == 1 and len(calls) == during_check + 1
    quietly(projected)
    next_process()
    quietly(projected)
    assert len(unchecked) == 1 and len(calls) == during_check + 3
    assert gate.self_check("cpu").passed and "SelfCheck on CPU" in repr(gate.self_check("cpu"))


BROKEN = {
    "a wrong number": (wrong, r"project_ \(6x33\) differs from the reference by 0\.0\d+, tolerance 1e-05"),
    "NaN": (nan, r"project_ \(6x33\) gives numbers that are not finite"),
    "an exception": (raising(ValueError("broken here")), r"project_ \(6x33\): ValueError: broken here"),
    "a compile error": (raising(RuntimeError("PTXAS error")), "PTXAS error"),
    "no memory": (raising(torch.OutOfMemoryError("CUDA out of memory")), "CUDA out of memory"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_kernel_leaves_the_references_and_one_warning(kind, unchecked, monkeypatch):
    broken, said = BROKEN[kind]
    monkeypatch.setattr(adam, "project_", broken(adam.project_))
    with pytest.warns(UserWarning) as caught:
        (square, grad), (want_square, want) = projected()
    assert torch.equal(square, want_square) and torch.equal(grad, want)
    message = str(caught[0].message)
    assert len(caught) == 1 and re.search(said, message), message
    for part in ("not used on cpu", "Plain PyTorch takes their place", "saekit doctor --recheck", "SAEKIT_TRITON=0"):
        assert part in message
    (got, grad), (square, want) = quietly(projected)  # no second warning
    assert torch.equal(got, square) and torch.equal(grad, want)
    assert not triton_kernels.available("cpu") and len(unchecked) == 1
    feature, value = torch.tensor([0, 1, 1]), random(3)  # another kernel, that is right: the device is left alone
    calls = []
    monkeypatch.setattr(weight_grads, "weight_grad", lambda *_: calls.append(1))
    triton_kernels.weight_grad(feature, value, random(3, 8), torch.arange(3), 4)
    assert not calls


@pytest.mark.parametrize("kind", BROKEN)
def test_a_failure_is_kept_unless_it_says_more_about_the_moment(kind, unchecked, monkeypatch):
    monkeypatch.setattr(adam, "project_", BROKEN[kind][0](adam.project_))
    with pytest.warns(UserWarning):
        projected()
    next_process()
    with pytest.warns(UserWarning, match="not used"):  # each process says so once
        projected()
    assert len(unchecked) == (2 if kind == "no memory" else 1)


def test_no_kernel_starts_on_an_unchecked_device(unchecked, monkeypatch):
    """Every function of the kernels' modules, called behind the public functions' back."""
    monkeypatch.setattr(adam, "project_", wrong(adam.project_))
    rows, zero = random(6, 4), torch.zeros((), dtype=torch.int64)
    state = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": zero, "scale": zero, "skip": zero}
    state |= {"unit_rows": False, "copy": None}
    pairs = triton_kernels.segments(zero.reshape(1), 6)
    feature = zero.reshape(1, 1)
    direct = [
        lambda: adam.project_(rows, rows.clone()),
        lambda: adam.adam_(rows, rows, rows, rows, **state),
        lambda: encode.top_k(rows, rows, rows[:, 0], 1, TILES[0]),
        lambda: batch.top_of_batch(rows, rows, rows[:, 0], 1, TILES[0]),
        lambda: decode.decode_error(None, feature, random(1, 1), rows, rows[0], rows[:1]),
        lambda: weight_grads.weight_grad(random(1), rows, zero.reshape(1), 6, pairs, torch.empty(6, 4)),
    ]
    with pytest.warns(UserWarning, match="not used"):
        assert not triton_kernels.available("cpu")
    for call in direct:
        with pytest.raises(ConfigError, match="not known to be right"):
            call()


def test_kernels_start_in_one_place_only():
    """No module but launch.py indexes a kernel with a grid."""
    folder = Path(launch.__file__).parent
    starting = {
        p.name for p in folder.glob("*.py") if re.search(r"\w\[grid\]|\.run\(\s*\*?args|\w+\[\(", p.read_text())
    }
    assert starting == {"launch.py"}
    defining = {p.name for p in folder.glob("*.py") if "@triton.jit" in p.read_text()}
    assert defining == {"adam.py", "batch.py", "decode.py", "encode.py", "selection.py", "weight_grads.py"}


def test_the_switch_is_obeyed_without_a_warning_and_misspelt_it_is_named(unchecked, monkeypatch):
    for off in ("0", "off", "False"):
        monkeypatch.setenv("SAEKIT_TRITON", off)
        (square, grad), (want_square, want) = quietly(projected)
        assert torch.equal(square, want_square) and torch.equal(grad, want)
    assert unchecked == []
    with pytest.raises(ConfigError, match="not known to be right"):
        adam.project_(random(2, 4), random(2, 4))
    monkeypatch.setenv("SAEKIT_TRITON", "maybe")
    with pytest.raises(ConfigError, match="SAEKIT_TRITON is neither on nor off"):
        triton_kernels.available("cpu")
    monkeypatch.setenv("SAEKIT_TRITON", "1")
    assert triton_kernels.available("cpu")


def test_a_device_without_triton_says_so_once(unchecked, monkeypatch):
    monkeypatch.setattr(gate, "has_triton", lambda: False)
    with pytest.warns(UserWarning, match="Triton is not installed.*pip install triton") as caught:
        projected()
        projected()
    assert len(caught) == 1
    with pytest.raises(ConfigError, match="no kernels to check"):
        triton_kernels.self_check("cpu")


def test_anything_else_than_before_is_checked_again(unchecked, monkeypatch):
    projected()
    of = device_key.device_key
    fields = ["device", "capability", "driver", "toolkit", "torch", "triton", "saekit", "source"]
    assert fields == list(asdict(of(CPU)))
    for n, field in enumerate(fields, 2):
        next_process()
        monkeypatch.setattr(gate, "device_key", lambda device, field=field: replace(of(device), **{field: "another"}))
        projected()
        assert len(unchecked) == n, field


def test_a_changed_line_of_a_kernel_is_another_source(monkeypatch, tmp_path):
    before = device_key.source_digest()
    for path in device_key.FOLDER.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(device_key, "FOLDER", tmp_path)
    assert device_key.source_digest() == before
    with (tmp_path / "adam.py").open("a") as f:
        f.write("# changed\n")
    assert device_key.source_digest() != before


DAMAGES = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "not UTF-8": lambda text: b"\xff\xfe" + text.encode(),
    "nested": lambda text: "[" * 100_000,
    "a list": lambda text: "[]",
    "a tolerance": lambda text: text.replace('"tolerance": 1e-05', '"tolerance": 9e-05', 1),
    "a name": lambda text: text.replace('"kernel": "project_"', '"kernel": "projekt_"', 1),
    "another device's": lambda text: text.replace('"driver": ""', '"driver": "5"', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_outcome_is_checked_again_and_replaced(damage, unchecked):
    projected()
    path = device_key.device_key(CPU).file("check")
    whole = path.read_text()
    changed = DAMAGES[damage](whole)
    assert changed != whole
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    next_process()
    quietly(projected)
    assert len(unchecked) == 2 and path.read_text() == whole


def test_every_flipped_byte_is_found(unchecked):
    projected()
    path = device_key.device_key(CPU).file("check")
    whole, kept = path.read_bytes(), outcome.kept(path, outcome.StoredOutcome, outcome.outcome_of)
    assert kept is not None and kept.passed
    for at in range(0, len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        again = outcome.kept(path, outcome.StoredOutcome, outcome.outcome_of)
        assert again is None or again == kept, at


def test_a_cache_folder_that_cannot_be_written_costs_a_check_a_process(unchecked, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        got, want = projected()
    torch.testing.assert_close(got, want)
    quietly(projected)
    assert len(unchecked) == 1
    with pytest.raises(FileError):
        outcome.keep(device_key.device_key(CPU).file("check"), {})


def test_a_process_waits_for_another_that_checks_and_takes_its_outcome(unchecked):
    path = device_key.device_key(CPU).file("check")
    found, waits = [], threading.Event()

    def second():
        waits.set()
        found.append(gate.self_check("cpu"))

    with gate.lock_of(path):  # as the first process has it
        thread = threading.Thread(target=second)
        thread.start()
        waits.wait(5)
        thread.join(0.3)
        assert thread.is_alive() and found == []
        one = outcome.KernelCheck(kernel="adam_", case="", difference=0.0, tolerance=0.0)
        outcome.keep(path, asdict(outcome.SelfCheck(key=device_key.device_key(CPU), checks=(one,))))
    thread.join(10)
    assert unchecked == [] and found[0].checks == (one,)


def test_recheck_runs_whatever_is_known(unchecked, monkeypatch):
    kernel = adam.project_
    monkeypatch.setattr(adam, "project_", wrong(kernel))
    with pytest.warns(UserWarning):
        projected()
    monkeypatch.setattr(adam, "project_", kernel)
    assert not triton_kernels.available("cpu")
    assert triton_kernels.self_check("cpu", again=True) and triton_kernels.available("cpu")
    next_process()
    assert quietly(lambda: triton_kernels.available("cpu")) and len(unchecked) == 2


def test_a_kernel_that_fails_in_use_is_replaced_in_that_call(unchecked, monkeypatch):
    assert triton_kernels.available("cpu")
    for error, stays in (
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("too many resources"), False),
    ):
        monkeypatch.setattr(adam, "project_", raising(error)(None))
        with pytest.warns(UserWarning, match=f"failed in use: {type(error).__name__}: {error}") as caught:
            for _ in range(2):
                (square, grad), (want_square, want) = projected()
                assert torch.equal(square, want_square) and torch.equal(grad, want)
        assert len(caught) == 1 and triton_kernels.available("cpu") == stays
    assert "too many resources" in gate.failure(CPU)
