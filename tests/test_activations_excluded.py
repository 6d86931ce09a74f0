"""What a token filter leaves out: counts and norms against plain loops, at one hook point and at several."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.activations import ExcludedTokens, describe_token_filter
from saekit.errors import ConfigError

MLP_IN, MLP_OUT = "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"


@pytest.fixture(scope="module")
def windows(model, corpus):
    return sk.tokenize(corpus.take(12), model, length=16)


def activations(model, windows, name):
    """(id, x) of every token, one window at a time."""
    for w, n in enumerate(windows.lengths.tolist()):
        ids = windows.tokens[w, :n].tolist()
        yield from zip(ids, model.activations(ids, name)[0], strict=True)


def strict_filter(model, windows, names, quantile=0.8):
    special = tuple(sorted(model.special_ids))
    limits = [
        float(torch.stack([x.norm() for _, x in activations(model, windows, n)]).quantile(quantile)) for n in names
    ]
    if len(names) == 1:
        return sk.TokenFilter(special_ids=special, max_norm=limits[0])
    return sk.TokenFilter(special_ids=special, blocks=tuple((32, limit) for limit in limits))


@pytest.mark.parametrize("names", [(HOOK,), (MLP_IN, MLP_OUT)], ids=["one", "both of a transcoder"])
def test_counts_and_norms_are_those_of_a_plain_loop(model, windows, names):
    token_filter = strict_filter(model, windows, names)
    limits = [token_filter.max_norm] if len(names) == 1 else [limit for _, limit in token_filter.blocks]
    found = describe_token_filter(model, windows, names if len(names) > 1 else names[0], token_filter)
    seen, out, above = Counter(), Counter(), [0] * len(names)
    norms, held = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    for rows in zip(*(activations(model, windows, n) for n in names), strict=True):
        i, sizes = rows[0][0], [float(x.norm()) for _, x in rows]
        special = i in model.special_ids
        excluded = special or any(size > limit for size, limit in zip(sizes, limits, strict=True))
        seen[i] += 1
        out[i] += excluded
        for k, (size, limit) in enumerate(zip(sizes, limits, strict=True)):
            above[k] += size > limit and not special
            norms[k] += (size, size**2)
            held[k] += (size * excluded, size**2 * excluded)
    special = [i for i in out if i in model.special_ids]
    assert (found.n_tokens, found.n_excluded) == (sum(seen.values()), sum(out.values()))
    assert found.n_special == sum(out[i] for i in special) > 0
    assert found.n_sinks == sum(out.values()) - found.n_special > 0
    for k, at in enumerate(found.norms):
        assert (at.hook_name, at.max_norm, at.n_above) == (names[k], limits[k], above[k])
        assert (at.norm_fraction, at.squared_norm_fraction) == pytest.approx(held[k] / norms[k], rel=1e-4)
    shown = model.vocabulary.shown
    for row in found.to_frame().itertuples():
        i = shown.index(row.token)
        assert (row.n_excluded, row.n, row.special) == (out[i], seen[i], i in model.special_ids)
        assert row.fraction == out[i] / seen[i]
    assert found.to_frame()["n_excluded"].tolist() == sorted(out.values(), reverse=True)[: len(found.tokens)]
    assert ExcludedTokens.from_dict(found.to_dict()) == found and len(found.norms_frame()) == len(names)


def test_an_evaluation_holds_the_same_and_warns_of_what_surprises(model, windows):
    names = (MLP_IN, MLP_OUT)
    token_filter = strict_filter(model, windows, names)
    config = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, hook_name=MLP_IN, hook_out=MLP_OUT)
    sae = sk.SAE(config.replace(model_name=model.name, token_filter=token_filter))
    with pytest.warns(UserWarning, match=rf"leaves out .* by their norm at {MLP_IN}, {MLP_OUT}, of them ' '"):
        e = sk.evaluate(model, sae, windows, progress=False)
    known = describe_token_filter(model, windows, names, token_filter)
    assert e.excluded.tokens == known.tokens and e.excluded.n_sinks == known.n_sinks
    assert e.excluded.norms_frame().to_numpy() == pytest.approx(known.norms_frame().to_numpy(), rel=1e-5)
    assert str(known).split(";")[0] in str(e)
    # a filter of one block on a transcoder is for what it reads
    sae.config = sae.config.replace(token_filter=sk.TokenFilter(max_norm=token_filter.blocks[0][1]))
    with pytest.warns(UserWarning):
        read_alone = sk.evaluate(model, sae, windows, progress=False).excluded
    assert [n.max_norm for n in read_alone.norms] == [token_filter.blocks[0][1], None]
    assert read_alone.norms[1].n_above == 0 < read_alone.norms[0].n_above and read_alone.n_special == 0


def test_special_tokens_and_a_few_others_are_no_surprise(model, windows):
    special = sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)))
    found = describe_token_filter(model, windows, HOOK, special)
    assert found.n_sinks == 0 < found.n_special and not found.surprise
    config = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, hook_name=HOOK, model_name=model.name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sk.evaluate(model, sk.SAE(config.replace(token_filter=special)), windows, progress=False)
    few = {"n_tokens": 1000, "n_special": 0, "n_sinks": 20, "norms": ()}
    token = sk.activations.excluded.ExcludedToken
    the = token(token=" the", n_excluded=15, n=40, special=False)
    assert "' the' 15 of 40 (38%)" in ExcludedTokens(**few, tokens=(the,)).surprise, "a common token, half of it gone"
    rare = token(token="Im", n_excluded=5, n=5, special=False)
    assert not ExcludedTokens(**few, tokens=(rare,)).surprise
    many = few | {"n_sinks": 51}
    assert "51 of 1,000 tokens (5.1%)" in ExcludedTokens(**many, tokens=(rare,)).surprise
    assert str(ExcludedTokens(**few | {"n_sinks": 0}, tokens=())) == "left out: none of 1,000 tokens"


def test_arrays_have_counts_and_norms_and_no_words():
    x = np.array([[3.0, 0.0, 1.0], [0.0, 1.0, 5.0], [1.0, 0.0, 1.0]], dtype=np.float32)
    found = describe_token_filter(None, x, HOOK, sk.TokenFilter(special_ids=(0,), max_norm=4.0))
    assert (found.n_tokens, found.n_sinks, found.n_special, found.tokens) == (3, 1, 0, ())
    assert found.norms[0].squared_norm_fraction == pytest.approx(26 / (10 + 26 + 2))
    both = sk.TokenFilter(blocks=((2, 2.0), (1, 4.0)))
    found = describe_token_filter(None, torch.from_numpy(x), (MLP_IN, MLP_OUT), both)
    assert found.n_sinks == 2 and [n.n_above for n in found.norms] == [1, 1]
    with pytest.raises(ConfigError, match="does not say which of its tokens count"):
        describe_token_filter(None, x, HOOK)
    with pytest.raises(ConfigError, match="without a model"):
        describe_token_filter(None, ["a text"], HOOK)


def test_norms_that_are_not_known_are_null_in_json():
    norm = sk.activations.excluded.ExcludedNorm(
        hook_name=HOOK, max_norm=3.0, n_above=None, norm_fraction=math.nan, squared_norm_fraction=math.nan
    )
    found = ExcludedTokens(n_tokens=10, n_special=1, n_sinks=0, norms=(norm,), tokens=())
    value = found.to_dict()
    assert value["norms"][0]["norm_fraction"] is None
    assert math.isnan(ExcludedTokens.from_dict(value).norms[0].norm_fraction) and "squared" not in str(found)


def test_a_filter_that_is_found_warns_once_of_what_it_takes(model, windows):
    """A limit just above the median."""
    with pytest.warns(UserWarning, match=rf"leaves out .* by their norm at {HOOK}") as warned:
        token_filter = sk.fit_token_filter(model, windows, HOOK, multiple=1.01)
    found = describe_token_filter(model, windows, HOOK, token_filter)
    assert len(warned) == 1 and f"{found.n_sinks:,} of {found.n_tokens - found.n_special:,} tokens" in str(
        warned[0].message
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sk.fit_token_filter(model, windows, HOOK)


@pytest.mark.real
def test_many_of_a_common_word_are_attention_sinks_in_early_layers_of_the_default_model(default_model):
    text = sk.load_corpus("demo").where(part="held_out")
    with warnings.catch_warnings(record=True):
        early, middle = (
            describe_token_filter(default_model, text, f"blocks.{n}.hook_resid_post", n_tokens=3000) for n in (5, 15)
        )
    the = next(t for t in early.tokens if t.token == " the")
    assert 0.25 < the.fraction < 0.6 and "' the'" in early.surprise
    assert not any(t.token == " the" for t in middle.tokens) and not middle.surprise
