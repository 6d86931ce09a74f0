"""An offline page in Chromium with every request refused: its widgets answer clicks, nothing leaves the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from playwright.sync_api import expect

from saekit.plotting import image_grid
from saekit.plotting.style import figure
from saekit.training.plots import training_curves
from saekit.widgets import Text, attention_patterns, card, save_page

from . import tiny

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, a table and the four widgets."""
    _, _, index = tiny.trio()
    panel = tiny.panel()
    panel.run(wait=True)
    panel.strength = 0.9
    panel.run(wait=True)
    blocks = [
        Text(f"# Words\n\nA paragraph with {tiny.HOSTILE}."),
        tiny.highlighted(),
        tiny.browser(page_size=10).embed([20, 21, 3]),
        card(index, 3).embed([index.feature(3).neighbours[0][0]]),
        panel,
        pd.DataFrame({"text": [tiny.HOSTILE]}),
    ]
    return save_page(tmp_path_factory.mktemp("page") / "page.html", f"Title {tiny.HOSTILE}", blocks)


@pytest.fixture
def offline(page: Any) -> Iterator[Any]:
    """Opens a page with the network off; any request but for the file itself, error or blocked script fails."""
    requests: list[str] = []
    problems: list[str] = []
    opened: list[str] = []

    def visit(path: Path) -> Any:
        opened.append(path.as_uri())
        page.goto(path.as_uri())
        page.wait_for_function("window.saekit?.ready")
        return page

    page.set_default_timeout(120_000)
    page.context.set_offline(True)
    page.on("request", lambda r: requests.append(r.url) if not r.url.startswith(("data:", "blob:")) else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    yield visit
    assert requests == opened
    assert problems == []
    assert page.evaluate("document.body.dataset.hacked") is None


def test_token_pick_and_recolouring(offline: Any, path: Path) -> None:
    page = offline(path)
    w = page.locator(".saekit-highlight")
    w.locator(".sk-token").nth(3).click()
    expect(w.locator(".sk-token").nth(3)).to_have_attribute("aria-pressed", "true")
    expect(w.locator(".sk-detail")).to_contain_text("selected")
    w.locator(".sk-chip").first.click()
    expect(w.locator(".sk-legend-title")).to_have_text("Activation of feature 3")
    expect(w.locator(".sk-token").nth(3)).to_have_css("--a", "1.000")
    w.get_by_label("Colour by feature").fill("9")
    w.get_by_label("Colour by feature").press("Enter")
    expect(w.locator(".sk-token").nth(4)).to_have_css("--a", "1.000")
    assert page.locator("main img").count() == 0


def test_browser_sorts_filters_turns_pages_and_opens_embedded_cards(offline: Any, path: Path) -> None:
    w = offline(path).locator(".saekit-browser")
    numbers = lambda: [int(t) for t in w.locator("tbody td button").all_inner_texts()]  # noqa: E731
    before = numbers()
    w.get_by_role("button", name="Next page").click()
    assert not set(before) & set(numbers())
    w.get_by_role("button", name="Feature", exact=True).click()
    assert numbers() == list(range(10))
    w.locator("input[type=search]").fill("20")
    expect(w.locator(".sk-range")).to_contain_text("match")
    w.locator("tbody td button", has_text="20").click()
    expect(w.locator(".sk-open-card h3")).to_contain_text("Feature 20")
    w.locator("input[type=search]").fill("7")
    w.locator("tr[data-row='7']").click()
    expect(w.locator(".sk-open-card")).to_contain_text(
        "The card of feature 7 is not part of this page. It holds 11 cards"
    )


def test_card_steering_and_theme_answer(offline: Any, path: Path) -> None:
    page = offline(path)
    c = page.locator(".saekit-card")
    chip = c.locator(".sk-neighbours .sk-chip").first
    number = chip.get_attribute("data-feature")
    chip.click()
    expect(c.locator("h3")).to_contain_text(f"Feature {number}")
    s = page.locator(".saekit-steering")
    shown = s.locator(".sk-column.sk-steered header")
    expect(shown).to_contain_text("at 0.9")
    s.locator(".sk-history li button").first.click()
    expect(shown).to_contain_text("at 0.3")
    expect(s.get_by_role("button", name="Run", exact=True)).to_be_hidden()
    background = "getComputedStyle(document.querySelector('.saekit-card')).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(background) != light
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(background) == light


def test_figures_and_attention_are_drawn(offline: Any, tmp_path: Path) -> None:
    model, _, _ = tiny.trio()
    blocks = [
        figure("Loss").add_scatter(x=[1, 2, 3], y=[3, 1, 2]),
        go.Figure(go.Pie(values=[1, 2])),
        attention_patterns(model, "a <b>cat</b>", layer=0),
    ]
    page = offline(save_page(tmp_path / "figures.html", "Figures", blocks))
    expect(page.locator(".page-figure > svg[aria-label='Loss'] path").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .pielayer path").first).to_be_attached()
    expect(page.locator(".saekit-circuits")).to_contain_text("Head 3")
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator(".page-figure > svg text").first).to_have_css("fill", "rgb(236, 238, 241)")
    page.set_viewport_size({"width": 498, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 498


def test_words_in_a_figure_are_drawn_letter_by_letter(offline: Any, tmp_path: Path) -> None:
    word = '<b>bold</b> <a href="https://example.org">link</a> $\\frac{1}{2}$ %{y} &lt; "q"'
    history = pd.DataFrame({"n_tokens": [1, 2], "loss": [2.0, 1.0]})
    blocks = [training_curves({word: history, "$2": history}), image_grid(np.ones((1, 2, 2)), word, row_names=[word])]
    page = offline(save_page(tmp_path / "words.html", word, blocks))
    expect(page.locator("main svg text", has_text=word)).to_have_count(2)  # in the legend and the title
    expect(page.locator("main svg text", has_text=word[:30])).to_have_count(3)  # the row's name is cut
    expect(page.get_by_text("$2", exact=True)).to_be_visible()
    assert page.locator("svg :is(a, b)").count() == 0


def test_without_scripts_the_text_form_is_there(browser: Any, path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    expect(page.locator("noscript pre").first).to_contain_text("TokenHighlight: 8 tokens")
    context.close()
