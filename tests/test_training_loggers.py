"""What sk.train reports to loggers, and what TensorBoard's and W&B's own readers find afterwards."""

from __future__ import annotations

import json
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, DataError
from saekit.training.loggers import HISTOGRAMS, RunInfo


class Notes:
    """A logger that remembers what is reported to it."""

    def __init__(self) -> None:
        self.run: RunInfo | None = None
        self.rows: list[dict[str, Any]] = []
        self.densities: list[list[np.ndarray]] = []
        self.ends: list[tuple[str, str]] = []

    def start(self, run: RunInfo) -> None:
        self.run = run

    def record(self, rows, densities) -> None:
        self.rows += rows
        self.densities.append(densities())

    def finish(self, status: str, message: str) -> None:
        self.ends.append((status, message))


def run(model, corpus, loggers, steps=30, ks=(2, 4), out=None, single=False, **fields):
    saes = [sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=k) for k in ks]
    config = sk.TrainConfig(
        n_tokens=steps * 64, batch_size=64, context_size=16, buffer_tokens=256, lr=1e-3, checkpoint_every=10, **fields
    )
    return sk.train(
        model,
        corpus,
        hook_name=HOOK,
        sae=saes[0] if single else saes,
        config=config,
        out=out,
        progress=False,
        loggers=loggers,
    )


# ---- the protocol -------------------------------------------------------------------------------------------------


def test_a_logger_hears_of_every_logged_step_and_of_the_end(model, corpus, tmp_path):
    notes = Notes()
    saes = run(model, corpus, [notes], steps=25, out=tmp_path, log_every=10)
    assert [(r["step"], r["sae"]) for r in notes.rows] == [(s, i) for s in (10, 20, 25) for i in (0, 1)]
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert notes.rows == [{name: value for name, value in row.items() if name != "checksum"} for row in written]
    assert notes.ends == [("finished", "")]
    assert notes.run.names == ["topk, k 2", "topk, k 4"]
    assert (notes.run.rows, notes.run.n_steps_done, notes.run.folder) == ((), 0, tmp_path)
    assert all(d.shape == (64,) and 0 <= d.min() <= d.max() <= 1 for pair in notes.densities for d in pair)
    for sae, last in zip(saes, notes.densities[-1], strict=True):
        np.testing.assert_array_equal(sae.density.numpy(), last)


def test_loggers_change_nothing(model, corpus):
    with_one, without = run(model, corpus, [Notes()]), run(model, corpus, [])
    assert [s.fingerprint for s in with_one] == [s.fingerprint for s in without]
    assert type(with_one) is sk.TrainedSAEs and isinstance(with_one, list)


@pytest.mark.slow
def test_an_interrupt_a_resumption_and_a_finished_run_are_reported_as_such(model, corpus, tmp_path, interrupt_at):
    first, second, third = Notes(), Notes(), Notes()
    disarm = interrupt_at(17)
    run(model, corpus, [first], out=tmp_path, log_every=5)
    disarm()
    assert first.ends == [("interrupted", "")] and first.rows[-1]["step"] == 15
    run(model, corpus, [second], out=tmp_path, log_every=5)
    assert second.ends == [("finished", "")]
    assert second.run.n_steps_done == 17 and list(second.run.rows) == first.rows
    assert [r["step"] for r in second.rows] == [20, 20, 25, 25, 30, 30]
    again = run(model, corpus, [third], out=tmp_path, log_every=5)
    assert third.ends == [("finished", "")] and third.run.n_steps_done == 30 and not third.rows
    assert list(third.run.rows) == first.rows + second.rows and type(again) is sk.TrainedSAEs


