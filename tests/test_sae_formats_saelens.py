"""SAE files: our own, others', and damaged ones."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import saekit as sk
from saekit.errors import DiskFullError, FileError, UnknownNameError

from .hostile_files import at_most

WEIGHTS = "sae_weights.safetensors"


def some_sae(activation="topk", **fields):
    fields = {"d_in": 16, "d_sae": 64, "k": 5 if activation.endswith("topk") else None, **fields}
    sae = sk.SAE(sk.SAEConfig(activation=activation, **fields)).requires_grad_(False)
    sae.b_dec += 0.5
    sae.threshold += 1.5 if sae.architecture.has_threshold else 0.0
    return sae


def foreign(folder, architecture="standard", tensors=None, **cfg):
    """A folder as SAELens 6 writes it, with nothing of ours in it."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (8, 32), "W_dec": (32, 8), "b_enc": (32,), "b_dec": (8,)}
    if architecture == "jumprelu":
        shapes["threshold"] = (32,)
    weights = {n: torch.randn(*s, generator=generator) for n, s in shapes.items()} if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    base = {
        "architecture": architecture,
        "d_in": 8,
        "d_sae": 32,
        "dtype": "float32",
        "device": "cuda",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre"},
    }
    (folder / "cfg.json").write_text(json.dumps({**base, **cfg}))
    return weights


@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk", "jumprelu"])
def test_a_saved_sae_comes_back_whole(activation, tmp_path):
    sae = some_sae(
        activation,
        hook_name="h",
        model_name="m",
        weight_processing="none",
        model_fingerprint="ab",
        context_size=128,
        token_filter=sk.TokenFilter(special_ids=(0, 1), max_norm=9.5),
        dataset="demo",
        apply_b_dec_to_input=False,
    )
    sae.density = torch.rand(64)
    sae.training_summary = {"explained_variance": 0.5}
    folder = sae.save(tmp_path / "sae")
    back = sk.load_sae(str(folder))
    assert back.config == sae.config
    assert back.fingerprint == sae.fingerprint
    assert back.training_summary == sae.training_summary
    torch.testing.assert_close(back.density, sae.density)
    x = torch.randn(9, 16)
    assert torch.equal(back.encode(x), sae.encode(x))
    assert back.W_enc.T.is_contiguous()  # the layout the sparse kernels want


def test_layout_is_that_of_saelens_6(tmp_path):
    some_sae("batchtopk", hook_name="h", model_name="m").save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert cfg["architecture"] == "jumprelu"
    assert cfg["normalize_activations"] == cfg["reshape_activations"] == "none"
    assert int(cfg["metadata"]["sae_lens_version"].split(".")[0]) >= 6
    assert cfg["metadata"]["hook_name"] == "h"
    assert cfg["metadata"]["saekit"]["config"]["activation"] == "batchtopk"
    assert sorted(load_file(tmp_path / WEIGHTS)) == ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]
    some_sae("topk").save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["k"], cfg["rescale_acts_by_decoder_norm"]) == ("topk", 5, False)
    assert sorted(load_file(tmp_path / WEIGHTS)) == ["W_dec", "W_enc", "b_dec", "b_enc"]


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_files_of_others_load(architecture, tmp_path):
    w = foreign(tmp_path, architecture, **({"k": 4} if architecture == "topk" else {}))
    sae = sk.load_sae(tmp_path)
    x = torch.randn(20, 8)
    pre = x @ w["W_enc"] + w["b_enc"]
    if architecture == "standard":
        want = pre.relu()
    elif architecture == "topk":
        want = pre.relu() * (pre >= pre.topk(4, dim=1).values[:, -1:])
    else:
        want = pre.relu() * (pre > w["threshold"])
    torch.testing.assert_close(sae.encode(x), want, rtol=1e-5, atol=1e-5)
    assert sae.config.model_name == "gpt2"
    assert sae.config.weight_processing is None


