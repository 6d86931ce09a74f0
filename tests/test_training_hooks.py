"""Training at several hook points in one run of the model: lists, transcoders and crosscoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, MismatchError
from saekit.models import LanguageModel

from .killed_runs import run_until

A, B, C = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.1.mlp.hook_post"  # 32, 32 and 64 wide
MLP_IN, MLP_OUT = "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"
ROOT = Path(__file__).parents[1]
TOPK = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
BATCHTOPK = sk.SAEConfig(d_in=32, d_sae=96, activation="batchtopk", k=3)
TRANSCODER = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, hook_name=MLP_IN, hook_out=MLP_OUT)
CROSSCODER = sk.SAEConfig(d_in=64, d_sae=128, activation="batchtopk", k=6, hook_name=(A, B))


def training(steps=20, **fields):
    fields = {"batch_size": 64, "context_size": 16, "buffer_tokens": 256, "checkpoint_every": 10, "lr": 1e-3, **fields}
    return sk.TrainConfig(n_tokens=steps * fields["batch_size"], **fields)


def run(model, corpus, sae, hook_name=None, out=None, steps=20, **fields):
    return sk.train(
        model, corpus, hook_name=hook_name, sae=sae, config=training(steps, **fields), out=out, progress=False
    )


@pytest.fixture
def runs(monkeypatch):
    """The hook points of each run of the model on more than a token or two."""
    seen = []
    real = LanguageModel._run

    def counted(self, tokens, hooks, **kwargs):
        if tokens.numel() > 2:
            seen.append(tuple(name for name, _ in hooks))
        return real(self, tokens, hooks, **kwargs)

    monkeypatch.setattr(LanguageModel, "_run", counted)
    return seen


def explained(x, x_hat):
    return float(1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def held_out(model, corpus, hook_point, n=400):
    return next(sk.activation_batches(model, corpus, hook_point, batch_size=n, length=16, seed=9, n_epochs=1))


# ---- one run of the model -----------------------------------------------------------------------------------------


def test_every_configuration_at_every_hook_point_from_one_run_of_the_model(model, corpus, runs, tmp_path):
    windows = sk.tokenize(corpus, model, length=16)
    model.hook_width((A, B))  # measured once for each model
    runs.clear()
    alone = run(model, windows, TOPK, A)
    n_alone = len(runs)
    runs.clear()
    saes = run(model, windows, [TOPK, BATCHTOPK], [A, B], out=tmp_path)
    assert len(runs) == n_alone and set(runs) == {(A, B)}
    assert [(s.config.hook_name, s.config.activation) for s in saes] == [
        (A, "topk"),
        (A, "batchtopk"),
        (B, "topk"),
        (B, "batchtopk"),
    ]
    filters = [sk.fit_token_filter(model, windows, hook) for hook in (A, A, B, B)]
    assert [s.config.token_filter for s in saes] == filters  # as each would have alone, and as plain
    assert saes[0].fingerprint == alone.fingerprint and saes[0].config == alone.config
    assert saes[2].fingerprint == run(model, windows, TOPK, B).fingerprint
    assert saes[3].fingerprint == run(model, windows, BATCHTOPK, B).fingerprint
    for sae in saes:
        sae.check(model)
    names = [
        "0-topk-64-0.resid_post",
        "1-batchtopk-96-0.resid_post",
        "2-topk-64-1.resid_post",
        "3-batchtopk-96-1.resid_post",
    ]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == names
    assert [sk.load_sae(tmp_path / n).fingerprint for n in names] == [s.fingerprint for s in saes]
    again = run(model, windows, [TOPK, BATCHTOPK], [A, B], out=tmp_path)
    assert [s.fingerprint for s in again] == [s.fingerprint for s in saes]


def test_a_configuration_with_a_hook_point_of_its_own_is_trained_there_only(model, corpus):
    own_listed, own_other = BATCHTOPK.replace(hook_name=B), BATCHTOPK.replace(hook_name=MLP_OUT, d_sae=64)
    saes = run(model, corpus, [own_other, TOPK, own_listed, TRANSCODER], [A, B], steps=3)
    assert [(s.config.hook_name, s.config.hook_out, s.config.d_sae) for s in saes] == [
        (A, None, 64),
        (B, None, 64),
        (B, None, 96),
        (MLP_OUT, None, 64),
        (MLP_IN, MLP_OUT, 64),
    ]
    all_own = run(model, corpus, [own_other, own_listed], steps=3)
    assert [s.config.hook_name for s in all_own] == [MLP_OUT, B]
    assert len(run(model, corpus, TOPK, [A], steps=3)) == 1  # a list gives a list


def test_a_token_counts_where_every_token_filter_of_the_run_keeps_it(model, corpus, monkeypatch):
    limits = [float(held_out(model, corpus, hook).norm(dim=1).quantile(0.7)) for hook in (A, B)]
    strict = sk.TokenFilter(special_ids=(0, 1, 2), blocks=tuple((32, limit) for limit in limits))
    monkeypatch.setattr("saekit.activations.batches.fit_token_filter", lambda *_: strict)
    trained_on = {A: [], B: []}
    plain = sk.Trainer.advance
    monkeypatch.setattr(
        sk.Trainer, "advance", lambda self, x: trained_on[self.sae.config.hook_name].append(x) or plain(self, x)
    )
    saes = run(model, corpus, TOPK, [A, B], steps=10)
    assert [s.config.token_filter.max_norm for s in saes] == limits
    for hook, limit in zip((A, B), limits, strict=True):
        assert float(torch.cat(trained_on[hook]).norm(dim=1).max()) <= limit
    alone = sk.activation_batches(model, corpus, A, batch_size=400, length=16, token_filter=saes[0].config.token_filter)
    together = sk.activation_batches(model, corpus, (A, B), batch_size=400, length=16, token_filter=strict)
    for batches in (alone, together):
        while batches.n_tokens_per_epoch is None:
            next(batches)
    assert together.n_tokens_per_epoch < alone.n_tokens_per_epoch  # B's filter leaves out tokens that A's keeps


def test_training_from_a_cache_of_more_hook_points(model, corpus, tmp_path):
    cache = sk.cache_activations(model, corpus, (A, B, MLP_IN, MLP_OUT), tmp_path, length=16, progress=False)
    one = run(None, cache, TOPK, B, steps=5)
    assert one.config.token_filter == cache.token_filters[B] and one.config.hook_name == B
    several = run(None, cache, [TOPK, TRANSCODER, CROSSCODER], [B], steps=5)
    assert several[0].fingerprint == one.fingerprint
    assert several[1].config.hook_out == MLP_OUT and several[2].config.hook_name == (A, B)
    assert run(model, cache, TOPK, B, steps=5).fingerprint == one.fingerprint
    assert run(None, cache, TOPK.replace(hook_name=B), None, steps=5).fingerprint == one.fingerprint
    with pytest.raises(MismatchError, match=rf"of another hook point\n.*{C}"):
        run(None, cache, TOPK.replace(d_in=64), C, steps=5)
    with pytest.raises(MismatchError, match=r"of another width than the SAE\n.*128\n.*32"):
        run(None, cache, TOPK, steps=5)  # no hook point: the cache's, all four


# ---- crosscoders --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_crosscoder_rebuilds_every_hook_point_better_than_one_that_saw_them_unrelated(model, corpus):
    sae = run(model, corpus, CROSSCODER, steps=150)
    assert sae.config.is_crosscoder and sae.config.hook_name == (A, B)
    assert [width for width, _ in sae.config.token_filter.blocks] == [32, 32]
    batches = sk.activation_batches(model, corpus, (A, B), batch_size=64, length=16, buffer_tokens=256)
    trainer = sk.Trainer(sk.SAE(CROSSCODER), training(150), blocks=(32, 32))
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        x = next(batches)
        trainer.step(torch.cat([x[:, :32], x[torch.randperm(64, generator=generator), 32:]], 1))
    unrelated = trainer.finish()
    x = held_out(model, corpus, (A, B))
    for block in (slice(0, 32), slice(32, 64)):
        good, poor = (explained(x[:, block], s(x).x_hat[:, block]) for s in (sae, unrelated))
        assert good > poor + 0.02 and good > 0.3


def test_a_crosscoder_and_plain_saes_share_a_stream(model, corpus):
    both = run(model, corpus, [TOPK, CROSSCODER], [B], steps=10)
    assert both[1].fingerprint == run(model, corpus, CROSSCODER, steps=10).fingerprint
    listed = run(model, corpus, CROSSCODER.replace(hook_name=None), [(A, B), (B, A)], steps=10)
    assert [s.config.hook_name for s in listed] == [(A, B), (B, A)]
    assert listed[0].fingerprint == both[1].fingerprint != listed[1].fingerprint


# ---- transcoders --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_of_an_mlp_beats_the_mean(model, corpus, skip, record_property, tmp_path):
    config = TRANSCODER.replace(skip=skip, k=8)
    sae = run(model, corpus, config, steps=150, out=tmp_path / "run", lr=3e-3)
    x = held_out(model, corpus, (MLP_IN, MLP_OUT))
    read, target = x[:, :32], x[:, 32:]
    score = explained(target, sae(read).x_hat)
    padded = torch.cat([read, torch.ones(len(read), 1)], 1)
    linear = explained(target, padded @ torch.linalg.lstsq(padded, target).solution)
    record_property("explained variance", score)
    record_property("explained variance of linear least squares", linear)
    assert score > (0.8 if skip else 0.4), (score, linear)
    assert sae.history["explained_variance"].iloc[-1] == pytest.approx(score, abs=0.2)
    assert sae.config.token_filter.blocks[0][0] == sae.config.token_filter.blocks[1][0] == 32
    sae.check(model, MLP_IN)
    assert sk.load_sae(tmp_path / "run").fingerprint == sae.fingerprint
    acts = sae.encode(read)
    plain = acts @ sae.W_dec + sae.b_dec
    if skip:
        assert float(sae.W_skip.abs().max()) > 0
        plain = plain + read @ sae.W_skip
    torch.testing.assert_close(sae(read).x_hat, plain)


def test_a_transcoder_may_write_another_width(model, corpus):
    sae = run(model, corpus, TRANSCODER.replace(hook_out=C, d_out=64), steps=10)
    assert sae.W_dec.shape == (64, 64) and sae.W_enc.shape == (32, 64) and sae.b_dec.shape == (64,)


@pytest.mark.parametrize(
    ("config", "blocks"), [(TRANSCODER, None), (CROSSCODER, (32, 32))], ids=["transcoder", "cross"]
)
def test_the_loop_does_what_its_parts_do(model, corpus, config, blocks):
    hooks = (MLP_IN, MLP_OUT) if blocks is None else (A, B)
    whole = run(model, corpus, config, steps=10)

    def by_hand(blocks):
        batches = sk.activation_batches(model, corpus, hooks, batch_size=64, length=16, buffer_tokens=256)
        trainer = sk.Trainer(sk.SAE(whole.config), training(10), blocks=blocks)
        for _ in range(10):
            x = next(batches)
            trainer.step(x) if blocks or config.is_crosscoder else trainer.step(x[:, :32], x[:, 32:])
        return trainer.finish().fingerprint

    assert by_hand(blocks) == whole.fingerprint
    if blocks is not None:  # each hook point has a scale of its own
        assert by_hand(None) != whole.fingerprint


# ---- going on -----------------------------------------------------------------------------------------------------

KILLED_RUN = """
import sys, time
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import conftest
import saekit as sk
from tests.test_training_hooks import mixed

