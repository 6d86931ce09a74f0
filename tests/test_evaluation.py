"""The metrics against their oracles, and against the obvious computation one window at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, DataError, MismatchError
from saekit.evaluation import evaluate
from saekit.evaluation.accumulators import estimate
from saekit.statistics import jackknife_estimate

LENGTH = 32


def make_sae(model, d_sae=64, activation="topk", k=4, **changes):
    config = sk.SAEConfig(
        d_in=model.d_model,
        d_sae=d_sae,
        activation=activation,
        k=k,
        hook_name=HOOK,
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=sk.TokenFilter(special_ids=tuple(sorted(model.special_ids))),
    )
    return sk.SAE(config.replace(**changes))


@torch.no_grad()
def identity(model, **changes):
    """An SAE whose x_hat is x: one feature for each direction and its opposite."""
    d = model.d_model
    sae = make_sae(model, d_sae=2 * d, activation="relu", k=None, **changes)
    sae.W_enc.copy_(torch.cat([torch.eye(d), -torch.eye(d)], dim=1))
    sae.W_dec.copy_(sae.W_enc.T)
    return sae


@torch.no_grad()
def constant(model, x_hat):
    """An SAE that always answers x_hat."""
    sae = make_sae(model)
    sae.W_dec.zero_()
    sae.b_dec.copy_(x_hat)
    return sae


@pytest.fixture(scope="module")
def windows(model, corpus):
    return sk.tokenize(corpus.take(12), model, length=LENGTH)


@pytest.fixture(scope="module")
def kept(model, windows):
    """Every activation that counts, [n, d]."""
    rows = []
    for w, n in enumerate(windows.lengths.tolist()):
        ids = windows.tokens[w, :n]
        x = model.activations(ids.tolist(), HOOK)[0]
        rows.append(x[[int(i) not in model.special_ids for i in ids]])
    return torch.cat(rows).clone()


def test_the_identity_loses_nothing(model, windows):
    e = evaluate(model, identity(model), windows, progress=False)
    assert e.explained_variance == pytest.approx(1, abs=1e-6) and e.mse == pytest.approx(0, abs=1e-9)
    assert e.ce_sae == pytest.approx(e.ce_clean, abs=1e-6) and e.ce_loss_recovered == pytest.approx(1, abs=1e-4)
    assert e.kl == pytest.approx(0, abs=1e-6) and e.l0 == pytest.approx(model.d_model)


def test_predicting_the_mean_explains_nothing(model, windows, kept):
    e = evaluate(model, constant(model, kept.mean(0)), windows, progress=False)
    assert e.explained_variance == pytest.approx(0, abs=1e-6)
    assert e.mse == pytest.approx(e.mse_mean, rel=1e-6)
    assert e.mse_mean == pytest.approx(float((kept - kept.mean(0)).double().pow(2).mean()), rel=1e-5)


def test_zeros_recover_nothing(model, windows, kept):
    e = evaluate(model, constant(model, torch.zeros(model.d_model)), windows, progress=False)
    assert e.ce_sae_everywhere == e.ce_zero and e.ce_loss_recovered_everywhere == 0 and e.kl_everywhere == e.kl_zero
    assert e.ce_sae != e.ce_zero, "BOS is left as it is under ce_sae and zeroed under ce_zero"
    total = (kept - kept.mean(0)).double().pow(2).sum()
    assert e.explained_variance == pytest.approx(float(1 - kept.double().pow(2).sum() / total), rel=1e-5)
    assert e.explained_variance == pytest.approx(e.explained_variance_zero)


def test_a_large_mean_does_not_drown_the_variance(model, corpus, monkeypatch):
    """x with a mean of 1e4 and a variance of 1: the sums are taken about the first batch's mean."""
    real = type(model).forward

    def shifted(self, tokens, *, hooks=(), **kwargs):
        moved = [(name, lambda x, f=f: f(x + 1e4)) for name, f in hooks]
        return real(self, tokens, hooks=moved, **kwargs)

    plain = evaluate(model, constant(model, torch.zeros(32)), corpus.take(4), length=LENGTH, progress=False)
    monkeypatch.setattr(type(model), "forward", shifted)
    far = evaluate(model, constant(model, torch.full((32,), 1e4)), corpus.take(4), length=LENGTH, progress=False)
    assert far.mse_mean == pytest.approx(plain.mse_mean, rel=1e-2)
    assert far.explained_variance == pytest.approx(plain.explained_variance, abs=2e-2)


