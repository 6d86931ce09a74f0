"""Every function leaves out the same tokens: special ones and attention sinks, also when the SAE stores no filter.

The model has a sink of known place: the letter "f" has an embedding a thousand times as long as any other, and so has
its activation. Each function runs on an SAE without a token filter while all that reaches the SAE or an edit is
watched, and again with the filter stored that `resolve_token_filter` finds; the results are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import saekit as sk
from conftest import HOOK, tiny_llama, tiny_sae, tiny_texts
from saekit.activations import default_token_filter
from saekit.errors import ConfigError, DataError
from saekit.evaluation import fidelity
from saekit.steering.direction_edits import AddDirection, ProjectOut
from saekit.steering.feature_edits import FeatureEdit
from saekit.steering.readout import TextSample, cost

SINK = "f"
PROMPT = "fog of the bay"
LATER, MLP_IN, MLP_OUT = "blocks.1.hook_resid_post", "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"
FAST = {"progress": False, "length": 32}


def with_sink(model: Any) -> Any:
    """The model with one ordinary letter whose activation is a thousand times as long as the others'."""
    [embedding] = [w for name, w in model.bridge.original_model.named_parameters() if "embed_tokens" in name]
    with torch.no_grad():
        embedding[model.tokenize(SINK, bos=False)[0]] *= 1000
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return with_sink(tiny_llama())


@dataclass(frozen=True)
class World:
    """What the functions need beside model and SAE."""

    model: Any
    folder: Path
    corpus: sk.Corpus
    index: sk.FeatureIndex

    def sae(self, token_filter: sk.TokenFilter | None) -> Any:
        sae = tiny_sae(self.model)
        sae.config = sae.config.replace(token_filter=token_filter)
        return sae


