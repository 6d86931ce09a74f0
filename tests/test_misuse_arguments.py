"""Ordinary mistakes in what is passed: each is a saekit error that names it, before anything is run or written."""

from __future__ import annotations

import inspect
import math
import os
import time
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae, tiny_texts
from saekit import arguments, synthetic
from saekit.arguments import check_argument, checks_arguments
from saekit.errors import SaekitError

CONCEPT = sk.Concept.regex("gate")
LONG = "The Golden Gate Bridge is red. " * 500
NOT_COUNTS = [math.inf, -math.inf, math.nan, 2.5, "3", b"3", True, [1], object(), 10**30, torch.ones(2), np.float32(2)]
NOT_NUMBERS = [math.inf, -math.inf, math.nan, "3", b"3", True, [1], object(), 10**400, torch.ones(2)]


@pytest.fixture(scope="module")
def known(llama: Any, corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    sae = tiny_sae(llama)
    return (
        llama,
        sae,
        sk.build_index(llama, sae, corpus.take(8), out=tmp_path_factory.mktemp("i") / "i", length=32, progress=False),
    )


def error_of(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(SaekitError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert len(text) < 2000 and "\n  seen:     " in text, text
    return text


# ---- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(arguments.POSITIVE | arguments.NATURAL | {"seed", *arguments.REPEATED, *arguments.STARS})
)
def test_a_count_is_a_whole_number(name: str) -> None:
    for value in [*NOT_COUNTS, -1, None, *([0] if name in arguments.POSITIVE else [])]:
        assert error_of(check_argument, name, value).startswith(f"{name} is ")
    assert check_argument(name, 3) == check_argument(name, np.int64(3)) == 3


@pytest.mark.parametrize(
    "name", sorted(arguments.REAL | arguments.NOT_NEGATIVE | arguments.ABOVE_ZERO | arguments.FRACTIONS)
)
def test_a_number_is_finite_and_in_range(name: str) -> None:
    values = [*NOT_NUMBERS, None]
    values += [-1] if name in arguments.NOT_NEGATIVE else []
    values += [0, -1] if name in arguments.ABOVE_ZERO | arguments.FRACTIONS else []
    values += [1, 95] if name in arguments.FRACTIONS else []
    for value in values:
        assert error_of(check_argument, name, value).startswith(f"{name} is ")
    assert check_argument(name, 0.5) == check_argument(name, np.float32(0.5)) == 0.5


def test_lists_of_numbers_hold_numbers() -> None:
    for name in arguments.LISTS:
        for value in (5, "abc", None, [math.nan], ["a"], [None]):
            error_of(check_argument, name, value)
        assert list(check_argument(name, (1, 2))) == [1, 2]


def public_functions() -> list[tuple[str, Any]]:
    found = []
    for module in (sk, synthetic):
        for name in module.__all__ if module is sk else dir(module):
            thing = getattr(module, name)
            if inspect.isfunction(thing) and thing.__module__.startswith("saekit"):
                found.append((name, thing))
    return found


def test_every_number_of_a_public_function_has_a_meaning() -> None:
    meant = arguments.POSITIVE | arguments.NATURAL | arguments.FRACTIONS | arguments.REAL | arguments.NOT_NEGATIVE
    meant |= arguments.ABOVE_ZERO | {"seed", *arguments.REPEATED, *arguments.LISTS}
    checked_by_the_function = {"feature", "layer", "d_in", "value", "group_size", "correlation", "depth"}
    checked_by_the_function |= {"at", "child_fraction", "n_active", "zipf_exponent", "noise"}
    lacking = []
    for name, function in public_functions():
        for parameter in inspect.signature(function).parameters.values():
            kinds = str(parameter.annotation).replace(" | None", "")
            is_number = kinds in ("int", "float", "Number") and parameter.name not in checked_by_the_function
            if is_number and (parameter.name not in meant or not hasattr(function, "__wrapped__")):
                lacking.append(f"{name}({parameter.name})")
    assert lacking == [], "put the name into saekit/arguments.py and @checks_arguments above the function"


def test_a_checked_function_stays_what_it_was() -> None:
    @checks_arguments
    def draw(n: int, *, seed: int | None = None, level: float = 0.5) -> tuple[Any, ...]:
        """Draws."""
        return n, seed, level

    assert draw(np.int64(3), seed=None) == (3, None, 0.5) and draw.__doc__ == "Draws."
    assert typing.get_type_hints(draw)["n"] is int and draw.__name__ == "draw"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'n'"):
        draw()
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        draw(1, m=2)
    assert "fix:      pass level=0.5" in error_of(draw, 1, level=math.nan)


def test_nothing_runs_before_its_numbers_are_right(known: Any, corpus: Any, tmp_path: Path, monkeypatch: Any) -> None:
    model, sae, index = known
    monkeypatch.setattr(type(model), "forward", None)
    for bad in (math.inf, math.nan, 2.5, 0, -1, "3"):
        for call, names in (
            (lambda **k: sk.evaluate(model, sae, corpus, progress=False, **k), ("batch_size", "length", "n_tokens")),
            (
                lambda **k: sk.build_index(model, sae, corpus, out=tmp_path / "i", **k),
                ("batch_size", "n_top", "length"),
            ),
            (lambda **k: sk.tokenize(corpus, model, **k), ("length", "max_tokens")),
            (lambda **k: next(iter(sk.tokenize(corpus, model, length=16).batches(**k))), ("batch_size",)),
            (lambda **k: sk.dose_response(model, sae, 3, ["a"], CONCEPT, [0.5], **k), ("batch_size",)),
            (lambda **k: index.search(text="gate", **k), ("n",)),
            (lambda **k: corpus.take(**k), ("n",)),
        ):
            for name in names:
                assert f"{name} is" in error_of(call, **{name: bad})
    for bad in (math.inf, math.nan, -1, "hot"):
        assert "temperature is" in error_of(sk.generate, model, "a", temperature=bad)
        assert "temperature is" in error_of(sk.stream, model, "a", temperature=bad)
        assert "max_new_tokens is" in error_of(sk.generate, model, "a", max_new_tokens=bad)
    assert list(tmp_path.iterdir()) == []


# ---- things of another kind ---------------------------------------------------------------------------------------


def test_a_word_is_no_model_sae_index_or_concept(known: Any, corpus: Any, tmp_path: Path) -> None:
    model, sae, index = known
    assert "model is not a model" in error_of(sk.generate, "gpt2", "a")
    assert "model is not a model" in error_of(sk.highlight, "gpt2", sae, "a")
    assert "sae is not an SAE" in error_of(sk.clamp, "my-sae", {3: 1.0})
    assert "sae is not an SAE" in error_of(sk.build_index, model, 5, corpus, out=tmp_path / "i")
    for call in (sk.explore, lambda i: sk.card(i, 3), lambda i: sk.specificity(i, 3, CONCEPT)):
        assert "index is not an index" in error_of(call, "folder/of/index")
    for call in (lambda c: sk.rank_features(index, c), lambda c: sk.specificity(index, 3, c)):
        assert "concept is not a concept" in error_of(call, "gate")
    assert "this is not an SAE" in error_of(sk.compare, ["a"])
    assert "this is not an evaluation" in error_of(sk.compare, [sae], ["a"])
    assert "this is no ground truth" in error_of(sk.recovery, sae, "truth")
    assert "this is no direction" in error_of(sk.add_direction, [1.0, 2.0], 0.5)
    assert "not a direction" in error_of(sk.Direction, "up", hook_name=HOOK)
    assert "activations are no tensor" in error_of(sae.encode, np.ones((2, 32)))
    assert "conditions have no names" in error_of(sk.steer, model, sae, conditions=[1])
    assert "the value of feature 3 is not a finite number" in error_of(sk.clamp, sae, {3: None})
    assert "ks is no list of counts" in error_of(sk.sparse_probing, model, sae, corpus, label="topic", ks=2)
    assert "words is no list" in error_of(sk.feature_absorption, model, sae, words="abc")


# ---- texts and paths ----------------------------------------------------------------------------------------------


def test_a_text_in_place_of_a_path_is_named(known: Any, tmp_path: Path) -> None:
    model, sae, _ = known
    text = error_of(sk.load_corpus, LONG)
    assert "too long; is it a text?" in text and "load_corpus([text])" in text
    calls = [sk.load_sae, sk.load_index, sk.load_model, sk.open_activations, sae.save]
    calls += [lambda p: sk.save_page(p, "t", ["a"]), lambda p: sk.load_steered(model, p)]
    calls += [sk.load_transcoders, lambda p: sk.SteeringPanel().export(p)]
    for call in calls:
        for path, says in ((LONG, "too long"), ("a\0b", "NUL"), (5, "no path|not a model|cannot be made a model")):
            assert any(word in error_of(call, path) for word in says.split("|")) or call is sk.load_model
    assert "a label is no name" in error_of(sk.load_corpus, tiny_texts(2), labels=[5])
    assert "text is no name" in error_of(sk.load_corpus, tiny_texts(2), text=5)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator reads everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    try:
        for call in (sk.load_corpus, sk.load_sae, sk.load_index, sk.open_activations):
            assert "closed" in error_of(call, str(tmp_path / "closed"))
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_half_a_character_reaches_the_model_and_the_page_as_its_sign(known: Any, tmp_path: Path) -> None:
    model, sae, _ = known
    half = "a\ud800 cat"
    assert model.tokenize(half) == model.tokenize("a\ufffd cat")
    assert sk.highlight(model, sae, half).tokens[-1] == "t"
    assert sk.generate(model, half, max_new_tokens=1).n_prompt_tokens > 0
    assert len(sk.tokenize([half], model, length=16)) == 1
    tokens = sk.TokenHighlight(tokens=[half], excluded=[""])
    frame = pd.DataFrame({"a": pd.Series([half], dtype=object)})
    page = sk.save_page(tmp_path / "p.html", half, [half, tokens, frame]).read_text("utf8")
    assert "a&lt;U+D800&gt; cat" in page and "\ud800" not in page
    assert "the title is no text" in error_of(sk.save_page, tmp_path / "q.html", None, [])
    assert "blocks is no list" in error_of(sk.save_page, tmp_path / "q.html", "t", "abc")
    assert not (tmp_path / "q.html").exists()


# ---- conversations ------------------------------------------------------------------------------------------------


def test_a_template_that_refuses_a_turn_is_named(known: Any, monkeypatch: Any) -> None:
    model, sae, _ = known
    turns = [[{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]]
    template = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    monkeypatch.setattr(model.tokenizer, "chat_template", template + "{{ m['content'] }}{% endfor %}")
    text = error_of(sk.generate, model, turns, chat=True, max_new_tokens=1)
    assert "refuses this conversation" in text and "no system role; turns of system, user" in text
    assert "refuses a conversation" in error_of(sk.tokenize, sk.load_corpus([*turns, *turns]), model, length=8)
    monkeypatch.setattr(model.tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] }")
    assert "refuses this conversation" in error_of(sk.generate, model, "hi", chat=True, max_new_tokens=1)
    panel = sk.steer(model, sae, 3, prompt="hi", chat=True, max_new_tokens=1)
    assert "refuses this conversation" in error_of(panel.run, wait=True) and "refuses" in panel.error


@pytest.mark.parametrize(
    "prompt", [5, None, b"a", [5], [["hi"]], [[{"role": "user"}]], [[{"role": 5, "content": "a"}]]]
)
def test_what_is_no_prompt_is_named(prompt: Any, known: Any) -> None:
    error_of(sk.generate, known[0], prompt, chat=True, max_new_tokens=1)


# ---- token ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids", [[1, 10**12], [1, 10**30], [1, -1], [1.5], ["a"], [True], [[1, 2], [3]], [None]], ids=str
)
def test_what_is_no_token_id_is_named(ids: Any, known: Any) -> None:
    model = known[0]
    rows = ids if isinstance(ids[0], list) else [ids]
    error_of(model.forward, rows)
    error_of(model.activations, rows, HOOK)


@pytest.mark.parametrize("i", [10**12, 10**30, -1, 1.5, "a", True, None])
def test_a_token_filter_holds_token_ids(i: Any) -> None:
    error_of(sk.TokenFilter, special_ids=(i,))
    error_of(sk.TokenFilter, special_ids=i)
    error_of(sk.TokenFilter, blocks=(i,))


# ---- sizes --------------------------------------------------------------------------------------------------------


def test_what_is_searched_for_is_bounded(known: Any) -> None:
    index, million = known[2], "a " * 1_000_000
    started = time.perf_counter()
    for name in ("text", "token", "prompt"):
        assert f"{name} is too long" in error_of(index.search, **{name: million})
        assert f"{name} is no text" in error_of(index.search, **{name: 5})
    assert "too many keywords" in error_of(sk.Concept.keywords, [f"word{i}" for i in range(1_000_000)])
    assert "the pattern is too long" in error_of(sk.Concept.regex, million)
    browser = sk.explore(index)
    assert "the filter is too long" in error_of(setattr, browser, "filter", million) and browser.filter == ""
    assert time.perf_counter() - started < 5


# ---- names --------------------------------------------------------------------------------------------------------


def test_every_package_is_reached_by_its_name() -> None:
    for name in ("widgets", "statistics", "plotting", "synthetic", "sae", "index", "diagnosis"):
        assert inspect.ismodule(getattr(sk, name)), name
    with pytest.raises(AttributeError, match="did you mean 'widgets'"):
        sk.widgts  # noqa: B018
