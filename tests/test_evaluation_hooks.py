"""Evaluating several SAEs at once, transcoders and crosscoders, each against one window at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, MismatchError

LENGTH = 32
A, B = "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"
MLP_IN, MLP_OUT, WIDE = "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out", "blocks.0.mlp.hook_post"


def make_sae(model, seed=0, **fields):
    torch.manual_seed(seed)
    token_filter = sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)))
    fields = {
        "d_in": 32,
        "d_sae": 64,
        "activation": "topk",
        "k": 4,
        "hook_name": A,
        "token_filter": token_filter,
        **fields,
    }
    sae = sk.SAE(sk.SAEConfig(model_name=model.name, seed=seed, **fields)).requires_grad_(False)
    for weight in sae.parameters():
        weight += 0.1 * torch.randn_like(weight)
    return sae


@pytest.fixture(scope="module")
def windows(model, corpus):
    return sk.tokenize(corpus.take(12), model, length=LENGTH)


def evaluate(model, sae, windows, **fields):
    return sk.evaluate(model, sae, windows, **{"progress": False, **fields})


def reference(model, sae, windows, reads, writes):
    """explained variance, ce and kl of the SAE, ce with it everywhere and of zeros: plain sums over windows."""
    xs, hats, ce, kl, everywhere, zero, n = [], [], 0.0, 0.0, 0.0, 0.0, 0
    for w, length in enumerate(windows.lengths.tolist()):
        ids = windows.tokens[w, :length].long()
        counts = torch.tensor([int(i) not in model.special_ids for i in ids])
        read = torch.cat([model.activations(ids.tolist(), name)[0] for name in reads], -1).clone()
        write = torch.cat([model.activations(ids.tolist(), name)[0] for name in writes], -1).clone()
        x_hat = sae(read).x_hat
        xs.append(write[counts])
        hats.append(x_hat[counts])
        log_p = model.forward([ids.tolist()])[0][0, :-1].double().log_softmax(-1)
        q = {}
        every = torch.ones_like(counts)
        for what, new, at in (
            ("sae", x_hat, counts),
            ("everywhere", x_hat, every),
            ("zero", torch.zeros_like(x_hat), every),
        ):
            widths = [model.hook_width(name) for name in writes]
            hooks = [
                (name, lambda a, part=part, at=at: torch.where(at[None, :, None], part[None], a))
                for name, part in zip(writes, new.split(widths, -1), strict=True)
            ]
            q[what] = model.forward([ids.tolist()], hooks=hooks)[0][0, :-1].double().log_softmax(-1)
        ce -= float(q["sae"].gather(1, ids[1:, None]).sum())
        everywhere -= float(q["everywhere"].gather(1, ids[1:, None]).sum())
        zero -= float(q["zero"].gather(1, ids[1:, None]).sum())
        kl += float((log_p.exp() * (log_p - q["sae"])).sum())
        n += length - 1
    x, x_hat = torch.cat(xs).double(), torch.cat(hats).double()
    return float(1 - (x - x_hat).pow(2).sum() / (x - x.mean(0)).pow(2).sum()), ce / n, kl / n, everywhere / n, zero / n


CASES = {
    "crosscoder": {"d_in": 64, "hook_name": (A, MLP_IN)},
    "transcoder": {"hook_name": MLP_IN, "hook_out": MLP_OUT},
    "transcoder with skip": {"hook_name": MLP_IN, "hook_out": MLP_OUT, "skip": True},
    "transcoder to another width": {"hook_name": MLP_IN, "hook_out": "blocks.1.mlp.hook_post", "d_out": 64},
    "transcoder that writes before it reads": {"hook_name": MLP_IN, "hook_out": A},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_number_against_one_window_at_a_time(model, windows, case):
    sae = make_sae(model, **CASES[case])
    reads = sae.config.hook_name if sae.config.is_crosscoder else (sae.config.hook_name,)
    writes = (sae.config.hook_out,) if sae.config.hook_out else reads
    e = evaluate(model, sae, windows)
    explained, ce, kl, everywhere, zero = reference(model, sae, windows, reads, writes)
    assert e.explained_variance == pytest.approx(explained, abs=1e-5)
    assert (e.ce_sae, e.kl, e.ce_sae_everywhere, e.ce_zero) == pytest.approx((ce, kl, everywhere, zero), abs=1e-5)
    assert e.l0 == pytest.approx(4) and abs(e.ce_sae - e.ce_clean) > 1e-5


def test_the_identity_on_two_hook_points_loses_nothing(model, windows):
    sae = make_sae(model, d_in=64, d_sae=128, activation="relu", k=None, hook_name=(A, MLP_OUT))
    for weight, value in (
        (sae.W_enc, torch.cat([torch.eye(64), -torch.eye(64)], 1)),
        (sae.b_enc, 0.0),
        (sae.b_dec, 0.0),
    ):
        weight.copy_(torch.as_tensor(value).expand_as(weight))
    sae.W_dec.copy_(sae.W_enc.T)
    e = evaluate(model, sae, windows)
    assert e.explained_variance == pytest.approx(1, abs=1e-6) and e.kl == pytest.approx(0, abs=1e-6)
    assert e.kl_zero > 1e-4


def test_a_list_gives_what_each_gives_alone_and_shares_runs(model, windows, monkeypatch):
    strict = sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)), max_norm=2.5)
    saes = [
        make_sae(model),
        make_sae(model, seed=1),
        make_sae(model, token_filter=strict),
        make_sae(model, hook_name=B),
        make_sae(model, **CASES["transcoder"]),
        make_sae(model, **CASES["crosscoder"]),
    ]
    alone = [evaluate(model, sae, windows) for sae in saes]
    n_runs = []
    real = type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda *a, **k: n_runs.append(1) or real(*a, **k))
    together = evaluate(model, saes, windows, batch_size=4)
    assert len(n_runs) == -(-len(windows) // 4) * (
        1 + 4 + 6 + 6
    )  # clean, zeros where SAEs write, SAEs, SAEs everywhere
    for one, other in zip(alone, together, strict=True):
        for field in dataclasses.fields(one):
            if field.name in ("density", "interval_unit", "estimates", "excluded", "n_dead_in_training", "seconds"):
                continue
            assert getattr(one, field.name) == pytest.approx(getattr(other, field.name), abs=2e-5), field.name
        np.testing.assert_allclose(one.density, other.density, atol=2e-3)
    assert together[2].n_tokens < together[0].n_tokens
    of_one = evaluate(model, saes[:1], windows)
    assert len(of_one) == 1 and of_one[0].intervals == alone[0].intervals and of_one[0].kl == alone[0].kl


def test_a_token_filter_of_two_hook_points_applies_to_both_ends_of_a_transcoder(model, windows):
    special = tuple(sorted(model.special_ids))
    x = {
        h: sk.activations.kept_activations(
            model, windows, torch.arange(len(windows)), h, sk.TokenFilter(special_ids=special)
        )[1].norm(dim=1)
        for h in (MLP_IN, MLP_OUT)
    }
    limits = [float(x[h].quantile(q)) for h, q in ((MLP_IN, 0.9), (MLP_OUT, 0.6))]
    token_filter = sk.TokenFilter(special_ids=special, blocks=((32, limits[0]), (32, limits[1])))
    e = evaluate(model, make_sae(model, **CASES["transcoder"], token_filter=token_filter), windows)
    assert e.n_tokens == int(((x[MLP_IN] <= limits[0]) & (x[MLP_OUT] <= limits[1])).sum())


def test_one_without_a_token_filter_gets_the_default_of_its_hook_points(model, windows):
    for kind in ({}, CASES["transcoder"], CASES["crosscoder"]):
        sae = make_sae(model, token_filter=None, **kind)
        found = evaluate(model, sae, windows)
        expected = (MLP_IN, MLP_OUT) if sae.config.is_transcoder else sae.config.hook_name
        stored = sk.activations.default_token_filter(model, expected)
        assert sk.resolve_token_filter(model, sae) == stored
        sae.config = sae.config.replace(token_filter=stored)
        again = evaluate(model, sae, windows)
        assert (again.n_tokens, again.l0, again.explained_variance) == (
            found.n_tokens,
            found.l0,
            found.explained_variance,
        )


def test_misuse_is_refused(model, windows):
    with pytest.raises(ConfigError, match="no SAE to evaluate"):
        evaluate(model, [], windows)
    with pytest.raises(ConfigError, match=r"the transcoder does not name the hook point it reconstructs"):
        evaluate(model, make_sae(model, skip=True), windows)
    with pytest.raises(
        MismatchError, match=rf"activations at {WIDE} are of another width than this SAE writes\n.*64\n.*32"
    ):
        evaluate(model, make_sae(model, hook_out=WIDE), windows)
    with pytest.raises(MismatchError, match=rf"belongs to another hook point\n.*{A}\n.*{A}, {MLP_IN}"):
        evaluate(model, make_sae(model, **CASES["crosscoder"]), windows, hook_name=A)
    with pytest.raises(
        MismatchError, match=rf"activations at {A}, {WIDE} are of another width than this SAE reads\n.*96"
    ):
        evaluate(model, make_sae(model, d_in=64, hook_name=(A, WIDE)), windows)
