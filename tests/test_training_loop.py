"""sk.train from text to a saved SAE: provenance, metrics, checkpoints, kills, interrupts, full disks."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path

import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, DataError, DiskFullError, MismatchError
from saekit.training.checkpoints import load_checkpoint

from .killed_runs import run_until

ROOT = Path(__file__).parents[1]


def configs(activation="topk", steps=40, **fields):
    k = 4 if activation != "relu" else None
    sae = sk.SAEConfig(d_in=32, d_sae=64, activation=activation, k=k)
    fields = {"batch_size": 64, "context_size": 16, "buffer_tokens": 256, "checkpoint_every": 10, "lr": 1e-3, **fields}
    return {"sae": sae, "config": sk.TrainConfig(n_tokens=steps * fields["batch_size"], **fields)}


def run(model, corpus, out=None, **fields):
    return sk.train(model, corpus, hook_name=HOOK, out=out, progress=False, **configs(**fields))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
def test_train_gives_a_saved_sae_that_records_where_it_came_from(activation, model, corpus, tmp_path):
    sae = run(model, corpus, tmp_path / "run", activation=activation, steps=60)
    c = sae.config
    assert (c.hook_name, c.model_name, c.model_fingerprint) == (HOOK, model.name, model.fingerprint)
    assert (c.weight_processing, c.context_size, c.dataset) == ("none", 16, "tiny")
    assert set(c.token_filter.special_ids) == set(model.special_ids)
    sae.check(model, HOOK)
    assert (
        sae.history["step"].tolist()
        if "step" in sae.history
        else sae.history.index.tolist() == [10, 20, 30, 40, 50, 60]
    )
    assert sae.history["loss"].iloc[-1] < sae.history["loss"].iloc[0] or activation == "relu"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in lines] == sae.history["loss"].tolist()
    assert {"tokens_per_second", "l0", "explained_variance", "dead_features", "lr"} <= lines[0].keys()
    back = sk.load_sae(tmp_path / "run")
    assert back.fingerprint == sae.fingerprint
    assert back.config == sae.config
    assert back.training_summary["explained_variance"] == lines[-1]["explained_variance"]
    assert back.density.shape == (64,)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_no_special_token_and_no_padding_is_trained_on(model, corpus, monkeypatch):
    windows = sk.tokenize(corpus, model, length=16)
    special = torch.cat(
        [model.activations(windows.tokens[i : i + 1], HOOK)[0][:1] for i in range(len(windows))]
    )  # the BOS that begins every window
    seen = []
    plain = sk.Trainer.advance
    monkeypatch.setattr(sk.Trainer, "advance", lambda self, x: seen.append(x.clone()) or plain(self, x))
    run(model, windows, steps=20)
    assert len(seen) == 20
    assert float(torch.cdist(torch.cat(seen), special).min()) > 1e-3


def test_train_takes_windows_and_cached_activations(model, corpus, tmp_path):
    windows = sk.tokenize(corpus, model, length=16)
    cache = sk.cache_activations(model, windows, HOOK, tmp_path / "cache", progress=False)
    from_windows = run(model, windows, steps=5)
    assert from_windows.config.dataset is None
    from_cache = run(model, cache, steps=5)
    without_model = sk.train(None, cache, progress=False, **configs(steps=5))
    beside = sk.train(model, corpus, activations=cache, hook_name=HOOK, progress=False, **configs(steps=5))
    assert from_cache.fingerprint == without_model.fingerprint == beside.fingerprint != from_windows.fingerprint
    assert without_model.config.model_name == model.name
    assert without_model.config.token_filter == cache.token_filter
    assert beside.config.dataset == "tiny"
    with pytest.raises(MismatchError, match="are of another hook point"):
        sk.train(model, cache, hook_name="blocks.1.hook_resid_post", progress=False, **configs())


@pytest.mark.slow
def test_several_saes_see_the_same_batches(model, corpus, tmp_path):
    settings = configs(steps=20)
    wide = sk.SAEConfig(d_in=32, d_sae=96, activation="batchtopk", k=3)
    both = sk.train(
        model,
        corpus,
        hook_name=HOOK,
        out=tmp_path,
        progress=False,
        sae=[settings["sae"], wide],
        config=settings["config"],
    )
    alone = run(model, corpus, steps=20)
    assert both[0].fingerprint == alone.fingerprint
    assert both[1].config.d_sae == 96
    assert len(both[0].history) == len(both[1].history) == 2
    assert sk.load_sae(tmp_path / "1-batchtopk-96").fingerprint == both[1].fingerprint


# ---- going on -----------------------------------------------------------------------------------------------------

KILLED_RUN = """
import sys, time
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import conftest
import saekit as sk
from tests.test_training_loop import run

