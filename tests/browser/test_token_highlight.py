"""TokenHighlight in a real JupyterLab: what is clicked reaches Python, what Python sets is seen, nothing is HTML."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser

SETUP = "import tiny\nw = tiny.highlighted()\nw"
READ = "print(w.selected, repr(w.selected_token), w.feature, w.strongest['feature'].tolist())"


def test_a_clicked_token_and_chip_reach_python_and_python_recolours(page: Any, notebook: Any) -> None:
    nb = notebook([SETUP, READ, "w.feature = 9", "w.selected = 2"])
    nb.run(0)
    tokens = page.locator(".saekit-highlight .sk-token")
    expect(tokens).to_have_count(8)
    tokens.nth(3).click()
    expect(tokens.nth(3)).to_have_attribute("aria-pressed", "true")
    eventually(lambda: nb.printed(1), "3 ' Gate' None [3, 9]")

    page.locator(".saekit-highlight .sk-chip", has_text="3").first.click()
    expect(page.locator(".sk-legend-title")).to_have_text("Activation of feature 3")
    eventually(lambda: nb.printed(1), "3 ' Gate' 3 [3, 9]")

    nb.run(2)
    expect(page.locator(".sk-legend-title")).to_have_text("Activation of feature 9")
    expect(tokens.nth(4)).to_have_css("--a", "1.000")
    expect(tokens.nth(2)).to_have_css("--a", "0.000")
    nb.run(3)
    expect(tokens.nth(2)).to_have_attribute("aria-pressed", "true")


def test_tokens_are_text_and_never_html(page: Any, notebook: Any) -> None:
    nb = notebook([SETUP])
    nb.run(0)
    token = page.locator(".saekit-highlight .sk-token").nth(4)
    expect(token).to_have_text("<img src=x onerror=\"document.body.dataset.hacked='yes'\">")
    token.hover()
    expect(page.locator(".sk-detail code")).to_contain_text("<img")
    assert page.locator(".saekit-highlight img").count() == 0
    assert page.evaluate("document.body.dataset.hacked") is None


def test_keyboard_moves_and_picks_and_jupyterlab_shortcuts_stay_quiet(page: Any, notebook: Any) -> None:
    nb = notebook([SETUP, READ])
    nb.run(0)
    tokens = page.locator(".saekit-highlight .sk-token")
    tokens.nth(0).focus()
    expect(page.locator(".sk-detail")).to_contain_text("special token")
    n = nb.n_cells
    for key in ("ArrowRight", "ArrowRight", "b", "a", "d", "d", "x"):  # b, a, dd and x insert and delete cells
        page.keyboard.press(key)
    expect(tokens.nth(2)).to_be_focused()
    assert nb.n_cells == n
    page.keyboard.press("Enter")
    expect(tokens.nth(2)).to_have_attribute("aria-pressed", "true")
    assert nb.n_cells == n
    eventually(lambda: nb.printed(1), "2 ' Golden' None [3, 5]")
    tokens.nth(2).focus()
    page.keyboard.press("End")
    expect(tokens.nth(7)).to_be_focused()
    page.keyboard.press("Home")
    expect(tokens.nth(0)).to_be_focused()
