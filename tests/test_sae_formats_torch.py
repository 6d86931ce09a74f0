"""SAEs in torch's files, against the formulas of their libraries written out slowly; no code in a file is run."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from saekit.errors import FileError

from .sae_files import D, K, N, check, comes_back, inputs, json_file, kept, randoms, tensors


def dictionary(folder, kind, state, **trainer):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ae.pt")
    trainer = {"dict_class": kind, "layer": 4, "lm_name": "EleutherAI/pythia-70m", **trainer}
    json_file(folder, "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    return folder


def test_dictionary_learning(tmp_path):
    w, x = tensors(), inputs()
    linear = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "decoder.weight": w["W_dec"].T}
    b_dec, norm = w["b_dec"], w["W_dec"].norm(dim=1)
    pre = (x - b_dec) @ w["W_enc"] + w["b_enc"]

    def x_hat(acts):
        return acts @ w["W_dec"] + b_dec

    sae = sk.load_sae(
        dictionary(tmp_path / "a", "AutoEncoder", {**linear, "bias": b_dec}, submodule_name="resid_post_layer_4")
    )
    check(sae, x, pre.relu() * norm, x_hat(pre.relu()))  # its loader brings decoder rows to unit norm
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(N))
    assert (sae.config.hook_name, sae.config.context_size) == ("blocks.4.hook_resid_post", 128)

    sae = sk.load_sae(dictionary(tmp_path / "b", "AutoEncoderNew", {**linear, "decoder.bias": b_dec}))
    plain = (x @ w["W_enc"] + w["b_enc"]).relu()
    check(sae, x, plain, x_hat(plain))

    state = {**linear, "b_dec": b_dec, "k": torch.tensor(K), "threshold": torch.tensor(0.3)}
    sae = sk.load_sae(dictionary(tmp_path / "c", "AutoEncoderTopK", state, k=K))
    check(sae, x, kept(pre, K), x_hat(kept(pre, K)))
    assert sae.config.k == K

    sae = sk.load_sae(dictionary(tmp_path / "d", "BatchTopKSAE", state, k=K) / "ae.pt")
    over = pre.relu() * (pre > 0.3)
    check(sae, x, over, x_hat(over))
    assert (sae.config.activation, sae.config.k) == ("batchtopk", K)

    state = {n: t for n, t in w.items() if n != "threshold"} | {"k": torch.tensor(K), "threshold": torch.tensor(-1.0)}
    state |= {"group_sizes": torch.tensor([8, 24])}
    sae = sk.load_sae(dictionary(tmp_path / "e", "MatryoshkaBatchTopKSAE", state, k=K))
    check(sae, x, pre.relu(), x_hat(pre.relu()))
    assert sae.config.matryoshka == (8, N)
    comes_back(sae, tmp_path / "ours")

    sae = sk.load_sae(dictionary(tmp_path / "f", "JumpReluAutoEncoder", w))
    own = plain * (plain > w["threshold"])
    check(sae, x, own, x_hat(own))

    g = randoms(5, gate_bias=(N,), mag_bias=(N,), r_mag=(N,))
    state = {"encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T, "decoder_bias": b_dec, **g}
    sae = sk.load_sae(dictionary(tmp_path / "g", "GatedAutoEncoder", state))
    inside = (x - b_dec) @ w["W_enc"]
    acts = (inside + g["gate_bias"] > 0) * (g["r_mag"].exp() * inside + g["mag_bias"]).relu()
    check(sae, x, acts, x_hat(acts))

    with pytest.raises(FileError, match=r"dictionary_learning and of a class.*\n.*CrossCoder[\s\S]*BatchTopKSAE"):
        sk.load_sae(dictionary(tmp_path / "h", "CrossCoder", state))
    with pytest.raises(FileError, match=r"without some of its tensors\n.*missing: bias; there: "):
        sk.load_sae(dictionary(tmp_path / "i", "AutoEncoder", linear))


class Harmful:
    """What runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_code_in_a_torch_file_is_run(tmp_path):
    folder = dictionary(tmp_path / "a", "AutoEncoder", {"bias": Harmful(tmp_path / "harm")})
    with pytest.raises(FileError, match=r"ae.pt cannot be read as tensors"):
        sk.load_sae(folder)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(FileError, match=r"whole.pt cannot be read as tensors[\s\S]*a whole model was pickled"):
        sk.load_sae(tmp_path / "whole.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_openai(activation, tmp_path):
    w, x = tensors(), inputs()
    state = {
        "pre_bias": w["b_dec"],
        "latent_bias": w["b_enc"],
        "encoder.weight": w["W_enc"].T,
        "decoder.weight": w["W_dec"].T,
        "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "activation": activation,
    }
    if activation == "TopK":
        state["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"}
        mean = x.mean(dim=1, keepdim=True)
        std = ((x - mean) ** 2).sum(dim=1, keepdim=True).div(D - 1).sqrt()
        acts = kept(((x - mean) / (std + 1e-5) - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K)
        x_hat = (acts @ w["W_dec"] + w["b_dec"]) * std + mean
    else:
        acts = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
        x_hat = acts @ w["W_dec"] + w["b_dec"]
    torch.save(state, tmp_path / "7.pt")
    sae = sk.load_sae(tmp_path / "7.pt")
    check(sae, x, acts, x_hat)
    assert sae.config.input_normalisation == ("layer_norm" if activation == "TopK" else "none")
    comes_back(sae, tmp_path / "ours")
    torch.save({**state, "activation": "Identity"}, tmp_path / "7.pt")
    with pytest.raises(FileError, match=r"OpenAI's release with an activation.*\n.*Identity"):
        sk.load_sae(tmp_path / "7.pt")


def test_torch_files_without_a_configuration(tmp_path):
    w, x = tensors(), inputs()
    plain = (x @ w["W_enc"] + w["b_enc"]).relu()
    turned = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T}
    for middle in ("_linear", ""):
        state = {f"encoder{middle}.weight": turned["W_enc"], f"encoder{middle}.bias": w["b_enc"]}
        state |= {f"decoder{middle}.weight": turned["W_dec"], f"decoder{middle}.bias": w["b_dec"]}
        torch.save(state, tmp_path / "one.pth")
        check(sk.load_sae(tmp_path / "one.pth"), x, plain, plain @ w["W_dec"] + w["b_dec"])
    torch.save({**turned, "b_enc": w["b_enc"], "b_dec": w["b_dec"]}, tmp_path / "layer0.sae.pt")
    with pytest.raises(FileError, match=r"Qwen Scope but not the number of active features[\s\S]*pass k="):
        sk.load_sae(tmp_path / "layer0.sae.pt")
    acts = kept(x @ w["W_enc"] + w["b_enc"], K)
    check(sk.load_sae(tmp_path / "layer0.sae.pt", k=K), x, acts, acts @ w["W_dec"] + w["b_dec"])
    torch.save({n: w[n] for n in ("W_enc", "W_dec", "b_enc", "b_dec")}, tmp_path / "hook_z.pt")
    json_file(tmp_path, "hook_z_cfg.json", {"act_size": D, "dict_size": N, "act_name": "blocks.0.attn.hook_z"})
    acts = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    sae = sk.load_sae(tmp_path / "hook_z.pt")
    check(sae, x, acts, acts @ w["W_dec"] + w["b_dec"])
    assert sae.config.hook_name == "blocks.0.attn.hook_z"