def test_an_interrupt_before_the_first_step_is_reported_as_one(model, corpus, monkeypatch):
    notes = Notes()

    def interrupted(self):
        raise KeyboardInterrupt

    for kind in sk.ActivationBatches.__subclasses__():
        monkeypatch.setattr(kind, "__next__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, [notes])
    assert notes.ends == [("interrupted", "")]


def test_a_logger_may_do_what_it_likes_with_its_rows(model, corpus):
    class Careless(Notes):
        def record(self, rows, densities):
            for row in rows:
                row.clear()
            for share in densities():
                share[:] = -1

    notes = Notes()
    saes = run(model, corpus, [Careless(), notes])
    assert len(saes[0].history) == 3 and notes.rows[0]["loss"] == saes[0].history["loss"].iloc[0]
    assert float(saes[0].density.min()) >= 0


def test_a_failure_is_reported_with_its_reason(model, corpus, monkeypatch):
    plain, notes = sk.Trainer.advance, Notes()

    def poisoned(self, x, *rest):
        return plain(self, x * float("nan") if self.n_steps_done == 12 else x, *rest)

    monkeypatch.setattr(sk.Trainer, "advance", poisoned)
    with pytest.raises(DataError):
        run(model, corpus, [notes])
    ((status, message),) = notes.ends
    assert status == "failed" and message.startswith("DataError: activations contain NaN or infinity in batch 13")
    assert notes.rows[-1]["step"] == 10


@pytest.mark.parametrize("where", ["start", "record", "finish"])
def test_a_logger_that_raises_is_dropped_and_the_run_goes_on(where, model, corpus):
    bad, good, calls = Notes(), Notes(), []

    def broken(*_):
        calls.append(where)
        raise ValueError("no such dashboard")

    setattr(bad, where, broken)
    with pytest.warns(UserWarning, match="the logger Notes failed and is not used again") as caught:
        saes = run(model, corpus, [bad, good])
    assert len(caught) == len(calls) == 1 and "ValueError: no such dashboard" in str(caught[0].message)
    assert good.ends == [("finished", "")] and len(good.rows) == 6
    assert bad.ends == []
    assert saes[0].fingerprint == run(model, corpus, [])[0].fingerprint


@pytest.mark.parametrize("wrong", [Notes, object(), "tensorboard"])
def test_what_is_no_logger_is_refused_before_anything_is_written(wrong, model, corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"not a logger[\s\S]*start, record and finish[\s\S]*TrainingMonitor"):
        run(model, corpus, [wrong], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- TensorBoard --------------------------------------------------------------------------------------------------


def board(folder: Path) -> Any:
    """The folder as TensorBoard itself reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0}).Reload()


def curve(events: Any, name: str) -> dict[int, float]:
    points = events.Scalars(f"train/{name}")
    assert len({p.step for p in points}) == len(points), "a step was written twice"
    return {p.step: p.value for p in points}


def test_tensorboard_reads_every_figure_back(model, corpus, tmp_path):
    saes = run(model, corpus, [sk.TensorBoardLogger(tmp_path)], log_every=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0-topk-k-2", "1-topk-k-4"]
    for sae, name in zip(saes, ["0-topk-k-2", "1-topk-k-4"], strict=True):
        events = board(tmp_path / name)
        for column in sae.history:
            found = curve(events, column)
            assert list(found) == sae.history.index.tolist() == [5, 10, 15, 20, 25, 30]
            np.testing.assert_allclose(list(found.values()), sae.history[column].to_numpy(float), rtol=1e-6)
        last = events.Histograms("train/log10_density")[-1]
        assert last.step == 30 and last.histogram_value.num == int((sae.density > 0).sum())
        assert last.histogram_value.max == pytest.approx(float(sae.density.max().log10()), abs=1e-6)
        config = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
        assert "'k': 2" in config or "'k': 4" in config
        assert b"finished" in events.Tensors("status/text_summary")[-1].tensor_proto.string_val[0]


def test_tensorboard_curves_resume_after_an_interrupt_and_start_again_with_a_new_run(
    model, corpus, tmp_path, interrupt_at
):
    logs, out = tmp_path / "logs", tmp_path / "run"
    logger = sk.TensorBoardLogger(logs)
    disarm = interrupt_at(17)
    run(model, corpus, [logger], out=out, ks=(4,), single=True, log_every=5)
    disarm()
    sae = run(model, corpus, [sk.TensorBoardLogger(logs)], out=out, ks=(4,), single=True, log_every=5)
    found = curve(board(logs), "loss")
    np.testing.assert_allclose(list(found.values()), sae.history["loss"], rtol=1e-6)
    late = sk.TensorBoardLogger(tmp_path / "late")  # a logger that was not there before
    run(model, corpus, [late], out=out, ks=(4,), single=True, log_every=5)
    assert curve(board(tmp_path / "late"), "loss") == found
    other = run(model, corpus, [logger], ks=(2,), single=True, steps=10, log_every=5)
    np.testing.assert_allclose(list(curve(board(logs), "loss").values()), other.history["loss"], rtol=1e-6)


def test_histograms_are_bounded_in_number(model, corpus, tmp_path):
    run(model, corpus, [sk.TensorBoardLogger(tmp_path)], ks=(4,), single=True, steps=100, log_every=1)
    steps = [h.step for h in board(tmp_path).Histograms("train/log10_density")]
    assert len(steps) == HISTOGRAMS + 1 and steps[-1] == 100


# ---- Weights & Biases ---------------------------------------------------------------------------------------------


@pytest.fixture
def wandb_home(tmp_path, monkeypatch):
    import wandb

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()  # a session that another test began would keep that test's settings
    yield tmp_path
    wandb.teardown()


def wandb_records(path: Path) -> list[Any]:
    """The records of a .wandb file: LevelDB's log format after a header of seven bytes, protocol buffers inside."""
    from wandb.proto import wandb_internal_pb2 as pb

    data, at, parts, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(pb.Record.FromString(parts))
            parts = b""
    return records


def wandb_read(home: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """History, summary and configuration of the newest offline run."""
    import wandb

    wandb.teardown()  # waits until the file is written
    records = wandb_records(max(home.glob("wandb/offline-run-*/run-*.wandb"), key=lambda p: p.stat().st_mtime_ns))

    def plain(items: Any) -> dict[str, Any]:
        return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}

    summary = {k: v for r in records if r.HasField("summary") for k, v in plain(r.summary.update).items()}
    config = {k: v for r in records if r.HasField("run") for k, v in plain(r.run.config.update).items()}
    return [plain(r.history.item) for r in records if r.HasField("history")], summary, config


@pytest.mark.slow
def test_wandb_keeps_every_figure(model, corpus, wandb_home):
    logger = sk.WandbLogger(project="saes", mode="offline", name="two", config={"note": "mine"})
    saes = run(model, corpus, [logger], log_every=5)
    history, summary, config = wandb_read(wandb_home)
    assert [row["_step"] for row in history] == [5, 10, 15, 20, 25, 30]
    for sae, name in zip(saes, ["0-topk-k-2", "1-topk-k-4"], strict=True):
        for column in sae.history:
            assert [row[f"{name}/{column}"] for row in history] == sae.history[column].tolist()
        assert sum(history[-1][f"{name}/log10_density/values"]) == int((sae.density > 0).sum())
        assert config["saes"][name]["k"] == sae.config.k
    assert config["note"] == "mine" and config["train_config"]["n_tokens"] == 1920
    assert summary["status"] == "finished" and "message" not in summary


def test_wandb_is_not_given_again_the_steps_that_a_resumed_run_has(model, corpus, monkeypatch):
    from types import SimpleNamespace

    logged = []
    there = SimpleNamespace(step=16, summary={}, finish=lambda exit_code: None)
    there.log = lambda values, step: logged.append(step)
    logger = sk.WandbLogger()
    monkeypatch.setattr(logger._wandb, "init", lambda **_: there)
    run(model, corpus, [logger], log_every=5)
    assert logged == [20, 25, 30]


@pytest.mark.slow
def test_wandb_has_a_run_of_its_own_and_hears_of_a_failure(model, corpus, wandb_home, monkeypatch):
    import wandb

    mine = wandb.init(project="other", mode="offline")
    logger = sk.WandbLogger(project="saes", mode="offline", dir=str(wandb_home / "theirs"))
    (wandb_home / "theirs").mkdir()
    monkeypatch.setattr(sk.Trainer, "advance", lambda self, x, *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, corpus, [logger])
    assert logger.run is not mine and logger.run.id != mine.id
    mine.log({"still": 1})
    mine.finish()
    _, summary, _ = wandb_read(wandb_home / "theirs")
    assert (summary["status"], summary["message"]) == ("failed", "ZeroDivisionError: division by zero")


# ---- without the libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "make"), [("tensorboard", sk.TensorBoardLogger), ("wandb", sk.WandbLogger)])
def test_a_missing_library_is_said_when_the_logger_is_made(package, make, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{make.__name__} needs the package {package}[\s\S]*pip install {package}"):
        make("runs")


def test_a_new_process_loads_neither_library():
    import subprocess

    script = "import sys, saekit; assert not {'tensorboard', 'wandb'} & set(sys.modules), 'loaded'"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_warning_in_a_good_run(model, corpus, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(model, corpus, [Notes(), sk.TrainingMonitor(), sk.TensorBoardLogger(tmp_path)])
