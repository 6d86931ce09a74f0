"""An SAE of every registered architecture through everything: training, files, evaluation, index, widgets, steering."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.sae.kinds import every_kind

from .killed_runs import run_until

ROOT = Path(__file__).parents[1]
L0 = 4
KINDS = every_kind(L0, d_in=32, d_sae=64)
KINDS["jumprelu linear"] = KINDS["jumprelu linear"].replace(bandwidth=0.002)  # so few steps need a wide window
CONFIGS = list(KINDS.values())
STEPS = 300
TEXT = "the golden gate is red"


def training(steps, **fields):
    fields = {"batch_size": 64, "context_size": 16, "resample_every": 50, "dead_after_tokens": 640, **fields}
    return sk.TrainConfig(n_tokens=steps * 64, **fields)


@pytest.fixture(scope="module")
def cache(llama, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return sk.cache_activations(llama, corpus, HOOK, folder, length=16, progress=False)


@pytest.fixture(scope="module")
def x(cache):
    return next(cache.batches(1000, seed=3))


@pytest.fixture(scope="module")
def folder(llama, cache, tmp_path_factory):
    """The folder of one run that trains every architecture."""
    out = tmp_path_factory.mktemp("runs") / "run"
    sk.train(llama, cache, sae=CONFIGS, config=training(STEPS), out=out, progress=False)
    return out


@pytest.fixture(scope="module")
def trained(llama, cache, folder):
    """What that run returned, asked for again and so read from its folder."""
    saes = sk.train(llama, cache, sae=CONFIGS, config=training(STEPS), out=folder, progress=False)
    return dict(zip(KINDS, saes, strict=True))


@pytest.fixture(scope="module", params=list(KINDS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def sae(name, trained):
    return trained[name]


@pytest.fixture(scope="module")
def index(llama, sae, cache, tmp_path_factory):
    return sk.build_index(llama, sae, cache, out=tmp_path_factory.mktemp("index") / "index", progress=False)


def explained(x, x_hat):
    x_hat = x_hat.detach()
    return float(1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


# ---- one SAE ------------------------------------------------------------------------------------------------------


def test_it_learns_and_its_l0_is_what_was_asked_for(name, sae, x):
    l0 = float((sae.encode(x) != 0).sum(1).float().mean())
    assert l0 == pytest.approx(L0, rel=0.2)
    untrained = explained(x, sk.SAE(KINDS[name])(x).x_hat)
    score = explained(x, sae(x).x_hat)
    assert score > max(untrained, 0.5)
    assert sae.history["explained_variance"].iloc[-5:].mean() == pytest.approx(score, abs=0.03)  # and in these units
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64), rtol=1e-5, atol=1e-5)


def test_it_comes_back_from_its_file_bit_for_bit(name, sae, llama, x, tmp_path):
    asked = KINDS[name]
    assert sae.config == asked.replace(
        hook_name=HOOK,
        model_name=llama.name,
        model_fingerprint=llama.fingerprint,
        context_size=16,
        prepend_bos=True,
        weight_processing=llama.weight_processing,
        token_filter=sae.config.token_filter,
    )
    back = sk.load_sae(sae.save(tmp_path))
    assert back.config == sae.config and back.fingerprint == sae.fingerprint
    assert back.training_summary == sae.training_summary
    for own in sae.weight_names:
        assert torch.equal(getattr(back, own), getattr(sae, own)), own
    assert torch.equal(back.encode(x), sae.encode(x)) and torch.equal(back(x).x_hat, sae(x).x_hat)
    torch.testing.assert_close(back.density, sae.density)


def test_every_way_to_encode_gives_the_same_numbers(sae, x):
    dense, sparse = sae.encode(x), sae.encode_sparse(x)
    assert torch.equal(sparse.to_dense(), dense)
    some = [63, 0, 17, *dense.sum(0).topk(5).indices.tolist()]
    torch.testing.assert_close(sae.encode_features(x, some), dense[:, some], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae.decode(sparse), sae.decode(dense), rtol=1e-4, atol=1e-4)


def test_evaluation_and_index_count_the_same_firings(sae, llama, corpus, index):
    evaluation = sk.evaluate(llama, sae, corpus, n_tokens=None, length=16, progress=False)
    features = index.features
    assert len(features) == 64 and evaluation.n_tokens > 1000
    assert evaluation.density == pytest.approx(features["density"].to_numpy(), abs=1e-6)
    assert evaluation.l0 == pytest.approx(features["density"].sum(), rel=1e-4)
    assert evaluation.l0 == pytest.approx(L0, rel=0.2)
    assert evaluation.explained_variance > 0.5
    assert 0 < evaluation.kl < evaluation.kl_zero


def test_the_index_has_its_strongest_places_and_the_widgets_show_them(sae, llama, index):
    strongest = int(index.features["max"].idxmax())
    record = index.feature(strongest)
    assert record.top[0].activation == record.max > 0 and record.promoted
    browser = sk.explore(index, llama, sae, feature=strongest)
    assert str(strongest) in browser.text() and len(browser.to_frame()) <= 64
    shown = sk.highlight(llama, sae, TEXT, feature=strongest, index=index)
    acts = sae.encode(llama.activations(llama.tokenize(TEXT), HOOK)[0])[:, strongest]
    acts[0] = 0  # <bos>, which the token filter leaves out
    torch.testing.assert_close(torch.as_tensor(shown.values(strongest)), acts, rtol=1e-4, atol=1e-5)
    assert sk.steer(llama, sae, index=index, feature=strongest).text()


def test_a_clamp_sets_the_feature_and_leaves_the_error_alone(sae, llama, index, x):
    feature = int(index.features["n_firings"].idxmax())
    edit = sk.clamp(sae, {feature: 2.0}, unit="max", index=index)
    wanted = sae.encode(x)
    wanted[:, feature] = 2.0 * index.feature(feature).max
    edited = x + edit.delta(x, x.norm(dim=1))
    torch.testing.assert_close(edited - sae.decode(wanted), x - sae(x).x_hat, rtol=1e-3, atol=1e-3)
    strong = sk.clamp(sae, {feature: 5.0}, unit="norm")
    plain, steered, slowly = (
        sk.generate(llama, TEXT, edits=edits, max_new_tokens=6, use_cache=use_cache)
        for edits, use_cache in (([], True), ([strong], True), ([strong], False))
    )
    assert plain.tokens != steered.tokens == slowly.tokens


def test_training_goes_on_from_the_file(name, sae, cache, x, folder):
    i = list(KINDS).index(name)
    loaded = sk.load_sae(folder / f"{i}-{sae.config.activation}-64")
    assert loaded.fingerprint == sae.fingerprint
    before = explained(x, loaded(x).x_hat)
    batches, trainer = cache.batches(64, seed=1), sk.Trainer(loaded, training(40, lr=1e-4, sparsity_warmup_fraction=0))
    first = trainer.step(next(batches))
    for _ in range(39):
        trainer.step(next(batches))
    on = trainer.finish()
    assert loaded.fingerprint == on.fingerprint != sae.fingerprint
    assert first.explained_variance == pytest.approx(before, abs=0.15)
    assert explained(x, on(x).x_hat) > before - 0.05


# ---- all in one run -----------------------------------------------------------------------------------------------

KILLED_RUN = """
import sys, time
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import saekit as sk
from tests.test_every_architecture import resumable