@pytest.mark.parametrize("kind", ["standard", "topk", "topk-rescaled", "jumprelu", "gated", "matryoshka_batchtopk"])
def test_files_that_saelens_wrote_give_its_numbers(kind):
    """Written by SAELens 6.54.12 (scripts/interop.py --write, which also checks our files in it)."""
    folder = Path(__file__).parent / "interop" / kind
    sae, expected = sk.load_sae(folder), load_file(folder / "expected.safetensors")
    acts = sae.encode(expected["x"])
    torch.testing.assert_close(acts, expected["acts"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(acts), expected["x_hat"], rtol=1e-5, atol=1e-5)
    assert sae.config.hook_name == "blocks.1.hook_resid_post"


def test_rescaling_by_decoder_norm_is_folded(tmp_path):
    w = foreign(tmp_path, "topk", k=4, rescale_acts_by_decoder_norm=True)
    sae = sk.load_sae(tmp_path)
    x = torch.randn(20, 8)
    norm = w["W_dec"].norm(dim=1)
    pre = (x @ w["W_enc"] + w["b_enc"]) * norm
    acts = pre.relu() * (pre >= pre.topk(4, dim=1).values[:, -1:])
    torch.testing.assert_close(sae.encode(x), acts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x).x_hat, (acts / norm) @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_load_as_float32(dtype, tmp_path):
    w = {k: v.to(dtype) for k, v in foreign(tmp_path).items()}
    foreign(tmp_path, tensors=w, dtype=str(dtype))
    sae = sk.load_sae(tmp_path)
    assert sae.W_enc.dtype == torch.float32
    assert sae.config.dtype == "float32"
    assert torch.equal(sae.W_dec, w["W_dec"].float())
    folder = some_sae(dtype=str(dtype).removeprefix("torch.")).save(tmp_path / "ours")
    assert sk.load_sae(folder).W_enc.dtype == torch.float32


@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_damaged_weights_are_refused_by_name(damage, tmp_path):
    path = some_sae().save(tmp_path) / WEIGHTS
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-100]
    else:
        content[-50] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match=rf"{WEIGHTS} is not the file that was saved[\s\S]*copy it again"):
        sk.load_sae(tmp_path)


def test_an_altered_density_is_refused_and_a_lost_one_is_not_known(tmp_path):
    sae = some_sae()
    sae.density = torch.linspace(0.01, 0.5, 64)
    path = sae.save(tmp_path) / "sparsity.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FileError, match=r"sparsity.safetensors is not the file that was saved"):
        sk.load_sae(tmp_path)
    path.unlink()
    with pytest.warns(UserWarning, match=r"sparsity.safetensors is missing"):
        assert sk.load_sae(tmp_path).density is None
    sae.density = None
    sae.save(tmp_path)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is not of this SAE, which was saved without a density"):
        assert sk.load_sae(tmp_path).density is None


def test_what_saelens_has_saved_again_is_not_held_to_the_digest(tmp_path):
    path = some_sae().save(tmp_path) / "cfg.json"
    cfg = json.loads(path.read_text())
    cfg["metadata"] |= {"sae_lens_version": "6.54.0", "neuronpedia_id": "tiny/3"}
    path.write_text(json.dumps(cfg))
    assert sk.load_sae(tmp_path).config.k == 5


def test_truncated_file_of_others_is_refused(tmp_path):
    foreign(tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=rf"{WEIGHTS} is not a whole safetensors file"):
        sk.load_sae(tmp_path)


def test_altered_configuration_is_refused(tmp_path):
    some_sae().save(tmp_path)
    path = tmp_path / "cfg.json"
    text = path.read_text()
    for before, after in (('"k": 5', '"k": 6'), ('"seed": 0', '"seed": 1')):
        assert before in text
        path.write_text(text.replace(before, after))
        with pytest.raises(FileError, match=r"cfg.json was altered: its own checksum does not match"):
            sk.load_sae(tmp_path)
    cfg = json.loads(text.replace('"k": 5', '"k": 6'))
    del cfg["metadata"]["saekit"]["checksum"]  # as in files of earlier versions
    path.write_text(json.dumps(cfg))
    with pytest.raises(FileError, match=r"cfg.json does not describe the weights beside it"):
        sk.load_sae(tmp_path)
    path.write_text(text.replace('"saekit"', '"raekit"'))
    with pytest.raises(FileError, match=r"has saekit's part under another name"):
        sk.load_sae(tmp_path)
    path.write_text(text.replace('"d_sae": 64', '"d_sae": 63', 1))
    with pytest.raises(FileError, match="contradicts itself"):
        sk.load_sae(tmp_path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(FileError, match="not valid JSON"):
        sk.load_sae(tmp_path)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (
            {"architecture": "temporal"},
            r"does not read this architecture\n.*temporal\n.*standard, topk, jumprelu, gated",
        ),
        ({"architecture": "matryoshka_batchtopk"}, r"holds a value that is not accepted: 'k'"),
        ({"architecture": "batchtopk", "k": 4}, r"saved while it trained, without.*\n.*missing: topk_threshold"),
        ({"architecture": "gated"}, r"tensors of a gated SAE\n.*missing: b_gate, b_mag, r_mag; unexpected: b_enc"),
        ({"normalize_activations": "expected_average_only_in"}, r"the scale is not stored[\s\S]*activation_scale="),
        ({"normalize_activations": "covariance_whitening"}, "of a kind that saekit does not read"),
        (
            {"metadata": {"sae_lens_version": "6.0.0", "hook_head_index": 3}},
            r"one attention head alone[\s\S]*hook_head_index 3",
        ),
        ({"metadata": {}}, r"old layout\n.*missing"),
        ({"metadata": {"sae_lens_version": "5.3.0"}}, r"old layout\n.*5.3.0"),
        ({"d_sae": "many"}, "holds a value that is not accepted"),
        ({"d_sae": 31}, r"W_enc has the wrong shape\n.*\(8, 32\)\n.*\(8, 31\)"),
        ({"architecture": "topk"}, "k does not fit the topk architecture"),
    ],
)
def test_configurations_that_cannot_be_read(cfg, message, tmp_path):
    foreign(tmp_path, **cfg)
    with pytest.raises(FileError, match=message):
        sk.load_sae(tmp_path)


