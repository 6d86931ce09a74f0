"""FeatureBrowser, FeatureCard and SteeringPanel in a real JupyterLab: clicks and keys become Python values."""

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
        ]
    )
    nb.run(0)
    table = page.locator(".saekit-browser table")
    shown = lambda: [int(t) for t in table.locator("tbody td button").all_inner_texts()]  # noqa: E731
    expect(table.locator("tbody tr")).to_have_count(10)
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "density True 0 -1 ")

    table.get_by_role("button", name="Max").click()
    expect(table.locator("th").nth(2)).to_have_attribute("aria-sort", "descending")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max True 0 -1 ")
    table.get_by_role("button", name="Max").click()
    expect(table.locator("th").nth(2)).to_have_attribute("aria-sort", "ascending")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max False 0 -1 ")

    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".sk-range")).to_contain_text("Rows 11–20 · page 2 of 7")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), "max False 1 -1 ")

    feature = shown()[2]
    table.locator("tbody tr").nth(2).click()
    card = page.locator(".saekit-browser .saekit-card-body")
    expect(card.locator("h3")).to_have_text(f"Feature {feature}")
    eventually(lambda: nb.printed(2), f"{feature} {feature}")

    neighbour = card.locator(".sk-neighbours .sk-chip").first
    number = neighbour.get_attribute("data-feature")
    neighbour.click()
    expect(card.locator("h3")).to_have_text(f"Feature {number}")
    eventually(lambda: nb.printed(2), f"{number} {number}")

    page.locator(".saekit-browser input[type=search]").fill("GOLD")
    expect(page.locator(".sk-range")).to_contain_text("features match")
    eventually(lambda: nb.printed(1).removesuffix(str(shown())), f"max False 0 {number} ")
    nb.run(3)
    expect(table.locator("tbody td button").first).to_have_text("0")
    expect(page.locator(".saekit-browser .sk-opened")).to_be_hidden()


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
    head = page.locator(".saekit-browser th button").nth(1)
    head.focus()
    page.keyboard.press("Space")
    expect(page.locator(".saekit-browser th").nth(1)).to_have_attribute("aria-sort", "ascending")
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
    expect(card.locator("h3")).to_have_text("Feature 3")
    expect(card.get_by_role("img", name="Histogram of")).to_be_visible()
    chip = card.locator(".sk-neighbours .sk-chip").nth(1)
    number = chip.get_attribute("data-feature")
    chip.click()
    expect(card.locator("h3")).to_have_text(f"Feature {number}")
    eventually(lambda: nb.printed(1), f"{number} {number}")


def test_slider_and_fields_reach_python_and_run_writes_both_texts(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.panel()\np",
            "print(p.strength, p.unit, p.feature, p.positions, repr(p.prompt))",
            "print(p.running, p.normal_text == tiny.written(p, False), p.steered_text == tiny.written(p, True))",
            "p.strength, p.unit = 4.0, 'max'",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    slider = panel.get_by_role("slider", name="Strength")
    eventually(lambda: nb.printed(1), "0.5 norm 3 all 'the cat'")
    slider.focus()
    n = nb.n_cells
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    eventually(lambda: nb.printed(1), "0.6 norm 3 all 'the cat'")
    assert nb.n_cells == n
    panel.get_by_label("Strength as a number").fill("0.85")
    panel.get_by_role("spinbutton", name="Feature").fill("5")
    panel.get_by_label("Applied to").select_option("generated")
    panel.get_by_label("Prompt", exact=True).fill("a cat\nsat")
    eventually(lambda: nb.printed(1), "0.85 norm 5 generated 'a cat\\nsat'")
    expect(panel.locator(".sk-name-of")).to_contain_text("promotes")

    panel.get_by_role("button", name="Run").click()
    expect(panel.locator("output")).to_contain_text("Done")
    eventually(lambda: nb.printed(2), "False True True")

    nb.run(3)
    expect(slider).to_have_value("4")
    expect(panel.get_by_label("Unit of strength")).to_have_value("max")


def test_stop_and_errors_in_the_panel(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.slow_panel()\np",
            "print(p.running, p.done < 500, p.normal_text[:6])",
            "p.run()\nNone",
            "print(p.error)",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    panel.get_by_role("button", name="Run").click()
    expect(panel.locator(".sk-normal .sk-said")).to_contain_text("word2")
    expect(panel.locator(".sk-steered .sk-said")).to_contain_text("<img src=x")
    assert panel.locator("img").count() == 0
    panel.get_by_role("button", name="Stop").click()
    expect(panel.locator("output")).to_contain_text("Stopped after")
    eventually(lambda: nb.printed(1), "False True word0")
    panel.get_by_role("spinbutton", name="Feature").fill("13")
    panel.get_by_role("spinbutton", name="Feature").press("Enter")
    panel.get_by_role("button", name="Run").click()
    expect(panel.get_by_role("alert")).to_have_text("RuntimeError: feature 13 brings bad luck <b>here</b>")
    expect(panel.get_by_role("button", name="Run")).to_be_enabled()
    eventually(lambda: nb.printed(3), "RuntimeError: feature 13 brings bad luck <b>here</b>")
