"""FeatureBrowser and FeatureCard in a real JupyterLab: clicks and keys become Python values."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser


def test_sorting_filtering_paging_and_opening_a_card_reach_python(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\nb = tiny.browser(page_size=10)\nb",
            "print(b.sort, b.descending, b.page, b.feature, b.rows.index.tolist())",
            "print(b.record.feature, b.card['feature'])",
            "b.sort, b.descending, b.filter, b.feature = 'feature', False, '', -1",
            "print(b.card['names'][str(b.feature)])",
        ]
    )
    nb.run(0)
    table = page.locator(".saekit-browser table")
    shown = lambda: [int(t) for t in table.locator("tbody td button").all_inner_texts()]  # noqa: E731
    expect(table.locator("tbody tr")).to_have_count(10)
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "density True 0 -1 ")

    table.get_by_role("button", name="Max").click()
    expect(table.locator("th").nth(3)).to_have_attribute("aria-sort", "descending")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max True 0 -1 ")
    table.get_by_role("button", name="Max").click()
    expect(table.locator("th").nth(3)).to_have_attribute("aria-sort", "ascending")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max False 0 -1 ")

    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".sk-range")).to_contain_text("Rows 11–20 · page 2 of 7")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max False 1 -1 ")

    feature = shown()[2]
    table.locator("tbody tr").nth(2).click()
    card = page.locator(".saekit-browser .saekit-card-body")
    expect(card.locator("h3")).to_contain_text(f"Feature {feature} ")
    eventually(lambda: nb.printed(2), f"{feature} {feature}")
    expect(card.locator("h3 bdi")).to_have_text(nb.printed(4))

    neighbour = card.locator(".sk-neighbours .sk-chip").first
    number = neighbour.get_attribute("data-feature")
    neighbour.click()
    expect(card.locator("h3")).to_contain_text(f"Feature {number}")
    eventually(lambda: nb.printed(2), f"{number} {number}")

    page.locator(".saekit-browser input[type=search]").fill("GOLD")
    expect(page.locator(".sk-range")).to_contain_text("features match")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), f"max False 0 {number} ")
    nb.run(3)
    expect(table.locator("tbody td button").first).to_have_text("0")
    expect(page.locator(".saekit-browser .sk-open-card")).to_be_hidden()


def test_contexts_are_text_and_never_html(page: Any, notebook: Any) -> None:
    nb = notebook(["import tiny\nb = tiny.browser(page_size=64)\nb", "print(b.feature)"])
    nb.run(0)
    page.locator(".saekit-browser tbody td button").first.click()
    tabs = page.locator(".saekit-browser [role=tab]")
    expect(tabs).to_have_count(11)
    for i in range(11):
        tabs.nth(i).click()
    assert page.locator(".saekit-browser img").count() == 0
    assert page.evaluate("document.body.dataset.hacked") is None


def test_keyboard_walks_the_table_and_the_tabs(page: Any, notebook: Any) -> None:
    nb = notebook(["import tiny\nb = tiny.browser()\nb", "print(b.feature, b.sort, b.descending)"])
    nb.run(0)
    rows = page.locator(".saekit-browser tbody td button")
    n = nb.n_cells
    rows.first.focus()
    for key in ("ArrowDown", "ArrowDown", "b", "x", "d", "d"):
        page.keyboard.press(key)
    expect(rows.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".saekit-card-body h3")).to_be_visible()
    expect(rows.nth(2)).to_be_focused()
    eventually(lambda: nb.printed(1), f"{rows.nth(2).inner_text()} density True")
    tabs = page.locator(".saekit-browser [role=tab]")
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tabs.nth(1)).to_be_focused()
    expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
    head = page.locator(".saekit-browser th button").nth(2)
    head.focus()
    page.keyboard.press("Space")
    expect(page.locator(".saekit-browser th").nth(2)).to_have_attribute("aria-sort", "ascending")
    assert nb.n_cells == n


def test_card_follows_its_neighbours(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\nfrom saekit.widgets import card\nw = card(tiny.trio()[2], 3)\nw",
            "print(w.feature, w.record.feature)",
        ]
    )
    nb.run(0)
    card = page.locator(".saekit-card")
    expect(card.locator("h3")).to_contain_text("Feature 3")
    expect(card.get_by_role("img", name="Histogram of")).to_be_visible()
    chip = card.locator(".sk-neighbours .sk-chip").nth(1)
    number = chip.get_attribute("data-feature")
    chip.click()
    expect(card.locator("h3")).to_contain_text(f"Feature {number}")
    eventually(lambda: nb.printed(1), f"{number} {number}")
