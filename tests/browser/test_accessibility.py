"""axe-core on every widget: on an offline page and in JupyterLab, in both themes, wide and narrow.

The widgets are those of `WIDGETS`, in the states that `EXAMPLES` in tiny.py makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import saekit.widgets  # noqa: F401 - registers the widgets
from saekit.widgets.base import STATIC, WIDGETS, Widget
from saekit.widgets.page import save_page

from . import tiny

pytestmark = pytest.mark.browser

AXE = Path(__file__).resolve().parents[2] / "widgets/node_modules/axe-core/axe.min.js"
OWN = sorted(bundle for bundle, widget in WIDGETS.items() if widget.static == STATIC)
WIDTHS = (1280, 498)
SEVERE = ("serious", "critical")
HEAVY = 1e-9


def findings(page: Any, selector: str) -> list[str]:
    """What axe-core finds that is serious or critical in the elements that match, one line per element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf8"))  # not a script element: the page's policy forbids those
    found = page.evaluate(
        """async selector => {
            const elements = [...document.querySelectorAll(selector)];
            const { violations } = await axe.run({ include: elements }, { resultTypes: ["violations"] });
            return violations.flatMap(v => v.nodes.map(n => ({ ...n, id: v.id, impact: n.impact ?? v.impact })));
        }""",
        selector,
    )
    return [
        f"{node['impact']} {node['id']}: {node['target'][-1]} {node['html']:.120} {node['failureSummary']}"
        for node in found
        if node["impact"] in SEVERE
    ]


def test_every_widget_has_an_example() -> None:
    assert sorted(tiny.EXAMPLES) == OWN, "add the widget to EXAMPLES in tests/browser/tiny.py"


@pytest.mark.parametrize("bundle", OWN)
def test_no_serious_finding_on_a_page(page: Any, tmp_path: Path, bundle: str) -> None:
    for name, make in tiny.EXAMPLES[bundle].items():
        path = save_page(tmp_path / "page.html", name, [make()])
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(path.as_uri())
            page.wait_for_function("window.saekit?.ready")
            for theme in ("light", "dark"):
                page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
                assert findings(page, "[data-widget]") == [], f"{name}, {theme}, {width} px wide"
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide == 0, f"{name}: the page scrolls sideways by {wide} px at {width} px"


@pytest.mark.parametrize("bundle", OWN)
def test_no_serious_finding_in_jupyterlab(page: Any, notebook: Any, bundle: str) -> None:
    names = list(tiny.EXAMPLES[bundle])
    nb = notebook([f"import tiny\ntiny.EXAMPLES[{bundle!r}][{name!r}]()" for name in names])
    for i, name in enumerate(names):
        nb.run(i)
        output = nb.cell(i).locator(".jp-OutputArea-output .lm-Widget").last
        output.wait_for()
    for dark in (False, True):
        nb.theme(dark)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert findings(page, ".jp-OutputArea-output :is(.saekit, [class^=saekit])") == [], (
                f"dark: {dark}, {width} px"
            )
