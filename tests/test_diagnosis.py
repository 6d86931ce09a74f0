"""What `saekit doctor` finds, on this machine and on simulated ones."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import saekit as sk
from saekit import diagnosis
from saekit.cache_folder import cache_dir
from saekit.cli import app
from saekit.models.default_model import NAME
from saekit.sae.triton import gate, isolation, outcome, tiles
from saekit.sae.triton.device_key import device_key
from saekit.sae.triton.plan import TILES

CPU = torch.device("cpu")


def found(what: sk.Diagnosis, name: str) -> diagnosis.Finding:
    return next(f for f in what.findings if f.name == name)


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """A machine without a GPU on which nothing was fetched."""
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return tmp_path / "cache"


def check(*rows: tuple[str, str, float | None, str]) -> outcome.SelfCheck:
    checks = [
        outcome.KernelCheck(kernel=k, case="bfloat16", tiles=t, difference=d, tolerance=1e-4, error=e)
        for k, t, d, e in rows
    ]
    return outcome.SelfCheck(key=device_key(CPU), checks=tuple(checks), seconds=61.0)


RIGHT = [("top_k", p.label, 1e-6, "") for p in TILES] + [("adam_", "", 3e-7, ""), ("adam_", "", 0.0, "")]


@pytest.fixture
def gpu(empty, monkeypatch):
    """The CPU as a GPU; what it appends is what the self-check finds, one after another."""
    outcomes: list[outcome.SelfCheck] = []
    monkeypatch.setattr(diagnosis, "_gpus", lambda: [CPU])
    monkeypatch.setattr(gate, "CHECKED", ("cpu", "cuda"))
    monkeypatch.setattr(gate, "has_triton", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(isolation, "check_in_own_process", lambda device, key: outcomes.pop(0))
    gate.forget()
    yield outcomes
    gate.forget()


def test_a_machine_without_gpu_and_model_is_in_order_and_says_what_is_missing(empty, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    what = sk.doctor()
    assert what and what.broken == () and not empty.exists()  # nothing is made
    assert found(what, "torch").detail.split("+")[0] == torch.__version__.split("+")[0]
    assert found(what, "cuda").state == found(what, "triton kernels").state == found(what, NAME).state == "absent"
    assert "`saekit fetch`" in found(what, NAME).fix and "not made yet" in found(what, "saekit's cache").detail
    text = repr(what)
    assert text.endswith("nothing is broken") and "GB free" in text and max(map(len, text.splitlines())) < 200
    frame = what.to_frame()
    assert list(frame.columns) == ["part", "name", "state", "detail", "difference", "tolerance", "fix"]
    assert len(frame) == len(what.findings)


def test_the_command_ends_with_1_only_where_something_is_broken(empty):
    run = CliRunner().invoke(app, ["doctor"])
    assert run.exit_code == 0 and "nothing is broken" in run.output
    folder = cache_dir() / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "saekit.json").write_text(json.dumps({"sha256": {"model.safetensors": "0" * 64}}))
    run = CliRunner().invoke(app, ["doctor"])
    assert run.exit_code == 1 and f"1 broken: {NAME}" in run.output and "model.safetensors is damaged" in run.output


def test_a_driver_without_a_torch_for_it_is_noted(empty, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    what = sk.doctor()
    assert what and found(what, "cuda").state == "note" and "install a build of torch" in found(what, "cuda").fix


def test_a_folder_that_cannot_be_written_is_broken_and_a_full_disk_noted(empty, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path / "file" / "cache"))
    what = sk.doctor()
    assert not what and [f.name for f in what.broken] == ["saekit's cache"]
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    what = sk.doctor()
    assert what and found(what, "saekit's cache").state == "note" and "free some space" in repr(what)


def test_kernels_that_pass_are_shown_with_their_largest_difference_and_their_timings(gpu):
    gpu.append(check(*RIGHT))
    dropped = {TILES[0].label: "no"}
    timing = tiles.TileTiming(size="top_k n 16", chosen="dense", seconds={"dense": 0.002}, dropped=dropped)
    outcome.keep(device_key(CPU).file("tiles"), {"timings": {timing.size: diagnosis.asdict(timing)}})
    what = sk.doctor()
    assert (what and "checked against PyTorch in 61 s: used" in found(what, "cpu").detail) or found(what, "adam_")
    adam = found(what, "adam_")
    assert (adam.state, adam.difference, adam.tolerance, adam.detail) == ("ok", 3e-7, 1e-4, "2 cases")
    assert "largest difference 3.0e-07 of 1e-04" in repr(what)
    assert f"dense of dense 2 ms; without {TILES[0].label}: no" in repr(what)
    assert what.checks[0].passed and sk.doctor()  # the second from what is kept


def test_a_kernel_that_is_wrong_is_broken_and_checked_again_when_asked(gpu):
    gpu += [check(*RIGHT[:-2], ("adam_", "", 0.5, "")), check(*RIGHT)]
    with pytest.warns(UserWarning, match="not used on cpu"):
        run = CliRunner().invoke(app, ["doctor"])
    assert run.exit_code == 1 and "adam_" in run.output and "differs from the reference by 0.5" in run.output
    run = CliRunner().invoke(app, ["doctor", "--recheck"])
    assert run.exit_code == 0 and "nothing is broken" in run.output and gpu == []


def test_a_check_that_did_not_end_is_broken_though_each_that_ended_passed(gpu):
    gpu.append(replace(check(*RIGHT), error="no answer within 900 s, in top_k (bfloat16)"))
    with pytest.warns(UserWarning, match="no answer"):
        what = sk.doctor()
    assert [f.name for f in what.broken] == ["cpu"] and "not used: no answer within 900 s, in top_k" in repr(what)


def test_tiles_that_are_wrong_are_noted_and_not_used(gpu):
    gpu.append(check(("top_k", TILES[0].label, None, ""), *RIGHT[1:]))
    what = sk.doctor()
    assert what and found(what, f"top_k {TILES[0].label}").state == "note"
    assert "these tiles are not used" in repr(what)


def test_switched_off_and_without_triton_nothing_is_checked(gpu, monkeypatch):
    monkeypatch.setenv("SAEKIT_TRITON", "0")
    assert "switched off by SAEKIT_TRITON" in repr(sk.doctor())
    monkeypatch.delenv("SAEKIT_TRITON")
    monkeypatch.setattr(gate, "has_triton", lambda: False)
    what = sk.doctor()
    assert what and "Triton is not installed" in repr(what) and what.checks == ()


class Properties:
    """A GPU's, as torch has them."""

    name, major, minor, gcnArchName = "NVIDIA Made-up", 9, 0, "gfx942:sramecc+"


def test_a_gpu_is_named_by_its_driver(empty, monkeypatch):
    monkeypatch.setattr(diagnosis, "_gpus", lambda: [torch.device("cuda", 0)])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 80 * 10**9))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("saekit.sae.triton.device_key.driver_version", lambda: "580.1")
    monkeypatch.setenv("SAEKIT_TRITON", "0")
    shown = [f.detail for f in sk.doctor().findings if f.name == "cuda:0"]
    assert shown[0] == "NVIDIA Made-up, 80 GB, capability 9.0, CUDA 13.0, driver 580.1"
    assert shown[1] == "switched off by SAEKIT_TRITON: plain PyTorch"
    monkeypatch.setattr(torch.version, "hip", "7.0")
    key = device_key(torch.device("cuda", 0))
    assert (key.capability, key.toolkit) == ("gfx942:sramecc+", "ROCm 7.0")
