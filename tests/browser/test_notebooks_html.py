"""Notebooks as nbconvert's HTML, opened with no kernel and no network: every figure and every widget is a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE.parents[1] / "notebooks").glob("*.ipynb"))
VIEW, PLOTLY = "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json"
CELLS = [
    "import tiny, saekit as sk\nfrom saekit.widgets import attention_patterns, card\nw = tiny.browser()\nw",
    "tiny.highlighted()",
    "card(tiny.trio()[2], 20)",
    "panel = tiny.panel()\npanel",
    "panel.run(wait=True)\nw.feature = 21",
    "monitor = sk.TrainingMonitor()\nmonitor",
    "trained = tiny.train([monitor])",
    "attention_patterns(tiny.trio()[0], 'a <b>cat</b>', layer=0)",
    "tiny.trio()[2].feature(20).plot()",
    "tiny.trio()[2].plot().show()",
    "print('done')",
]

pytestmark = pytest.mark.browser

BLANK = """() => {
    const isSeen = e => { const r = e.getBoundingClientRect(); return r.width > 20 && r.height > 10; };
    const shows = area => [...area.querySelectorAll('.jp-OutputArea-output')].some(output => isSeen(output) &&
        (output.innerText.trim().length > 20 || [...output.querySelectorAll('img')].some(
            i => i.complete && i.naturalWidth > 100 && isSeen(i))));
    return [...document.querySelectorAll('.jp-CodeCell')].flatMap((cell, i) =>
        cell.querySelector('.jp-OutputArea-child') && !shows(cell) ? [i] : []);
}"""


@pytest.fixture
def opened(page: Any, tmp_path: Path) -> Iterator[Callable[[Any], Any]]:
    """Opens a notebook as nbconvert writes it; every request but for the file itself is blocked."""
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())

    def visit(notebook: Any) -> Any:
        html, _ = HTMLExporter().from_notebook_node(notebook)
        (tmp_path / "notebook.html").write_text(html, "utf8")
        page.goto((tmp_path / "notebook.html").as_uri(), wait_until="load")
        return page

    yield visit


def pictured(notebook: Any) -> list[int]:
    """Numbers, among code cells, of those that show a widget or a figure."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in cells]
    return [i for i, found in enumerate(kinds) if found & {VIEW, PLOTLY}]


def assert_all_is_seen(page: Any, notebook: Any) -> None:
    wanted = pictured(notebook)
    assert [i for i in page.evaluate(BLANK) if i in wanted] == [], "cells whose figure or widget is blank"
    assert "model not found" not in page.locator("body").inner_text()
    for i in wanted:
        cell = page.locator(".jp-CodeCell").nth(i)
        assert cell.locator("img, [data-saekit-picture]").count() > 0


@pytest.fixture(scope="module")
def executed() -> Any:
    """A notebook with every widget and figures, as `jupyter nbconvert --execute` leaves it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    paths = f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]\n"
    notebook.cells[0].source = paths + notebook.cells[0].source
    return NotebookClient(notebook, timeout=120).execute()


@pytest.mark.parametrize("stored", [True, False], ids=["state stored", "no state stored"])
def test_every_widget_and_figure_is_seen(opened: Callable[[Any], Any], executed: Any, stored: bool) -> None:
    notebook = nbformat.from_dict(executed.copy())
    assert len(pictured(notebook)) == 8 and "widgets" in notebook.metadata
    if not stored:
        del notebook.metadata["widgets"]
    page = opened(notebook)
    assert_all_is_seen(page, notebook)
    for words in ("64 of 64 features", "Strongest tokens", "Strongest contexts", "> the cat", "finished", "heads of"):
        assert page.get_by_text(words).first.is_visible(), words
    card = page.locator(".jp-CodeCell").nth(0)
    assert "Feature 21" in card.inner_text(), "what was opened after the widget was shown"
    assert page.evaluate("document.body.dataset.hacked") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_committed_notebook_is_seen(opened: Callable[[Any], Any], path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert_all_is_seen(opened(notebook), notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in ("text/html", "image/svg+xml"):
                if {VIEW, PLOTLY, kind} & set(output.get("data", {})) >= {kind}:
                    assert len(output.data[kind]) < 60_000
