"""SpecificityPanel in a real JupyterLab: a concept is typed, features ranked, fifty contexts marked without a mouse."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)

SAME = """
import saekit as sk
p.wait()
i, c, f, u = tiny.trio()[2], p.concept, p.feature, p.unit
a, b = p.result, sk.specificity(i, f, c, unit=u)
frames = ("curve", "bins", "by_label", "controls", "control_curves")
same = str(a) == str(b) and a.concept == c and all(getattr(a, n).equals(getattr(b, n)) for n in frames)
ranked = sk.rank_features(i, c, unit=u, by=p.by)
print(same, p.ranked.equals(ranked), p.ranked.attrs == ranked.attrs, a.feature == f)
"""


def test_a_concept_is_typed_ranked_marked_and_scored(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.scoring()\np",
            "print(p.query, p.unit, p.by, p.feature, len(p.rows), p.running)",
            "print(len(p.marks), len(p.concept.marks), p.concept.unmarked.written, p.n_undo)",
            SAME,
            "print(round(p.threshold / p.scores['max'], 3))",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-specificity")
    written = panel.get_by_role("textbox", name="Concept")
    written.press_sequentially("bridge or (", delay=30)
    expect(panel.locator(".sk-query-error")).to_contain_text('something is missing after "("')
    written.fill("bridge or golden gate")
    expect(panel.locator(".sk-counts")).to_contain_text("in 11 of 41 documents")
    expect(panel.locator(".sk-snippets li")).to_have_count(4)
    rows = panel.locator(".sk-ranking tbody tr")
    expect(rows).to_have_count(20)
    expect(panel.locator(".sk-ranking tbody td.sk-p").first).not_to_have_text("…")
    first = rows.first.get_attribute("data-feature")
    eventually(lambda: nb.printed(1), f"bridge or golden gate token average_precision {first} 20 False")
    assert nb.printed(3) == "True True True True"

    n = nb.n_cells
    rows.first.get_by_role("button").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    fourth = rows.nth(3).get_attribute("data-feature")
    expect(rows.nth(3).get_by_role("button")).to_be_focused()
    expect(panel.locator("h3", has_text=f"Feature {fourth}")).to_be_visible()
    eventually(lambda: nb.printed(1), f"bridge or golden gate token average_precision {fourth} 20 False")

    slider = panel.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("PageUp")
    eventually(lambda: nb.printed(4), "0.1")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 46 + (box["width"] - 60) / 2, box["y"] + 80, steps=5)
    page.mouse.up()
    eventually(lambda: nb.printed(4), "0.5")
    slider.focus()
    page.keyboard.press("Home")

    panel.get_by_role("tab", name="False alarms").focus()
    grid = panel.get_by_role("grid", name="Contexts")
    expect(grid.get_by_role("row")).to_have_count(60)
    page.keyboard.press("Tab")
    while not page.evaluate("document.activeElement.getAttribute('role') === 'row'"):
        page.keyboard.press("Tab")
    for i in range(50):
        page.keyboard.press("x" if i % 5 else "c")
    expect(grid.locator(".sk-context[data-mark='counts']")).to_have_count(10)
    expect(grid.locator(".sk-context[data-mark='not']")).to_have_count(40)
    expect(grid.get_by_role("row").nth(50)).to_be_focused()
    eventually(lambda: nb.printed(2), '50 50 bridge or "golden gate" 50')
    grid.get_by_role("row").nth(50).focus()  # the cell that printed had it
    page.keyboard.press("k")
    page.keyboard.press("u")
    eventually(lambda: nb.printed(2), '49 49 bridge or "golden gate" 51')
    grid.get_by_role("row").nth(49).focus()
    page.keyboard.press("z")
    eventually(lambda: nb.printed(2), '50 50 bridge or "golden gate" 50')
    expect(panel.locator(".sk-counts")).to_contain_text("50 marks by hand included")
    assert nb.printed(3) == "True True True True"
    assert nb.n_cells == n


def test_documents_labels_and_a_concept_that_is_nowhere(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.scoring(query='gold')\np",
            "print(p.query, '|', p.unit, p.concept.name)",
            "p.query = 'topic:bridge'; p.unit = 'document'",
            SAME,
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-specificity")
    expect(panel.locator(".sk-nothing")).to_contain_text("matches no indexed token of this corpus. Words of the corpus")
    expect(panel.locator(".sk-ranking")).to_be_hidden()
    panel.get_by_role("textbox", name="Concept").fill("golden")
    expect(panel.locator(".sk-ranking tbody tr").first).to_be_visible()
    panel.get_by_label("Label of documents").select_option("style")
    panel.get_by_label("Value of the label").select_option("style:story")
    panel.get_by_role("button", name="Add to the concept: and not this label").click()
    eventually(lambda: nb.printed(1), "golden and not style:story | token golden and not style=story")
    nb.run(2)
    expect(panel.locator(".sk-measures tbody tr")).to_have_count(8)
    assert nb.printed(3) == "True True True True"
    assert page.evaluate("document.body.dataset.hacked") is None
    assert panel.locator("img").count() == 0
