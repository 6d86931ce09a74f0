"""The self-check of the kernels: what it finds, how it says it, and the process of its own that it runs in."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from saekit.sae.triton import device_key, isolation, launch, outcome, reference
from saekit.sae.triton.plan import TILES

from .triton_kernels import DEVICE, adam, batch, checks, decode, encode, interpreted, weight_grads

__all__ = ["interpreted"]  # a fixture
CPU = torch.device("cpu")


def test_outcomes_in_words():
    key = device_key.device_key(CPU)
    one = outcome.KernelCheck(kernel="top_k", case="bfloat16", difference=1e-6, tolerance=1e-4, tiles="a")
    bad = replace(one, difference=0.5, tiles="b")
    assert outcome.SelfCheck(key=key, checks=(one, bad)).passed  # one choice of tiles is left
    assert outcome.SelfCheck(key=key, checks=(one, bad)).tiles == {"a"}
    none = outcome.SelfCheck(key=key, checks=(bad,))
    assert not none and none.reason == "top_k (bfloat16, tiles b) differs from the reference by 0.5, tolerance 0.0001"
    other = replace(bad, tiles="", kernel="adam_")
    several = outcome.SelfCheck(key=key, checks=(one, other, other))
    assert several.reason.endswith("(and 1 other checks failed)") and "FAILED" in repr(several)
    assert outcome.SelfCheck(key=key).reason == "nothing was checked"
    assert outcome.SelfCheck(key=key, checks=(one,), error="no answer").reason == "no answer"
    frame = several.to_frame()
    assert list(frame.kernel) == ["top_k", "adam_", "adam_"] and list(frame.passed) == [True, False, False]
    assert outcome.outcome_of(json.loads(json.dumps(asdict(several)))) == several


# ---- the process that a check has for itself ----


def own_process(monkeypatch, script, seconds=60.0):
    monkeypatch.setattr(isolation, "COMMAND", [sys.executable, "-c", script])
    monkeypatch.setattr(isolation, "SECONDS", seconds)
    return isolation.check_in_own_process(CPU, device_key.device_key(CPU))


FINISHED = asdict(outcome.KernelCheck(kernel="adam_", case="", difference=0.0, tolerance=1.0))
WRITE = f"""
import json, sys
report = open(sys.argv[3], "w")
for line in [{{"begun": "adam_"}}, {FINISHED}, {{"begun": "top_k (bfloat16)"}}]:
    print(json.dumps(line), file=report, flush=True)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "the check was ended by signal 11, in top_k (bfloat16)",
        ),
        ("import time; time.sleep(60)", "no answer within 1 s, in top_k (bfloat16)"),
        ("raise SystemExit('no CUDA here')", "the check ended with status 1: no CUDA here, in top_k (bfloat16)"),
        ("report.write('{\"kern'); report.flush(); import os; os._exit(3)", "ended with status 3, in top_k (bfloat16)"),
    ],
    ids=["crash", "hang", "error", "torn report"],
)
def test_a_check_that_does_not_come_to_its_end_says_where_it_was(script, said, monkeypatch):
    found = own_process(monkeypatch, WRITE + script, 1.0 if "sleep" in script else 60.0)
    assert not found.passed and said in found.reason and [c.kernel for c in found.checks] == ["adam_"]


def test_a_check_that_cannot_be_started_says_so(monkeypatch):
    monkeypatch.setattr(isolation, "COMMAND", ["/nowhere/python"])
    found = isolation.check_in_own_process(CPU, device_key.device_key(CPU))
    assert "could not be started" in found.reason
    monkeypatch.setattr(isolation, "COMMAND", [""])
    assert not isolation.check_in_own_process(CPU, device_key.device_key(CPU))


@pytest.mark.slow
def test_the_process_checks_every_kernel(interpreted, monkeypatch):
    """As on a GPU, but for the cases: the real module, its report, and another device than the one asked about."""
    few = "checks.all_cases = lambda: [c for c in every() if c.kernel == 'project_']"
    script = f"from saekit.sae.triton import checks; every = checks.all_cases; {few}; raise SystemExit(checks.main())"
    key = replace(device_key.device_key(CPU), driver="another")
    assert "sees another device or version" in isolation.check_in_own_process(CPU, key).reason
    found = own_process(monkeypatch, script)
    assert found.passed and [c.kernel for c in found.checks] == ["project_"] * 2 and found.seconds > 0


