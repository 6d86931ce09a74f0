"""Static pictures of figures: where things are drawn, what is written, what is refused, what a notebook keeps."""

from __future__ import annotations

import base64
import json
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from saekit.plotting import image_grid
from saekit.plotting.figures import Figure, subplots
from saekit.plotting.picture import draw_svg
from saekit.plotting.picture_axes import Axis, CannotDrawError
from saekit.plotting.picture_text import lines_of, number, plain
from saekit.plotting.style import BLUE, ORANGE, band, figure, note

SVG = "{http://www.w3.org/2000/svg}"


def drawn(fig: Any, **kwargs: Any) -> ElementTree.Element:
    return ElementTree.fromstring(draw_svg(fig, **kwargs))


def words(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def lines(root: ElementTree.Element, colour: str) -> list[list[tuple[float, float]]]:
    """The points of every path with this line colour."""
    paths = [e for e in root.iter(f"{SVG}path") if e.get("stroke") == colour]
    return [[(float(a), float(b)) for a, b in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", e.get("d"))] for e in paths]


def test_a_line_is_drawn_where_its_values_lie() -> None:
    fig = figure("t").add_scatter(x=[0, 5, 10], y=[0, 10, 20], mode="lines", line={"color": ORANGE})
    fig.update_xaxes(range=[0, 10]).update_yaxes(range=[0, 20])
    [((x0, y0), (x1, y1), (x2, y2))] = lines(drawn(fig), ORANGE)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.2) and y1 == pytest.approx((y0 + y2) / 2, abs=0.2)
    assert x0 < x2 and y0 > y2, "up is less in pixels"
    assert (x0, y0) == (64, 324) and (x2, y2) == (736, 80), "the corners of the panel that the margins leave"


def test_a_log_axis_a_gap_and_a_missing_value() -> None:
    fig = figure("t").add_scatter(x=[1, 10, 100, 1000], y=[1, None, 3, 4], mode="lines", line={"color": BLUE})
    fig.update_xaxes(type="log", range=[0, 3])
    root = drawn(fig)
    [points] = lines(root, BLUE)
    assert [round(x) for x, _ in points] == [64, 512, 736] and len(points) == 3
    [path] = [e.get("d") for e in root.iter(f"{SVG}path") if e.get("stroke") == BLUE]
    assert path.count("M") == 2, "not drawn across what is missing"
    assert {"1", "10", "100", "1000"} <= set(words(root))


def test_error_bars_bands_bars_and_their_words() -> None:
    fig = figure("t")
    fig.add_bar(x=["a", "b"], y=[10, 5], text=["ten", "five"], textposition="outside", marker={"color": ORANGE})
    errors = {"array": [2, np.nan], "arrayminus": [4, np.nan], "color": BLUE, "thickness": 1.5, "width": 0}
    fig.update_traces(error_y=errors)
    root = drawn(fig)
    [bars] = [e.get("d") for e in root.iter(f"{SVG}path") if e.get("fill") == ORANGE]
    (top_a, floor_a), (top_b, floor_b) = (
        sorted(map(float, pair)) for pair in re.findall(r"M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)", bars)
    )
    assert floor_a == floor_b and (floor_a - top_a) == pytest.approx(2 * (floor_b - top_b), rel=0.01)
    [((_, low), (_, high))] = lines(root, BLUE)
    unit = (floor_a - top_a) / 10
    assert low == pytest.approx(top_a + 4 * unit, abs=0.3) and high == pytest.approx(top_a - 2 * unit, abs=0.3)
    assert {"a", "b", "ten", "five"} <= set(words(root))
    region = figure("t").add_trace(band([1, 2], [1, 1], [2, 3], ORANGE, "b"))
    [closed] = [e for e in drawn(region).iter(f"{SVG}path") if e.get("fill") == "rgba(224,108,0,0.2)"]
    assert closed.get("d").endswith("Z") and closed.get("d").count("L") == 3


def test_a_histogram_counts() -> None:
    fig = figure("t").add_histogram(x=[0.1, 0.2, 0.3, 5.5], nbinsx=6, marker_color=ORANGE)
    [bars] = [e.get("d") for e in drawn(fig).iter(f"{SVG}path") if e.get("fill") == ORANGE]
    heights = [abs(float(a) - float(b)) for a, b in re.findall(r"M[\d.]+ ([\d.]+)H[\d.]+V([\d.]+)", bars)]
    assert len(heights) == 2 and max(heights) == pytest.approx(3 * min(heights), rel=0.01)


def test_pixels_of_a_heatmap() -> None:
    fig = image_grid(np.array([[[1.0, -1.0], [0.0, 0.5]]]), "t")
    root = drawn(fig)
    [image] = list(root.iter(f"{SVG}image"))
    assert float(image.get("width")) == pytest.approx(float(image.get("height"))), "square pixels"
    data = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
    assert struct.unpack(">II", data[16:24]) == (2, 2)
    length = struct.unpack(">I", data[33:37])[0]
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(2, 9)[:, 1:].reshape(2, 2, 4)
    assert rows[0, 0].tolist() == [0xE0, 0x6C, 0, 255] and rows[0, 1].tolist() == [0x2F, 0x82, 0xD0, 255]
    assert rows[1, 0, 3] in (0, 1) and 120 < rows[1, 1, 3] < 135


def test_legend_title_notes_and_labels_are_written() -> None:
    fig = figure("Title", "subtitle &lt;")
    for name in ("first", "second"):
        fig.add_scatter(x=[1, 2], y=[1, 2], name=name, mode="lines+markers")
    fig.add_vline(x=3, line={"color": BLUE})
    note(fig, "a note")
    fig.update_xaxes(title_text="across", tickformat=".0%").update_yaxes(title_text="up<br>here")
    root = drawn(fig)
    assert {"Title", "first", "second", "a note", "across", "uphere"} <= set(words(root))
    assert {"100%", "200%", "300%"} <= set(words(root)), "a line in the axis' units is within what it shows"
    assert root.get("aria-label") == "Title" and root.get("role") == "img"
    assert "trace" not in " ".join(words(drawn(figure("t").add_scatter(y=[1, 2])))), "one trace has no legend"


def test_panels_keep_their_places_and_share_ranges() -> None:
    fig = figure("t", fig=subplots(rows=2, cols=1, shared_xaxes=True))
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": ORANGE}, row=1, col=1)
    fig.add_scatter(x=[0, 4], y=[0, 1], mode="lines", line={"color": BLUE}, row=2, col=1)
    root = drawn(fig.update_layout(showlegend=False))
    [upper], [lower] = lines(root, ORANGE), lines(root, BLUE)
    assert (upper[1][0] - upper[0][0]) * 4 == pytest.approx(lower[1][0] - lower[0][0], abs=0.5)
    assert max(y for _, y in upper) < min(y for _, y in lower)
    assert len({e.get("id") for e in root.iter(f"{SVG}clipPath")}) == 2
    other = drawn(figure("other").add_scatter(y=[1, 2]))
    ids = [e.get("id") for r in (root, other) for e in r.iter(f"{SVG}clipPath")]
    assert len(ids) == len(set(ids)), "pictures on one page share no names"


@pytest.mark.parametrize(
    ("fig", "what"),
    [
        (go.Figure(go.Pie(values=[1, 2])), "type pie"),
        (go.Figure(go.Scatter(x=["2024-01-01"], y=[1]), {"xaxis": {"type": "date"}}), "type date"),
        (go.Figure(go.Scatter(x=[1], y=[1], marker={"symbol": "hash"})), "marker hash"),
        (go.Figure(go.Scatter(x=[1, 2], y=[1, 2], mode="markers", marker={"color": [1, 2]})), "scale of numbers"),
        (go.Figure([go.Bar(y=[1]), go.Bar(y=[2])], {"barmode": "stack"}), "mode stack"),
        (go.Figure(layout={"images": [{"source": "x"}]}), "with images"),
        (
            go.Figure(layout={"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}),
            "shape of type circle",
        ),
    ],
)
def test_what_has_no_static_form_is_said_and_never_drawn_wrongly(fig: go.Figure, what: str) -> None:
    with pytest.raises(CannotDrawError, match=what):
        draw_svg(fig)
    assert Figure(fig).static_picture() == ""


def test_a_figure_of_nothing_and_one_of_plotlys_own_are_drawn() -> None:
    assert "<svg" in draw_svg(go.Figure()) and "nothing" in " ".join(words(drawn(_empty())))
    plain_figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    root = drawn(json.loads(plain_figure.to_json()))
    assert [e.get("fill") for e in root.iter(f"{SVG}rect") if e.get("fill")] == ["white", "#E5ECF6"]


def _empty() -> go.Figure:
    fig = figure("t")
    note(fig, "nothing")
    return fig


def test_the_text_colour_can_be_the_pages() -> None:
    svg = draw_svg(figure("t").add_scatter(y=[1, 2]), text="currentColor")
    assert 'fill="currentColor"' in svg and "#7C7C7C" not in svg


def test_many_points_stay_small() -> None:
    rng = np.random.default_rng(0)
    fig = figure("t").add_scatter(x=rng.normal(size=20_000), y=rng.normal(size=20_000), mode="markers")
    assert len(draw_svg(fig)) < 400_000
    steady = figure("t").add_scatter(y=np.sin(np.arange(100_000) / 1000), mode="lines")
    assert len(draw_svg(steady)) < 400_000


# ---- what a notebook keeps --------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The bundles that are displayed."""
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_a_notebook_keeps_plotlys_data_and_the_picture(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")
    fig = figure("Loss <1").add_scatter(y=[1, 2])
    fig._ipython_display_()
    fig.show()
    for bundle in shown:
        assert set(bundle) == {"application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"}
        assert bundle["text/plain"] == "Figure: Loss <1" and bundle["image/svg+xml"] == fig.static_picture()
    assert len(shown) == 2
    assert isinstance(fig.update_layout(height=300), Figure) and isinstance(subplots(cols=2), go.Figure)


def test_html_with_scripts_holds_the_picture_until_plotly_has_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pio.renderers, "default", "colab")
    html = figure('A "title"').add_scatter(y=[1, 2])._repr_mimebundle_()["text/html"]
    assert html.index("data:image/svg+xml;base64,") < html.index("plotly-graph-div")
    assert 'alt="A &quot;title&quot;"' in html


def test_without_a_static_form_plotlys_data_are_shown_alone(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")
    Figure(go.Pie(values=[1]))._ipython_display_()
    assert [set(bundle) for bundle in shown] == [{"application/vnd.plotly.v1+json"}]


# ---- numbers and words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.256, ".1%", "25.6%"),
        (0.5, ".0%", "50%"),
        (1234567, "~s", "1.23457M"),
        (2_000_000, "~s", "2M"),
        (1500, ".3s", "1.5k"),
        (1234, ",d", "1,234"),
        (-3.0, "", "−3"),
        (123456, "", "123.456k"),
        (0.00002, "", "20µ"),
        (2.5, ".2f", "2.50"),
        (float("nan"), "", ""),
    ],
)
def test_tick_labels(value: float, form: str, text: str) -> None:
    assert number(value, form) == text


def test_markup_is_read_as_plotly_reads_it() -> None:
    assert plain("<b>a</b> &lt;i&gt;<br>c &#36;5 <sup>2</sup>") == "a <i> c $5 2"
    assert [run.bold for run in lines_of("<b>x</b>y")[0]] == [True, False]


def test_ticks_are_round_and_few() -> None:
    axis = Axis("x", {})
    axis.add(axis.places([0.0, 0.97]))
    axis.fit(0, 600)
    labels = [label for _, label in axis.ticks()]
    assert labels[0] == "0" and 4 <= len(labels) <= 11 and all(len(label) <= 4 for label in labels)
    few = Axis("y", {"type": "log"})
    few.add(few.places([1e-9, 1e9]))
    few.fit(400, 0)
    assert len(few.ticks()) <= 9 and few.ticks()[-1][1].startswith("10")