plain = sk.Trainer.advance
def slow(self, *x):
    time.sleep(0.01)  # so that the kill falls into the run
    return plain(self, *x)
sk.Trainer.advance = slow
mixed(conftest.tiny_model(), sk.load_corpus(conftest.tiny_texts(), name="tiny"), {out!r})
"""


def mixed(model, corpus, out=None):
    """Two token filters at two hook points, a transcoder with a skip and a crosscoder, in one run."""
    sae = [TOPK, BATCHTOPK, TRANSCODER.replace(skip=True, activation="relu", k=None), CROSSCODER]
    return run(model, corpus, sae, [A, B], out=out, steps=60)


@pytest.mark.slow
def test_a_killed_run_of_many_goes_on_bit_for_bit(model, corpus, tmp_path):
    out = tmp_path / "run"
    script = KILLED_RUN.format(root=str(ROOT), out=str(out))
    run_until(script, (out / "checkpoints" / "step-00000020" / "manifest.json").exists)
    begun = []
    plain = sk.Trainer.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk.Trainer, "advance", lambda self, *x: begun.append(self.n_steps_done) or plain(self, *x))
        resumed = mixed(model, corpus, out)
    assert 20 <= begun[0] < 60  # it did resume, and from a checkpoint
    whole = mixed(model, corpus)
    assert len(whole) == len(resumed) == 6
    for one, other in zip(whole, resumed, strict=True):
        assert one.config == other.config
        for name, weight in one.state_dict().items():
            assert torch.equal(weight, other.state_dict()[name]), (one.config.hook_name, name)
        same = [c for c in one.history.columns if c != "tokens_per_second"]
        assert other.history[same].equals(one.history[same])
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["sae"] for row in rows[:6]] == list(range(6))


def test_going_on_at_other_hook_points_is_an_error(model, corpus, tmp_path):
    run(model, corpus, [TOPK], [A], out=tmp_path)
    with pytest.raises(MismatchError, match=r"a run with another hook_name lies here"):
        run(model, corpus, [TOPK], [B], out=tmp_path)


# ---- bad requests -------------------------------------------------------------------------------------------------


def test_bad_requests(model, corpus, tmp_path):
    with pytest.raises(
        ConfigError, match=rf"nothing is to be trained at {A}\n.*{B}\n.*\n.*config.replace\(hook_name=None"
    ):
        run(model, corpus, TOPK.replace(hook_name=B), A)
    for twice in ([A, A], []):
        with pytest.raises(ConfigError, match=r"the hook points to train at are not distinct"):
            run(model, corpus, TOPK, twice)
    with pytest.raises(ConfigError, match="a hook point is named twice"):
        run(model, corpus, CROSSCODER.replace(hook_name=(A, A)))
    with pytest.raises(ConfigError, match=r"a transcoder reconstructs another hook point than it reads\n.*None"):
        run(model, corpus, TOPK.replace(skip=True), A)
    with pytest.raises(ConfigError, match=r"a transcoder reconstructs another hook point than it reads"):
        run(model, corpus, TOPK.replace(hook_out=A), A)
    with pytest.raises(ConfigError, match="a transcoder or a crosscoder, not both"):
        run(model, corpus, TRANSCODER.replace(hook_name=None), [(A, B)])
    with pytest.raises(
        MismatchError, match=rf"activations at {C} are of another width than the SAE\n.*64\n.*32\n.*d_out=64"
    ):
        run(model, corpus, TRANSCODER.replace(hook_out=C))
    with pytest.raises(MismatchError, match=rf"activations at {A}, {B} are of another width[\s\S]*d_in=64"):
        run(model, corpus, TOPK, (A, B))
    with pytest.raises(sk.SaekitError, match=r"unknown hook point .*did you mean 'blocks.1.mlp.hook_out'"):
        run(model, corpus, TRANSCODER.replace(hook_out="blocks.1.mlp.hook_oot"))
    with pytest.raises(ConfigError, match="needs a model and a hook_name"):
        run(model, corpus, [TOPK, TRANSCODER])
