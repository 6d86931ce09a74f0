"""Every function works with the model on one device and the SAE on another, and in half precision."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_model
from saekit.widgets import token_highlight

from .two_devices import two_devices

ROOT = Path(__file__).parents[1]
QUICK = ("activations", "evaluate", "highlight", "clamp", "word_effects", "output_scores", "readout")


def gpu_check(name: str = "gpu_check_functions") -> Any:
    """A file of scripts/; this one has a call of every function."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def test_the_gpu_check_prints_what_it_found_and_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gpu_check()
    script = gpu_check("gpu_check")
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--models", "native"])
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))

    def run(kind, devices, dtypes):
        there = 1.5 if torch.float16 in dtypes else 1.0
        return {"one": (np.ones(3) * there, ""), "two": (None, "" if there == 1 else "ValueError: no")}

    monkeypatch.setattr(script, "run", run)
    threads = torch.get_num_threads()
    assert script.main() == 1
    torch.set_num_threads(threads)
    said = capsys.readouterr().out.splitlines()
    summary = json.loads(said[-1])
    failed = [r for r in summary["functions"] if r.startswith("FAILED")]
    assert summary["n_failed"] == len(failed) == 2 and "one: differs by 0.5" in failed[0] and "ValueError" in failed[1]
    assert summary["self_check"] is None and summary["tiles"] == [] and any("triton" in line for line in said)


@pytest.mark.slow
def test_mixed_devices_raise_and_copies_do_not() -> None:
    here = torch.ones(3)
    with two_devices() as other:
        there = here.to(other)
        assert str(there.device) == other and there.cpu().tolist() == [1, 1, 1]
        assert (there * 2 + torch.tensor(1.0)).sum().item() == 9
        assert there[torch.tensor([0, 2])].shape == (2,)
        for mixed in (
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: here[torch.tensor([0]).to(other)],
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["model", "sae"])
def test_the_model_and_the_sae_may_be_on_two_devices(place: str, tmp_path: Path) -> None:
    check = gpu_check()
    with two_devices() as other:
        model = tiny_model()
        if place == "model":
            model.bridge.to(torch.device(other))
        saes = [check.random_sae(model, seed).to(other if place == "sae" else "cpu") for seed in (0, 1)]
        for name, function in check.checks(model, *saes, tmp_path):
            if name in QUICK:
                found = check.numbers(function())
                assert found is not None and np.isfinite(found).all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_word_effects_in_half_precision_are_those_of_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    check, found = gpu_check(), {}
    for of in (torch.float32, dtype):
        model = check.native("cpu", of)
        functions = dict(check.checks(model, check.random_sae(model), check.random_sae(model, 1), tmp_path))
        found[of] = check.numbers(functions["word_effects"]())
    assert check.difference(found[dtype], found[torch.float32]) < 0.1


def test_highlight_moves_the_activations_to_the_sae(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_highlight.highlight is sk.highlight
    with two_devices() as other:
        model = tiny_model()
        sae = gpu_check().random_sae(model)
        expected = sk.highlight(model, sae, "a cat").values(3)
        assert model.hook_width(HOOK) == 32
        assert sk.highlight(model, sae.to(other), "a cat").values(3) == pytest.approx(expected)
