"""Files of transcoders and crosscoders: our own in SAELens' layout, and SAELens' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import saekit as sk
from saekit.errors import FileError

WEIGHTS = "sae_weights.safetensors"
ARCHITECTURE = {
    ("relu", False): "transcoder",
    ("relu", True): "skip_transcoder",
    ("kl", False): "transcoder",
    ("jumprelu", False): "jumprelu_transcoder",
    ("batchtopk", False): "jumprelu_transcoder",
    ("batchtopk", True): "jumprelu_skip_transcoder",
    ("topk", True): "topk_skip_transcoder",
    ("topk", False): "topk_transcoder",
    ("gated", False): "gated_transcoder",
}


def random_sae(activation, **fields):
    fields = {"d_in": 16, "d_sae": 64, "k": 5 if activation.endswith("topk") else None, **fields}
    sae = sk.SAE(sk.SAEConfig(activation=activation, model_name="gpt2", **fields)).requires_grad_(False)
    torch.manual_seed(0)
    for name in sae.weight_names:
        getattr(sae, name).add_(0.1 * torch.randn_like(getattr(sae, name)))
    return sae


@pytest.mark.parametrize(("activation", "skip"), ARCHITECTURE)
def test_a_saved_transcoder_comes_back_whole_and_reads_as_saelens_writes(activation, skip, tmp_path):
    architecture = sk.TokenFilter(special_ids=(0,), blocks=((16, 9.5), (12, None)))
    sae = random_sae(activation, skip=skip, d_out=12, hook_name="a", hook_out="b", token_filter=architecture)
    back = sk.load_sae(sae.save(tmp_path))
    assert back.config == sae.config and back.fingerprint == sae.fingerprint
    x = torch.randn(9, 16)
    assert torch.equal(back(x).x_hat, sae(x).x_hat) and back.W_enc.T.is_contiguous()
    cfg, weights = json.loads((tmp_path / "cfg.json").read_text()), load_file(tmp_path / WEIGHTS)
    assert (cfg["architecture"], cfg["d_in"], cfg["d_out"]) == (ARCHITECTURE[activation, skip], 16, 12)
    assert cfg["apply_b_dec_to_input"] is False and cfg["metadata"]["hook_name_out"] == "b"
    assert weights["W_dec"].shape == (64, 12) and weights["b_dec"].shape == (12,)
    if skip:
        assert torch.equal(weights["W_skip"], sae.W_skip.T)  # SAELens has it as [d_out, d_in]
    else:
        assert "W_skip" not in weights


def test_a_transcoder_of_one_width_says_both(tmp_path):
    random_sae("relu", hook_name="a", hook_out="b").save(tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["d_out"] == 16
    assert sk.load_sae(tmp_path).config.d_out is None


@pytest.mark.parametrize("activation", ["batchtopk", "topk", "relu"])
def test_a_crosscoder_is_an_sae_on_activations_side_by_side(activation, tmp_path):
    sae = random_sae(activation, hook_name=("blocks.1.hook_out", "blocks.2.hook_out"))
    back = sk.load_sae(sae.save(tmp_path))
    assert back.config == sae.config and back.config.is_crosscoder
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert cfg["architecture"] in ("jumprelu", "topk", "standard") and "d_out" not in cfg
    assert cfg["metadata"]["hook_name"] == "blocks.1.hook_out, blocks.2.hook_out"
    assert cfg["metadata"]["saekit"]["config"]["hook_name"] == ["blocks.1.hook_out", "blocks.2.hook_out"]
    x = torch.randn(9, 16)
    assert torch.equal(back(x).x_hat, sae(x).x_hat)


@pytest.mark.parametrize("kind", ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"])
def test_transcoders_that_saelens_wrote_give_its_numbers(kind):
    """Written by SAELens 6.54.12 (scripts/interop.py --write, which also checks our files in it)."""
    folder = Path(__file__).parent / "interop" / kind
    sae, expected = sk.load_sae(folder), load_file(folder / "expected.safetensors")
    out = sae(expected["x"])
    torch.testing.assert_close(out.feature_acts, expected["acts"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.x_hat, expected["x_hat"], rtol=1e-5, atol=1e-5)
    c = sae.config
    assert (c.hook_name, c.hook_out) == ("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out")
    assert c.is_transcoder and c.d_out == 20 and c.skip == ("skip" in kind)


def test_damaged_transcoders_are_refused(tmp_path):
    folder = random_sae("relu", d_out=12, hook_name="a", hook_out="b").save(tmp_path)
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace('"d_out": 12', '"d_out": 13', 1))
    with pytest.raises(FileError, match=r"contradicts itself\n.*transcoder, d_in 16, d_sae 64, d_out 13\n.*d_out 12"):
        sk.load_sae(folder)
    cfg = json.loads(text)
    del cfg["metadata"]["saekit"], cfg["d_out"]
    (folder / "cfg.json").write_text(json.dumps(cfg))
    with pytest.raises(FileError, match=r"holds a value that is not accepted: 'd_out'"):
        sk.load_sae(folder)
    (folder / "cfg.json").write_text(json.dumps(cfg | {"d_out": 12, "architecture": "skip_transcoder"}))
    with pytest.raises(FileError, match="missing: W_skip; unexpected: none"):
        sk.load_sae(folder)
    weights = load_file(folder / WEIGHTS)
    save_file(weights | {"W_skip": torch.zeros(16, 12)}, folder / WEIGHTS)
    with pytest.raises(FileError, match=r"W_skip has the wrong shape\n.*\(16, 12\)\n.*\(12, 16\)"):
        sk.load_sae(folder)


@pytest.mark.parametrize("name", ["../secret/layer_0.safetensors", "/etc/layer_0.safetensors"])
def test_a_set_that_lists_files_outside_its_folder_is_refused(name, tmp_path):
    (tmp_path / "config.yaml").write_text(f"model_kind: transcoder_set\ntranscoders:\n- {name}\n")
    with pytest.raises(FileError, match=r"config.yaml lists a file outside its folder\n.*layer_0"):
        sk.load_transcoders(tmp_path)