@pytest.mark.slow
def test_the_checks_start_every_kernel_in_every_type(interpreted, monkeypatch):
    """With the smallest tiles and few tokens; on a GPU all of the cases run."""
    started = set()
    for module in (encode, batch, decode, weight_grads, adam):
        monkeypatch.setattr(
            module, "launch", lambda kernel, *a, **o: (started.add(kernel.fn.__name__), launch.launch(kernel, *a, **o))
        )
    cases = checks.all_cases()
    for_tiles = {(c.kernel, c.case.split(",")[0], c.tiles) for c in cases if c.tiles}
    assert for_tiles == {(k, "bfloat16", p.label) for k in ("top_k", "top_of_batch") for p in TILES} | {
        (k, "float32", TILES[-1].label) for k in ("top_k", "top_of_batch")
    }
    small = [c for c in cases if not c.tiles or (c.tiles == TILES[-1].label and re.search(r"one group, [45] ", c.case))]
    found = checks.run_checks(DEVICE, small)
    assert [c.reason for c in found if not c.passed] == []
    sources = [Path(m.__file__).read_text() for m in (encode, batch, decode, weight_grads, adam)]
    defined = {name for source in sources for name in re.findall(r"@triton\.jit\ndef (\w+)", source)}
    assert started == defined - {"_moved", "_one_minus_power", "_pairs_of", "_gather"}  # parts of others


@pytest.mark.parametrize("index", ["wrong", "descending", "out of bounds"])
def test_a_wrong_choice_of_features_is_found_whatever_its_values(index, interpreted, monkeypatch):
    case = next(c for c in checks.all_cases() if c.kernel == "top_k" and "ties" in c.case)
    right = torch.arange(5).expand(17, 5)
    feature = {"wrong": right, "descending": right.flip(1), "out of bounds": right + 128}[index]
    monkeypatch.setattr(encode, "top_k", lambda *_: (torch.zeros(17, 5), feature))
    found = checks.run_checks(CPU, [case])[0]
    said = {"wrong": "indices are others", "descending": "do not ascend", "out of bounds": "are out of bounds"}[index]
    assert not found.passed and said in found.error


def off(number):
    """One number, in the middle, that is off by a thousandth of the largest."""
    number.view(-1)[number.numel() // 2] += 1e-3 * number.abs().max() + 1e-30


def not_a_number(number):
    number.view(-1)[-1] = float("nan")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("spoil", [None, off, not_a_number], ids=["right", "off", "NaN"])
@pytest.mark.parametrize("kernel", ["top_k", "top_of_batch", "decode_error", "weight_grad", "adam_", "project_"])
def test_one_wrong_number_of_any_kernel_is_found_in_every_case(kernel, spoil, which, monkeypatch):
    """The references in the kernels' places, with one number of one result spoilt."""

    def decode_error(start, *rest):
        return reference.decode_error(*rest) if start is None else reference.decode_error_of_pairs(start, *rest)

    def first_of_equals(x, W, b, k, plan):
        rows = [reference.top_of_batch(row[None], W, b, k) for row in x]
        return torch.stack([v for v, _ in rows]), torch.stack([f for _, f in rows])

    plain, module = {
        "top_k": (first_of_equals, encode),
        "top_of_batch": (lambda *given: reference.top_of_batch(*given[:-1]), batch),
        "decode_error": (decode_error, decode),
        "weight_grad": (reference.weight_grad, weight_grads),
        "adam_": (reference.adam_, adam),
        "project_": (reference.project_, adam),
    }[kernel]

    def replaced(*given, **options):
        found = plain(*given, **options)
        if spoil is not None:
            copy = options.get("copy")
            in_place = {"adam_": given[2 * which] if copy is None else copy, "project_": given[-1]}
            result = in_place.get(kernel, found)
            several = isinstance(result, tuple) and result[which].is_floating_point()
            spoil(result[which] if several else result[0] if isinstance(result, tuple) else result)
        return found

    monkeypatch.setattr(module, kernel, replaced)
    cases = [c for c in checks.all_cases() if c.kernel.startswith(kernel) and "not finite" not in c.case]
    found = checks.run_checks(CPU, [c for c in cases if "bfloat16 copy" not in c.kernel or spoil is not off])
    assert found and [c.reason for c in found if c.passed != (spoil is None)] == []
