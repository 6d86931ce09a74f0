"""Generation under edits against a loop that runs the whole text, alone and without padding, for every new token."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, ContextLengthError, DataError, MismatchError, UnknownNameError
from saekit.models.token_text import TextPieces, Vocabulary
from saekit.steering.decoding import Row

from .slow_generation import edit_sets, make_sae, slow_reference

HOOK, LATER = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"

PROMPTS = ["the cat", "a", "golden gate bridge in the fog", "the cat sat"]


@pytest.fixture(params=["llama", "native"])
def either(request: Any, llama: Any, model: Any) -> Any:
    return llama if request.param == "llama" else model


@pytest.mark.parametrize("activation", ["relu", "topk", "batchtopk"])
@pytest.mark.slow
def test_tokens_are_those_of_the_slow_loop_with_and_without_cache_alone_and_padded(
    either: Any, activation: str
) -> None:
    n_new = 6
    for name, edits in edit_sets(either, activation).items():
        expected = [slow_reference(either, p, edits, n_new) for p in PROMPTS]
        if edits:
            assert expected != [slow_reference(either, p, [], n_new) for p in PROMPTS], f"{name} has no effect"
        settings = {"edits": edits, "max_new_tokens": n_new}
        for use_cache in (True, False):
            batch = sk.generate(either, PROMPTS, use_cache=use_cache, **settings)
            assert [list(g.tokens) for g in batch] == expected, (name, use_cache)
        alone = [sk.generate(either, p, **settings) for p in PROMPTS]
        assert [list(g.tokens) for g in alone] == expected, name


def test_the_cache_is_used_and_edits_see_one_token_at_a_time(llama: Any, monkeypatch: Any) -> None:
    shown = []
    forward = llama.forward
    monkeypatch.setattr(llama, "forward", lambda tokens, **k: shown.append(tokens.shape[1]) or forward(tokens, **k))
    sk.generate(llama, "the cat", max_new_tokens=4)
    assert shown == [8, 1, 1, 1]
    shown.clear()
    sk.generate(llama, "the cat", max_new_tokens=4, use_cache=False)
    assert shown == [8, 9, 10, 11]


def test_generated_positions_do_not_touch_the_first_new_token_and_prompt_positions_do(llama: Any) -> None:
    sae = make_sae(llama, "relu")
    plain = sk.generate(llama, "the cat", max_new_tokens=6).tokens
    written = sk.generate(
        llama, "the cat", edits=sk.clamp(sae, {3: 3.0}, unit="norm", positions="generated"), max_new_tokens=6
    ).tokens
    assert written[0] == plain[0] and written != plain


@pytest.mark.slow
def test_a_row_samples_the_same_text_alone_and_in_any_batch(llama: Any) -> None:
    sae = make_sae(llama, "topk")
    settings = {"edits": [sk.clamp(sae, {3: 1.0}, unit="norm")], "max_new_tokens": 12, "temperature": 1.0}
    batch = {p: g.tokens for p, g in zip(PROMPTS, sk.generate(llama, PROMPTS, **settings), strict=True)}
    turned = sk.generate(llama, PROMPTS[::-1], **settings)
    assert {p: g.tokens for p, g in zip(PROMPTS[::-1], turned, strict=True)} == batch
    assert {p: sk.generate(llama, p, **settings).tokens for p in PROMPTS} == batch
    assert {p: sk.generate(llama, p, use_cache=False, **settings).tokens for p in PROMPTS} == batch
    other = sk.generate(llama, PROMPTS, seed=1, **settings)
    assert all(g.tokens != batch[g.prompt] for g in other)


def test_equal_prompts_sample_different_texts(llama: Any) -> None:
    first, second = sk.generate(llama, ["the cat"] * 2, max_new_tokens=12, temperature=1.0)
    assert first.tokens != second.tokens
    assert first.tokens == sk.generate(llama, "the cat", max_new_tokens=12, temperature=1.0).tokens


def test_the_random_numbers_of_a_row_follow_from_its_seed_tokens_and_repeat() -> None:
    rows = [Row(prompt="", ids=(0, 5), seed=1), Row(prompt="", ids=(0, 6), seed=1), Row(prompt="", ids=(0, 5), seed=2)]
    rows.append(Row(prompt="", ids=(0, 5), seed=1, repeat=1))
    drawn = [torch.rand(4, generator=row.generator()).tolist() for row in rows]
    assert len({tuple(d) for d in drawn}) == 4
    assert torch.rand(4, generator=rows[0].generator()).tolist() == drawn[0]


def test_sampling_follows_the_models_distribution(llama: Any) -> None:
    logits, _ = llama.forward([llama.tokenize("the cat")])
    wanted = (logits[0, -1] / 0.7).softmax(-1)
    drawn = sk.generate(llama, ["the cat"] * 3000, max_new_tokens=1, temperature=0.7)
    counts = torch.bincount(torch.tensor([(*g.tokens, llama.eos_id)[0] for g in drawn]), minlength=len(wanted))
    expected = wanted * 3000
    likely = expected > 20
    z = (counts[likely] - expected[likely]) / (expected[likely] * (1 - wanted[likely])).sqrt()
    assert likely.sum() >= 3
    assert z.abs().max() < 4


def test_a_row_ends_at_eos_while_others_go_on(llama: Any, monkeypatch: Any) -> None:
    plain = sk.generate(llama, PROMPTS, max_new_tokens=8)
    eos = plain[0].tokens[3]
    monkeypatch.setitem(llama.__dict__, "facts", dataclasses.replace(llama.facts, end_ids=frozenset({eos})))
    ended = sk.generate(llama, PROMPTS, max_new_tokens=8)
    for before, after in zip(plain, ended, strict=True):
        cut = before.tokens.index(eos) if eos in before.tokens else 8
        assert after.tokens == before.tokens[:cut]
        assert after.finish_reason == ("eos" if cut < 8 else "length")
        assert after.tokens == sk.generate(llama, after.prompt, max_new_tokens=8).tokens
    assert {g.finish_reason for g in ended} == {"eos", "length"}
    assert [t.token for t in sk.stream(llama, PROMPTS[0], max_new_tokens=8)] == list(ended[0].tokens)


def test_a_generation_tells_what_was_asked_and_written(llama: Any) -> None:
    edit = sk.clamp(make_sae(llama, "relu"), {3: 0.5}, unit="norm")
    out = sk.generate(llama, "the cat", edits=edit, max_new_tokens=5)
    assert out.n_prompt_tokens == 8 and len(out.tokens) == 5 and out.edits == (edit,)
    assert out.text == llama.decode(out.tokens) and out.full_text == "the cat" + out.text
    text = repr(out)
    assert out.text in text and "5 tokens, cut at max_new_tokens; greedy" in text and repr(edit) in text
    with pytest.raises(AttributeError):
        out.text = ""


def test_chat_applies_the_template_once_to_texts_and_to_turns(llama: Any) -> None:
    one = sk.generate(llama, "hi", chat=True, max_new_tokens=4)
    assert one.prompt == llama.chat_prompt("hi") == "<bos>user:hi<eos><bos>assistant:"
    assert one.n_prompt_tokens == len(llama.tokenize(one.prompt)) == len("user:hi") + len("assistant:") + 3
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert sk.generate(llama, turns, chat=True, max_new_tokens=1).prompt.startswith(
        "<bos>user:hi<eos><bos>assistant:yes"
    )
    both = sk.generate(llama, [turns, "hi"], chat=True, max_new_tokens=4)
    assert [both[0].prompt, both[1].tokens] == [llama.chat_prompt(turns), one.tokens]
    with pytest.raises(ConfigError, match="pass chat=True"):
        sk.generate(llama, turns)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stream_tells_what_generate_returns_token_by_token(llama: Any, temperature: float) -> None:
    sae = make_sae(llama, "topk")
    settings = {
        "edits": [sk.clamp(sae, {3: 1.0}, unit="norm")],
        "max_new_tokens": 9,
        "temperature": temperature,
        "seed": 4,
    }
    whole = sk.generate(llama, "the cat", **settings)
    got = list(sk.stream(llama, "the cat", **settings))
    assert [t.token for t in got] == list(whole.tokens)
    assert "".join(t.text for t in got) == whole.text
    assert [t.position for t in got] == list(range(8, 8 + len(got)))


def test_stream_stops_between_tokens_and_leaves_no_hook(llama: Any) -> None:
    sae = make_sae(llama, "relu")
    before, _ = llama.forward([[0, 10, 11]])
    n_asked = 0

    def stop() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > 3

    got = list(sk.stream(llama, "the cat", edits=[sk.clamp(sae, {3: 5.0})], max_new_tokens=20, stop=stop))
    assert len(got) == 3 and n_asked == 4
    half = sk.stream(llama, "the cat", edits=[sk.clamp(sae, {3: 5.0})], max_new_tokens=20)
    next(half)
    assert torch.equal(llama.forward([[0, 10, 11]])[0], before)
    half.close()
    assert not torch.is_inference_mode_enabled()


BYTES = Vocabulary([bytes([i]) for i in range(256)])
"""Tokens are bytes of UTF-8."""


@pytest.mark.parametrize(
    "text", ["plain", "né 漢字 🌉 fin", "🌉🌉👩‍👩‍👧 the golden gate, twice over 🌉", "\ufffd kept \ufffd.", "é" * 30]
)
def test_bytes_of_an_incomplete_character_are_held_back(text: str) -> None:
    pieces = TextPieces(BYTES, list("a prompt 🌉".encode()))
    got = [pieces.push(b) for b in text.encode()]
    assert "".join(got) == text
    assert all("\ufffd" not in t for t in got) or "\ufffd" in text
    for n, byte in enumerate(text.encode()):
        if byte >= 0xC0:  # the first byte of several shows nothing
            assert got[n] == ""


def test_a_character_begun_in_the_prompt_is_given_when_complete_and_one_never_completed_is_left_out() -> None:
    start, rest = "🌉".encode()[:2], "🌉".encode()[2:]
    pieces = TextPieces(BYTES, list(b"to the " + start))
    assert [pieces.push(b) for b in rest] == ["", "🌉"]
    assert [pieces.push(b) for b in b"ok" + start] == ["o", "k", "", ""]
    junk = TextPieces(BYTES, list(b"x"))
    assert "".join(junk.push(0x80) for _ in range(40)) == "\ufffd" * 40


def test_no_new_tokens_and_no_prompts(llama: Any) -> None:
    assert sk.generate(llama, "the cat", max_new_tokens=0).tokens == ()
    assert sk.generate(llama, []) == []
    assert list(sk.stream(llama, "the cat", max_new_tokens=0)) == []


@pytest.mark.slow
def test_misuse_is_refused_before_anything_runs(llama: Any, model: Any, monkeypatch: Any) -> None:
    sae = make_sae(llama, "relu")
    other = make_sae(model, "relu")
    nowhere = make_sae(llama, "relu")
    edit = sk.clamp(sae, {3: 1.0})
    monkeypatch.setattr(llama, "forward", None)
    monkeypatch.setattr(model, "forward", None)
    for run in (sk.generate, sk.stream):
        with pytest.raises(DataError, match="the prompt is empty"):
            run(llama, "")
        with pytest.raises(ConfigError, match="max_new_tokens is negative"):
            run(llama, "the cat", max_new_tokens=-1)
        with pytest.raises(ConfigError, match="temperature is negative"):
            run(llama, "the cat", temperature=-0.5)
        with pytest.raises(ContextLengthError, match=r"8 prompt tokens \+ 89 new[\s\S]*96 together"):
            run(llama, "the cat", max_new_tokens=89)
        with pytest.raises(MismatchError):
            run(llama, "the cat", edits=[sk.clamp(other, {3: 1.0})])
        with pytest.raises(ConfigError, match="not an edit"):
            run(llama, "the cat", edits=[{3: 1.0}])
        with pytest.raises(UnknownNameError, match="no feature 999"):
            run(llama, "the cat", edits=[sk.clamp(nowhere, {999: 1.0})])
    with pytest.raises(DataError, match="the prompt is empty"):
        sk.generate(llama, ["the cat", ""])
    monkeypatch.undo()
    assert len(sk.generate(llama, "the cat", edits=edit, max_new_tokens=88).tokens) <= 88


def test_nan_logits_are_an_error(llama: Any) -> None:
    sae = make_sae(llama, "relu")
    with pytest.raises(DataError, match="the model's logits are NaN"):
        sk.generate(llama, "the cat", edits=[sk.add(sae, {3: 1e39})], max_new_tokens=2)


@pytest.mark.real
@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_the_default_model_says_the_same_with_and_without_cache_alone_and_padded(
    default_model: Any, activation: str
) -> None:
    hook_name = "blocks.15.hook_resid_post"
    sae = make_sae(default_model, activation, hook_name=hook_name, d_sae=512)
    token_filter = sk.TokenFilter(special_ids=tuple(sorted(default_model.special_ids)), max_norm=600.0)
    object.__setattr__(sae.config, "token_filter", token_filter)
    prompts = ["What is rain?", "Name one animal that lives in the sea."]
    plain = sk.generate(default_model, prompts, chat=True, max_new_tokens=6)
    sets = [
        [sk.clamp(sae, {7: 0.8}, unit="norm")],
        [sk.add(sae, {7: 0.9}, unit="norm", positions="prompt")],
        [sk.clamp(sae, {7: 0.9}, unit="norm", positions="generated")],
        [sk.scale(sae, dict.fromkeys(range(100), 6.0)), sk.ablate(sae, range(100, 400))],
    ]
    for edits in sets:
        settings = {"edits": edits, "max_new_tokens": 6, "chat": True}
        batch = sk.generate(default_model, prompts, **settings)
        assert [g.tokens for g in batch] != [g.tokens for g in plain], edits
        assert [g.tokens for g in sk.generate(default_model, prompts, use_cache=False, **settings)] == [
            g.tokens for g in batch
        ], edits
        assert sk.generate(default_model, prompts[0], **settings).tokens == batch[0].tokens, edits
