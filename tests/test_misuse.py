"""A newcomer's mistakes: each is one error with its four parts, and loses nothing that was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import saekit as sk
from conftest import tiny_llama
from saekit.errors import SaekitError

A, B, WIDE = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.1.mlp.hook_post"
TRAINING = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
PARTS = ("\n  seen:     ", "\n  accepted: ", "\n  fix:      ")


def config(activation="batchtopk", **fields):
    fields = {"d_in": 32, "d_sae": 64, "k": 4 if str(activation).lower().endswith("topk") else None, **fields}
    return sk.SAEConfig(activation=activation, **fields)


GATED, TOPK = config("gated", target_l0=4.0), config("topk")


def error_of(call, *args, **kwargs):
    """The text of the saekit error that a call must raise, once its four parts are there."""
    with pytest.raises(SaekitError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert all(part in text for part in PARTS), text
    return text


def train(model, corpus, sae, hook_name=A, out=None, settings=TRAINING, **more):
    return sk.train(model, corpus, sae=sae, hook_name=hook_name, config=settings, out=out, progress=False, **more)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- configurations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"activation": "relu", "k": 4}, "the relu architecture has no k"),
        ({"activation": "topk", "k": None}, "k does not fit the topk architecture"),
        ({"activation": "TopK"}, "did you mean 'topk'"),
        ({"activation": None}, "unknown architecture 'None'"),
        ({"activation": "topk", "target_l0": 4}, "the topk architecture has no target_l0"),
        ({"activation": "topk", "sparsity_coefficient": 4}, "the topk architecture has no sparsity_coefficient"),
        ({"activation": "relu", "target_l0": "4"}, "target_l0 is out of range"),
        ({"activation": "relu", "target_l0": float("nan")}, "target_l0 is out of range"),
        ({"activation": "relu", "target_l0": 64}, "target_l0 is out of range"),
        ({"activation": "relu", "sparsity_coefficient": "5"}, "sparsity_coefficient is out of range"),
        ({"activation": "relu", "sparsity_coefficient": float("inf")}, "sparsity_coefficient is out of range"),
        ({"activation": "relu", "sparsity_coefficient": -1}, "sparsity_coefficient is out of range"),
        ({"activation": "gated", "sparsity_coefficient": 0.0, "target_l0": 4.0}, "cannot be steered from 0"),
        (
            {"activation": "jumprelu", "l0_penalty": "quadratic", "target_l0": None},
            "quadratic L0 penalty needs its target",
        ),
        ({"activation": "jumprelu", "l0_penalty": "quadratik"}, "did you mean 'quadratic'"),
        (
            {"activation": "gated", "l0_penalty": "quadratic", "target_l0": 4.0},
            "the gated architecture has no l0_penalty",
        ),
        ({"activation": "relu", "matryoshka": (16, 64)}, "the relu architecture has no matryoshka"),
        ({"matryoshka": (16, 32)}, "matryoshka is not a tuple of nested prefix sizes"),
        ({"matryoshka": [16, 64]}, "matryoshka is not a tuple of nested prefix sizes"),
        ({"matryoshka": 64}, "matryoshka is not a tuple of nested prefix sizes"),
        ({"multi_k_coefficient": 0.125}, "the batchtopk architecture has no multi_k_coefficient"),
        ({"d_sae": 64.0}, "d_sae is not a positive integer"),
        ({"d_out": 0}, "d_out is not a positive integer"),
        ({"d_out": 8, "apply_b_dec_to_input": True}, "a transcoder's b_dec belongs to its output"),
        ({"dtype": torch.float32}, "did you mean 'float32'"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be(fields, says):
    assert says in error_of(config, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": "1e-3"},
        {"lr": 0},
        {"n_tokens": 1e6},
        {"resample_every": 2.5},
        {"decay_fraction": 2},
        {"grad_clip": None},
        {"sparsity_warmup_fraction": "all"},
        {"n_tokens": 10},
    ],
    ids=str,
)
def test_a_run_that_cannot_be(fields):
    assert next(iter(fields)) in error_of(sk.TrainConfig, **{"n_tokens": 10_000, **fields})


# ---- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sae", "hook_name", "says"),
    [
        (config(d_in=16), A, "another width than the SAE"),
        (TOPK, [A, WIDE], f"activations at {WIDE} are of another width"),
        (TOPK, (A, B), "are of another width"),
        (TOPK, [A, "blocks.1.hook_resid_pots"], "did you mean 'blocks.1.hook_resid_post'"),
        (TOPK, [A, None], "not a hook point"),
        (TOPK, [A, A], "the hook points to train at are not distinct"),
        (config(hook_name=[A, B], d_in=64), None, "not a hook point"),
        ([TOPK, config(hook_name=B)], [WIDE], f"activations at {WIDE} are of another width"),
        (config(hook_name=B), A, f"nothing is to be trained at {A}"),
        (config(d_out=32), A, "a transcoder reconstructs another hook point"),
        (config(hook_out="blocks.1.mlp.hook_oot"), A, "did you mean 'blocks.1.mlp.hook_out'"),
        ("topk", A, "not an SAE's configuration"),
        ([TOPK, "gated"], A, "not an SAE's configuration"),
        (sk.SAE(TOPK), A, "not an SAE's configuration"),
        ([], A, "no SAE to train"),
    ],
    ids=lambda value: None,
)
def test_a_request_that_cannot_be_is_refused_before_anything_is_written(sae, hook_name, says, llama, corpus, tmp_path):
    assert says in error_of(train, llama, corpus, sae, hook_name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_not_a_model_a_corpus_or_a_configuration_is_named(llama, corpus):
    assert "not a corpus" in error_of(train, llama, "the golden gate is red " * 200, TOPK)
    assert "not a corpus" in error_of(train, llama, 7, TOPK)
    assert "not a model" in error_of(train, "gpt2", corpus, TOPK)
    assert "not a TrainConfig" in error_of(train, llama, corpus, TOPK, settings={"n_tokens": 640})
    assert "one string is not a corpus" in error_of(sk.tokenize, "the golden gate", llama)


def test_a_batch_that_does_not_fit_leaves_the_weights_alone():
    trainer = sk.Trainer(sk.SAE(config("gated", d_out=8)), TRAINING)
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.randn(64, n, generator=generator) for n in (32, 8))
    trainer.step(x, target)
    before = trainer.state_dict()
    poisoned = target.clone()
    poisoned[2, 2] = float("nan")
    assert "a transcoder is trained on pairs" in error_of(trainer.step, x)
    assert "a transcoder is trained on pairs" in error_of(trainer.step, x, target[:5])
    assert "what it writes" in error_of(trainer.step, x, x)
    assert "what it reads" in error_of(trainer.step, target, target)
    assert "the first at row 2" in error_of(trainer.step, x, poisoned)
    after = trainer.state_dict()
    assert all(torch.equal(after["sae"][name], weight) for name, weight in before["sae"].items())
    assert after["n_steps_done"] == before["n_steps_done"] == 1


# ---- going on -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(llama, corpus, tmp_path_factory):
    """The folder of a run of two SAEs that has ended."""
    folder = tmp_path_factory.mktemp("ended") / "run"
    train(llama, corpus, [TOPK, GATED], out=folder)
    return folder


@pytest.mark.parametrize(
    ("sae", "says"),
    [
        ([TOPK, GATED.replace(target_l0=5.0)], "another target_l0 lies here"),
        ([TOPK, config("kl", target_l0=4.0)], "other SAEs lie here"),
        ([GATED, TOPK], "other SAEs lie here"),
        ([TOPK, GATED, config("relu")], "other SAEs lie here"),
        ([TOPK.replace(k=5), GATED, config("relu")], "other SAEs lie here"),
        (config("relu"), "other SAEs lie here"),
    ],
    ids=lambda value: None,
)
def test_a_run_with_other_saes_is_not_written_over(sae, says, llama, corpus, ended):
    before = content(ended)
    assert says in error_of(train, llama, corpus, sae, out=ended)
    assert content(ended) == before
    assert len(train(llama, corpus, [TOPK, GATED], out=ended)) == 2


def test_an_sae_that_was_saved_by_hand_is_not_written_over(llama, corpus, tmp_path):
    sae = sk.SAE(TOPK)
    sae.save(tmp_path)
    assert "other SAEs lie here" in error_of(train, llama, corpus, TOPK, out=tmp_path)
    assert sk.load_sae(tmp_path).fingerprint == sae.fingerprint
    again = train(llama, corpus, TOPK, out=tmp_path, resume=False)
    assert sk.load_sae(tmp_path).fingerprint == again.fingerprint != sae.fingerprint


def test_a_run_in_half_precision_that_has_ended_is_returned(llama, corpus, tmp_path):
    half = config(dtype="bfloat16")
    sae = train(llama, corpus, half, out=tmp_path)
    assert train(llama, corpus, half, out=tmp_path).fingerprint == sae.fingerprint
    assert "another dtype lies here" in error_of(train, llama, corpus, config(dtype="float64"), out=tmp_path)
    assert "another dtype lies here" in error_of(train, llama, corpus, config(dtype="float32"), out=tmp_path)


# ---- afterwards ---------------------------------------------------------------------------------------------------


def test_an_sae_of_another_model_is_refused_by_every_function(llama, model, corpus, ended, tmp_path):
    sae = sk.load_sae(ended / "1-gated-64")
    other = tiny_llama(1)
    for wrong, says in ((model, "this SAE was trained on another model"), (other, "has other weights than the model")):
        assert says in error_of(sk.evaluate, wrong, sae, corpus, progress=False)
        assert says in error_of(sk.evaluate, wrong, [sae, sae], corpus, progress=False)
        assert says in error_of(sk.build_index, wrong, sae, corpus, out=tmp_path / "index", progress=False)
        assert says in error_of(sk.highlight, wrong, sae, "a cat")
        assert says in error_of(sk.generate, wrong, "a cat", edits=[sk.clamp(sae, {1: 2.0})], max_new_tokens=2)
    assert not (tmp_path / "index").exists()
    assert "not an SAE" in error_of(sk.evaluate, llama, str(ended / "1-gated-64"), corpus, progress=False)
    assert "not an SAE" in error_of(sk.evaluate, llama, [sae, "1-gated-64"], corpus, progress=False)


def truncated(folder):
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def changed(folder):
    path = folder / "sae_weights.safetensors"
    weights = load_file(path)
    save_file({**weights, "b_mag": weights["b_mag"] + 1}, path)


def without_r_mag(folder):
    foreign(folder)
    weights = load_file(folder / "sae_weights.safetensors")
    del weights["r_mag"]
    save_file(weights, folder / "sae_weights.safetensors")


def foreign(folder):
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["metadata"]["saekit"]
    (folder / "cfg.json").write_text(json.dumps(cfg))


def of_another_kind(folder):
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace('"architecture": "gated"', '"architecture": "standard"'))


def with_a_word_for_a_number(folder):
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace('"target_l0": 4.0', '"target_l0": "four"'))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "is not the file that was saved"),
        (changed, "is not the file that was saved"),
        (without_r_mag, "missing: r_mag"),
        (of_another_kind, "contradicts itself"),
        (with_a_word_for_a_number, "cfg.json holds a value that is not accepted at metadata.saekit.config.target_l0"),
        (lambda folder: (folder / "cfg.json").unlink(), "no file"),
        (lambda folder: (folder / "sae_weights.safetensors").unlink(), "no file"),
    ],
)
def test_a_damaged_gated_file_is_refused_and_left_alone(damage, says, ended, tmp_path):
    shutil.copytree(ended / "1-gated-64", tmp_path / "sae")
    damage(tmp_path / "sae")
    before = content(tmp_path / "sae")
    assert says in error_of(sk.load_sae, tmp_path / "sae")
    assert content(tmp_path / "sae") == before


def test_the_folder_of_a_run_of_several_says_where_its_saes_are(ended):
    text = error_of(sk.load_sae, ended)
    assert "0-topk-64" in text and "1-gated-64" in text