def test_every_number_against_one_window_at_a_time(model, windows, kept):
    sae = make_sae(model)
    e = evaluate(model, sae, windows, batch_size=5, progress=False)
    with torch.no_grad():
        out = sae(kept)
    x, x_hat, acts = kept.double(), out.x_hat.double(), out.feature_acts
    assert e.n_tokens == len(kept) and e.n_sequences == len(windows)
    assert e.l0 == pytest.approx(float((acts != 0).sum(1).float().mean()))
    assert e.mse == pytest.approx(float((x - x_hat).pow(2).mean()), rel=1e-5)
    unexplained = (x - x_hat).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert e.explained_variance == pytest.approx(float(1 - unexplained), abs=1e-6)
    np.testing.assert_allclose(e.density, (acts != 0).double().mean(0), atol=1e-12)
    assert e.silent.tolist() == (acts == 0).all(0).nonzero().flatten().tolist() and e.n_silent == len(e.silent)
    assert e.dead.tolist() == e.silent.tolist() and e.n_dead_in_training is None

    ce, kl, n = dict.fromkeys(("clean", "sae", "everywhere", "zero"), 0.0), {}, 0
    for w, length in enumerate(windows.lengths.tolist()):
        ids = windows.tokens[w, :length].long()
        special = torch.tensor([int(i) in model.special_ids for i in ids])
        with torch.no_grad():
            spliced = sae(model.activations(ids.tolist(), HOOK)[0].clone()).x_hat
        nowhere = torch.zeros_like(special)
        edits = {
            "clean": (None, nowhere),
            "sae": (spliced, special),
            "everywhere": (spliced, nowhere),
            "zero": (torch.zeros_like(spliced), nowhere),
        }
        log_p = {}
        for name, (new, stay) in edits.items():
            hook = (
                []
                if new is None
                else [(HOOK, lambda a, new=new, stay=stay: torch.where(stay[None, :, None], a, new[None]))]
            )
            log_p[name] = model.forward([ids.tolist()], hooks=hook)[0][0, :-1].double().log_softmax(-1)
            ce[name] -= float(log_p[name].gather(1, ids[1:, None]).sum())
        for name in ("sae", "everywhere", "zero"):
            kl[name] = kl.get(name, 0.0) + float((log_p["clean"].exp() * (log_p["clean"] - log_p[name])).sum())
        n += length - 1
    assert e.n_scored == n
    got = {"clean": e.ce_clean, "sae": e.ce_sae, "everywhere": e.ce_sae_everywhere, "zero": e.ce_zero}
    assert got == pytest.approx({name: total / n for name, total in ce.items()}, abs=1e-5)
    assert (e.kl, e.kl_everywhere, e.kl_zero) == pytest.approx([total / n for total in kl.values()], abs=1e-5)
    for name, recovered in (("sae", e.ce_loss_recovered), ("everywhere", e.ce_loss_recovered_everywhere)):
        assert recovered == pytest.approx((ce["zero"] - ce[name]) / (ce["zero"] - ce["clean"]), abs=1e-3)
    assert len(set(np.round(list(ce.values()), 3))) == 4


@pytest.mark.slow
def test_intervals_are_those_of_the_metrics_without_each_document(model, windows):
    sae = make_sae(model, activation="relu", k=None)
    e = evaluate(model, sae, windows, progress=False)
    assert e.interval_unit == "documents" and e.n_units == 12
    without = []
    for d in range(12):
        others = (windows.documents.max(1).values != d).nonzero().flatten()
        without.append(evaluate(model, sae, windows.select(others), progress=False))
    for name in ("l0", "mse", "kl", "ce_sae"):
        values = np.array([getattr(one, name) for one in without])
        known = jackknife_estimate(getattr(e, name), values, scale="log")
        assert e.intervals[name] == pytest.approx((known.low, known.high), rel=1e-3), name
        assert known.low < getattr(e, name) < known.high and e.estimates[name].n_units == 12
    for name in ("explained_variance", "ce_loss_recovered", "ce_loss_recovered_everywhere"):
        lost = np.array([1 - getattr(one, name) for one in without])
        lost_by_all, scale = 1 - getattr(e, name), "log" if lost.min() > 0 else "identity"
        known = jackknife_estimate(lost_by_all, lost, scale=scale)
        assert e.intervals[name] == pytest.approx((1 - known.high, 1 - known.low), rel=1e-3), name


@pytest.mark.parametrize("n_documents", [1, 4])
def test_a_few_documents_give_no_interval_and_say_so(model, windows, n_documents):
    some = windows.select((windows.documents.max(1).values < n_documents).nonzero().flatten())
    e = evaluate(model, make_sae(model), some, progress=False)
    assert all(np.isnan(low) and np.isnan(high) for low, high in e.intervals.values())
    words = "1 document" if n_documents == 1 else "4 documents"
    assert f"(no interval: {words}, at least 5 are needed)" in str(e) and e.kl > 0


def test_what_is_alike_in_every_document_has_no_interval_of_width_zero(model, windows):
    e = evaluate(model, make_sae(model), windows, progress=False)
    assert e.l0 == 4 and str(e.estimates["l0"]) == "4.00 (no interval: the same in each of 12 documents)"


