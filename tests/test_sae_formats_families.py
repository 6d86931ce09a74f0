"""Every family of SAE files, built here as its own library lays it out, against its formula written out slowly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import saekit as sk
from saekit.errors import FileError, UnknownNameError
from saekit.sae.formats.registry import FAMILIES

from .sae_files import D, K, N, check, comes_back, inputs, json_file, kept, randoms, tensors


def test_gemma_scope(tmp_path):
    w, x = tensors(), inputs()
    np.savez(tmp_path / "params.npz", **{n: t.numpy() for n, t in w.items()})
    pre = x @ w["W_enc"] + w["b_enc"]
    acts = pre * (pre > w["threshold"])
    for path in (tmp_path, tmp_path / "params.npz"):
        sae = sk.load_sae(path, hook_name="blocks.3.hook_resid_post")
        check(sae, x, acts, acts @ w["W_dec"] + w["b_dec"])
    assert (sae.config.activation, sae.config.hook_name) == ("jumprelu", "blocks.3.hook_resid_post")
    comes_back(sae, tmp_path / "ours")
    transcoder = sk.load_sae(tmp_path, hook_name="a", hook_out="b")
    assert transcoder.config.is_transcoder
    assert not transcoder.config.subtracts_b_dec
    embeddings = sk.load_sae(tmp_path, hook_name="hook_embed", activation_scale=0.25)
    check(embeddings, 4 * x, acts, 4 * (acts @ w["W_dec"] + w["b_dec"]))
    with pytest.raises(UnknownNameError, match="hook_nam"):
        sk.load_sae(tmp_path, hook_nam="a")


@pytest.mark.parametrize(("transcoder", "skip"), [(False, False), (True, False), (True, True)])
def test_gemma_scope_2(skip, transcoder, tmp_path):
    w, x = tensors(), inputs()
    stored = {n.replace("W_", "w_"): t for n, t in w.items()}
    cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt"}
    cfg |= {"hf_hook_point_in": "model.layers.7.output"}
    pre = x @ w["W_enc"] + w["b_enc"]
    acts = pre * (pre > w["threshold"])
    x_hat = acts @ w["W_dec"] + w["b_dec"]
    if transcoder:
        cfg |= {"hf_hook_point_in": "model.layers.7.pre_feedforward_layernorm.output", "affine_connection": skip}
        cfg |= {"hf_hook_point_out": "model.layers.7.post_feedforward_layernorm.output"}
    if skip:
        stored["affine_skip_connection"] = randoms(3, s=(D, D))["s"]
        x_hat = x_hat + x @ stored["affine_skip_connection"]
    save_file(stored, tmp_path / "params.safetensors")
    json_file(tmp_path, "config.json", cfg)
    sae = sk.load_sae(tmp_path)
    check(sae, x, acts, x_hat)
    ends = (sae.config.hook_name, sae.config.hook_out)
    assert ends == (
        ("blocks.7.mlp.hook_in", "blocks.7.hook_mlp_out") if transcoder else ("blocks.7.hook_resid_post", None)
    )
    comes_back(sae, tmp_path / "ours")


def test_cross_layer_and_temporal_ones_are_refused_by_name(tmp_path):
    w = {n.replace("W_", "w_"): t for n, t in tensors().items()}
    save_file({**w, "w_dec": torch.zeros(N, 3, D)}, tmp_path / "params.safetensors")
    with pytest.raises(FileError, match=r"cross-layer transcoder of Gemma Scope 2[\s\S]*transcoders of single layers"):
        sk.load_sae(tmp_path)
    file = tmp_path / "W_enc_3.safetensors"
    save_file({"W_enc_3": torch.zeros(N, D), "b_enc_3": torch.zeros(N), "b_dec_3": torch.zeros(D)}, file)
    with pytest.raises(FileError, match=r"is a cross-layer transcoder, which saekit does not read"):
        sk.load_sae(file)
    file = tmp_path / "latest_ckpt.safetensors"
    save_file({"D": torch.zeros(N, D), "b": torch.zeros(D), "attn_layers.0.q": torch.zeros(2)}, file)
    with pytest.raises(FileError, match=r"is a temporal SAE, which saekit does not read"):
        sk.load_sae(file)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify(transcode, skip, tmp_path):
    w, x = tensors(), inputs()
    stored = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    stored |= {"W_dec": w["W_dec"], "b_dec": w["b_dec"]}
    pre = (x if transcode else x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    acts = kept(pre, K)
    x_hat = acts @ w["W_dec"] + w["b_dec"]
    if skip:
        stored["W_skip"] = randoms(3, s=(D, D))["s"]
        x_hat = x_hat + x @ stored["W_skip"].T
    folder = tmp_path / ("layers.5.mlp" if transcode else "layers.5")
    json_file(
        folder,
        "cfg.json",
        {
            "activation": "topk",
            "expansion_factor": 4,
            "normalize_decoder": True,
            "num_latents": 0,
            "k": K,
            "multi_topk": True,
            "skip_connection": skip,
            "transcode": transcode,
            "d_in": D,
        },
    )
    save_file(stored, folder / "sae.safetensors")
    json_file(tmp_path, "config.json", {"model": "EleutherAI/pythia-70m", "dataset": "pile", "ctx_len": 512})
    sae = sk.load_sae(folder)
    check(sae, x, acts, x_hat)
    assert sae.config.hook_name == ("blocks.5.mlp.hook_in" if transcode else "blocks.5.hook_resid_post")
    assert (sae.config.hook_out is None) == (not transcode and not skip)
    assert (sae.config.model_name, sae.config.context_size) == ("EleutherAI/pythia-70m", 512)
    torch.testing.assert_close(sk.load_sae(folder / "sae.safetensors").W_enc, sae.W_enc)
    cfg = json.loads((folder / "cfg.json").read_text())
    json_file(folder, "cfg.json", {**cfg, "activation": "groupmax"})
    with pytest.raises(FileError, match=r"EleutherAI sparsify with an activation.*\n.*groupmax"):
        sk.load_sae(folder)


def llama_scope(folder, w, **changes):
    cfg = {
        "d_model": D,
        "d_sae": N,
        "hook_point_in": "blocks.9.hook_resid_post",
        "hook_point_out": "blocks.9.hook_resid_post",
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 5.0, "out": 5.0},
        "sparsity_include_decoder_norm": True,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "use_glu_encoder": False,
        "top_k": K,
    }
    json_file(folder, "hyperparams.json", {**cfg, **changes})
    (folder / "checkpoints").mkdir(exist_ok=True)
    stored = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    stored |= {"decoder.weight": w["W_dec"].T.contiguous(), "decoder.bias": w["b_dec"]}
    save_file(stored, folder / "checkpoints" / "final.safetensors")
    return folder


@pytest.mark.parametrize("norms", [True, False])
def test_llama_scope(norms, tmp_path):
    w, x = tensors(), inputs()
    scale, length = math.sqrt(D) / 5.0, w["W_dec"].norm(dim=1)
    trained = (x * scale) @ w["W_enc"] + w["b_enc"]  # in units of scaled activations
    size = trained / scale * (length if norms else 1.0)  # what its library compares
    acts = (trained / scale).relu() * (size > 0.5)
    x_hat = (acts * scale @ w["W_dec"] + w["b_dec"]) / scale
    folder = llama_scope(tmp_path / "L9R-8x", w, sparsity_include_decoder_norm=norms)
    for path in (folder, folder / "checkpoints" / "final.safetensors"):
        check(sk.load_sae(path), x, acts, x_hat)
    assert sk.load_sae(folder).config.hook_name == "blocks.9.hook_resid_post"
    comes_back(sk.load_sae(folder), tmp_path / "ours")
    llama_scope(folder, w, dataset_average_activation_norm=None)
    with pytest.raises(FileError, match=r"Llama Scope and lacks the mean norm[\s\S]*activation_scale="):
        sk.load_sae(folder)
    same = sk.load_sae(folder, activation_scale=scale)
    assert same.config.hook_name == "blocks.9.hook_resid_post"
    llama_scope(folder, w, use_glu_encoder=True)
    with pytest.raises(FileError, match="gated linear unit"):
        sk.load_sae(folder)


def test_llama_scope_with_two_norms_and_a_threshold_for_each_feature(tmp_path):
    w, x = tensors(), inputs()
    into, out = math.sqrt(D) / 5.0, math.sqrt(D) / 2.0
    pre = (x * into) @ w["W_enc"] + w["b_enc"]
    fires = pre * w["W_dec"].norm(dim=1) > w["threshold"]
    x_hat = ((pre.relu() * fires) @ w["W_dec"] + w["b_dec"]) / out
    stored = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    stored |= {"decoder.weight": w["W_dec"].T.contiguous(), "decoder.bias": w["b_dec"]}
    stored |= {"log_jumprelu_threshold": w["threshold"].log()}
    stored |= {f"dataset_average_activation_norm.{p}": torch.tensor(v) for p, v in (("a", 5.0), ("b", 2.0))}
    cfg = {"d_model": D, "hook_point_in": "a", "hook_point_out": "b", "act_fn": "jumprelu", "sae_type": "sae"}
    json_file(
        tmp_path, "config.json", {**cfg, "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True}
    )
    save_file(stored, tmp_path / "sae_weights.safetensors")
    sae = sk.load_sae(tmp_path)
    assert bool(((sae.encode(x) > 0) == (fires & (pre > 0))).all())
    torch.testing.assert_close(sae(x).x_hat, x_hat, rtol=1e-4, atol=1e-4)
    assert (sae.config.hook_name, sae.config.hook_out) == ("a", "b")


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("jumps", [False, True])
def test_transcoder_sets(skip, jumps, tmp_path):
    x = inputs()
    for layer in range(3):
        w = tensors(seed=layer)
        stored = {"W_enc": w["W_enc"].T.contiguous(), "W_dec": w["W_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
        if jumps:
            stored["activation_function.threshold"] = w["threshold"]
        if skip:
            stored["W_skip"] = randoms(7, s=(D, D))["s"]
        save_file(stored, tmp_path / f"layer_{layer}.safetensors")
    cfg = {"model_kind": "transcoder_set", "model_name": "meta-llama/Llama-3.2-1B"}
    cfg |= {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(cfg))
    saes = sk.load_transcoders(tmp_path)
    pre = x @ w["W_enc"] + w["b_enc"]
    acts = pre.relu() * ((pre > w["threshold"]) if jumps else 1.0)
    y = acts @ w["W_dec"] + w["b_dec"] + (x @ stored["W_skip"].T if skip else 0.0)
    check(saes[2], x, acts, y)
    check(sk.load_sae(tmp_path / "layer_2.safetensors"), x, acts, y)
    ends = [(s.config.hook_name, s.config.hook_out) for s in saes]
    assert ends == [(f"blocks.{i}.mlp.hook_in", f"blocks.{i}.hook_mlp_out") for i in range(3)]
    assert saes[0].config.model_name == "meta-llama/Llama-3.2-1B"
    comes_back(saes[1], tmp_path / "ours")
    with pytest.raises(FileError, match=r"is a set of transcoders\n.*3 layers[\s\S]*sk.load_transcoders"):
        sk.load_sae(tmp_path)
    if jumps:
        stored["activation_function.threshold"] = w["threshold"] - 1
        save_file(stored, tmp_path / "layer_2.safetensors")
        with pytest.raises(FileError, match="thresholds below 0, where circuit-tracer has negative activations"):
            sk.load_sae(tmp_path / "layer_2.safetensors")
    (tmp_path / "layer_1.safetensors").unlink()
    with pytest.raises(FileError, match=r"no whole set of transcoders\n.*layer_0.safetensors, layer_2.safetensors"):
        sk.load_transcoders(tmp_path)


def test_what_is_of_no_family_says_what_was_looked_for(tmp_path):
    save_file({"lora.weight": torch.zeros(2)}, tmp_path / "adapter.safetensors")
    with pytest.raises(FileError, match=r"of no family[\s\S]*adapter.safetensors[\s\S]*Gemma Scope[\s\S]*from_tensors"):
        sk.load_sae(tmp_path)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("damage", ["npz", "safetensors", "pt"])
def test_damaged_files_are_named(damage, tmp_path):
    w = tensors()
    if damage == "npz":
        np.savez(tmp_path / "params.npz", **{n: t.numpy() for n, t in w.items()})
    elif damage == "safetensors":
        save_file({n.replace("W_", "w_"): t for n, t in w.items()}, tmp_path / "params.safetensors")
    else:
        torch.save({"pre_bias": w["b_dec"]}, tmp_path / "params.pt")
    file = tmp_path / f"params.{damage}"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match=rf"params.{damage}"):
        sk.load_sae(tmp_path)
