"""Building an index on the tiny model, and every stored number against a slow dense computation."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch
from tqdm import tqdm

import saekit as sk
from conftest import HOOK, tiny_config
from saekit.corpus import Corpus
from saekit.errors import ConfigError, ContextLengthError, DataError, MismatchError, UnknownNameError
from saekit.index import parts
from saekit.index.directions import writes_to_residual

LENGTH = 32


@pytest.fixture(scope="module")
def sae(model):
    sae = sk.SAE(tiny_config(model))
    with torch.no_grad():
        sae.b_enc[7] = -1e4  # a silent feature
        sae.b_enc[9] = 30.0  # one that is always on
    return sae


@pytest.fixture(scope="module")
def index(model, sae, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "tiny"
    sk.build_index(model, sae, corpus, out=out, length=LENGTH, n_top=6, n_per_bin=2, progress=False)
    return sk.load_index(out)


@pytest.fixture(scope="module")
def dense(model, sae, corpus):
    """Activations [windows, pos, d_sae] one window at a time, and whether each token counts."""
    windows = sk.tokenize(corpus, model, length=LENGTH)
    acts = torch.zeros(len(windows), LENGTH, 64)
    counts = torch.zeros(len(windows), LENGTH, dtype=torch.bool)
    with torch.inference_mode():
        for w, n in enumerate(windows.lengths.tolist()):
            ids = windows.tokens[w, :n].tolist()
            acts[w, :n] = sae.encode(model.activations(ids, HOOK)[0])
            for p, token in enumerate(ids):
                counts[w, p] = token not in model.special_ids
    return windows, acts * counts[..., None], counts


def test_the_tokens_are_those_of_the_corpus(index, dense):
    windows, _, counts = dense
    assert torch.equal(index.windows.tokens, windows.tokens) and index.n_windows == len(windows)
    assert index.kept.tolist() == counts.flatten().nonzero().flatten().tolist()
    assert index.n_tokens == int(counts.sum()) and index.n_documents == 40
    assert index.documents["topic"].tolist() == ["bridge" if i % 4 == 0 else "other" for i in range(40)]


def test_activations_by_feature_and_by_token_are_the_dense_ones(index, dense):
    _, acts, _ = dense
    flat = acts.reshape(-1, 64)
    for i in range(64):
        position, value = index.firings(i)
        assert position.tolist() == flat[:, i].nonzero().flatten().tolist()
        np.testing.assert_allclose(value, flat[position, i], rtol=1e-4, atol=1e-5)
    for position in range(0, len(flat), 7):
        feature, value = index.at(position)
        assert feature.tolist() == flat[position].nonzero().flatten().tolist()
        np.testing.assert_allclose(value, flat[position, feature], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(index.matrix.toarray() != 0, (flat[index.kept] != 0).numpy())


def test_the_table_of_features_is_the_dense_one(index, dense, model, sae):
    windows, acts, counts = dense
    flat, document = acts.reshape(-1, 64)[counts.flatten()], windows.documents.flatten()[counts.flatten()]
    effects = sae.W_dec @ model.unembedding()
    effects = effects - effects.mean(1, keepdim=True)
    unit = torch.nn.functional.normalize(sae.W_dec.detach())
    cosine = unit @ unit.T
    cosine.fill_diagonal_(-2)
    table = index.features
    assert table.index.name == "feature" and len(table) == 64
    for i in range(64):
        value = flat[flat[:, i] > 0, i].double()
        row = table.loc[i]
        assert row["n_firings"] == len(value) and row["density"] == pytest.approx(len(value) / len(flat))
        assert row["n_documents"] == len(set(document[flat[:, i] > 0].tolist()))
        assert row["silent"] == (len(value) == 0)
        if len(value):
            assert row["max"] == pytest.approx(float(value.max()), rel=1e-4)
            assert row["mean"] == pytest.approx(float(value.mean()), rel=1e-4)
            assert row["std"] == pytest.approx(float(value.std(correction=0)), rel=1e-3, abs=1e-5)
        assert row["promoted"] == model.token_strings(effects[i].topk(10).indices)
        assert row["suppressed"] == model.token_strings((-effects[i]).topk(10).indices)
        assert row["nearest"] == int(cosine[i].argmax())
        assert row["nearest_cosine"] == pytest.approx(float(cosine[i].max()), abs=1e-5)
    assert table["silent"][7] and table["max"][7] == 0 and table["density"][9] == 1


def test_a_record_is_the_dense_one(index, dense):
    windows, acts, _ = dense
    for i in (9, 20, 33):
        record = index.feature(i)
        a = acts[:, :, i]
        best, seen = [], set()
        for value, w in sorted(((float(a[w].max()), w) for w in range(len(a)) if a[w].max() > 0), key=lambda p: -p[0]):
            pos = int(a[w].argmax())
            ending = tuple(windows.tokens[w, max(0, pos - 7) : pos + 1].tolist())
            best += [] if ending in seen else [(value, w)]
            seen.add(ending)
        best = best[:6]
        assert [c.activation for c in record.top] == pytest.approx([v for v, _ in best], rel=1e-4)
        for c in record.top:
            assert float(a[c.window, c.pos]) == pytest.approx(c.activation, rel=1e-4)
            n = int(windows.lengths[c.window])
            assert c.start + len(c.tokens) <= n and len(c.tokens) == len(c.acts)
            np.testing.assert_allclose(c.acts, a[c.window, c.start : c.start + len(c.acts)], rtol=1e-4, atol=1e-5)
            assert c.acts[c.centre] == c.activation == max(c.acts[c.centre], c.activation)
            assert c.document == int(windows.documents[c.window, c.pos])
            assert c.labels["topic"] == ("bridge" if c.document % 4 == 0 else "other")
        counts = [b.count for b in record.bins]
        expected = np.histogram(a[a > 0], bins=10, range=(0, float(a.max())))[0]
        assert counts == expected.tolist() and sum(counts) == record.stats["n_firings"] == record.histogram.counts.sum()
        assert record.bins[9].high == pytest.approx(record.max)
        for b in record.bins:
            assert len(b.contexts) <= 2 and (b.count == 0) == (len(b.contexts) == 0)
            assert all(b.low < c.activation <= b.high * (1 + 1e-6) for c in b.contexts)


def test_contexts_show_the_asked_number_of_tokens(index, dense):
    windows, _, _ = dense
    for c in index.feature(9, before=3, after=2).top:
        n = int(windows.lengths[c.window])
        assert c.start == max(0, c.pos - 3) and c.start + len(c.tokens) == min(n, c.pos + 3)
        assert f"[{c.tokens[c.centre]}]" in c.text


def test_a_card_reads_well(index):
    lines = str(index.feature(9)).splitlines()
    assert lines[0].startswith(f"feature 9: {index.name(9)}   (") and lines[0].endswith("% of its activation)")
    assert lines[1].startswith("  promotes") and "density 100.0000%" in lines[2]
    assert f"{index.feature(9).neighbours[0][0]} {index.name(index.feature(9).neighbours[0][0])}" in str(lines)
    assert any(line.startswith("  promotes") for line in lines)
    assert sum("[" in line for line in lines if not line.startswith("  prom")) >= 6
    assert "silent: never fired" in str(index.feature(7))
    assert len(index.feature(7).bins) == 10 and index.feature(7).top == []
    frame = index.feature(9).to_frame()
    assert {"bin", "activation", "text", "topic"} <= set(frame.columns) and (frame["bin"] == -1).sum() == 6
    assert "64 features (1 silent here)" in repr(index)
    assert index.feature(9).plot().data and index.plot().data


def test_loading_reads_next_to_nothing(index, monkeypatch):
    from saekit.index.store import Store

    fresh = sk.load_index(index.path)
    monkeypatch.setattr(Store, "tensors", lambda *a: pytest.fail("read an array"))
    monkeypatch.setattr(Store, "frame", lambda *a: pytest.fail("read a table"))
    assert fresh.d_sae == 64 and fresh.n_tokens == index.n_tokens
    assert sk.load_index(index.path).sae_fingerprint == index.sae_fingerprint


@pytest.mark.parametrize("bad", [-1, 64, 5.0, True, "3"])
def test_an_unknown_feature_is_refused(index, bad):
    with pytest.raises(UnknownNameError, match=r"no feature .*\n.*\n.*from 0 to 63"):
        index.feature(bad)
    with pytest.raises(UnknownNameError, match="no feature"):
        index.firings(bad)


def test_positions_outside_the_windows_are_refused(index):
    with pytest.raises(UnknownNameError, match="no token at position"):
        index.at(index.n_windows * LENGTH)
    assert len(index.at(0).feature) == 0  # BOS is not evaluated


def test_any_token_can_be_shown_as_a_context(index, dense):
    windows, acts, _ = dense
    c = index.context(9, 5, before=2, after=1)
    assert (c.window, c.pos, c.start, c.centre) == (0, 5, 3, 2) and c.tokens == index.token_strings(range(3, 7))
    np.testing.assert_allclose(c.acts, acts[0, 3:7, 9], rtol=1e-4)
    window = int((windows.lengths < LENGTH).nonzero()[0])
    with pytest.raises(UnknownNameError, match="it is padding"):
        index.context(9, window * LENGTH + int(windows.lengths[window]))


def test_windows_and_caches_give_the_same_index(index, model, sae, corpus, tmp_path):
    windows = sk.tokenize(corpus, model, length=LENGTH)
    cache = sk.cache_activations(
        model, corpus, HOOK, tmp_path / "acts", token_filter=sae.config.token_filter, length=LENGTH, progress=False
    )
    for name, source in (("windows", windows), ("cache", cache)):
        other = sk.build_index(model, sae, source, out=tmp_path / name, n_top=6, n_per_bin=2, progress=False)
        assert other.kept.tolist() == index.kept.tolist()
        assert (other.matrix != 0).nnz == index.n_firings and abs(other.matrix - index.matrix).max() < 1e-4
        assert other.documents["topic"].tolist() == index.documents["topic"].tolist()


def test_a_cache_with_another_token_filter_is_refused(model, sae, corpus, tmp_path):
    cache = sk.cache_activations(
        model, corpus, HOOK, tmp_path / "cache", token_filter=sk.TokenFilter(), length=LENGTH, progress=False
    )
    with pytest.raises(MismatchError, match="left out other tokens"):
        sk.build_index(model, sae, cache, out=tmp_path / "index", progress=False)


def test_packed_windows_keep_documents_apart(model, sae, corpus, tmp_path):
    windows = sk.tokenize(corpus, model, length=LENGTH, pack=True)
    index = sk.build_index(model, sae, windows, out=tmp_path / "index", progress=False)
    document = windows.documents.flatten().numpy()
    for i in (9, 20):
        assert index.features["n_documents"][i] == len(set(document[index.firings(i).position].tolist()))


def test_an_sae_without_a_token_filter_gets_the_default_one(model, corpus, tmp_path):
    sae = sk.SAE(tiny_config(model, token_filter=None))
    index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=LENGTH, progress=False)
    tokens = index.windows.tokens.flatten().numpy()[index.kept]
    assert not set(tokens.tolist()) & model.special_ids
    assert index.manifest["token_filter"]["max_norm"] > 0


def test_an_sae_that_does_not_know_its_hook_needs_one(model, corpus, tmp_path):
    sae = sk.SAE(tiny_config(model, hook_name=None))
    with pytest.raises(ConfigError, match="does not name the hook point"):
        sk.build_index(model, sae, corpus, out=tmp_path / "a", progress=False)
    with pytest.raises(UnknownNameError, match="unknown hook point"):
        sk.build_index(model, sae, corpus, out=tmp_path / "b", hook_name="blocks.0.hook_nothing", progress=False)
    built = sk.build_index(model, sae, corpus.take(4), out=tmp_path / "c", hook_name=HOOK, length=32, progress=False)
    assert built.hook_name == HOOK


def test_features_that_do_not_write_to_the_residual_stream_have_no_logit_effects(model, corpus, tmp_path):
    hook = "blocks.0.mlp.hook_post"
    sae = sk.SAE(tiny_config(model, d_in=model.hook_width(hook), hook_name=hook))
    index = sk.build_index(model, sae, corpus.take(4), out=tmp_path / "index", length=LENGTH, progress=False)
    assert index.features["promoted"][0] == [] and index.feature(0).promoted == []
    assert writes_to_residual("blocks.3.hook_resid_mid") and not writes_to_residual("blocks.3.attn.hook_z")


def test_another_models_sae_is_refused(model, corpus, tmp_path):
    with pytest.raises(MismatchError, match="another model"):
        sk.build_index(model, sk.SAE(tiny_config(model, model_name="gpt2")), corpus, out=tmp_path / "a", progress=False)
    with pytest.raises(MismatchError, match="weights prepared in another way"):
        other = sk.SAE(tiny_config(model, weight_processing="compatibility"))
        sk.build_index(model, other, corpus, out=tmp_path / "b", progress=False)
    with pytest.raises(MismatchError, match="another hook point"):
        sk.build_index(
            model,
            sk.SAE(tiny_config(model)),
            corpus,
            out=tmp_path / "c",
            hook_name="blocks.1.hook_resid_post",
            progress=False,
        )
    assert not list(tmp_path.iterdir())


def test_an_empty_corpus_and_other_things_are_refused(model, sae, corpus, tmp_path):
    with pytest.raises(DataError, match="holds no token"):
        sk.build_index(model, sae, sk.load_corpus([""]), out=tmp_path / "a", length=32, progress=False)
    with pytest.raises(DataError, match="no token of the corpus counts"):
        sk.build_index(model, sae, sk.load_corpus(["<bos><eos>"]), out=tmp_path / "b", length=32, progress=False)
    with pytest.raises(DataError, match="nothing to index"):
        windows = sk.tokenize(corpus, model, length=LENGTH)
        sk.build_index(model, sae, windows.select(slice(0)), out=tmp_path / "c", progress=False)
    with pytest.raises(ContextLengthError, match="windows of 128 tokens"):
        sk.build_index(model, sae, corpus, out=tmp_path / "f", progress=False)
    sk.build_index(model, sae, corpus.take(2), out=tmp_path / "f", length=32, progress=False)  # nothing was left behind
    with pytest.raises(DataError, match="not a corpus"):
        sk.build_index(model, sae, 7, out=tmp_path / "d", progress=False)
    with pytest.raises(ConfigError, match="n_top is not positive"):
        sk.build_index(model, sae, corpus, out=tmp_path / "e", n_top=0, progress=False)


def test_nan_activations_are_reported(model, sae, corpus, tmp_path, monkeypatch):
    real = type(model).activations

    def broken(self, tokens, hook_name, attention_mask=None):
        x = real(self, tokens, hook_name, attention_mask).clone()
        x[0, 3, 0] = float("nan")
        return x

    monkeypatch.setattr(type(model), "activations", broken)
    with pytest.raises(DataError, match="not finite in window 0"):
        sk.build_index(model, sae, corpus.take(2), out=tmp_path / "a", length=LENGTH, progress=False)


def test_matched_features_are_near_in_density_and_maximum(index):
    table = index.features
    live = table[~table["silent"]]
    matched = index.matched_features(20, n=8, seed=1)
    assert len(set(matched)) == 8 and 20 not in matched and 7 not in matched
    assert matched == index.matched_features(20, n=8, seed=1) != index.matched_features(20, n=8, seed=2)
    z = np.log(live[["density", "max"]])
    far = ((z - z.loc[20]) / z.std(ddof=0)).pow(2).sum(axis=1).drop(20).sort_values().index[36:]
    assert not set(matched) & set(far)
    with pytest.raises(DataError, match="feature 7 is silent"):
        index.matched_features(7)
    with pytest.raises(ConfigError, match="not that many features"):
        index.matched_features(20, n=64)


def test_progress_has_a_rate_a_time_left_and_names_for_what_follows(model, sae, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK_WINDOWS", 16)
    monkeypatch.setattr(parts, "tqdm", functools.partial(tqdm, mininterval=0, miniters=1))
    sk.build_index(model, sae, corpus, out=tmp_path / "index", length=LENGTH)
    shown = capsys.readouterr().err.split("\r")
    assert any(re.search(r" [1-9]\d%\|.*\d<\d.*tokens/s", line) for line in shown)
    for phase in ("joining parts", "statistics 100%", "neighbours 100%", "logit effects 100%", "finishing files"):
        assert any(phase in line for line in shown), phase


def test_how_many_tokens_there_will_be_is_known_or_guessed(model, corpus):
    windows, stream = sk.tokenize(corpus, model, length=LENGTH), Corpus(lambda: enumerate(corpus), name="stream")
    of_windows, of_corpus, of_stream = (parts.IndexInput(data, model, LENGTH) for data in (windows, corpus, stream))
    assert of_windows.n_tokens(0, 0) == windows.n_tokens
    assert of_corpus.n_tokens(0, 0) is None and of_corpus.n_tokens(500, 10) == 50 * len(corpus)
    assert of_stream.n_tokens(500, 10) is None


@pytest.mark.real
def test_the_default_model(default_model, tmp_path):
    """Text, tokens of split characters, chat and sinks as they really are."""
    hook, m = "blocks.15.hook_resid_post", default_model
    texts = [
        "The Golden Gate Bridge – 🌉 – spans the strait, naïvely said.",
        m.chat_prompt("Who built the Golden Gate Bridge?"),
    ]
    corpus = sk.load_corpus([*texts, *(f"There are {n} bridges in this story about a city." for n in range(6))])
    sae = sk.SAE(sk.SAEConfig(d_in=m.d_model, d_sae=256, activation="topk", k=8, hook_name=hook, model_name=m.name))
    index = sk.build_index(m, sae, corpus, out=tmp_path / "index", length=64, progress=False)
    assert not (index.kept % 64 == 0).any()  # the first position is a sink
    for row, text in enumerate(texts):
        shown = index.token_strings(range(row * 64, row * 64 + int(index.windows.lengths[row])))
        assert "".join(shown).endswith(text[-20:])
    assert len(set(index.search(text="golden gate bridge")["feature"])) >= 8
    best = index.search(prompt="A walk over the Golden Gate Bridge", n=3)
    assert (best["fraction_of_max"] > 0).all() and all(len(p) == 10 for p in best["promoted"])
    assert "[" in str(index.feature(int(best["feature"][0])))