def test_an_sae_that_improves_the_loss_is_on_the_identity_scale():
    without = np.array([1.01, 0.99, 1.0, 1.02, 1.01, 1.0])
    found = estimate("ce_loss_recovered", 1.005, without)
    known = jackknife_estimate(1.005, without, scale="identity")
    assert (found.low, found.high) == (known.low, known.high) and found.low < 1 < found.high


def test_packed_windows_are_drawn_as_windows(model, corpus):
    packed = sk.tokenize(corpus.take(8), model, length=LENGTH, pack=True)
    e = evaluate(model, make_sae(model), packed, progress=False)
    assert e.interval_unit == "windows" and 0 <= e.l0 <= 4


def test_the_batch_size_and_padding_change_nothing(model, windows):
    one, many = (evaluate(model, make_sae(model), windows, batch_size=b, progress=False) for b in (1, 16))
    for name in ("l0", "explained_variance", "ce_clean", "ce_sae", "ce_zero", "kl"):
        assert getattr(one, name) == pytest.approx(getattr(many, name), abs=1e-5)


def test_the_sample_is_of_the_asked_size_and_seeded(model, corpus, windows):
    sae = make_sae(model)
    a, b, c = (evaluate(model, sae, corpus, length=LENGTH, n_tokens=300, seed=s, progress=False) for s in (0, 0, 1))
    assert 250 <= a.n_tokens <= 300 and a.kl == b.kl != c.kl and a == a
    some = evaluate(model, sae, windows, n_tokens=100, progress=False)
    assert 80 <= some.n_tokens <= 132
    whole = evaluate(model, sae, windows, n_tokens=None, progress=False)
    assert whole.n_sequences == len(windows)


def test_an_evaluation_reads_well(model, windows):
    e = evaluate(model, make_sae(model), windows, progress=False)
    text = str(e)
    assert text.startswith(f"Evaluation on {e.n_tokens:,} tokens in {e.n_sequences} windows")
    rows = ("sae ", "sae everywhere", "predict the mean", "zero ablation", "no change")
    for line in (*rows, "95 % intervals (jackknife t over documents)", "left out: 30 of", "silent features: "):
        assert any(row.strip().startswith(line.strip()) for row in text.splitlines())
    frame = e.to_frame()
    assert frame.loc["zero ablation", "ce_loss_recovered"] == 0 == frame.loc["predict the mean", "explained_variance"]
    assert frame.loc["sae", "kl"] == e.kl
    assert e.plot().data


def test_head_shaped_activations_are_spliced_too(model, windows):
    hook = "blocks.0.attn.hook_z"
    e = evaluate(model, identity(model, hook_name=hook, d_in=model.hook_width(hook)), windows, progress=False)
    assert e.explained_variance == pytest.approx(1, abs=1e-6) and e.kl == pytest.approx(0, abs=1e-6)
    assert e.kl_zero > 1e-4


def test_the_sae_is_left_in_the_mode_it_was_in(model, windows):
    sae = make_sae(model).train()
    evaluate(model, sae, windows.select([0]), progress=False)
    assert sae.training


def test_misuse_is_refused(model, corpus, windows, monkeypatch):
    with pytest.raises(MismatchError, match="another model"):
        evaluate(model, make_sae(model, model_name="gpt2"), corpus, progress=False)
    with pytest.raises(MismatchError, match="another hook point"):
        evaluate(model, make_sae(model), corpus, hook_name="blocks.1.hook_resid_post", progress=False)
    with pytest.raises(MismatchError, match="prepared in another way"):
        evaluate(model, make_sae(model, weight_processing="compatibility"), corpus, progress=False)
    with pytest.raises(ConfigError, match="does not name the hook point"):
        evaluate(model, make_sae(model, hook_name=None), corpus, progress=False)
    with pytest.raises(DataError, match="not a corpus"):
        evaluate(model, make_sae(model), 7, progress=False)
    with pytest.raises(ConfigError, match="n_tokens is not positive"):
        evaluate(model, make_sae(model), corpus, n_tokens=0, progress=False)
    with pytest.raises(DataError, match="nothing to evaluate on"):
        evaluate(model, make_sae(model), windows.select(slice(0)), progress=False)
    with pytest.raises(DataError, match="holds no token"):
        evaluate(model, make_sae(model), sk.load_corpus([""]), length=LENGTH, progress=False)
    with pytest.raises(DataError, match="no token counts"):
        evaluate(model, make_sae(model), sk.load_corpus(["<bos><eos>"]), length=LENGTH, progress=False)
    sae = make_sae(model, token_filter=sk.TokenFilter())
    real = type(model).forward

    def broken(self, tokens, *, hooks=(), **kwargs):
        return real(self, tokens, hooks=[(n, lambda x, f=f: f(x * float("nan"))) for n, f in hooks], **kwargs)

    monkeypatch.setattr(type(model), "forward", broken)
    with pytest.raises(DataError, match="not finite"):
        evaluate(model, sae, windows, progress=False)
