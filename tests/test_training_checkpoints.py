"""Checkpoints: two are kept, each with a usable SAE, and a torn one is passed over."""

from __future__ import annotations

from dataclasses import replace

import pytest

import saekit as sk
from conftest import HOOK
from saekit.errors import FileError, MismatchError
from saekit.training.checkpoints import load_checkpoint, save_checkpoint
from saekit.training.run_folder import plan_of_run

from .test_training_loop import configs, run

SAE_FILES = ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "altered", "no manifest"])
def test_a_torn_checkpoint_is_noticed_and_the_one_before_used(damage, model, corpus, tmp_path, interrupt_at):
    disarm = interrupt_at(25)
    run(model, corpus, tmp_path, steps=40)
    disarm()
    newest = tmp_path / "checkpoints" / "step-00000025"
    content = (newest / "state.pt").read_bytes()
    if damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        (newest / "state.pt").write_bytes(content[:-10] if damage == "truncated" else content[:-10] + b"0123456789")
    with pytest.warns(UserWarning, match="checkpoint step-00000025 is damaged"):
        resumed = run(model, corpus, tmp_path, steps=40)
    assert resumed.fingerprint == run(model, corpus, steps=40).fingerprint
    assert resumed.history.index.tolist() == [10, 20, 30, 40]


def test_two_checkpoints_are_kept_each_with_a_usable_sae(tmp_path):
    sae = sk.SAE(sk.SAEConfig(d_in=8, d_sae=16, activation="topk", k=2))
    (tmp_path / ".step-00000003.part").mkdir()  # what a kill may leave
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "trainers": [], "batches": {}}, {"sae": sae}, "0123456789abcdef")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert load_checkpoint(tmp_path) == {"step": 3, "trainers": [], "batches": {}}
    assert sk.load_sae(tmp_path / "step-00000002" / "sae").fingerprint == sae.fingerprint
    assert load_checkpoint(tmp_path / "nowhere") is None


def test_a_damaged_sae_is_made_again_from_the_last_checkpoint(model, corpus, tmp_path, monkeypatch):
    whole = run(model, corpus, steps=40)
    monkeypatch.setattr("saekit.training.run_folder.remove_checkpoints", lambda folder: None)  # a kill before it
    run(model, corpus, tmp_path, steps=40, checkpoint_every=15)
    monkeypatch.undo()
    assert (tmp_path / "checkpoints").is_dir()
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"sae_weights.safetensors is not the file.*resumes from its last checkpoint"):
        resumed = run(model, corpus, tmp_path, steps=40, checkpoint_every=15)
    assert resumed.fingerprint == whole.fingerprint == sk.load_sae(tmp_path).fingerprint
    assert resumed.history.index.tolist() == [10, 20, 30, 40]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*SAE_FILES, "metrics.jsonl"])
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(FileError, match="sae_weights.safetensors is not the file"):  # nothing to make it of
        run(model, corpus, tmp_path, steps=40)


def test_checkpoints_of_a_finished_run_go_with_the_next_call(model, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("saekit.training.run_folder.remove_checkpoints", lambda folder: None)
    first = run(model, corpus, tmp_path, steps=40, checkpoint_every=15)
    monkeypatch.undo()
    (tmp_path / ".metrics.jsonl.01234567.part").touch()
    (tmp_path / "checkpoints" / ".step-00000030.part").mkdir()
    assert run(model, corpus, tmp_path, steps=40, checkpoint_every=15).fingerprint == first.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*SAE_FILES, "metrics.jsonl"])


def test_a_run_that_was_begun_again_and_stopped_is_not_taken_for_the_finished_one(
    model, corpus, tmp_path, interrupt_at
):
    first = run(model, corpus, tmp_path, steps=40)
    files = {name: (tmp_path / name).read_bytes() for name in SAE_FILES}
    disarm = interrupt_at(25)
    sk.train(model, corpus, hook_name=HOOK, out=tmp_path, resume=False, progress=False, **configs())
    disarm()
    for name, content in files.items():  # as a kill leaves them, which saves nothing
        (tmp_path / name).write_bytes(content)
    again = run(model, corpus, tmp_path, steps=40)
    assert again.fingerprint == first.fingerprint and again.history.index.tolist() == [10, 20, 30, 40]


def test_a_linked_folder_of_checkpoints_keeps_what_is_not_this_runs(model, corpus, tmp_path, interrupt_at):
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    out.mkdir()
    (scratch / "notes.txt").write_text("mine")
    (out / "checkpoints").symlink_to(scratch)
    disarm = interrupt_at(25)
    run(model, corpus, out, steps=40)
    disarm()
    assert sorted(p.name for p in scratch.glob("step-*")) == ["step-00000020", "step-00000025"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoints").symlink_to(scratch)
    for resume in (True, False):
        with pytest.raises(MismatchError, match="is a link to a folder with checkpoints of another run"):
            sk.train(
                model, corpus, hook_name=HOOK, out=tmp_path / "other", resume=resume, progress=False, **configs(lr=0.5)
            )
    assert sorted(p.name for p in scratch.glob("step-*")) == ["step-00000020", "step-00000025"]
    run(model, corpus, out, steps=40)
    assert [p.name for p in scratch.iterdir()] == ["notes.txt"] and (out / "checkpoints").is_symlink()


def test_the_plan_of_a_run_has_all_that_its_saes_depend_on(model, corpus, tmp_path):
    config = sk.TrainConfig(n_tokens=640, batch_size=64)
    sae = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, hook_name="a", model_fingerprint="m")
    origin = {"digest": "0123", "described": "text"}
    same = plan_of_run([sae], config, origin)
    assert same == plan_of_run([sae], replace(config, device="cpu", log_every=3), {**origin, "described": "other"})
    others = [
        ([sae.replace(hook_name="b")], config, origin),
        ([sae.replace(model_fingerprint="n")], config, origin),
        ([sae.replace(token_filter=sk.TokenFilter(max_norm=3.0))], config, origin),
        ([sae, sae], config, origin),
        ([sae], replace(config, seed=1), origin),
        ([sae], config, {**origin, "digest": "4567"}),
        ([sae], config, None),
    ]
    assert len({same, *(plan_of_run(*other) for other in others)}) == 1 + len(others)
