"""A widget whose kernel is busy, killed, restarted or shut down, in a real JupyterLab."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from .conftest import eventually

pytestmark = pytest.mark.browser

LINE = ".sk-kernel"
BUSY, GONE = "The kernel is busy or restarting", "No kernel"
START = """i => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = i;
    void window.jupyterapp.commands.execute('notebook:run-cell');
}"""
SESSION = "window.jupyterapp.shell.currentWidget.sessionContext"


def shown(page: Any) -> list[int]:
    return [int(text) for text in page.locator(".saekit-browser tbody td button").all_inner_texts()]


def click_row(page: Any, i: int) -> None:
    page.locator(".saekit-browser tbody td button").nth(i).click()


def test_a_busy_kernel_is_said_and_what_was_clicked_last_is_done(page: Any, notebook: Any) -> None:
    cells = [
        "import time, tiny\nb = tiny.browser(page_size=10)\nb",
        "p = tiny.panel()\np",
        "time.sleep(6)",
        "print(b.feature, len(p.runs))",
    ]
    nb = notebook(cells)
    page.evaluate("window.jupyterapp.serviceManager.kernels.commsOverSubshells = 'disabled'")
    nb.run(0)
    nb.run(1)
    rows = shown(page)
    lines = [page.locator(f".saekit-{kind} {LINE}") for kind in ("browser", "steering")]
    click_row(page, 0)
    expect(page.locator(".sk-open-card h3")).to_contain_text(f"Feature {rows[0]} ")
    for line in lines:
        expect(line).to_be_hidden()
    page.evaluate(START, 2)
    page.wait_for_function(f"{SESSION}.session.kernel.status === 'busy'")
    click_row(page, 1)
    click_row(page, 2)
    page.locator(".saekit-steering").get_by_role("button", name="Run", exact=True).click()
    for line in lines:
        expect(line).to_contain_text(BUSY, timeout=2000)
    expect(page.locator(".sk-open-card")).to_contain_text(f"Loading feature {rows[2]}")
    for line in lines:
        expect(line).to_be_hidden(timeout=15_000)
    expect(page.locator(".sk-open-card h3")).to_contain_text(f"Feature {rows[2]} ")
    expect(page.locator(".saekit-steering .sk-column header")).to_have_count(2)
    eventually(lambda: nb.printed(3), f"{rows[2]} 1")


def test_two_hundred_quick_clicks_end_where_the_last_one_says(page: Any, notebook: Any) -> None:
    nb = notebook(["import tiny\nb = tiny.browser(page_size=10)\nb", "print(b.feature, b.record.feature)"])
    nb.run(0)
    rows = shown(page)
    page.evaluate(
        """() => {
            for (let i = 0; i < 200; i++)
                document.querySelectorAll('.saekit-browser tbody td button')[(7 * i + 4) % 10].click();
        }"""
    )
    last = rows[(7 * 199 + 4) % 10]
    expect(page.locator(".sk-open-card h3")).to_contain_text(f"Feature {last} ")
    eventually(lambda: nb.printed(1), f"{last} {last}")
    expect(page.locator(LINE)).to_be_hidden()


def test_a_killed_kernel_is_said(page: Any, notebook: Any) -> None:
    nb = notebook(
        ["import os, signal, tiny\nb = tiny.browser(page_size=10)\nb", "os.kill(os.getpid(), signal.SIGKILL)"]
    )
    nb.run(0)
    page.evaluate(START, 1)
    page.wait_for_timeout(200)
    click_row(page, 0)
    line = page.locator(LINE)
    expect(line).to_be_visible(timeout=2000)  # busy or restarting: the server looks every three seconds
    expect(line).to_contain_text(GONE, timeout=30_000)


def test_a_kernel_that_is_restarted_or_shut_down_is_said_at_once(page: Any, notebook: Any) -> None:
    nb = notebook(["import tiny\nb = tiny.browser(page_size=10)\nb"])
    nb.run(0)
    page.evaluate(f"{SESSION}.session.kernel.restart()")
    expect(page.locator(LINE)).to_contain_text(GONE, timeout=2000)
    nb.run(0)
    expect(page.locator(LINE)).to_be_hidden()
    click_row(page, 0)
    expect(page.locator(".sk-open-card h3")).to_be_visible()
    page.evaluate(f"{SESSION}.shutdown()")
    click_row(page, 1)
    expect(page.locator(LINE)).to_be_visible(timeout=2000)
    expect(page.locator(LINE)).to_contain_text(GONE, timeout=2000)