plain = sk.Trainer.advance
def slow(self, x):
    time.sleep(0.03)  # so that the kill falls into the run
    return plain(self, x)
sk.Trainer.advance = slow
corpus = sk.load_corpus(conftest.tiny_texts(), name="tiny")
run(conftest.tiny_model(), corpus, {out!r}, activation={activation!r}, steps=60)
"""


@pytest.mark.parametrize("activation", ["relu", "batchtopk"])
@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(activation, model, corpus, tmp_path):
    out = tmp_path / "run"
    script = KILLED_RUN.format(root=str(ROOT), out=str(out), activation=activation)
    run_until(script, (out / "checkpoints" / "step-00000020" / "manifest.json").exists)
    assert not (out / "cfg.json").exists()
    steps_left = []
    plain = sk.Trainer.advance

    def counted(self, x):
        steps_left.append(self.n_steps_done)
        return plain(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk.Trainer, "advance", counted)
        resumed = run(model, corpus, out, activation=activation, steps=60)
    assert 20 <= steps_left[0] < 60  # it did resume, and from a checkpoint
    whole = run(model, corpus, activation=activation, steps=60)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    same = [c for c in whole.history.columns if c != "tokens_per_second"]
    assert resumed.history[same].equals(whole.history[same])


def test_a_finished_run_is_returned_and_not_run_again(model, corpus, tmp_path, monkeypatch):
    sae = run(model, corpus, tmp_path, steps=20)
    monkeypatch.setattr(sk.Trainer, "advance", lambda *_: pytest.fail("trained again"))
    again = run(model, corpus, tmp_path, steps=20)
    assert again.fingerprint == sae.fingerprint
    assert again.history.equals(sae.history)


@pytest.mark.slow
@pytest.mark.parametrize("ended", [True, False])
def test_going_on_with_another_configuration_is_an_error(ended, model, corpus, tmp_path, interrupt_at):
    disarm = (lambda: None) if ended else interrupt_at(15)
    run(model, corpus, tmp_path, steps=20)
    disarm()
    with pytest.raises(
        MismatchError, match=r"a run with another lr lies here[\s\S]*lr = 0.002\n.*lr = 0.001\n.*resume=False"
    ):
        run(model, corpus, tmp_path, steps=20, lr=2e-3)
    with pytest.raises(MismatchError, match=r"another activation lies here|another number"):
        run(model, corpus, tmp_path, steps=20, activation="batchtopk")
    other = sk.train(
        model, corpus, hook_name=HOOK, out=tmp_path, progress=False, resume=False, **configs(steps=20, lr=2e-3)
    )
    assert len(other.history) == 2
    assert sk.load_sae(tmp_path).fingerprint == other.fingerprint


def test_going_on_with_other_text_is_an_error(model, corpus, tmp_path, interrupt_at):
    disarm = interrupt_at(15)
    run(model, corpus, tmp_path, steps=20)
    disarm()
    with pytest.raises(MismatchError, match="was trained on other text or activations"):
        run(
            model, sk.load_corpus(["something else entirely, and quite long " * 5] * 9, name="tiny"), tmp_path, steps=20
        )


def test_a_finished_run_on_other_text_is_not_taken_for_this_one(model, corpus, tmp_path):
    first = run(model, corpus, tmp_path, steps=4)
    assert run(model, corpus, tmp_path, steps=4).fingerprint == first.fingerprint
    other = sk.load_corpus(["something else entirely, and quite long " * 5] * 9, name="tiny")
    with pytest.raises(
        MismatchError, match=r"trained on other text[\s\S]*9 documents[\s\S]*40 documents[\s\S]*resume=False"
    ):
        run(model, other, tmp_path, steps=4)
    streams = [sk.load_corpus(({"text": t.text} for t in c), name="s") for c in (corpus, other)]
    run(model, streams[0], tmp_path / "stream", steps=4)
    with pytest.raises(MismatchError, match="first windows"):
        run(model, streams[1], tmp_path / "stream", steps=4)
    saved = json.loads((tmp_path / "cfg.json").read_text())
    del saved["metadata"]["saekit"]["checksum"]
    text = json.dumps(saved)
    assert '"trained_on"' in text
    (tmp_path / "cfg.json").write_text(text.replace('"trained_on"', '"of_old"'))  # a run of an earlier version
    assert run(model, corpus, tmp_path, steps=4).fingerprint == first.fingerprint


# ---- interrupts ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
def test_an_interrupt_returns_and_saves_a_usable_sae_and_the_run_goes_on(
    activation, model, corpus, tmp_path, interrupt_at
):
    disarm = interrupt_at(33)
    before = signal.getsignal(signal.SIGINT)
    sae = run(model, corpus, tmp_path, activation=activation, steps=60)
    assert signal.getsignal(signal.SIGINT) is before
    disarm()
    x = next(sk.activation_batches(model, corpus, HOOK, batch_size=64, length=16, n_epochs=1))
    explained = float(1 - (x - sae(x).x_hat).square().sum() / (x - x.mean(0)).square().sum())
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert explained == pytest.approx(last["explained_variance"], abs=0.2)  # in the model's units
    assert sk.load_sae(tmp_path).fingerprint == sae.fingerprint
    assert sk.load_sae(tmp_path / "checkpoints" / "step-00000033" / "sae").fingerprint == sae.fingerprint
    assert sae.training_summary["step"] == 33
    resumed = run(model, corpus, tmp_path, activation=activation, steps=60)
    assert resumed.fingerprint == run(model, corpus, activation=activation, steps=60).fingerprint


def test_an_interrupt_without_a_folder_returns_the_sae(model, corpus, interrupt_at, capsys):
    interrupt_at(15)
    sae = sk.train(model, corpus, hook_name=HOOK, **configs(steps=30))
    assert sae.training_summary["step"] == 15
    assert sae.training_summary["finished"] is False
    assert "interrupted at step 15 of 30: this is the SAE so far" in capsys.readouterr().out


def test_a_hard_interrupt_inside_a_step_still_returns_the_sae(model, corpus, monkeypatch):
    plain = sk.Trainer.advance

    def stop(self, x):
        if self.n_steps_done == 12:
            raise KeyboardInterrupt
        return plain(self, x)

    monkeypatch.setattr(sk.Trainer, "advance", stop)
    assert run(model, corpus, steps=30).training_summary["step"] == 12


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_bad_requests(model, corpus):
    with pytest.raises(MismatchError, match=r"another width than the SAE\n.*32\n.*16\n.*d_in=32"):
        narrow = sk.SAEConfig(d_in=16, d_sae=64, k=4)
        sk.train(model, corpus, hook_name=HOOK, progress=False, sae=narrow, config=configs()["config"])
    with pytest.raises(ConfigError, match="training on text needs a model and a hook_name"):
        sk.train(model, corpus, progress=False, **configs())
    with pytest.raises(ConfigError, match="no SAE to train"):
        sk.train(model, corpus, hook_name=HOOK, progress=False, sae=[], config=configs()["config"])
    with pytest.raises(sk.SaekitError, match=r"blocks.0.hook_resid_pos"):
        sk.train(model, corpus, hook_name="blocks.0.hook_resid_pos", progress=False, **configs())


def test_nan_activations_stop_the_run_and_keep_what_was_written(model, corpus, tmp_path, monkeypatch):
    plain = sk.Trainer.advance

    def poisoned(self, x):
        if self.n_steps_done == 24:
            x = x.clone()
            x[3, 3] = float("nan")
        return plain(self, x)

    monkeypatch.setattr(sk.Trainer, "advance", poisoned)
    with pytest.raises(DataError, match=r"NaN or infinity in batch 25\n.*row 3"):
        run(model, corpus, tmp_path, steps=40)
    assert load_checkpoint(tmp_path / "checkpoints")["step"] == 20


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_keeps_the_checkpoint_before(wrapped, model, corpus, tmp_path, monkeypatch):
    plain = torch.save

    def full(state, file):
        if state["step"] == 20:
            file.write(b"half of it")
            error = OSError(errno.ENOSPC, "No space left on device")
            if wrapped:  # as torch's zip writer passes it on
                raise RuntimeError("PytorchStreamWriter failed writing file data/3") from error
            raise error
        plain(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskFullError, match="no space left while writing"):
        run(model, corpus, tmp_path, steps=40)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000010"]
    assert run(model, corpus, tmp_path, steps=40).fingerprint == run(model, corpus, steps=40).fingerprint


# ---- metrics ------------------------------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch):
    """The steps at which the metrics were read."""
    steps, plain = [], sk.Trainer.metrics
    monkeypatch.setattr(sk.Trainer, "metrics", lambda self: steps.append(self.n_steps_done) or plain(self))
    monkeypatch.setattr(sk.Trainer, "step", lambda *_: pytest.fail("step reads the metrics every time"))
    return steps


def test_metrics_are_read_where_a_row_or_a_checkpoint_needs_them_and_nowhere_else(model, corpus, tmp_path, readings):
    run(model, corpus, steps=40, checkpoint_every=7)
    assert set(readings) == {10, 20, 30, 40} and len(readings) == 5  # the last for the row and for the SAE
    readings.clear()
    run(model, corpus, tmp_path, steps=40, checkpoint_every=14)
    assert set(readings) == {10, 14, 20, 28, 30, 40}


def test_nan_that_is_noticed_late_stops_the_run_at_the_next_reading(model, corpus, tmp_path, monkeypatch):
    """As on a GPU, where advance does not wait to see whether a batch was finite."""
    advance, metrics, bad = sk.Trainer.advance, sk.Trainer.metrics, []

    def late(self, x):
        if self.n_steps_done == 24:
            bad.append(DataError("activations contain NaN or infinity in batch 25"))
        advance(self, x)

    def read(self):
        if bad:
            raise bad[0]
        return metrics(self)

    monkeypatch.setattr(sk.Trainer, "advance", late)
    monkeypatch.setattr(sk.Trainer, "metrics", read)
    with pytest.raises(DataError, match="infinity in batch 25"):
        run(model, corpus, tmp_path, steps=40, checkpoint_every=7)
    assert load_checkpoint(tmp_path / "checkpoints")["step"] == 21
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20]
    with pytest.raises(DataError, match="infinity in batch 25"):  # also where nothing is read before the end
        run(model, corpus, steps=40, log_every=1000)


@pytest.mark.slow
def test_an_interrupted_run_on_cached_activations_goes_on_bit_for_bit(model, corpus, tmp_path, interrupt_at):
    cache = sk.cache_activations(model, corpus, HOOK, tmp_path / "cache", length=16, progress=False)
    disarm = interrupt_at(15)
    assert run(model, cache, tmp_path / "run", steps=40).training_summary["step"] == 15
    disarm()
    state = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert state["batches"]["n_drawn"] == 15 * 64  # those trained on, not the one that was prefetched
    assert run(model, cache, tmp_path / "run", steps=40).fingerprint == run(model, cache, steps=40).fingerprint
