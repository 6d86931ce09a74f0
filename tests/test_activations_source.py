"""Sources of activations: one of your own trains and resumes like any other, and a missing member is named."""

from __future__ import annotations

import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.activations import ModelActivations, Provenance, StreamActivations
from saekit.errors import ConfigError, MismatchError

CONFIG = {"batch_size": 64, "lr": 1e-3, "checkpoint_every": 5, "context_size": 16, "buffer_tokens": 256}


class Rows(sk.ActivationBatches):
    """Rows of a tensor in a random order, for ever."""

    widths, token_filter, n_tokens_per_epoch = (32,), sk.TokenFilter(), None

    def __init__(self, x, batch_size, seed):
        self.hook_name, self.batch_size, self.device = "rows", batch_size, torch.device("cpu")
        self.x, self.seed, self.n_drawn = x, seed, 0

    def __next__(self):
        self.n_drawn += 1
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.n_drawn)
        return self.x[torch.randint(len(self.x), (self.batch_size,), generator=generator)]

    def state_dict(self):
        return {"n_drawn": self.n_drawn}

    def load_state_dict(self, state):
        self.n_drawn = state["n_drawn"]


class TensorSource:
    """A tensor as a source."""

    hook_name, provenance = "rows", Provenance(model_name="mine", dataset="rows of mine")

    def __init__(self, x):
        self.x = x

    def at(self, hook_name):
        return self

    def batches(self, batch_size, seed=0, n_epochs=None, device="cpu"):
        return Rows(self.x, batch_size, seed)


@pytest.fixture(scope="module")
def source():
    return TensorSource(torch.randn(500, 32, generator=torch.Generator().manual_seed(0)))


def train(source, out=None, steps=20, **fields):
    sae = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
    config = sk.TrainConfig(n_tokens=steps * 64, **CONFIG | fields)
    return sk.train(None, source, sae=sae, config=config, out=out, progress=False)


def test_a_source_of_ones_own_trains_and_says_where_it_came_from(source, tmp_path):
    sae = train(source, tmp_path)
    assert isinstance(source, sk.ActivationSource) and sae.history["explained_variance"].iloc[-1] > 0.1
    c = sk.load_sae(tmp_path).config
    assert (c.hook_name, c.model_name, c.dataset, c.model_fingerprint) == ("rows", "mine", "rows of mine", None)


def test_it_resumes_bit_for_bit(source, tmp_path, interrupt_at):
    whole = train(source)
    disarm = interrupt_at(12)
    train(source, tmp_path)
    disarm()
    assert train(source, tmp_path).fingerprint == whole.fingerprint


@pytest.mark.parametrize("missing", ["hook_name", "provenance", "at", "batches"])
def test_a_missing_member_is_named(missing, source):
    members = {name: getattr(source, name) for name in ("hook_name", "provenance", "at", "batches") if name != missing}
    with pytest.raises(ConfigError, match=rf"not a corpus[\s\S]*without {missing}\n[\s\S]*accepted[\s\S]*fix:"):
        train(type("Part", (), members)())


def test_what_a_source_does_not_say_is_named(source):
    members = {name: getattr(source, name) for name in ("hook_name", "provenance", "at", "batches")}
    with pytest.raises(ConfigError, match=r"provenance of the activations is of another type\n.*dict"):
        train(type("Plain", (), members | {"provenance": {}})())
    with pytest.raises(ConfigError, match="does not say at which hook point it reads"):
        train(type("Nowhere", (), members | {"hook_name": None})())


def test_a_model_with_a_text_is_a_source(model, corpus):
    source = ModelActivations(model=model, text=corpus, length=16, buffer_tokens=256)
    assert isinstance(source, sk.ActivationSource) and source.at(HOOK).hook_name == HOOK
    by_hand = sk.activation_batches(model, corpus, HOOK, batch_size=64, length=16, buffer_tokens=256, seed=3)
    assert torch.equal(next(source.at(HOOK).batches(64, seed=3)), next(by_hand))
    assert source.provenance.model_fingerprint == model.fingerprint and source.provenance.dataset == "tiny"
    with pytest.raises(ConfigError, match="no hook point"):
        source.batches(64)


def test_parts_of_parts_and_columns_of_columns_give_the_same_rows(model, corpus, tmp_path):
    hooks = (HOOK, "embed.hook_out", "blocks.1.hook_resid_post")
    cache = sk.cache_activations(model, corpus, hooks, tmp_path, length=16, progress=False)
    half = cache.split(0.5)[0]
    part = half.split(0.3, seed=1)[0]
    assert 10 < part.n_tokens < half.n_tokens < cache.n_tokens

    def pairs(cache):
        tokens = cache.windows.tokens.flatten()[cache.position].tolist()
        return [(token, *x.tolist()) for token, x in zip(tokens, cache.x(slice(None)), strict=True)]

    assert set(pairs(part)) <= set(pairs(cache))
    two = part.at((hooks[2], hooks[0]))
    assert torch.equal(two.x(slice(None)), part.x(slice(None))[:, [*range(64, 96), *range(32)]])
    assert torch.equal(two.at(hooks[0]).x([1, 0]), part.at(hooks[0]).x([1, 0]))
    assert isinstance(two, sk.ActivationSource) and two.files is cache.files and "columns" in repr(two)
    with pytest.raises(MismatchError, match="another hook point"):
        two.at("embed.hook_out")


def test_a_stream_is_a_source_with_one_hook_point():
    truth = sk.synthetic.independent(d_model=32, n_features=64, n_active=3)
    source = StreamActivations(truth.batches)
    assert train(source).config.hook_name == "stream" and source.at("stream") is source
    with pytest.raises(MismatchError, match="one hook point"):
        source.at(HOOK)


def test_activations_of_another_model_are_refused(model, llama, corpus, tmp_path):
    cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
    with pytest.raises(MismatchError, match="are of another model"):
        sk.train(
            llama,
            cache,
            sae=sk.SAEConfig(d_in=32, d_sae=64, k=4),
            config=sk.TrainConfig(n_tokens=64, batch_size=64),
            progress=False,
        )
