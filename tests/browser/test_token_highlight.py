"""TokenHighlight in a real JupyterLab: what is clicked reaches Python, what Python sets is seen, nothing is HTML."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser

SETUP = "import tiny\nw = tiny.highlighted()\nw"
READ = "print(w.selected, repr(w.selected_token), w.feature, w.strongest['feature'].tolist())"
STATE = "print(w.colour_by, w.feature, w.shown_features, w.n_features_shown, w.max_density, w.filter)"


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


def test_what_stands_out_is_seen_first_and_its_controls_reach_python_without_a_mouse(page: Any, notebook: Any) -> None:
    nb = notebook([SETUP, STATE, "w.colour_by = 'strongest'"])
    nb.run(0)
    w = page.locator(".saekit-highlight")
    expect(w.locator(".sk-legend-title")).to_have_text("What stands out")
    chips = w.locator(".sk-standouts .sk-chip")
    expect(chips).to_have_count(3)
    assert [c.get_attribute("data-feature") for c in chips.all()] == ["3", "9", "5"]
    tokens = w.locator(".sk-token")
    expect(tokens.nth(3)).to_have_attribute("data-slot", "0")
    eventually(lambda: nb.printed(1), "standout None [3, 9, 5] 6 1.0")

    w.get_by_label("Features shown").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(chips).to_have_count(1)
    eventually(lambda: nb.printed(1), "standout None [3] 1 1.0")
    w.get_by_label("Features shown").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens the filters
    page.keyboard.press("Tab")
    page.keyboard.type("9")
    expect(chips.first).to_have_attribute("data-feature", "9")
    eventually(lambda: nb.printed(1), "standout None [9] 1 1.0 9")
    w.get_by_label("Highest density in percent").fill("10")
    w.get_by_label("Highest density in percent").press("Enter")
    expect(w.locator(".sk-aside")).to_contain_text("denser than 10 %, 1 special token.")
    w.locator(".sk-aside button").click()
    expect(w.locator(".sk-aside")).to_contain_text("No feature is set aside by its density")
    nb.run(2)
    expect(w.locator(".sk-legend-title")).to_have_text("Strongest activation of any feature")
    w.locator("select").select_option("feature")
    expect(w.locator(".sk-legend-title")).to_have_text("Activation of feature 9")
    eventually(lambda: nb.printed(1), "feature 9 [9] 1 1.0 9")


def test_a_long_text_fills_in_and_stops_at_a_click(page: Any, notebook: Any) -> None:
    slow = """import tiny, time, saekit as sk
from saekit.widgets import highlight_reading, token_highlight
plain = highlight_reading.read_windows
def slowly(*args):
    for part in plain(*args):
        time.sleep(0.4)
        yield part
token_highlight.read_windows = slowly
token_highlight.SECONDS = 0.0
model, sae, index = tiny.trio()
w = sk.highlight(model, sae, "a cat sat on the golden gate\\n" * 60, index=index)
w"""
    nb = notebook([slow, "print(w.reading, 0 < w.n_read < len(w.tokens), len(w.standouts) > 0)"])
    nb.run(0)
    w = page.locator(".saekit-highlight")
    expect(w.locator("progress")).to_be_visible()
    expect(w.locator(".sk-reading")).to_contain_text("a second")
    assert w.locator(".sk-token").count() > 1500
    expect(w.locator(".sk-token[data-slot]").first).to_be_visible()
    w.get_by_role("button", name="Stop").click()
    expect(w.locator("progress")).to_be_hidden()
    expect(w.locator(".sk-reading")).to_contain_text("Stopped after")
    eventually(lambda: nb.printed(1), "False True True")
    expect(w.locator(".sk-aside")).to_contain_text("tokens not read")


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
    page.keyboard.press("ArrowRight")  # the selection goes with the focus
    expect(tokens.nth(3)).to_have_attribute("aria-pressed", "true")
    eventually(lambda: nb.printed(1), "3 ' Gate' None [3, 9]")
    tokens.nth(3).focus()
    page.keyboard.press("End")
    expect(tokens.nth(7)).to_be_focused()
    page.keyboard.press("Home")
    expect(tokens.nth(0)).to_be_focused()
