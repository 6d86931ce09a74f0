"""SteeringPanel in a real JupyterLab: a run, a sweep, a stop and chat turns, driven as a person would."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser


def test_controls_reach_python_and_run_writes_every_condition(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.panel()\np",
            "print(p.strength, p.unit, p.feature, p.positions, repr(p.prompt))",
            "print(p.running, len(p.ran), p.texts == tiny.written(p))",
            "p.strength = 0.9",
            "print(p.conditions[2]['name'], p.conditions[2]['instruction'], len(p.runs))",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    row = panel.locator(".sk-row").first
    slider = row.get_by_role("slider", name="Strength of feature 3")
    eventually(lambda: nb.printed(1), "0.3 norm 3 all 'the cat'")
    slider.focus()
    n = nb.n_cells
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    eventually(lambda: nb.printed(1), "0.32 norm 3 all 'the cat'")
    assert nb.n_cells == n
    row.get_by_role("button", name="Set feature 3 to its recommended strength").click()
    eventually(lambda: nb.printed(1), "0.3 norm 3 all 'the cat'")
    row.get_by_label("Strength as a number").fill("0.85")
    row.get_by_role("spinbutton", name="Feature").fill("5")
    panel.get_by_label("Applied to").select_option("generated")
    panel.get_by_role("textbox", name="Prompt").fill("a cat\nsat")
    eventually(lambda: nb.printed(1), "0.85 norm 5 generated 'a cat\\nsat'")
    expect(row.locator(".sk-feature-name")).not_to_be_empty()

    panel.get_by_role("button", name="Run", exact=True).click()
    expect(panel.locator("output")).to_contain_text("Done")
    eventually(lambda: nb.printed(2), "False 2 True")
    expect(panel.locator(".sk-column")).to_have_count(2)
    expect(panel.locator(".sk-column .sk-metrics").first).to_contain_text("nll")

    nb.run(3)
    expect(slider.or_(row.get_by_role("slider"))).to_have_value("0.9")
    panel.get_by_label("Strengths in").select_option("raw")
    expect(row.locator(".sk-other-units")).to_contain_text("0.9")

    panel.get_by_role("button", name="+ condition").click()
    third = panel.locator(".sk-condition").nth(2)
    third.get_by_role("textbox", name="Name of the condition").fill("asked")
    third.get_by_role("button", name="+ instruction").click()
    third.get_by_role("textbox", name="Instruction").fill("Say a cat.")
    page.keyboard.press("Control+Enter")
    expect(panel.locator(".sk-column")).to_have_count(3)
    eventually(lambda: nb.printed(4), "asked Say a cat. 2")


def test_a_sweep_stands_side_by_side_and_tokens_tell_their_chances(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.panel(sweep_strengths=[0.2, 0.6])\np",
            "print([[f['strength'] for f in c['features']] for c in p.ran], p.texts == tiny.written(p))",
            "print(p.colour_by, p.colour_feature, len(p.conditions))",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    panel.get_by_role("button", name="Sweep feature 3").click()
    expect(panel.locator("output")).to_contain_text("Done")
    expect(panel.locator(".sk-column")).to_have_count(3)
    eventually(lambda: nb.printed(1), "[[], [0.2], [0.6]] True")
    expect(panel.locator(".sk-column").nth(2).locator("header")).to_contain_text("0.6")

    token = panel.locator(".sk-column").nth(2).locator(".sk-token:not(:empty)").first
    token.hover()
    card = panel.locator(".sk-card")
    expect(card).to_be_visible()
    expect(card.locator("tr.sk-written")).to_have_count(1)
    token.click()
    expect(card).to_have_class("sk-card sk-pinned")
    chip = card.locator(".sk-chip").first
    number = chip.get_attribute("data-feature")
    chip.click()
    eventually(lambda: nb.printed(2), f"feature {number} 2")
    page.keyboard.press("Escape")
    panel.locator(".sk-colour").get_by_role("button", name="nll").click()
    eventually(lambda: nb.printed(2), f"unlikely {number} 2")
    assert float(token.evaluate("e => getComputedStyle(e).getPropertyValue('--a')")) > 0


def test_chat_turns_go_on_and_are_kept(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.panel(chat=True, prompt='who?')\np",
            "print([e['user'] for e in p.exchanges], p.texts == tiny.written(p), len(p.runs))",
            "print(p.to_frame()[['run', 'turn', 'condition', 'seed']].to_numpy().tolist()[2:])",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    panel.get_by_role("button", name="Run", exact=True).click()
    box = panel.get_by_role("textbox", name="Reply to all")
    expect(box).to_be_visible()
    box.fill("a gate?")
    box.press("Enter")
    expect(panel.locator(".sk-column").first.locator(".sk-user")).to_have_text(["who?", "a gate?"])
    expect(panel.locator("output")).to_contain_text("Done")
    eventually(lambda: nb.printed(1), "['who?', 'a gate?'] True 1")
    panel.get_by_role("spinbutton", name="Seed").fill("4")
    panel.get_by_role("button", name="Redo last turn").click()
    rows = "[[0, 1, 'unsteered', 0], [0, 1, 'steered', 0], [1, 0, 'unsteered', 4], [1, 0, 'steered', 4], "
    eventually(lambda: nb.printed(2), rows + "[1, 1, 'unsteered', 4], [1, 1, 'steered', 4]]")
    expect(panel.locator(".sk-history li")).to_have_count(2)
    with page.expect_download() as download:
        panel.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "steering-runs.json"


def test_stop_and_errors_in_the_panel(page: Any, notebook: Any) -> None:
    nb = notebook(
        [
            "import tiny\np = tiny.slow_panel()\np",
            "print(p.running, 0 < p.done < 1000, p.texts['unsteered'][:6])",
            "import time; began = time.time(); p.stop(wait=True); print(time.time() - began < 1)",
            "print(p.error)",
        ]
    )
    nb.run(0)
    panel = page.locator(".saekit-steering")
    run = panel.get_by_role("button", name="Run", exact=True)
    run.click()
    expect(panel.locator(".sk-reply-text").nth(0)).to_contain_text("word2")
    expect(panel.locator(".sk-reply-text").nth(1)).to_contain_text("<img src=x")
    assert panel.locator("img").count() == 0
    assert nb.printed(1).startswith("True True word0"), "the kernel answers while texts are being written"
    panel.get_by_role("button", name="Stop").click()
    expect(panel.locator("output")).to_contain_text("Stopped after")
    eventually(lambda: nb.printed(1), "False True word0")
    run.click()
    expect(panel.locator(".sk-reply-text").nth(0)).to_contain_text("word1")
    eventually(lambda: nb.printed(2), "True")
    panel.locator(".sk-row").get_by_role("spinbutton", name="Feature").fill("13")
    panel.locator(".sk-row").get_by_role("spinbutton", name="Feature").press("Enter")
    run.click()
    expect(panel.get_by_role("alert")).to_have_text("RuntimeError: feature 13 brings bad luck <b>here</b>")
    expect(run).to_be_enabled()
    eventually(lambda: nb.printed(3), "RuntimeError: feature 13 brings bad luck <b>here</b>")
