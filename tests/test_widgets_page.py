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

import saekit as sk
from conftest import HOOK, tiny_texts
from saekit.errors import DataError, FileError, UnknownKeywordError, UnknownNameError
from saekit.widgets import FeatureCard, Text, TokenHighlight, attention_patterns, card, save_page
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
    assert len(scripts) == 1, "the page's own script once, and no plotly.js: the figure is drawn"
    assert '<div class="page-block page-figure"><svg' in text and 'fill="currentColor"' in text
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


def test_plotly_is_on_a_page_only_for_what_has_no_static_form(tmp_path: Path) -> None:
    drawn = save_page(tmp_path / "p.html", "t", [widget(), Result(), Result()])
    assert drawn.stat().st_size < 200_000
    live = save_page(tmp_path / "live.html", "t", [go.Figure(go.Pie(values=[1, 2])), Result()]).read_text("utf8")
    scripts = re.findall(r"<script>(.*?)</script>", live, flags=re.S)
    assert len(scripts) == 1 and "plotly.js" in scripts[0][:2000] and live.count("data-figure") >= 1


def test_cards_of_the_rows_shown_first_are_on_the_page(index: Any) -> None:
    browser = sk.explore(index, sort="max", descending=True, page_size=5, feature=3)
    state = browser.page_state()
    assert set(state["cards"]) == {str(i) for i in browser.rows.index}
    assert state["cards"][str(browser.rows.index[0])]["feature"] == browser.rows.index[0]
    assert state["card"]["feature"] == 3 and browser.cards == {}, "the widget itself stays as it is"
    wide = sk.explore(index, page_size=60)
    assert len(wide.page_state()["cards"]) == 25


# ---- static pictures ---------------------------------------------------------------------------------------------


@pytest.fixture
def index(model: Any, sae: Any, tmp_path: Path) -> Any:
    hostile = [*tiny_texts(), {"text": f"the cat {HOSTILE}", "topic": HOSTILE}]
    folder = tmp_path / "index"
    return sk.build_index(model, sae, sk.load_corpus(hostile, name="h"), out=folder, length=48, progress=False)


def pictures(model: Any, sae: Any, index: Any) -> dict[str, Widget]:
    """Each widget as it is after use, and as it is before."""
    panel = sk.steer(model, sae, 3, index=index, prompt=HOSTILE, chat=False, max_new_tokens=3)
    panel.conditions = [{"name": HOSTILE}, *panel.conditions[1:]]
    monitor = sk.TrainingMonitor()
    config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256, lr=1e-3, log_every=2)
    saes = [sk.SAEConfig(d_in=model.d_model, d_sae=64, activation="topk", k=k) for k in (2, 4)]
    corpus = sk.load_corpus(["the cat sat on the mat"] * 8, name="t")
    sk.train(model, corpus, hook_name=HOOK, sae=saes, config=config, progress=False, loggers=[monitor])
    fires, silent = int(index.features["n_firings"].idxmax()), int(index.features["n_firings"].idxmin())
    return {
        "highlight": sk.highlight(model, sae, f"a {HOSTILE}", index=index),
        "bare": TokenHighlight(),
        "browser": sk.explore(index, feature=fires),
        "none match": sk.explore(index, filter="no such word"),
        "card": card(index, fires),
        "rarest card": card(index, silent),
        "unused panel": sk.steer(model, sae, 3, prompt="the cat", chat=False),
        "panel": panel.run(wait=True),
        "monitor": monitor,
        "unused monitor": sk.TrainingMonitor(),
        "attention": attention_patterns(model, "a <b>", layer=0),
        "specificity": sk.score(index, query="bridge").wait(),
        "unused specificity": sk.score(index),
        "empty": FeatureCard(),
    }


@pytest.mark.slow
def test_every_widget_has_a_picture_that_is_escaped_small_and_reads_without_its_styles(
    model: Any, sae: Any, index: Any
) -> None:
    expected = {
        "highlight": "Strongest tokens",
        "bare": "0 tokens",
        "browser": "64 of 64 features",
        "none match": "No feature matches",
        "card": "Strongest contexts",
        "unused panel": "Not run yet",
        "panel": "feature 3 at 0.5",
        "monitor": "finished",
        "unused monitor": "waiting for a run",
        "attention": "4 heads of layer 0 over 6 tokens",
        "specificity": "Features for “bridge”",
        "unused specificity": "No concept is written",
    }
    for name, widget in pictures(model, sae, index).items():
        picture = widget.static_picture()
        assert picture == widget.safe_picture() and len(picture) < 50_000, name
        bare = re.sub(r' style="[^"]*"|<img src="data:image/svg[^>]*>', "", picture)
        tags = set(re.findall(r"<\s*/?\s*([a-zA-Z]+)", bare))
        assert tags <= {"div", "p", "b", "br", "span", "pre", "table", "thead", "tbody", "tr", "th", "td"}, (name, tags)
        words = html.unescape(re.sub(r"<[^>]*>", " ", bare))
        assert expected.get(name, "") in words and len(words.split()) >= 2, name
        assert re.sub(r"<[^>]*>", "", picture).count("<") == 0
        if name == "panel":
            assert HOSTILE in words


def test_a_picture_that_cannot_be_drawn_is_the_text_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = widget()
    monkeypatch.setattr(broken, "static_picture", lambda: 1 / 0)
    with pytest.warns(UserWarning, match="static picture of a TokenHighlight failed: ZeroDivisionError"):
        assert broken.safe_picture().startswith("<pre")


def test_a_notebook_gets_the_picture_and_then_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def publish(data: dict[str, Any], metadata: Any = None, **kwargs: Any) -> None:
        published.append((data, kwargs))

    monkeypatch.setattr("IPython.display.publish_display_data", publish)
    monkeypatch.setattr("saekit.widgets.base.in_a_notebook", lambda: True)
    shown = widget()
    shown.update_picture()
    assert published == [], "nothing is sent for a widget that is not shown"
    shown._ipython_display_()
    (picture, how), (view, _) = published
    assert list(picture) == ["text/html"] and how == {"transient": {"display_id": shown.picture_id}}
    assert f'data-saekit-picture="{shown.picture_id}"' in picture["text/html"] and "<script" not in picture["text/html"]
    assert set(view) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert re.sub("<!--.*?-->", "", view["text/html"]) == "", "the picture is not shown twice"
    shown.update_picture()
    assert len(published) == 2, "it is as it was"
    for feature in (1, 2, 3):
        shown.feature = feature
    deadline = time.monotonic() + 5
    while len(published) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    [(data, how)] = published[2:]
    assert how == {"transient": {"display_id": shown.picture_id}, "update": True}
    assert "activation of feature 3" in data["text/html"], "several changes are one, and the last counts"


def test_outside_a_notebook_a_widget_prints_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    widget()._ipython_display_()
    assert capsys.readouterr().out.startswith("TokenHighlight: 2 tokens")


def test_a_ping_is_answered_before_anything_else() -> None:
    shown, sent = widget(), []
    shown.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    shown._on_message(shown, {"kind": "ping", "n": 7}, [])
    shown._on_message(shown, {"kind": "ping", "n": "<b>"}, [])
    assert sent == [{"kind": "pong", "n": 7}] and "was not understood" in shown.refused


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