@pytest.mark.parametrize(
    "sparsity",
    [torch.zeros(31), torch.full((32,), 0.5), torch.full((32,), torch.nan), torch.zeros(32, dtype=torch.int32)],
)
def test_a_sparsity_that_is_not_of_this_sae_is_refused(sparsity, tmp_path):
    foreign(tmp_path)
    save_file({"sparsity": sparsity}, tmp_path / "sparsity.safetensors")
    with pytest.raises(FileError, match=r"sparsity.safetensors does not hold how often[\s\S]*each of 32 features"):
        sk.load_sae(tmp_path)


def test_sizes_are_compared_with_the_tensors_before_anything_is_made(tmp_path):
    foreign(tmp_path, d_sae=10**9)
    with at_most(2**30), pytest.raises(FileError, match=r"W_enc has the wrong shape"):
        sk.load_sae(tmp_path)
    foreign(tmp_path)
    with at_most(2**30), pytest.raises(FileError, match=r"W_enc does not fit the configuration[\s\S]*1000000000"):
        sk.load_sae(tmp_path, d_sae=10**9)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    w = foreign(tmp_path)
    w["W_dec"][3, 2] = value
    foreign(tmp_path, tensors=w)
    with pytest.raises(FileError, match=r"W_dec holds what is no weight\n.*1 of 256 numbers are not finite"):
        sk.load_sae(tmp_path)


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    w = foreign(tmp_path)
    w["b_gate"] = w.pop("b_enc")
    foreign(tmp_path, tensors=w)
    with pytest.raises(FileError, match=r"missing: b_enc; unexpected: b_gate"):
        sk.load_sae(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(FileError, match=rf"no file .*{WEIGHTS}"):
        sk.load_sae(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(FileError, match="does not describe an SAE"):
        sk.load_sae(tmp_path)


def test_unknown_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.setattr("saekit.sae.formats.packaged.PRETRAINED", tmp_path)
    some_sae(model_name="tiny", hook_name="h").save(tmp_path / "tiny" / "4k")
    assert sk.load_sae("tiny/4k").config.d_sae == 64
    with pytest.raises(UnknownNameError, match=r"unknown SAE 'tiny/4'; did you mean 'tiny/4k'"):
        sk.load_sae("tiny/4")
    for path in ("./nowhere", tmp_path / "nowhere"):
        with pytest.raises(FileError, match="no SAE at"):
            sk.load_sae(path)
    frame = sk.list_saes()
    assert frame.index.tolist() == ["tiny/4k"]
    assert frame.loc["tiny/4k", "model_name"] == "tiny"
    assert frame.loc["tiny/4k", "d_sae"] == 64


def test_a_full_disk_leaves_the_sae_that_was_there(tmp_path, monkeypatch):
    old = some_sae()
    old.save(tmp_path)

    def full(path, content):
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("saekit.sae.formats.replacement.write", full)
    with pytest.raises(DiskFullError, match="no space left while writing"):
        some_sae("relu").save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cfg.json", WEIGHTS]
    assert sk.load_sae(tmp_path).fingerprint == old.fingerprint
