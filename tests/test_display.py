"""Every result has a display: safe, short, with numbers that people can read, and sensible without its style."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typing_extensions import is_typeddict

import saekit as sk
from conftest import tiny_llama
from saekit.display import Intervals, Numbers, Words, details, excerpt, facts, number, shown, table
from saekit.display.numbers import column
from saekit.index.records import Context

from .displayed import displayed

pytestmark = pytest.mark.filterwarnings("error:the display of")
WITHOUT = {
    "Form Profile Limits": "parts of a law, which is displayed",
    "Columns ShardFiles Provenance": "parts of an activation cache",
    "NamedIndex NamedText Prefixes": "names, which an index shows",
    "Sparse TextRun Vocabulary TokenText Readings HookLayout FinalNorm": "arrays and tables of the inside",
    "EncoderWeights Pattern TrainingForward Architecture": "what an SAE computes with",
    "ActivationSource": "a protocol",
    "Figure": "a plotly figure, which draws itself",
    "Mark": "part of a concept, which is displayed",
    "WandbLogger TensorBoardLogger": "only made, never returned",
}
"""Classes that a public name leads to and that are no results, with the reason."""


def saekit_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in walk_packages(sk.__path__, "saekit."):
        if "triton" not in module.name and not module.name.endswith("__main__"):
            inside = vars(import_module(module.name)).values()
            found |= {c.__name__: c for c in inside if inspect.isclass(c) and c.__module__ == module.name}
    return found


def annotations_of(cls: type) -> Iterator[object]:
    """What the public methods, properties and fields of a class give."""
    for base in (b for b in cls.__mro__ if b.__module__.startswith("saekit")):
        yield from (a for name, a in inspect.get_annotations(base).items() if not name.startswith("_"))
        for name, member in vars(base).items():
            inner = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            inner = inner.fget if isinstance(inner, property) else inner
            inner = inner.func if isinstance(inner, cached_property) else inner
            if inspect.isfunction(inner) and not name.startswith("_"):
                yield inspect.unwrap(inner).__annotations__.get("return", "")


def results() -> set[type]:
    """The classes that public functions return, and all that these lead to."""
    classes, found = saekit_classes(), set()
    public = [getattr(sk, name) for name in sk.__all__]
    waiting = [o for o in public if inspect.isclass(o)]
    returned = [inspect.unwrap(o).__annotations__.get("return", "") for o in public if inspect.isfunction(o)]
    waiting += [classes[w] for a in returned for w in re.findall(r"\w+", str(a)) if w in classes]
    while waiting:
        cls = waiting.pop()
        if cls not in found and not is_typeddict(cls) and not issubclass(cls, BaseException):
            found.add(cls)
            waiting += [classes[w] for a in annotations_of(cls) for w in re.findall(r"\w+", str(a)) if w in classes]
    exempt = {name for names in WITHOUT for name in names.split()}
    return {c for c in found if c.__name__ not in exempt and not c.__module__.startswith("saekit.widgets")}


def test_every_class_that_a_public_function_returns_has_a_display():
    found = results()
    assert {sk.Evaluation, sk.FeatureIndex, sk.SpecificityResult, sk.SAE, sk.Recovery} <= found and len(found) > 50
    assert sorted(c.__qualname__ for c in found if not hasattr(c, "_repr_html_")) == []


class Tree(HTMLParser):
    """Fails for HTML whose elements do not close in order, or that does more than show something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "img", "link", "svg", "h1", "h2", "h3")
        for name, value in attrs:
            assert name not in ("id", "href", "src") and not name.startswith("on"), (name, value)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def words_of(html: str) -> str:
    """The words of a display, after checking that it is one sound element."""
    html.encode("utf8")
    assert html.startswith('<div class="saekit-display"><style>') and html.count("<style>") == 1
    assert "http" not in html.partition("</style>")[0] and "url(" not in html and "@import" not in html
    tree = Tree()
    tree.feed(html)
    assert tree.open == []
    return " ".join(tree.words)


@pytest.mark.slow
def test_every_display_is_safe_and_short_and_its_numbers_are_readable(model, tmp_path):
    objects = displayed(model, tiny_llama(), tmp_path)
    made = {c.__qualname__ for o in objects for c in type(o).__mro__}
    assert sorted({c.__qualname__ for c in results()} - made) == []
    for o in objects:
        html = o._repr_html_()
        words = words_of(html)
        name = type(o).__name__
        assert len(html) < 100_000 and len(words) > 3, name
        words = words.replace(str(tmp_path), "")
        assert [n for n in re.findall(r"\d+\.\d+", words) if len(n.replace(".", "").lstrip("0")) > 5] == [], name
        assert re.findall(r"\b(nan|NaN|NA|None|inf|array|tensor)\b", words) == [], name
        assert words.count("True") + words.count("False") == 0, name


def test_numbers_have_the_digits_that_count():
    assert [number(v) for v in (50.200001, np.float32(50.2), 0.1 + 0.2, 1e12, 12, True)] == [
        "50.2",
        "50.2",
        "0.3",
        "1e+12",
        "12",
        "True",
    ]
    assert [number(v) for v in (None, math.nan, pd.NA, math.inf, -math.inf, -0.5)] == ["–", "–", "–", "∞", "−∞", "-0.5"]
    assert column([0.12345, 1.0, math.nan, -0.00001]) == ["0.123", "1.000", "–", "-1e-05"]
    assert column([]) == [] and column([math.nan]) == ["–"] and column([3, 1234567]) == ["3", "1,234,567"]


