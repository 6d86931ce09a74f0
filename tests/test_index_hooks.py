"""Indexes, highlights and edits of transcoders and crosscoders."""

from __future__ import annotations

import numpy as np
import pytest

import saekit as sk
from saekit.errors import MismatchError

LENGTH = 32
A, B = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
MLP_IN, MLP_OUT, WIDE = "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out", "blocks.1.mlp.hook_post"


def make_sae(model, **fields):
    special = tuple(sorted(model.special_ids))
    fields = {"d_in": 32, "d_sae": 64, "activation": "topk", "k": 4, **fields}
    sae = sk.SAE(sk.SAEConfig(model_name=model.name, **fields))
    if sae.config.token_filter is None:
        widths = [model.hook_width(h) for h in sae.config.hook_name] if sae.config.is_crosscoder else [32, 32]
        sae.config = sae.config.replace(
            token_filter=sk.TokenFilter(special_ids=special, blocks=tuple((w, 9.0) for w in widths))
        )
    return sae.requires_grad_(False)


KINDS = {
    "transcoder": {"hook_name": MLP_IN, "hook_out": MLP_OUT},
    "transcoder with skip": {"hook_name": MLP_IN, "hook_out": MLP_OUT, "skip": True},
    "transcoder to another width": {"hook_name": MLP_IN, "hook_out": WIDE, "d_out": 64},
    "crosscoder": {"hook_name": (WIDE, A, B), "d_in": 128},
    "crosscoder that ends elsewhere": {"hook_name": (A, WIDE), "d_in": 96},
}


def build(model, sae, corpus, out, **fields):
    return sk.build_index(model, sae, corpus, out=out, n_top=3, n_per_bin=1, progress=False, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_of_what_is_read_and_its_effects_of_what_is_written(model, corpus, tmp_path, kind):
    sae = make_sae(model, **KINDS[kind])
    build(model, sae, corpus, tmp_path / "index", length=LENGTH)
    index = sk.load_index(tmp_path / "index")
    assert index.hook_name == sae.config.hook_name
    windows = sk.tokenize(corpus, model, length=LENGTH)
    for w, n in enumerate(windows.lengths.tolist()):
        ids = windows.tokens[w, :n]
        x = model.activations(ids.tolist(), sae.config.hook_name)[0]
        acts = sae.encode(x).numpy() * np.array([[int(i) not in model.special_ids] for i in ids])
        for p in range(0, n, 5):
            feature, value = index.at(w * LENGTH + p)
            assert feature.tolist() == acts[p].nonzero()[0].tolist()
            np.testing.assert_allclose(value, acts[p, feature], rtol=1e-4, atol=1e-5)
    if kind in ("transcoder to another width", "crosscoder that ends elsewhere"):
        assert index.features["promoted"][3] == []
    else:
        written = sae.W_dec[:, -32:]
        effects = written @ model.unembedding()
        effects = effects - effects.mean(1, keepdim=True)
        assert index.features["promoted"][3] == model.token_strings(effects[3].topk(10).indices)
        token = model.token_strings([7])[0]
        found = index.search(token=token, model=model, sae=sae, n=2)
        assert found["feature"].tolist() == effects[:, 7].topk(2).indices.tolist()
    best = index.search(prompt="the golden gate", model=model, sae=sae, n=3)
    ids = model.tokenize("the golden gate")
    peak = sae.encode(model.activations(ids, sae.config.hook_name)[0][1:]).amax(0)
    assert best["feature"].tolist() == peak.topk(3).indices.tolist()
    assert (
        build(model, sae, corpus, tmp_path / "index", length=LENGTH).n_firings == index.n_firings
    )  # opened, not built


@pytest.mark.parametrize("kind", ["transcoder with skip", "crosscoder"])
def test_highlight_and_explore_work(model, corpus, tmp_path, kind):
    sae = make_sae(model, **KINDS[kind])
    index = build(model, sae, corpus.take(8), tmp_path / "index", length=LENGTH)
    widget = sk.highlight(model, sae, "a cat", index=index)
    x = model.activations(model.tokenize("a cat"), sae.config.hook_name)[0]
    widget.selected = 3
    assert set(widget.strongest["feature"]) == set(sae.encode(x[3]).nonzero().flatten().tolist())
    browser = sk.explore(index, model=model, sae=sae, sort="max", page_size=5)
    assert browser.rows.index[0] == int(index.features["max"].idxmax())
    assert f"at {', '.join(KINDS[kind]['hook_name']) if kind == 'crosscoder' else MLP_IN} of" in repr(index)


def test_a_cache_of_more_hook_points_gives_the_same_index(model, corpus, tmp_path):
    token_filter = sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)))
    cache = sk.cache_activations(
        model, corpus, (A, MLP_IN, WIDE, B), tmp_path / "acts", token_filter=token_filter, length=LENGTH, progress=False
    )
    for n, kind in enumerate(("transcoder", "crosscoder")):
        blocks = tuple(
            (model.hook_width(h), None) for h in ((WIDE, A, B) if kind == "crosscoder" else (MLP_IN, MLP_OUT))
        )
        both = sk.TokenFilter(special_ids=token_filter.special_ids, blocks=blocks)
        sae = make_sae(model, **KINDS[kind], token_filter=both)
        from_cache = build(model, sae, cache, tmp_path / f"{n}-cache")
        from_text = build(model, sae, corpus, tmp_path / f"{n}-text", length=LENGTH)
        assert from_cache.kept.tolist() == from_text.kept.tolist()
        assert abs(from_cache.matrix - from_text.matrix).max() < 1e-4
        assert from_cache.manifest["token_filter"] == (token_filter if kind == "transcoder" else both).to_dict()
    with pytest.raises(MismatchError, match=rf"of another hook point\n.*{B}"):
        build(model, make_sae(model, hook_name=B, token_filter=token_filter), cache.at(A), tmp_path / "none")
    with pytest.raises(MismatchError, match="left out other tokens"):
        build(model, make_sae(model, **KINDS["transcoder"]), cache, tmp_path / "none")


@pytest.mark.parametrize(("kind", "named"), [("transcoder", rf"{MLP_IN}, writes {MLP_OUT}"), ("crosscoder", A)])
def test_edits_refuse_them(model, kind, named):
    sae = make_sae(model, **KINDS[kind])
    what = f"a {kind} cannot be edited with\n.*{named}[\\s\\S]*reads and writes one and the same hook point"
    for edit in (
        lambda: sk.clamp(sae, {3: 1.0}),
        lambda: sk.ablate(sae, 3),
        lambda: sk.add(sae, {3: 1.0}),
        lambda: sk.scale(sae, {3: 2.0}),
    ):
        with pytest.raises(MismatchError, match=what):
            edit()
