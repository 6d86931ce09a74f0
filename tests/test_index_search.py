"""Each search against the same question asked of the dense activations."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, MismatchError, UnknownNameError


@pytest.fixture(scope="module")
def sae(model):
    return tiny_sae(model)


@pytest.fixture(scope="module")
def index(model, sae, corpus, tmp_path_factory):
    return sk.build_index(model, sae, corpus, out=tmp_path_factory.mktemp("i") / "x", length=32, progress=False)


def on_prompt(model, sae, prompt):
    ids = model.tokenize(prompt)
    acts = sae.encode(model.activations(ids, HOOK)[0]).detach().numpy()
    acts[[i in model.special_ids for i in ids]] = 0
    return ids, acts


def test_prompt(index, model, sae):
    ids, acts = on_prompt(model, sae, "the golden gate")
    table = index.search(prompt="the golden gate", n=100)
    assert set(table["feature"]) == set(np.flatnonzero(acts.any(0)))
    assert table["max"].is_monotonic_decreasing
    for row in table.itertuples():
        column = acts[:, row.feature]
        assert row.max == pytest.approx(column.max(), rel=1e-4) and row.pos == column.argmax()
        assert row.mean == pytest.approx(column[column > 0].mean(), rel=1e-4) and row.n_tokens == (column > 0).sum()
        assert row.token == model.token_strings([ids[row.pos]])[0]
        assert row.fraction_of_max == pytest.approx(column.max() / index.features["max"][row.feature], rel=1e-4)
        assert row.promoted == index.features["promoted"][row.feature]
    assert len(index.search(prompt="the golden gate", n=3)) == 3


def test_contrast(index, model, sae):
    positives, negatives = ["golden gate bridge", "a bridge"], ["the cat sat", "rain", "fog"]
    mean = [np.mean([on_prompt(model, sae, p)[1].max(0) for p in side], axis=0) for side in (positives, negatives)]
    table = index.search(contrast=(positives, negatives), n=64).set_index("feature")
    for i, row in table.iterrows():
        assert row["score"] == pytest.approx(mean[0][i] - mean[1][i], abs=1e-4)
        assert row["positive"] == pytest.approx(mean[0][i], abs=1e-4)
    assert table.index[0] == (mean[0] - mean[1]).argmax()
    with pytest.raises(ConfigError, match="two sides"):
        index.search(contrast=(["one"], []))


def test_text(index, corpus, model):
    table = index.search(text="Golden  Gate".replace("  ", " "), n=64).set_index("feature")
    windows, inside, matches = index.windows, set(), []
    for w, n in enumerate(windows.lengths.tolist()):  # characters are tokens here, behind a BOS
        text = "".join(model.token_strings(windows.tokens[w, 1:n]))
        for match in re.finditer("golden gate", text):
            at = [w * 32 + 1 + k for k in range(match.start(), match.end())]
            matches.append(set(at))
            inside |= set(at)
    assert len(matches) >= 5
    dense = {i: dict(zip(*(a.tolist() for a in index.firings(i)), strict=True)) for i in range(64)}
    fires = {i for i in range(64) if set(dense[i]) & inside}
    assert set(table.index) == fires
    for i, row in table.iterrows():
        mass, here = sum(dense[i].values()), [v for p, v in dense[i].items() if p in inside]
        fraction, coverage = sum(here) / mass, np.mean([bool(m & set(dense[i])) for m in matches])
        assert row["fraction"] == pytest.approx(fraction, rel=1e-4) and row["coverage"] == pytest.approx(coverage)
        assert row["lift"] == pytest.approx((sum(here) / len(inside)) / (mass / index.n_tokens), rel=1e-4)
        assert row["score"] == pytest.approx(2 * fraction * coverage / (fraction + coverage), rel=1e-4)
        assert row["n_firings"] == len(here) and row["max"] == pytest.approx(max(here), rel=1e-5)
    assert table["score"].is_monotonic_decreasing


def test_text_that_is_nowhere_gives_an_empty_table(index):
    table = index.search(text="zebra")
    assert len(table) == 0 and list(table.columns) == list(index.search(text="gate").columns)


def test_token(index, model, sae):
    promoted = index.features["promoted"]
    token = next(t for t in promoted[5] if t.isalpha())
    loaded = sk.load_index(index.path)
    table = loaded.search(token=token, n=64)
    assert set(table["feature"]) == {i for i in range(64) if token in promoted[i]}
    row = table[table["feature"] == 5].iloc[0]
    assert row["rank"] == promoted[5].index(token)
    assert row["effect"] == pytest.approx(dict(index.feature(5).promoted)[token])
    assert table["effect"].is_monotonic_decreasing
    everything = index.search(token=token, n=64).set_index("feature")
    W_dec, U = sae.W_dec.detach(), model.unembedding()
    effects = W_dec @ (U - U.mean(1, keepdim=True))
    column = effects[:, model.tokenize(token, bos=False)[0]]
    assert len(everything) == 64 and everything.index[0] == int(column.argmax())
    for i, row in everything.iterrows():
        assert row["effect"] == pytest.approx(float(column[i]), abs=1e-5)
        assert row["rank"] == int((effects[i] > column[i]).sum())
    with pytest.raises(UnknownNameError, match="unknown token 'zebra'"):
        index.search(token="zebra")


def test_one_question_at_a_time(index):
    with pytest.raises(ConfigError, match=r"exactly one question\n  seen:     none"):
        index.search()
    with pytest.raises(ConfigError, match=r"exactly one question\n  seen:     prompt, text"):
        index.search(prompt="a", text="b")
    with pytest.raises(TypeError, match="promt"):
        index.search(promt="a")
    with pytest.raises(ConfigError, match="n is not positive"):
        index.search(text="a", n=0)
    with pytest.raises(ConfigError, match="no text to search for"):
        index.search(text=" ")


def test_searches_that_run_the_model_want_the_right_one(index, model, sae):
    loaded = sk.load_index(index.path)
    with pytest.raises(ConfigError, match="loaded without its model and sae"):
        loaded.search(prompt="a")
    with pytest.raises(ConfigError, match="loaded without its sae"):
        loaded.search(prompt="a", model=model)
    with pytest.raises(MismatchError, match="another SAE"):
        loaded.search(prompt="a", model=model, sae=tiny_sae(model, seed=1))
    assert loaded.search(prompt="gate", model=model, sae=sae).equals(index.search(prompt="gate"))


def test_another_models_activations_are_refused(index, llama, sae):
    with pytest.raises(MismatchError, match="the index is of another model"):
        sk.load_index(index.path).search(prompt="a", model=llama, sae=sae)


def test_text_of_tokens(index, model):
    begin, stop, (text, spans) = next(index.texts())
    assert (begin, stop) == (1, int(index.windows.lengths[0]))
    assert text == model.decode(index.windows.tokens[0, begin:stop])
    assert [text[a:b] for a, b in spans.tolist()] == index.token_strings(range(begin, stop))
    assert torch.equal(index.windows.tokens[0, :2], torch.tensor([model.bos_id, index.windows.tokens[0, 1]]))