def test_whiskers_stand_on_one_axis():
    html = table([Words("", ["a", "b"]), Intervals("v", [0.5, -1.0], low=[0.25, math.nan], high=[0.75, math.nan])])
    assert html is not None
    assert 'style="left:85.71%' in html and 'style="left:0%"' in html  # from -1 to 0.75
    assert html.count("saekit-axis") == 2 and "[0.250, 0.750]" in html


def test_a_missing_interval_says_why_once():
    reasons = ["only 3 documents", "only 3 documents", ""]
    html = table([Words("", ["a", "b", "c"]), Intervals("v", [1.5, 2, 3], low=[], high=[], reasons=reasons)])
    assert html is not None and html.count("only 3 documents") == 1 and html.count("<sup>a</sup>") == 3


def test_long_tables_end_in_words():
    html = table([Numbers("n", range(61))])
    assert html is not None and "… 41 more; .to_frame() has all" in html and html.count("<tr>") == 21
    assert table([Words("", [])]) is None and details("nothing", None) is None and facts({}) is None


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x>', "\u202egnp.exe", "\x00\x1b[31m", "a\ud83cb"]
)
def test_text_stays_text(text):
    place = {"window": 0, "pos": 1, "document": 0, "start": 0}
    context = Context(**place, activation=1.0, tokens=[text, text], acts=[0.0, 1.0], labels={text: text})
    corpus = sk.load_corpus([{"text": text, "label": text}])
    found = [context, corpus, next(iter(corpus)), sk.Concept.keywords([text]), sk.Concept.labels(label=text)]
    for o in found:
        words = words_of(o._repr_html_())
        assert not re.search("[\u202e\x00\x1b\ud800-\udfff]", words)
    assert text in words or "U+" in words


def test_a_display_that_fails_shows_the_text_and_says_so():
    @dataclasses.dataclass
    class Odd:
        """An object whose display breaks."""

        value: str = "<b>"

        @shown
        def _repr_html_(self) -> str:
            raise ValueError("no picture")

    with pytest.warns(UserWarning, match="the display of a Odd failed: ValueError: no picture"):
        html = Odd()._repr_html_()
    assert "Odd(value=&#x27;&lt;b&gt;&#x27;)" in html and "no picture" in words_of(html)


def test_the_display_of_an_index_reads_no_file(model, sae, corpus, tmp_path, monkeypatch):
    sk.build_index(model, sae, corpus.take(4), out=tmp_path / "index", length=32, progress=False)
    index = sk.load_index(tmp_path / "index")

    def refuse(*args: Any) -> None:
        raise AssertionError("a file was read")

    for name in ("tensors", "frame", "ready"):
        monkeypatch.setattr(type(index._store), name, refuse)
    assert "64 features" in words_of(index._repr_html_())


def test_a_stream_is_not_read_to_show_it(tmp_path):
    read = []

    def lines() -> Iterator[dict[str, str]]:
        for i in range(1000):
            read.append(i)
            yield {"text": f"text {i}"}

    corpus = sk.load_corpus(lines)
    before = len(read)
    assert "stream" in words_of(corpus._repr_html_()) and len(read) - before <= 1


def test_settings_show_what_was_changed_first():
    html = sk.TrainConfig(n_tokens=4096, batch_size=64, grad_clip=0.5)._repr_html_()
    first, _, rest = html.partition("<details>")
    assert "grad_clip" in first and "warmup_steps" not in first and "warmup_steps" in rest
    assert (
        "target_l0"
        not in sk.SAEConfig(d_in=8, d_sae=16, activation="topk", k=2)._repr_html_().partition("<details>")[0]
    )


def test_tokens_are_marked_by_their_activation():
    html = excerpt(["a", " b", "\n"], [0.0, 1.0, 4.0], top=4.0, centre=2)
    assert 'a<span class="saekit-fire" style="--heat:0.25"> b</span>' in html
    assert '<strong class="saekit-fire" style="--heat:1">↵</strong>' in html
    assert "--heat:0" in excerpt(["x"], [math.nan], centre=0)


def test_a_page_shows_a_result_as_a_notebook_does(model, sae, corpus, tmp_path):
    evaluation = sk.evaluate(model, sae, corpus.take(6), length=32, progress=False)
    page = sk.save_page(tmp_path / "page.html", "Page", [evaluation, sae]).read_text("utf8")
    assert evaluation._repr_html_() in page and sae._repr_html_() in page and "script-src &#x27;sha256-" in page


def test_rounding_a_table_leaves_no_noise_of_single_precision(model, sae, corpus, tmp_path):
    index = sk.build_index(model, sae, corpus.take(4), out=tmp_path / "index", length=32, progress=False)
    feature = int(index.features["density"].idxmax())
    highlight = sk.highlight(model, sae, "golden gate")
    highlight.selected = 3
    frames = [index.features, index.strongest(), index.firings(feature).to_frame(), highlight.strongest]
    frames.append(index.at(int(index.firings(feature).position[0])).to_frame())
    for frame in frames:
        numbers = frame.select_dtypes("number").round(2)
        assert len(numbers) and not frame.dtypes.eq("float32").any()
        assert all(len(repr(v).split(".")[-1]) <= 2 for v in numbers.to_numpy().ravel().tolist())
    assert float(index.features["max"][feature]) == float(index.firings(feature).value.max())
