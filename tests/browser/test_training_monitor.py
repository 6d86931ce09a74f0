"""TrainingMonitor in a real JupyterLab: it follows a run, answers pointer and keys, and outlives its kernel."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

import saekit as sk

from . import tiny
from .conftest import eventually

pytestmark = pytest.mark.browser

SHOW = "import tiny\ntiny.trio()\nmonitor = tiny.sk.TrainingMonitor()\nmonitor"
TRAIN = "trained = tiny.train([monitor], pause=0.02)"
PRINT = "print(monitor.status, monitor.step, len(monitor.curves().loc[0]))"


def test_it_follows_a_run_and_stays_readable_without_the_kernel(page: Any, notebook: Any) -> None:
    nb = notebook([SHOW, TRAIN, PRINT])
    nb.run(0)
    monitor = page.locator(".saekit-monitor")
    expect(monitor.locator(".sk-empty")).to_contain_text("Waiting for a run")
    page.evaluate(
        """() => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = 1;
            void window.jupyterapp.commands.execute('notebook:run-cell');
        }"""
    )
    expect(monitor.get_by_role("status")).to_have_text("running")
    words = monitor.locator(".sk-progress-words")
    expect(words).to_contain_text("left")
    seen = {words.inner_text()}
    for _ in range(60):
        page.wait_for_timeout(100)
        seen.add(words.inner_text())
        if monitor.get_by_role("status").inner_text() != "running":
            break
    assert len(seen) >= 4, "it was drawn again and again while the cell ran"
    expect(monitor.get_by_role("status")).to_have_text("finished")
    expect(words).to_contain_text("step 100 of 100")
    eventually(lambda: nb.printed(2), "finished 100 20")
    loss = monitor.get_by_role("slider", name="Loss")
    expect(loss.locator("path")).to_have_count(2)
    drawn = loss.locator("path").first.get_attribute("d")
    assert drawn is not None and drawn.count("L") == 19

    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel")
    assert loss.locator("path").first.get_attribute("d") == drawn
    loss.hover(position={"x": 60, "y": 50})
    expect(monitor.locator("caption")).to_contain_text("At step")
    expect(loss.locator(".sk-tooltip")).to_be_visible()
    page.mouse.move(0, 0)
    expect(monitor.locator("caption")).to_contain_text("Last values, step 100")


def test_a_notebook_saved_with_its_widgets_shows_the_run_when_it_is_opened_again(
    page: Any, notebook: Any, lab: Any
) -> None:
    nb = notebook([SHOW, "tiny.train([monitor])"])
    settings = "window.jupyterapp.serviceManager.settings.save('@jupyter-widgets/jupyterlab-manager:plugin', t)"
    page.evaluate(f"t => {settings}", '{"saveState": true}')
    try:
        page.reload()
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length >= 2")
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready")
        nb.run(0)
        nb.run(1)
        monitor = page.locator(".saekit-monitor")
        expect(monitor.get_by_role("status")).to_have_text("finished")
        drawn = monitor.locator("path").first.get_attribute("d")
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.reload()
        expect(monitor.get_by_role("status")).to_have_text("finished", timeout=60_000)
        assert monitor.locator("path").first.get_attribute("d") == drawn
        monitor.get_by_role("slider", name="Loss").press("Home")
        expect(monitor.locator("caption")).to_have_text("At step 5, 320 tokens")
    finally:
        page.evaluate(f"t => {settings}", "{}")


def test_keys_read_values_and_do_not_reach_the_notebook(page: Any, notebook: Any) -> None:
    nb = notebook([SHOW, "tiny.train([monitor])"])
    nb.run(0)
    nb.run(1)
    monitor, n = page.locator(".saekit-monitor"), nb.n_cells
    chart = monitor.get_by_role("slider", name="Explained variance")
    chart.focus()
    for key in ("b", "x", "d", "d", "Home", "ArrowRight", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    expect(monitor.locator("caption")).to_have_text("At step 10, 640 tokens")
    expect(chart).to_be_focused()
    expect(chart).to_have_attribute("aria-valuetext", re.compile("step 10, 640 tokens$"))
    page.keyboard.press("Escape")
    expect(monitor.locator("caption")).to_contain_text("Last values")
    assert nb.n_cells == n


@pytest.mark.parametrize("dark", [False, True])
def test_every_line_and_word_stands_out_from_the_page(page: Any, notebook: Any, dark: bool) -> None:
    nb = notebook([SHOW, "tiny.train([monitor], ks=(2, 4, 8))"])
    nb.theme(dark)
    nb.run(0)
    nb.run(1)
    got = page.evaluate(CONTRAST)
    assert len(got["lines"]) >= 10 and min(got["lines"]) >= 3
    assert len(got["words"]) >= 30 and min(got["words"]) >= 4.5
    overlaps = page.evaluate(OVERLAPS)
    assert overlaps == []


@pytest.mark.parametrize("width", [1400, 700])
def test_nothing_is_cut_off_or_overlaps(page: Any, notebook: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    nb = notebook([SHOW, "tiny.train([monitor], ks=(2, 4))\nmonitor.names = ['n' * 120, 'two words ' * 12]"])
    nb.run(0)
    nb.run(1)
    expect(page.locator(".saekit-monitor .sk-status")).to_have_text("finished")
    assert page.evaluate(OVERLAPS) == []
    boxes = page.locator(".saekit-monitor .sk-plot > svg").evaluate_all(
        "all => all.map(s => [s.getBoundingClientRect().right, s.closest('.saekit').getBoundingClientRect().right])"
    )
    assert boxes and all(inner <= outer for inner, outer in boxes)


def test_an_offline_page_reads_out_a_run(page: Any, tmp_path: Any) -> None:
    monitor = sk.TrainingMonitor()
    tiny.train([monitor])
    path = sk.save_page(tmp_path / "run.html", "A run", [monitor, tiny.train([]), sk.TrainingMonitor()])
    page.context.set_offline(True)
    problems: list[str] = []
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto(path.as_uri())
    page.wait_for_function("window.saekit?.ready")
    first = page.locator(".saekit-monitor").first
    expect(first.get_by_role("status")).to_have_text("finished")
    first.get_by_role("slider", name="Activation density").press("Home")
    expect(first.locator(".sk-density .sk-tooltip")).to_contain_text("of tokens")
    expect(page.locator(".saekit-monitor").nth(1)).to_contain_text("Waiting for a run")
    expect(page.locator(".page-figure svg")).to_contain_text("last training batch")
    assert problems == []


CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const light = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const root = document.querySelector('.saekit-monitor');
    const back = getComputedStyle(root).backgroundColor;
    const all = (selector, property) =>
        [...root.querySelectorAll(selector)].map(e => ratio(getComputedStyle(e)[property], back));
    const text = 'h4, td, th, caption, .sk-chart-note, .sk-progress-words';
    return {
        lines: all('.sk-line-path, .sk-swatch line', 'stroke'),
        words: [...all('.sk-plot text', 'fill'), ...all(text, 'color')],
    };
}"""

OVERLAPS = """() => {
    const found = [];
    for (const picture of document.querySelectorAll('.saekit-monitor .sk-plot > svg')) {
        const words = [...picture.querySelectorAll('text')]
            .map(e => ({text: e.textContent, box: e.getBoundingClientRect()}));
        const frame = picture.getBoundingClientRect();
        words.forEach((a, i) => {
            if (a.box.left < frame.left - 1 || a.box.right > frame.right + 1) found.push(`${a.text} is cut off`);
            words.slice(i + 1).forEach(b => {
                const beside = a.box.right <= b.box.left || b.box.right <= a.box.left;
                const apart = beside || a.box.bottom <= b.box.top + 2 || b.box.bottom <= a.box.top + 2;
                if (!apart) found.push(`${a.text} on ${b.text}`);
            });
        });
    }
    return found;
}"""
