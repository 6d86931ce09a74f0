"""What SAELens' files leave to run time, in version 6, in the versions before it and in the saves of its training."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

import saekit as sk
from saekit.errors import FileError

from .sae_files import D, K, N, check, comes_back, inputs, json_file, kept, tensors

VERSION_6 = {"metadata": {"sae_lens_version": "6.20.0", "model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre"}}
FLAT = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "context_size": 128,
    "prepend_bos": False,
    "normalize_activations": False,
}


def written(folder, w, *, drop=("threshold",), **cfg):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in w.items() if n not in drop}, folder / "sae_weights.safetensors")
    base = {"d_in": D, "d_sae": N, "dtype": "torch.float32", "device": "cpu", "apply_b_dec_to_input": True}
    json_file(folder, "cfg.json", {**base, **cfg})
    return folder


@pytest.mark.parametrize("version", [5, 6])
@pytest.mark.parametrize("how", ["layer_norm", "constant_norm_rescale"])
def test_normalisation_of_each_token(how, version, tmp_path):
    w, x = tensors(), inputs()
    about = {"architecture": "standard", **VERSION_6} if version == 6 else FLAT
    sae = sk.load_sae(written(tmp_path / "a", w, **{**about, "normalize_activations": how}))
    if how == "layer_norm":
        mean = x.mean(-1, keepdim=True)
        std = ((x - mean) ** 2).sum(-1, keepdim=True).div(D - 1).sqrt()
        z = (x - mean) / (std + 1e-5)
    else:
        mean, std = 0.0, x.norm(dim=-1, keepdim=True) / math.sqrt(D)
        z = x * math.sqrt(D) / x.norm(dim=-1, keepdim=True)
    acts = ((z - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    check(sae, x, acts, (acts @ w["W_dec"] + w["b_dec"]) * std + mean)
    comes_back(sae, tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "cfg.json").read_text())["normalize_activations"] == how


@pytest.mark.parametrize(
    ("how", "stored", "given"),
    [
        ("expected_average_only_in", {}, {"activation_scale": 0.25}),
        ("expected_average_only_in", {"scaler": 0.25}, {}),
        ("constant_scalar_rescale", {"activation_normalization_factor": 0.25}, {}),
    ],
)
def test_one_scale_is_folded(how, stored, given, tmp_path):
    w, x = tensors(), inputs()
    cfg = {"architecture": "standard", **VERSION_6, "normalize_activations": how}
    folder = written(tmp_path, w, **cfg, **{n: v for n, v in stored.items() if n != "scaler"})
    if "scaler" in stored:
        json_file(folder, "activation_scaler.json", {"scaling_factor": stored["scaler"]})
    acts = ((x * 0.25 - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    check(sk.load_sae(folder, **given), x, acts, (acts @ w["W_dec"] + w["b_dec"]) / 0.25)


def test_hook_z_files_load(tmp_path):
    metadata = {**VERSION_6["metadata"], "hook_name": "blocks.0.attn.hook_z", "exclude_special_tokens": [5, 7]}
    metadata |= {"model_from_pretrained_kwargs": {"center_writing_weights": True}, "prepend_bos": False}
    cfg = {"architecture": "standard", "reshape_activations": "hook_z", "metadata": metadata}
    sae = sk.load_sae(written(tmp_path / "a", tensors(), **cfg))
    c = sae.config
    assert (c.hook_name, c.prepend_bos, c.exclude_special_tokens) == ("blocks.0.attn.hook_z", False, (5, 7))
    assert c.weight_processing == "center_writing_weights"
    back = json.loads((sae.save(tmp_path / "b") / "cfg.json").read_text())["metadata"]
    assert (back["prepend_bos"], back["exclude_special_tokens"]) == (False, [5, 7])
    assert sk.load_sae(tmp_path / "b").config == c


def test_before_version_6(tmp_path):
    w, x = tensors(), inputs()
    inside = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    sae = sk.load_sae(written(tmp_path / "a", w | {"scaling_factor": torch.ones(N)}, **FLAT))
    check(sae, x, inside.relu(), inside.relu() @ w["W_dec"] + w["b_dec"])
    c = sae.config
    assert (c.model_name, c.hook_name, c.context_size) == ("gpt2-small", "blocks.8.hook_resid_pre", 128)
    assert (c.prepend_bos, c.dataset) == (False, "Skylion007/openwebtext")

    topk = {**FLAT, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "sae_lens_version": "4.1.0"}
    acts = kept(inside, K)
    check(sk.load_sae(written(tmp_path / "b", w, **topk)), x, acts, acts @ w["W_dec"] + w["b_dec"])

    tuned = w | {"scaling_factor": torch.linspace(0.5, 2, N)}
    sae = sk.load_sae(written(tmp_path / "c", tuned, **FLAT, finetuning_scaling_factor=True))
    check(sae, x, inside.relu(), (inside.relu() * tuned["scaling_factor"]) @ w["W_dec"] + w["b_dec"])
    with pytest.raises(FileError, match=r"contradicts itself.*fine-tuning[\s\S]*from 0.5 to 2"):
        sk.load_sae(written(tmp_path / "d", tuned, **FLAT))
    with pytest.raises(FileError, match=r"SAELens before 6 with an activation.*\n.*tanh-relu"):
        sk.load_sae(written(tmp_path / "e", w, **FLAT, activation_fn_str="tanh-relu"))

    jump = written(tmp_path / "f", w, drop=(), **FLAT, architecture="jumprelu")
    acts = inside.relu() * (inside > w["threshold"])
    check(sk.load_sae(jump), x, acts, acts @ w["W_dec"] + w["b_dec"])
    for value, message in (("expected_average_only_in", "activation_scale="), (True, "activation_scale=")):
        with pytest.raises(FileError, match=message):
            sk.load_sae(written(tmp_path / "g", w, **{**FLAT, "normalize_activations": value}))


@pytest.mark.parametrize("rescales", [True, False])
@pytest.mark.parametrize("scale", [None, 0.25])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_saves_of_training(architecture, rescales, scale, tmp_path):
    w, x = tensors(), inputs()
    stored = {**w, "topk_threshold": torch.tensor(0.7, dtype=torch.float64)}
    how = "none" if scale is None else "expected_average_only_in"
    cfg = {"architecture": architecture, "k": 4.0, "rescale_acts_by_decoder_norm": rescales, **VERSION_6}
    folder = written(tmp_path / "a", stored, **cfg, normalize_activations=how, matryoshka_widths=[8, 16, N])
    if scale is not None:
        json_file(folder, "activation_scaler.json", {"scaling_factor": scale})
    inside = (x * (scale or 1.0) - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    length = w["W_dec"].norm(dim=1) if rescales else torch.ones(N)
    fires = inside * length > 0.7  # as in training, where the norm counts
    acts = (inside * fires).relu()
    x_hat = (acts @ w["W_dec"] + w["b_dec"]) / (scale or 1.0)
    sae = sk.load_sae(folder)
    shown = acts * length / ((scale or 1.0) if rescales else 1.0)  # activations of rows of unit norm
    check(sae, x, shown, x_hat)
    assert (sae.config.activation, sae.config.k) == ("batchtopk", 4)
    assert sae.config.matryoshka == (8, 16, N)
    comes_back(sae, tmp_path / "ours")


def test_a_threshold_saved_as_its_logarithm(tmp_path):
    w, x = tensors(), inputs()
    stored = {**w, "log_threshold": w["threshold"].log()}
    sae = sk.load_sae(written(tmp_path, stored, architecture="jumprelu", **VERSION_6))
    inside = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    acts = inside.relu() * (inside > w["threshold"])
    check(sae, x, acts, acts @ w["W_dec"] + w["b_dec"])
