"""Offline pages and CircuitsVis: what is written, escaped and refused."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import traitlets as t

from saekit.errors import DataError, FileError, UnknownKeywordError, UnknownNameError
from saekit.widgets import Text, TokenHighlight, attention_patterns, save_page
from saekit.widgets.base import STATIC, WIDGETS, Widget
from saekit.widgets.markdown import to_html
from saekit.widgets.page import cell, plain
from saekit.widgets.token_highlight import pack_rows

HOSTILE = "</script><img src=x onerror=alert(1)><!--"


def widget() -> TokenHighlight:
    return TokenHighlight(
        tokens=[HOSTILE, "b"], excluded=["", ""], acts=pack_rows([0], [1], [2.0], 2), n_features=4, feature=1
    )


class Result:
    def plot(self) -> go.Figure:
        return go.Figure(go.Bar(x=["a"], y=[1]))

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"precision": [0.5]})


def test_page_is_one_file_whose_policy_names_its_scripts(tmp_path: Path) -> None:
    path = save_page(tmp_path / "p.html", HOSTILE, [Text("# A"), "words", widget(), Result(), pd.Series([1], name="s")])
    text = path.read_text("utf8")
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](?!data:)""", text)
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', text, flags=re.S)
    assert len(scripts) == 2, "plotly.js once, the page's own script once"
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "http" not in policy
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]


def test_nothing_hostile_survives_as_html(tmp_path: Path) -> None:
    frame = pd.DataFrame({HOSTILE: [HOSTILE]}, index=pd.Index([HOSTILE], name=HOSTILE))
    path = save_page(tmp_path / "p.html", HOSTILE, [HOSTILE, Text(f"- {HOSTILE}\n\n`{HOSTILE}`"), frame, widget()])
    text = path.read_text("utf8")
    assert "<img" not in text.split('<script type="module">')[0]
    states = re.findall(r'<script type="application/json" id="state-\d+">(.*?)</script>', text, flags=re.S)
    assert json.loads(states[0])["tokens"] == [HOSTILE, "b"]


def test_a_widget_from_outside_needs_a_class_and_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "dial.js").write_text("export default { render({ model, el }) { el.textContent = model.get('at'); } };")
    (tmp_path / "dial.css").write_text(".dial { color: red }")

    class Dial(Widget):
        bundle, static = "dial", tmp_path
        at = t.Float(0.5, help="Where the dial stands.").tag(sync=True)

        def text(self) -> str:
            return f"Dial: {self.at:g} <of> 1"

    try:
        assert WIDGETS["dial"] is Dial
        dial = Dial(at=0.25)
        assert "el.textContent" in dial._esm and "color: red" in dial._css
        assert dial._repr_mimebundle_()[0]["text/plain"] == "Dial: 0.25 <of> 1"
        assert dial.page_state() == {"at": 0.25}
        with pytest.raises(UnknownKeywordError, match="'ta'; did you mean 'at'"):
            Dial(ta=0.25)
        page = save_page(tmp_path / "p.html", "t", [dial]).read_text("utf8")
        assert "<pre>Dial: 0.25 &lt;of&gt; 1</pre>" in page and "data-widget" not in page.split("<script")[0]
    finally:
        WIDGETS.pop("dial", None)


def test_every_widget_has_its_bundle_and_every_bundle_its_widget() -> None:
    saekit_static = {name for name, widget in WIDGETS.items() if widget.static == STATIC}
    assert {path.stem for path in STATIC.glob("*.js")} == {"page", *saekit_static}
    assert {path.stem for path in STATIC.glob("*.css")} == {"page", *saekit_static}


def test_plotly_is_left_out_when_there_is_no_figure(tmp_path: Path) -> None:
    assert save_page(tmp_path / "p.html", "t", [widget()]).stat().st_size < 200_000


