"""A notebook that is saved and opened again in a real JupyterLab: the widgets' pictures are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CELLS = [
    "import tiny\nw = tiny.browser(page_size=10)\nw",
    "p = tiny.panel()\np",
    "p.run(wait=True).texts['steered']",
    "tiny.trio()[2].feature(20).plot()",
]
SESSION = "window.jupyterapp.shell.currentWidget.sessionContext"
PICTURE = "[data-saekit-picture]"


@pytest.fixture
def saved(page: Any, lab: Any, notebook: Any, request: pytest.FixtureRequest) -> Path:
    """A notebook with two widgets and a figure, run, changed after it was shown, saved, and its kernel shut down."""
    nb = notebook(CELLS)
    for i in range(len(CELLS)):
        nb.run(i)
    for kind in ("browser", "steering"):
        expect(page.locator(f".saekit-{kind}")).to_be_visible()
    assert page.locator(PICTURE).count() == 2
    for i in range(2):
        expect(page.locator(PICTURE).nth(i)).to_be_hidden()
    expect(page.locator(".jp-OutputArea-child:visible")).to_have_count(4)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.evaluate(f"{SESSION}.shutdown()")
    path: Path = lab.root / f"{request.node.name.split('[')[0]}.ipynb"
    return path


def reopen(page: Any, lab: Any, name: str) -> None:
    page.goto(f"{lab.base}/lab/tree/{name}?token={lab.token}&reset")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length >= 1", timeout=120_000)


def assert_pictures_are_read(page: Any) -> None:
    """Both widgets' pictures with what was on them last, and no error beside them."""
    pictures = page.locator(PICTURE if page.locator(PICTURE).count() else ".jp-RenderedHTML:has(table)")
    expect(pictures).to_have_count(2)
    expect(pictures.nth(0)).to_be_visible()
    expect(pictures.nth(0)).to_contain_text("64 of 64 features")
    expect(pictures.nth(1)).to_be_visible()
    expect(pictures.nth(1)).to_contain_text("> the cat"), "the replies came after the panel was shown"
    for words in ("Error displaying widget", "Loading widget"):
        for found in page.get_by_text(words).all():
            expect(found).to_be_hidden()


def test_with_another_kernel(page: Any, lab: Any, saved: Path) -> None:
    reopen(page, lab, saved.name)
    page.evaluate(f"{SESSION}.ready")
    page.get_by_text("model not found").first.wait_for(state="attached", timeout=60_000)
    assert_pictures_are_read(page)
    expect(page.locator(".jp-RenderedPlotly").last).to_be_visible()


def test_from_someone_else_and_with_no_kernel(page: Any, lab: Any, saved: Path) -> None:
    """A notebook that this user has not run is not trusted: JupyterLab shows safe HTML in place of views."""
    holds(saved)
    content = json.loads(saved.read_text("utf8"))
    content["metadata"]["from"] = "someone else"
    other = saved.with_name("untrusted.ipynb")
    other.write_text(json.dumps(content), "utf8")
    reopen(page, lab, other.name)
    page.evaluate(f"{SESSION}.ready")
    assert page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets[0].model.trusted") is False
    assert_pictures_are_read(page)
    page.evaluate(f"{SESSION}.shutdown()")
    assert_pictures_are_read(page)


def holds(path: Path) -> None:
    content = json.loads(path.read_text("utf8"))
    found = [output["data"] for cell in content["cells"] for output in cell["outputs"]]
    found[5].pop("image/png", None)  # plotly's own extension adds one once JupyterLab has drawn
    assert [sorted(data) for data in found] == [
        ["text/html"],
        ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"],
        ["text/html"],
        ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"],
        ["text/plain"],
        ["application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"],
    ]
    assert len(json.dumps(found[0])) < 50_000 and len(json.dumps(found[5]["image/svg+xml"])) < 50_000
    assert "<script" not in json.dumps([found[0], found[2], found[5]["image/svg+xml"]])
    assert "widgets" not in content["metadata"], "JupyterLab keeps no state unless told to"
