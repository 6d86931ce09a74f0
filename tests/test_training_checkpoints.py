"""Checkpoints: two are kept, each with a usable SAE, and a torn one is passed over."""

from __future__ import annotations

import pytest

import saekit as sk
from saekit.training.checkpoints import load_checkpoint, save_checkpoint

from .test_training_loop import run


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
        save_checkpoint(tmp_path, step, {"step": step, "trainers": [], "batches": {}}, {"sae": sae})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert load_checkpoint(tmp_path) == {"step": 3, "trainers": [], "batches": {}}
    assert sk.load_sae(tmp_path / "step-00000002" / "sae").fingerprint == sae.fingerprint
    assert load_checkpoint(tmp_path / "nowhere") is None
