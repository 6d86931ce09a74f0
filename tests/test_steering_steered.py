"""A model that stays steered says and computes what its edits say, in saekit and in TransformerLens code."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, FileError, MismatchError
from saekit.steering.edit_hooks import apply_edits

LATER = "blocks.1.hook_resid_post"
PROMPTS = ["the cat", "a", "golden gate bridge in the fog"]


@pytest.fixture(scope="module")
def sae(llama: Any) -> Any:
    return tiny_sae(llama, activation="relu")


def edit_sets(sae: Any) -> dict[str, list[sk.Edit]]:
    direction = sk.Direction(sae.W_dec[9], hook_name=LATER, name="nine", token_filter=sae.config.token_filter)
    return {
        "one": [sk.clamp(sae, {3: 2.0}, unit="norm")],
        "two hook points": [sk.clamp(sae, {3: 1.5}, unit="norm"), sk.add_direction(direction, 1.5)],
        "generated": [sk.clamp(sae, {3: 3.0}, unit="norm", positions="generated")],
        "scheduled": [sk.clamp(sae, {3: 3.0}, unit="norm", schedule=sk.Schedule.linear({1: 1, 3: 0}))],
    }


def test_it_writes_what_generate_writes_under_its_edits(llama: Any, sae: Any) -> None:
    settings = {"max_new_tokens": 6, "temperature": 0.7, "seed": 3}
    plain = [g.tokens for g in sk.generate(llama, PROMPTS, **settings)]
    for name, edits in edit_sets(sae).items():
        expected = [g.tokens for g in sk.generate(llama, PROMPTS, edits=edits, **settings)]
        assert expected != plain, f"{name} has no effect"
        calm = sk.steered(llama, edits)
        for use_cache in (True, False):
            found = sk.generate(calm, PROMPTS, use_cache=use_cache, **settings)
            assert [g.tokens for g in found] == expected, (name, use_cache)
        assert tuple(t.token for t in sk.stream(calm, PROMPTS[0], **settings)) == expected[0]
        with calm:
            assert [g.tokens for g in sk.generate(calm, PROMPTS, **settings)] == expected, "and on its bridge just once"
        more = sk.ablate(sae, range(64))
        both = [g.tokens for g in sk.generate(llama, PROMPTS, edits=[*edits, more], **settings)]
        assert [g.tokens for g in sk.generate(calm, PROMPTS, edits=more, **settings)] == both
        assert [g.tokens for g in sk.generate(sk.steered(calm, more), PROMPTS, **settings)] == both
    assert [g.tokens for g in sk.generate(llama, PROMPTS, **settings)] == plain, "the model itself is as it was"


def test_activations_and_logits_are_the_edited_ones(llama: Any, sae: Any) -> None:
    edits = edit_sets(sae)["two hook points"]
    calm = sk.steered(llama, edits)
    tokens = torch.tensor([llama.tokenize(PROMPTS[2])])
    arrived = llama.activations(tokens, HOOK)
    torch.testing.assert_close(calm.activations(tokens, HOOK), apply_edits(arrived, edits[:1], tokens))
    hooks = [(e.hook_name, lambda x, e=e: apply_edits(x, [e], tokens)) for e in edits]
    expected = llama.forward(tokens, hooks=hooks)[0]
    torch.testing.assert_close(calm.forward(tokens)[0], expected)
    assert (calm.forward(tokens)[0] != llama.forward(tokens)[0]).any()
    seen = sk.highlight(calm, sae, "the cat")
    assert seen is not None and calm.activations(tokens, (HOOK, LATER)).shape[-1] == 64


def test_within_a_block_the_bridge_is_steered_and_afterwards_it_is_not(llama: Any, sae: Any) -> None:
    tokens = torch.tensor([llama.tokenize(PROMPTS[2])])
    n_hooks = {name: len(point.fwd_hooks) for name, point in llama.bridge.hook_dict.items()}
    plain = llama.bridge(tokens)
    for name in ("one", "two hook points"):
        calm = sk.steered(llama, edit_sets(sae)[name])
        expected = calm.forward(tokens)[0]
        with calm as same:
            assert same is calm
            torch.testing.assert_close(llama.bridge(tokens), expected)
            logits, cache = llama.bridge.run_with_cache(tokens)
            torch.testing.assert_close(logits, expected)
            torch.testing.assert_close(cache[HOOK], calm.activations(tokens, HOOK))
            torch.testing.assert_close(llama.bridge.run_with_hooks(tokens, fwd_hooks=[]), expected)
            llama.bridge.reset_hooks()
            torch.testing.assert_close(llama.bridge(tokens), expected, msg="resetting hooks is not leaving the block")
            written = llama.bridge.generate(tokens, max_new_tokens=5, do_sample=False, verbose=False)
        new = sk.generate(calm, PROMPTS[2], max_new_tokens=5).tokens
        assert tuple(torch.as_tensor(written)[0, tokens.shape[1] :].tolist())[: len(new)] == new
        torch.testing.assert_close(llama.bridge(tokens), plain)
        with pytest.raises(ZeroDivisionError), calm:
            _ = 1 / 0
        torch.testing.assert_close(llama.bridge(tokens), plain)
    assert {name: len(point.fwd_hooks) for name, point in llama.bridge.hook_dict.items()} == n_hooks


def test_what_is_read_under_edits_is_not_taken_for_the_models_own(llama: Any, sae: Any, tmp_path: Path) -> None:
    calm = sk.steered(llama, edit_sets(sae)["one"])
    again = sk.steered(llama, edit_sets(sae)["one"])
    assert calm.fingerprint == again.fingerprint != llama.fingerprint == calm.weights_fingerprint
    assert calm.fingerprint != sk.steered(llama, edit_sets(sae)["generated"]).fingerprint
    texts = ["the cat sat on a mat", "a golden gate bridge"] * 8
    cache = sk.cache_activations(llama, texts, HOOK, tmp_path / "cache", length=32, progress=False)
    with pytest.raises(MismatchError):
        cache.check(calm)
    under = sk.cache_activations(
        calm, texts, HOOK, tmp_path / "calm", token_filter=cache.token_filter, length=32, progress=False
    )
    assert not torch.equal(under.x(slice(0, 8)), cache.x(slice(0, 8)))
    config = sk.SAEConfig(d_in=32, d_sae=16, activation="topk", k=2)
    own = sk.train(None, under, sae=config, config=sk.TrainConfig(n_tokens=64, batch_size=16), progress=False)
    own.check(calm)
    with pytest.raises(MismatchError):
        own.check(llama)


def test_its_edits_go_into_a_small_file(llama: Any, model: Any, sae: Any, tmp_path: Path) -> None:
    calm = sk.steered(llama, edit_sets(sae)["two hook points"])
    path = calm.save(tmp_path / "deep" / "calm.json")
    loaded = sk.load_steered(llama, path, sae)
    assert loaded.edits == calm.edits and loaded.fingerprint == calm.fingerprint
    assert path.stat().st_size < 4_000 and "clamp feature 3 to 1.5 x" in path.read_text("utf8")
    with pytest.raises(MismatchError, match="the edit was made for another SAE"):
        sk.load_steered(llama, path)
    with pytest.raises(MismatchError, match="the edits were made for another model"):
        sk.load_steered(model, path, sae)
    (tmp_path / "other.json").write_text('{"a": 1}', "utf8")
    with pytest.raises(FileError, match="does not hold a steered model"):
        sk.load_steered(llama, tmp_path / "other.json", sae)
    assert "steered: clamp feature 3" in repr(calm)


def test_misuse_is_refused(llama: Any, model: Any, sae: Any) -> None:
    with pytest.raises(ConfigError, match="not an edit"):
        sk.steered(llama, [3])  # type: ignore[list-item]
    with pytest.raises(MismatchError, match="another model"):
        sk.steered(model, sk.ablate(sae, 3))


@pytest.mark.slow
def test_passes_in_other_threads_do_not_run_into_each_others_edits(llama: Any, sae: Any) -> None:
    tokens = torch.tensor([llama.tokenize("the cat sat on a mat")])
    clean, wrong, done = llama.forward(tokens)[0], [], threading.Event()

    def read() -> None:
        while not done.is_set():
            wrong.append(not torch.equal(llama.forward(tokens)[0], clean))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        sk.generate(llama, "the cat", edits=sk.clamp(sae, {3: 50.0}), max_new_tokens=4)
        sk.steered(llama, sk.clamp(sae, {3: 50.0})).forward(tokens)
    done.set()
    reader.join()
    assert len(wrong) > 10 and not any(wrong)
