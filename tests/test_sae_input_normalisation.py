"""SAEs that normalise each token, and SAEs whose decoder rows are not of unit norm, through what uses them."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, UnknownNameError
from saekit.evaluation.saebench.pooled import writes_where_it_reads
from saekit.steering.edit_hooks import apply_edits

KINDS = ["none", "layer_norm", "rms_norm"]
D, N = 32, 64


def some_sae(kind, activation="relu", **fields):
    """Random weights; decoder rows from half to four times unit norm."""
    k = 5 if activation.endswith("topk") else None
    config = sk.SAEConfig(d_in=D, d_sae=N, activation=activation, k=k, hook_name=HOOK, input_normalisation=kind)
    sae = sk.SAE(config.replace(token_filter=sk.TokenFilter(), **fields)).requires_grad_(False)
    g = torch.Generator().manual_seed(3)
    sae.W_enc.copy_(torch.randn(D, N, generator=g) * 0.3)
    sae.W_dec.mul_(torch.linspace(0.5, 4.0, N)[:, None])
    sae.b_enc.copy_(torch.randn(N, generator=g) * 0.1)
    sae.b_dec.copy_(torch.randn(D, generator=g) * 0.1)
    return sae


def tokens_and_x():
    g = torch.Generator().manual_seed(1)
    return torch.randint(4, 100, (3, 6), generator=g), torch.randn(3, 6, D, generator=g) * 4 + 1


def units(kind, token):
    """Shift and scale of one token, by hand."""
    values = token.tolist()
    mean = sum(values) / D
    if kind == "layer_norm":
        return mean, (sum((v - mean) ** 2 for v in values) / (D - 1)) ** 0.5
    return 0.0, (sum(v * v for v in values) / D) ** 0.5 if kind == "rms_norm" else 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
def test_edits_are_exact_in_the_units_of_each_token(kind, activation):
    sae = some_sae(kind, activation)
    tokens, x = tokens_and_x()
    a, b = 7, 40
    edits = {
        "clamp": sk.clamp(sae, {a: 4.0, b: 0.5}),
        "scale": sk.scale(sae, {a: 3.0, b: 0.0}),
        "ablate": sk.ablate(sae, [a, b]),
        "add": sk.add(sae, {a: 2.0, b: -1.0}),
        "cap": sk.cap(sae, {a: 0.2, b: 0.1}),
        "clamp at the norm": sk.clamp(sae, {a: 0.5, b: 0.1}, unit="norm"),
    }
    for name, edit in edits.items():
        found = apply_edits(x, [edit], tokens)
        for token, after in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
            acts = sae.encode(token[None])[0]
            changed = acts.clone()
            for i, value in zip(edit.features, edit.values, strict=True):
                scale = units(kind, token)[1]
                if edit.unit == "norm":
                    value = value * float(token.norm()) / (float(sae.W_dec[i].norm()) * scale)
                new = {"scale": acts[i] * value, "add": acts[i] + value, "cap": min(float(acts[i]), value), "ablate": 0}
                changed[i] = new.get(name, value)
            error = token - sae.decode(acts[None], token[None])[0]
            want = sae.decode(changed[None], token[None])[0] + error
            torch.testing.assert_close(after, want, atol=2e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_strength_in_fractions_of_the_norm_is_as_long_as_it_says(kind):
    """On a SAELens file with rows of norm 2.04 it was 2.04 times as much."""
    sae = some_sae(kind)
    tokens, x = tokens_and_x()
    for feature in (0, 31, 63):
        moved = apply_edits(x, [sk.add(sae, {feature: 0.5}, unit="norm")], tokens) - x
        torch.testing.assert_close(moved.norm(dim=-1), 0.5 * x.norm(dim=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_reconstruction_is_in_units_of_x(kind):
    sae = some_sae(kind)
    _, x = tokens_and_x()
    out = sae(x)
    for token, acts, x_hat in zip(
        x.flatten(0, 1), out.feature_acts.flatten(0, 1), out.x_hat.flatten(0, 1), strict=True
    ):
        shift, scale = units(kind, token)
        torch.testing.assert_close(x_hat, (acts @ sae.W_dec + sae.b_dec) * scale + shift, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sae.encode(x * 7), out.feature_acts, rtol=1e-3, atol=1e-3)
    assert sae.encode(torch.zeros(2, D)).isfinite().all()
    with pytest.raises(ConfigError, match=r"normalises each token and needs x[\s\S]*sae.decode\(feature_acts, x\)"):
        sae.decode(out.feature_acts)
    assert sae.fingerprint != some_sae("none").fingerprint


def test_what_cannot_be_done_with_them_is_refused():
    with pytest.raises(UnknownNameError, match="unknown input_normalisation 'layernorm'; did you mean 'layer_norm'"):
        some_sae("layernorm")
    sae, x = some_sae("layer_norm"), torch.randn(20, D)
    with pytest.raises(ConfigError, match="read from files, not trained"):
        sae.training_forward(x)
    with pytest.raises(ConfigError, match="normalises each token has no weights"):
        sk.sae.fold_normalisation(sae, sk.sae.Normalisation(mean=x.mean(0), scale=torch.ones(D)))
    with pytest.raises(ConfigError, match=r"mean activations[\s\S]*sk.ablation_sparsity"):
        writes_where_it_reads([sae], "feature absorption")
    writes_where_it_reads([sae], "ablation sparsity", means=False)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_evaluation_and_index_read_as_encode_does(kind, model, tmp_path):
    sae = some_sae(kind, "topk", model_name=model.name)
    corpus = sk.load_corpus([f"the cat {i} sat" for i in range(12)])
    fidelity = sk.evaluate(model, sae, corpus, length=64, progress=False)
    x = torch.cat([model.activations([model.tokenize(d.text)], HOOK)[0] for d in corpus]).float()
    error = (x - sae(x).x_hat).square().sum() / (x - x.mean(0)).square().sum()
    assert fidelity.explained_variance == pytest.approx(1 - float(error), rel=1e-3)
    index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=64, progress=False)
    most = sae.encode(x).amax(0)
    torch.testing.assert_close(
        torch.tensor(index.features["max"].to_numpy()).float(), most.float(), rtol=1e-3, atol=1e-3
    )


def test_the_panel_knows_how_much_the_norm_is_of_each_feature(model):
    sae = some_sae("layer_norm")
    panel = sk.steer(model, sae, 63, prompt="the cat sat", chat=False)
    x = model.activations(model.tokenize("the cat sat"), HOOK)[0].float()
    kept = x[sk.resolve_token_filter(model, sae).keep(torch.tensor(model.tokenize("the cat sat")), x)]
    scale = kept.std(dim=-1)
    want = float((kept.norm(dim=-1) / scale).median() / sae.W_dec[63].norm())
    assert panel.about["63"]["residual"] == pytest.approx(want, rel=1e-4)
    panel.unit = "raw"
    assert panel.conditions[1]["features"][0]["strength"] == pytest.approx(0.5 * want, rel=1e-3)
