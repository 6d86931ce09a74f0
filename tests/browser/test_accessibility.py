"""axe-core on every widget: on an offline page and in JupyterLab, in both themes, wide and narrow.

The widgets are those of `WIDGETS`, in the states that `EXAMPLES` in tiny.py makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saekit.widgets import FeatureBrowser, save_page
from saekit.widgets.base import STATIC, WIDGETS

from . import tiny

pytestmark = pytest.mark.browser

AXE = Path(__file__).resolve().parents[2] / "widgets/node_modules/axe-core/axe.min.js"
OWN = sorted(bundle for bundle, widget in WIDGETS.items() if widget.static == STATIC)
WIDTHS = (1280, 498)
THEMES = ("light", "dark")
SEVERE = ("serious", "critical")
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"


def add_axe(page: Any) -> None:
    """Makes `axe` known to the page's scripts, and colours change at once."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf8"))  # not by a script element: the page's policy forbids those
        page.evaluate(
            """text => {
                const sheet = new CSSStyleSheet();
                sheet.replaceSync(text);
                document.adoptedStyleSheets.push(sheet);
            }""",
            STILL,
        )


def findings(page: Any, selector: str) -> list[str]:
    """What axe-core finds that is serious or critical in the elements that match, one line per element."""
    add_axe(page)
    found = page.evaluate(
        """async selector => {
            const include = [...document.querySelectorAll(selector)];
            if (include.length === 0) throw new Error(`nothing matches ${selector}`);
            const { violations } = await axe.run({ include }, { resultTypes: ["violations"] });
            return violations.flatMap(v => v.nodes.map(n => ({ ...n, id: v.id, impact: n.impact ?? v.impact })));
        }""",
        selector,
    )
    severe = [node for node in found if node["impact"] in SEVERE]
    return [f"{n['impact']} {n['id']}: {n['target'][-1]} {n['html']:.120} {n['failureSummary']}" for n in severe]


def open_page(page: Any, path: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_function("window.saekit?.ready")


def set_theme(page: Any, theme: str) -> None:
    page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)


def sideways(page: Any) -> int:
    """By how many pixels the page scrolls sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_every_widget_has_an_example() -> None:
    assert sorted(tiny.EXAMPLES) == OWN, "add the widget to EXAMPLES in tests/browser/tiny.py"


@pytest.mark.parametrize("bundle", OWN)
def test_no_serious_finding_on_a_page(page: Any, tmp_path: Path, bundle: str) -> None:
    for name, make in tiny.EXAMPLES[bundle].items():
        path = save_page(tmp_path / "page.html", name, [make()])
        for width in WIDTHS:
            open_page(page, path, width)
            for theme in THEMES:
                set_theme(page, theme)
                assert findings(page, "[data-widget]") == [], f"{name}, {theme}, {width} px wide"
                assert sideways(page) == 0, f"{name}, {width} px wide"


@pytest.mark.parametrize("bundle", OWN)
def test_no_serious_finding_in_jupyterlab(page: Any, notebook: Any, bundle: str) -> None:
    states = list(tiny.EXAMPLES[bundle])
    nb = notebook([f"import tiny\ntiny.EXAMPLES[{bundle!r}][{name!r}]()" for name in states])
    for i in range(len(states)):
        nb.run(i)
        nb.cell(i).locator(".saekit, .saekit-circuits canvas").first.wait_for()
    for dark in (False, True):
        nb.theme(dark)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            shown = ".jp-OutputArea-output :is(.saekit, .saekit-circuits)"
            assert findings(page, shown) == [], f"dark: {dark}, {width} px wide"


def test_text_on_every_heat_can_be_read(page: Any, tmp_path: Path) -> None:
    path = save_page(tmp_path / "page.html", "Heat", [tiny.highlighted(), tiny.opened_browser()])
    open_page(page, path, 1280)
    add_axe(page)
    for theme in THEMES:
        set_theme(page, theme)
        n, lowest, highest = page.evaluate(
            """() => {
                const { getForegroundColor, getBackgroundColor, getContrast } = axe.commons.color;
                const copies = [".saekit-highlight .sk-token:not(.sk-excluded)", ".sk-contexts mark"].flatMap(name => {
                    const token = document.querySelector(name);
                    return Array.from({ length: 101 }, (_, heat) => {
                        const copy = token.cloneNode(true);
                        copy.style.setProperty("--a", heat / 100);
                        copy.style.backgroundImage = "none";  // the line below the text, which axe cannot see through
                        token.parentElement.append(copy);
                        return copy;
                    });
                });
                axe.setup(document.documentElement);
                const contrasts = copies.map(token => {
                    const background = getBackgroundColor(token);
                    return getContrast(background, getForegroundColor(token, false, background));
                });
                axe.teardown();
                for (const copy of copies) copy.remove();
                return [contrasts.length, Math.min(...contrasts), Math.max(...contrasts)];
            }"""
        )
        assert n == 202 and 4.5 <= lowest < highest - 3, theme


LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunter"
HARD_ROWS = [
    ("a name of forty characters, or nearly so", 1.234e-7, 12345.6, 1_234_567, f"{LONG}  {LONG}", LONG),
    ("שלום, עולם", 0.5, 0.00012, 12, "שלום  עולם", " שלום"),
    ("<script>alert(1)</script>", 0.2, 50.200001, 999, "<b>", "</b>"),
    ("漢字の名前はとても長いことがあります", 0.0123456, 1e12, 3, "漢字", "漢字" * 30),
    ("", 0.1, 3.00001, 5, "", "."),
]


@pytest.mark.parametrize("width", [1280, 700, 498, 360])
def test_firing_tokens_and_numbers_are_never_cut(page: Any, tmp_path: Path, width: int) -> None:
    before, after = "…twenty-six characters or ", " and sixty more after it, which may be cut, as they are long"
    rows = [(*row[:-1], f"{before}\x02{row[-1]}\x03{after}") for row in HARD_ROWS]
    columns = ["name", "density", "max", "n_firings", "promoted", "example"]
    table = FeatureBrowser(pd.DataFrame(rows, columns=columns), page_size=10)
    open_page(page, save_page(tmp_path / "page.html", "Hard", [table]), width)
    assert sideways(page) == 0
    out = page.evaluate(
        """() => {
            const box = e => e.getBoundingClientRect();
            const words = document.createRange();
            const problems = [];
            for (const cell of document.querySelectorAll("td.sk-right")) {
                words.selectNodeContents(cell);
                const [text, own] = [box(words), box(cell)];
                if (text.left < own.left - 0.5 || text.right > own.right + 0.5) problems.push(cell.textContent);
            }
            for (const mark of document.querySelectorAll("td mark")) {
                words.setStart(mark.firstChild, mark.textContent.search(/\\S/));
                words.setEnd(mark.firstChild, mark.textContent.search(/\\S/) + 1);
                const [first, shown] = [box(words), box(mark.closest(".sk-context"))];
                if (first.bottom > shown.bottom + 1 || first.right > shown.right + 1) problems.push(mark.textContent);
            }
            return problems;
        }"""
    )
    assert out == []
    assert "50.2" in page.locator("td.sk-max").all_inner_texts()