plain = sk.Trainer.advance
def slow(self, x):
    time.sleep(0.002)  # so that the kill falls into the run
    return plain(self, x)
sk.Trainer.advance = slow
resumable({cache!r}, {out!r})
"""


def resumable(cache, out=None):
    config = training(60, checkpoint_every=10, resample_every=7, dead_after_tokens=320)
    return sk.train(None, sk.open_activations(cache), sae=CONFIGS, config=config, out=out, progress=False)


@pytest.mark.slow
def test_a_killed_run_of_every_architecture_resumes_bit_for_bit(cache, tmp_path):
    out = tmp_path / "run"
    script = KILLED_RUN.format(root=str(ROOT), cache=str(cache.path), out=str(out))
    run_until(script, (out / "checkpoints" / "step-00000030" / "manifest.json").exists)
    begun = []
    plain = sk.Trainer.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk.Trainer, "advance", lambda self, x: begun.append(self.n_steps_done) or plain(self, x))
        resumed = resumable(cache.path, out)
    assert 30 <= begun[0] < 60  # it did resume, and from a checkpoint
    whole = resumable(cache.path)
    for name, one, other in zip(KINDS, whole, resumed, strict=True):
        for own, weight in one.state_dict().items():
            assert torch.equal(weight, other.state_dict()[own]), (name, own)
        same = [c for c in one.history.columns if c != "tokens_per_second"]
        assert other.history[same].equals(one.history[same]), name
        assert torch.equal(one.density, other.density)
        moved = one.history["coefficient"].diff().iloc[1:].abs()
        steered = one.config.target_l0 is not None and one.config.l0_penalty == "linear"
        assert bool((moved > 0).all()) == steered, name  # there was a controller's state to lose
