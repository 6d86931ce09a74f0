"""Displays of results in Chromium: their whiskers are where the numbers say, and narrow and dark pages show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import saekit as sk
from saekit.display import Intervals, Words, document, table
from saekit.statistics import Estimate

from . import tiny

pytestmark = pytest.mark.browser

MIDDLES = """() => [...document.querySelectorAll('.saekit-axis')].map(axis => {
  const { left, width } = axis.getBoundingClientRect(), of = e => e.getBoundingClientRect();
  const point = of(axis.querySelector('b')), line = of(axis.querySelector('i'));
  return [(point.left + point.width / 2 - left) / width, (line.left - left) / width, (line.right - left) / width];
})"""
COLOURS = """() => {
  const seen = e => getComputedStyle(e);
  return [seen(document.body).color, seen(document.querySelector('.saekit-title')).color];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whiskers_and_words_stand_out(page: Any, scheme: str) -> None:
    values = Intervals("value", [0.5, 0.9], low=[0.25, 0.8], high=[0.75, 1.0], axis=(0.0, 1.0))
    html = document("Two", "", table([Words("", ["a", "b"]), values]))
    page.emulate_media(color_scheme=scheme)
    page.set_content(f"<style>body{{color-scheme:{scheme};background:Canvas;color:CanvasText}}</style>{html}")
    for found, wanted in zip(page.evaluate(MIDDLES), [[0.5, 0.25, 0.75], [0.9, 0.8, 1.0]], strict=True):
        assert found == pytest.approx(wanted, abs=0.01)
    body, title = page.evaluate(COLOURS)
    assert body == title == ("rgb(255, 255, 255)" if scheme == "dark" else "rgb(0, 0, 0)")


def test_results_on_an_offline_page_break_no_rule_of_it(page: Any, tmp_path: Path) -> None:
    model, sae, index = tiny.trio()
    feature = int(index.features["density"].idxmax())
    blocks = [model, sae, sae.config, index.feature(feature), Estimate(0.5, 0.25, 0.75, n_units=9, unit="documents")]
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.set_viewport_size({"width": 498, "height": 800})
    page.goto(sk.save_page(tmp_path / "page.html", "Results", blocks).as_uri())
    page.wait_for_function("window.saekit?.ready")
    displays = page.locator(".saekit-display")
    assert displays.count() == 5 and problems == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    details = displays.nth(1).locator("details").first
    details.locator("> summary").click()
    assert details.evaluate("d => d.open")