@pytest.fixture(scope="module")
def world(model: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("everywhere")
    corpus = sk.load_corpus(tiny_texts(24), name="tiny")
    sae = tiny_sae(model)
    sae.config = sae.config.replace(token_filter=default_token_filter(model, HOOK))
    index = sk.build_index(model, sae, corpus, out=folder / "index", **FAST)
    return World(model, folder, corpus, index)


def read_index(index: sk.FeatureIndex) -> Any:
    special_or_sink = {*index.model.special_ids, *index.model.tokenize(SINK, bos=False)}
    assert not special_or_sink & set(index.windows.tokens.flatten()[torch.as_tensor(index.kept)].tolist())
    return index.features["max"].tolist(), list(index.kept), index.manifest["token_filter"]


def evaluated(w: World, sae: Any) -> Any:
    e = sk.evaluate(w.model, sae, w.corpus, **FAST)
    return e.n_tokens, e.l0, e.explained_variance, e.ce_loss_recovered, e.ce_loss_recovered_everywhere, e.kl


def indexed(w: World, sae: Any, tmp: Path) -> Any:
    return read_index(sk.build_index(w.model, sae, w.corpus, out=tmp, **FAST))


def indexed_from_cache(w: World, sae: Any, tmp: Path) -> Any:
    """A cache that holds every token but the special ones, when the SAE says nothing of its filter."""
    special = sk.TokenFilter(special_ids=tuple(sorted(w.model.special_ids)))
    kept = sae.config.token_filter or special
    cache = sk.cache_activations(w.model, w.corpus, HOOK, tmp / "cache", token_filter=kept, **FAST)
    return read_index(sk.build_index(w.model, sae, cache, out=tmp / "index", progress=False))


def searched(w: World, sae: Any, tmp: Path) -> Any:
    index = sk.build_index(w.model, sae, w.corpus.take(4), out=tmp, **FAST)
    found = index.search(prompt=PROMPT)
    assert SINK not in set(found["token"])
    return found.drop(columns="promoted").to_csv()


def probed(w: World, sae: Any) -> Any:
    found = sk.sparse_probing(w.model, sae, w.corpus, label="style", ks=(1,), min_each=4, **FAST)
    return found.to_frame().to_csv()


def perturbed(w: World, sae: Any) -> Any:
    fields = {"label": "style", "ns": (1, 4), "min_each": 4}
    return np.nan_to_num(sk.targeted_probe_perturbation(w.model, sae, w.corpus, **fields, **FAST).drop).tolist()


def removed(w: World, sae: Any) -> Any:
    rows = [
        {"text": t, "a": a, "b": b} for t in ("cat of", "mat", "fog", "red") for a in (True, False) for b in ("x", "y")
    ]
    fields = {"wanted": "a", "spurious": {"b": "y"}, "ns": (1, 2)}
    return sk.spurious_correlation_removal(w.model, sae, sk.load_corpus(rows), **fields, **FAST).to_frame().to_csv()


def absorbed(w: World, sae: Any) -> Any:
    """Words that end in the sink are left out, since they are read at their last token."""
    words = [a + b + c for a in "cd" for b in "aeiou" for c in "gatp"]
    found = [
        sk.feature_absorption(w.model, sae, words=[*words, *more], progress=False) for more in ([], ["caf", "dof"])
    ]
    assert not found[0].notes and "2 words are left out" in found[1].notes[0]
    return found[1].table.to_csv()


def ablated(w: World, sae: Any) -> Any:
    fields = {"n_tokens": 6, "n_features": 2, "n_following": 4}
    return sk.ablation_sparsity(w.model, sae, w.corpus, **fields, **FAST).table.to_csv()


def highlighted(w: World, sae: Any) -> Any:
    shown = sk.highlight(w.model, sae, PROMPT)
    wanted = {"<bos>": "special token", SINK: "attention sink"}
    assert shown.excluded == [wanted.get(token, "") for token in shown.tokens]
    return shown.to_frame().to_csv()


def edits_of(w: World, sae: Any) -> list[Any]:
    direction = sk.Direction(w.index.sae.W_dec[5], hook_name=HOOK, token_filter=sae.config.token_filter)
    return [sk.clamp(sae, {3: 0.5}, unit="norm"), sk.add_direction(direction, 0.3), sk.project_out(direction)]


def generated(w: World, sae: Any) -> Any:
    """With and without a key-value cache, prompts of different lengths in one batch."""
    prompts = [PROMPT, "the cat sat on fog"]
    texts = [
        sk.generate(w.model, prompts, edits=edits_of(w, sae), max_new_tokens=12, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert [t.tokens for t in texts[0]] == [t.tokens for t in texts[1]]
    return [t.tokens for t in texts[0]]


def streamed(w: World, sae: Any) -> Any:
    return [t.token for t in sk.stream(w.model, PROMPT, edits=edits_of(w, sae), max_new_tokens=6)]


def steered(w: World, sae: Any) -> Any:
    """A steered model in saekit, in TransformerLens code, and as the model of other functions."""
    tokens = torch.tensor([w.model.tokenize(PROMPT)])
    calm = sk.steered(w.model, edits_of(w, sae))
    special_or_sink = torch.isin(tokens[0], torch.tensor([*w.model.special_ids, *w.model.tokenize(SINK, bos=False)]))
    changed = (calm.activations(tokens, HOOK) != w.model.activations(tokens, HOOK)).any(-1)[0]
    assert torch.equal(changed, ~special_or_sink)
    with calm:
        logits = w.model.bridge(tokens)
    assert sk.resolve_token_filter(calm, sae) == sk.resolve_token_filter(w.model, sae)
    return logits.tolist(), sk.generate(calm, PROMPT, max_new_tokens=4).tokens


def scored(w: World, sae: Any) -> Any:
    fields = {"starts": [("Who of you?", "I feel")], "progress": False}
    scores = sk.word_effects(w.model, sae, [3, 7], [" gate"], **fields)
    found = sk.steering_features(w.model, sae, w.index, sk.Concept.regex("gate"), [" gate"], n=2, **fields)
    return scores.to_csv(), found.to_csv()


def costed(w: World, sae: Any) -> Any:
    ids, new = tuple(w.model.tokenize("the cat")), tuple(w.model.tokenize(" of fog", bos=False))
    [found] = cost(w.model, sae, [TextSample(ids, ids, new, tuple(edits_of(w, sae)))])
    return found.nll, found.kl, found.profile.tolist()


def studied(w: World, sae: Any) -> Any:
    fields = {"controls": 1, "max_new_tokens": 4, "costs": True, "progress": False}
    return (
        sk.dose_response(w.model, sae, 3, [PROMPT, "a mat"], sk.Concept.regex("g"), [0.5], **fields).to_frame().to_csv()
    )


def direction_found(w: World, sae: Any) -> Any:
    found = sk.mean_difference(w.model, sae, w.index, sk.Concept.regex("gate"), progress=False)
    assert found.vectors.norm() < found.token_filter.max_norm
    return found.to_dict()


def panel(w: World, sae: Any) -> Any:
    shown = sk.steer(w.model, sae, 3, prompt="fffff a fffff", chat=False, max_new_tokens=4)
    assert 0 < shown.residual_norm < sk.resolve_token_filter(w.model, sae).max_norm
    shown.run(wait=True)
    return shown.residual_norm, shown.texts


FUNCTIONS: list[Callable[..., Any]] = [
    evaluated,
    indexed,
    indexed_from_cache,
    searched,
    probed,
    perturbed,
    removed,
    absorbed,
    ablated,
    highlighted,
    generated,
    streamed,
    steered,
    scored,
    costed,
    studied,
    direction_found,
    panel,
]


@pytest.fixture
def watched(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the activations that reach an SAE or an edit, and fails at one of a sink or of BOS.

    `evaluate` also measures the SAE at every position; what it gives the SAE for that is not counted.
    """
    bos = model.activations([[model.bos_id]], HOOK)[0]
    seen, on_purpose = [0], [False]
    at_every = fidelity._at_every

    def unwatched(*args: Any) -> Tensor:
        on_purpose[0] = True
        out = at_every(*args)
        on_purpose[0] = False
        return out

    monkeypatch.setattr(fidelity, "_at_every", unwatched)

    def watch(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def checked(self: Any, x: Tensor, *rest: Any, **options: Any) -> Any:
            rows = x.detach().reshape(-1, x.shape[-1]).float()
            if rows.shape[-1] == bos.shape[-1] and not on_purpose[0]:
                seen[0] += len(rows)
                assert not (rows.norm(dim=1) > 300).any(), f"an attention sink reaches {owner.__name__}.{name}"
                assert not (rows - bos).norm(dim=1).lt(1e-3).any(), f"BOS reaches {owner.__name__}.{name}"
            return real(self, x, *rest, **options)

        monkeypatch.setattr(owner, name, checked)

    for name in ("encode", "encode_sparse", "encode_features"):
        watch(sk.SAE, name)
    watch(FeatureEdit, "delta")
    watch(AddDirection, "delta")
    watch(ProjectOut, "delta")
    yield seen


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_function_leaves_out_the_same_tokens(
    world: World, watched: list[int], function: Callable[..., Any], tmp_path: Path
) -> None:
    resolved = sk.resolve_token_filter(world.model, world.sae(None))
    more = [[tmp_path / "none"], [tmp_path / "stored"]] if function.__code__.co_argcount == 3 else [[], []]
    without = function(world, world.sae(None), *more[0])
    assert watched[0] > 0 or function is direction_found
    assert without == function(world, world.sae(resolved), *more[1])


def test_the_default_keeps_all_but_special_tokens_and_sinks(world: World, model: Any, llama: Any) -> None:
    for name in (HOOK, LATER, MLP_OUT, "blocks.1.attn.hook_z"):
        windows = sk.tokenize(world.corpus, llama, length=32)
        tokens, mask, _ = next(windows.batches(64))
        ordinary = mask.bool() & ~torch.isin(tokens, torch.tensor(sorted(llama.special_ids)))
        kept = default_token_filter(llama, name).keep(tokens, llama.activations(tokens, name))
        assert kept[ordinary].float().mean() > 0.99, f"{name}: no token of this model is a sink"
    found = default_token_filter(model, HOOK)
    sink = tokens == model.tokenize(SINK, bos=False)[0]
    assert torch.equal(found.keep(tokens, model.activations(tokens, HOOK)), ordinary & ~sink & mask.bool())
    assert found.special_ids == tuple(sorted(model.special_ids))


def test_the_default_is_found_once_and_does_not_depend_on_text_or_edits(
    world: World, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saekit.activations import token_filter as room

    asked: list[Any] = []
    real = room._fitted
    monkeypatch.setattr(room, "_DEFAULTS", {})
    monkeypatch.setattr(room, "_fitted", lambda m, w, hook: asked.append(hook) or real(m, w, hook))
    first = default_token_filter(model, HOOK)
    both = default_token_filter(model, (HOOK, LATER))
    assert asked == [(HOOK,), (LATER,)] and both.split([32, 32]) == [first, default_token_filter(model, LATER)]
    huge = sk.add(world.sae(first), {3: 1e4})
    monkeypatch.setattr(room, "_DEFAULTS", {})
    with sk.steered(model, huge) as calm:
        assert default_token_filter(calm, HOOK) == first
        assert default_token_filter(model, HOOK).max_norm > 10 * first.max_norm
        assert not room._DEFAULTS, "what hooks have changed is not remembered"
    assert default_token_filter(model, HOOK) == first


def test_the_hook_points_of_transcoders_and_crosscoders_are_all_judged(model: Any) -> None:
    fields = {"d_sae": 64, "activation": "topk", "k": 4, "model_name": model.name}
    transcoder = sk.SAE(sk.SAEConfig(d_in=32, hook_name=MLP_IN, hook_out=MLP_OUT, **fields))
    crosscoder = sk.SAE(sk.SAEConfig(d_in=64, hook_name=(HOOK, LATER), **fields))
    assert sk.resolve_token_filter(model, transcoder) == default_token_filter(model, (MLP_IN, MLP_OUT))
    assert sk.resolve_token_filter(model, transcoder).of_input(32) == default_token_filter(model, MLP_IN)
    assert sk.resolve_token_filter(model, crosscoder).of_input(64) == default_token_filter(model, (HOOK, LATER))
    shown = sk.highlight(model, crosscoder, PROMPT)
    assert [bool(reason) for reason in shown.excluded] == [token in ("<bos>", SINK) for token in shown.tokens]
    unknown = sk.SAE(sk.SAEConfig(d_in=32, **fields))
    with pytest.raises(ConfigError, match="does not name the hook point"):
        sk.resolve_token_filter(model, unknown)
    assert sk.resolve_token_filter(model, unknown, HOOK) == default_token_filter(model, HOOK)


@pytest.mark.slow
def test_a_model_that_cannot_read_the_sample_gets_a_filter_from_random_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from saekit.activations import token_filter as room

    monkeypatch.setattr(room, "_DEFAULTS", {})
    model = with_sink(tiny_llama(seed=1))
    sink = model.tokenize(SINK, bos=False)[0]
    known = default_token_filter(model, HOOK)
    special = frozenset(range(4, 99)) - {sink}  # as is all of the sample
    monkeypatch.setitem(model.__dict__, "facts", dataclasses.replace(model.facts, special_ids=special))
    odd = default_token_filter(model, HOOK)
    monkeypatch.setattr(model.bridge, "tokenizer", None)
    monkeypatch.setattr(model, "_tokenizer", None)
    monkeypatch.delitem(model.__dict__, "facts")
    bare = default_token_filter(model, HOOK)
    with pytest.raises(DataError, match="has no tokenizer"):
        model.tokenize("a")
    assert odd.special_ids == tuple(sorted(set(range(4, 99)) - {sink})) and bare.special_ids == ()
    for found in (odd, bare):
        assert 0.5 < found.max_norm / known.max_norm < 2
        assert not found.keep(torch.tensor([[sink]]), model.activations([[sink]], HOOK))


def test_a_cache_keeps_what_it_left_out(world: World, tmp_path: Path) -> None:
    """An SAE without a filter on a cache made with a stricter one: neither the cache's nor the default's are
    counted."""
    resolved = sk.resolve_token_filter(world.model, world.sae(None))
    letter = world.model.tokenize("a", bos=False)[0]
    strict = sk.TokenFilter(special_ids=(*resolved.special_ids, letter))
    cache = sk.cache_activations(world.model, world.corpus, HOOK, tmp_path / "cache", token_filter=strict, **FAST)
    index = sk.build_index(world.model, world.sae(None), cache, out=tmp_path / "index", progress=False)
    assert sk.TokenFilter.from_dict(index.manifest["token_filter"]) == sk.TokenFilter.strictest([resolved, strict])
    tokens = index.windows.tokens.flatten()[torch.as_tensor(index.kept)].tolist()
    assert not {letter, *world.model.tokenize(SINK, bos=False)} & set(tokens)