def test_state_is_plain_json() -> None:
    got = plain({"a": b"\x01", "b": [float("nan"), np.float32(1.5), np.int64(3)], "c": {"d": (True, None)}})
    assert got == {"a": {"$bytes": "AQ=="}, "b": [None, 1.5, 3], "c": {"d": [True, None]}}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234, "1,234"), (0.5, "0.5"), (123456.7, "123,457"), (True, "yes"), (None, ""), (np.nan, ""), ([1, "a"], "1, a")],
)
def test_cells(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    text = save_page(tmp_path / "p.html", "t", [pd.DataFrame({"x": range(1000)})]).read_text("utf8")
    assert "The first 200 of 1,000 rows." in text and text.count("<tr>") == 201


def test_what_a_page_cannot_show_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a page cannot show a set"):
        save_page(tmp_path / "p.html", "t", [{1, 2}])
    with pytest.raises(FileError, match="cannot use"):
        (tmp_path / "file").write_text("x")
        save_page(tmp_path / "file" / "p.html", "t", [])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n\nc", "<p>a\nb</p>\n<p>c</p>"),
        ("## **x** *y* `z*`", "<h3><strong>x</strong> <em>y</em> <code>z*</code></h3>"),
        ("2 * 3 * 4 and snake_case", "<p>2 * 3 * 4 and snake_case</p>"),
        ("- a\n  more\n- b", "<ul>\n<li>a\nmore</li>\n<li>b</li>\n</ul>"),
        ("1. a\n2. b", "<ol>\n<li>a</li>\n<li>b</li>\n</ol>"),
        ("> a\n> b", "<blockquote>\n<p>a\nb</p>\n</blockquote>"),
        ("```\n<b>\n```", "<pre><code>&lt;b&gt;\n</code></pre>"),
        ("[a](https://x.org/?a=1&b=2)", '<p><a href="https://x.org/?a=1&amp;b=2" rel="noreferrer">a</a></p>'),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ('[a](https://x.org"onclick=1)', '<p><a href="https://x.org%22onclick=1" rel="noreferrer">a</a></p>'),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert to_html(text) == expected


def test_markdown_tables_have_heads() -> None:
    got = to_html("| a | b |\n|---|---|\n| 1 | <b> |").replace("\n", "")
    assert "<thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>&lt;b&gt;</td></tr></tbody>" in got


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://x.org/a.png)",
        "<https://x.org> <javascript:alert(1)>",
        "[a]\n\n[a]: javascript:alert(1)",
        "[a](data:text/html,<b>) [b](vbscript:x) [c](//x.org) [d](JaVaScRiPt:alert(1)) [e](&#106;avascript:x)",
        "<div onclick=x>\n\n<!-- c --> <script>alert(1)</script>",
        '```"><img src=x>\n</code></pre><b>\n```',
        "\x00<b>\u202e",
    ],
)
def test_markdown_lets_through_no_html_image_or_unsafe_link(text: str) -> None:
    got = to_html(text)
    tags = re.findall(r"<(/?[a-z0-9]+)([^>]*)>", got)
    assert {name.strip("/") for name, _ in tags} <= {"p", "a", "code", "pre"}
    assert all(
        re.fullmatch(r' href="https?://[^"]*" rel="noreferrer"| class="language-[^"]*"|', rest) for _, rest in tags
    )
    assert "\x00" not in got and "\u202e" not in got


def test_attention_patterns_are_the_models_and_tokens_are_escaped(model: Any) -> None:
    w = attention_patterns(model, "<b>", layer=1)
    assert w.props["tokens"] == ["&lt;bos&gt;", "&lt;", "b", "&gt;"]
    attention = np.array(w.props["attention"])
    assert attention.shape == (4, 4, 4)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-3)
    assert np.triu(attention, 1).max() == 0, "causal"
    assert str(w) == "Attention of the 4 heads of layer 1 over 4 tokens"
    with pytest.raises(UnknownNameError, match="no layer 2"):
        attention_patterns(model, "a", layer=2)
    with pytest.raises(DataError, match="no text"):
        attention_patterns(model, "", layer=0)


@pytest.mark.parametrize(
    "piece", ["*a ", "_a_ ", "[", "[a](", "`a ", "> ", "- ", "<a ", "![a](b) ", "[a]: /x\n", "|a", "*a _b "]
)
def test_the_time_of_markdown_grows_with_its_length_and_no_faster(piece: str) -> None:
    def seconds(n: int) -> float:
        started = time.process_time()
        to_html(piece * n)
        return time.process_time() - started

    seconds(10)
    short, long = min(seconds(300) for _ in range(3)), min(seconds(2400) for _ in range(2))
    assert long < 32 * short + 0.05, "8 times the text: 8 times the time, not 64"
