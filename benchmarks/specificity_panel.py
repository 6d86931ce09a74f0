"""What a user waits for in the specificity panel, p50, p95 and the longest.

    python benchmarks/specificity_panel.py INDEX [--repeats 20] [--no-browser]

INDEX is a folder of `build_index`; the figures that are claimed are of the packaged SAE of 16,384 features over 500
documents of the demo corpus, 100,000 tokens.

    preview, ranking    from the message with what is written until its message to the browser is made, each time for a
                        concept that was not asked for before; the first key is pressed in a panel that has just been
                        opened. The field waits 160 ms for another key before it sends, which is added to "last key".
    p values, result    from the same message until all of `ranked` and `result` is there
    feature             from the choice of another feature until its activations and contexts are there
    drag                only with a Chromium: from a pointer move to the end of the script, and of the frame that
                        paints, by performance.now() in an offline page of the panel. A frame comes every 16.7 ms.
    50 marks            50 keys in that page, from the first to the end of the frame after the last

Every result is compared with `sk.specificity`. Wall clock and, for Python, processor time, which a busy machine does
not lengthen. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from train_step import machine

import saekit as sk

KEY_DELAY = 160
"""Milliseconds that the field waits for another key: DELAY in widgets/src/specificity/query.ts."""
WORDS = [
    *("bridge or golden gate", "/\\bbridges?\\b/", "cat", "the", "water", "red", "music", "history or ancient", "city"),
    *("/[0-9]+/", "dog", "love", "science and not style:chat", "food, bread, cheese", "night", "war", "river", "tree"),
    *("computer", "king or queen", "sea", "game", "school", "money"),
]
DRAG = """async () => {
    const slider = document.querySelector('.saekit-specificity [role=slider]');
    const box = slider.getBoundingClientRect();
    const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)));
    const move = (type, x) => slider.dispatchEvent(new PointerEvent(type, {
        clientX: x, clientY: box.top + 20, button: 0, pointerId: 1, bubbles: true, cancelable: true }));
    slider.setPointerCapture = () => {};
    move('pointerdown', box.left + 60);
    const out = [];
    for (let i = 0; i < 200; i++) {
        const began = performance.now();
        move('pointermove', box.left + 46 + (box.width - 60) * ((i * 37) % 100) / 100);
        const script = performance.now() - began;
        await frame();
        out.push([script, performance.now() - began]);
    }
    move('pointerup', box.left + 60);
    return out;
}"""
MARKS = """async () => {
    const rows = [...document.querySelectorAll('.saekit-specificity .sk-context')];
    rows[0].focus();
    const began = performance.now();
    for (let i = 0; i < 50; i++)
        document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {
            key: i % 3 ? 'c' : 'x', bubbles: true, cancelable: true }));
    await new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)));
    const marked = document.querySelectorAll(".sk-context[data-mark='counts'], .sk-context[data-mark='not']").length;
    return [performance.now() - began, marked];
}"""


def spread(values: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "max": round(max(values), 1)}


class Clock:
    """Milliseconds, by wall and by processor, from a message until each trait is set."""

    def __init__(self, panel: sk.SpecificityPanel) -> None:
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}
        for trait in ("preview", "rows", "scores", "measures"):
            panel.observe(lambda change: self._set(change["name"], change["new"]), names=trait)
        self.begin()

    def begin(self) -> None:
        self._seen: set[str] = set()
        self._began = time.perf_counter(), time.process_time()

    def _set(self, trait: str, value: Any) -> None:
        if value and trait not in self._seen:
            self._seen.add(trait)
            self.add(trait)

    def add(self, name: str) -> None:
        self.wall.setdefault(name, []).append(1e3 * (time.perf_counter() - self._began[0]))
        self.processor.setdefault(name, []).append(1e3 * (time.process_time() - self._began[1]))


def in_python(index: sk.FeatureIndex, repeats: int) -> tuple[sk.SpecificityPanel, dict[str, Any]]:
    began = time.perf_counter()
    panel = sk.score(index)
    panel.wait()
    opened = 1e3 * (time.perf_counter() - began)
    clock, equal = Clock(panel), []
    for words in WORDS[:repeats]:
        clock.begin()
        panel.query = words
        panel.wait()
        clock.add("everything")
        if panel.feature >= 0 and panel.rows:
            result = panel.result
            equal.append(str(result) == str(sk.specificity(index, panel.feature, result.concept)))
    panel.query = WORDS[0]
    panel.wait()
    choice = Clock(panel)
    for row in panel.rows[1:]:
        choice.begin()
        panel.feature = row["feature"]
        panel.wait()
    names = {"preview": "preview", "rows": "ranking", "everything": "p values, result"}
    figures = {
        "opened_ms": round(opened, 1),
        **{name: {"wall": spread(clock.wall[k]), "processor": spread(clock.processor[k])} for k, name in names.items()},
        "feature": {"wall": spread(choice.wall["scores"]), "processor": spread(choice.processor["scores"])},
        "last key to ranking": spread([ms + KEY_DELAY for ms in clock.wall["rows"]]),
        "n_concepts": len(clock.wall["rows"]),
        "results_equal": all(equal),
    }
    return panel, figures


def in_browser(panel: sk.SpecificityPanel, chromium: str) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    panel.feature = panel.rows[-1]["feature"]
    panel.threshold = 0.0
    panel.wait()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        path = sk.save_page(Path(folder) / "page.html", "panel", [panel])
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.goto(path.as_uri())
        page.wait_for_function("window.saekit?.ready")
        moves = page.evaluate(DRAG)
        page.evaluate("Object.values(window.saekit.models)[0].set('live', true)")
        page.evaluate("Object.values(window.saekit.models)[0].set('threshold', 0)")
        took, marked = page.evaluate(MARKS)
        browser.close()
    return {
        "drag_script_ms": spread([a for a, _ in moves]),
        "drag_painted_ms": spread([b for _, b in moves]),
        "50_marks_ms": round(took, 1),
        "marked": marked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    index = sk.load_index(args.index)
    panel, figures = in_python(index, args.repeats)
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("SAEKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium and not args.no_browser:
        figures |= in_browser(panel, chromium)
    print(f"{index.d_sae:,} features, {index.n_tokens:,} tokens, {figures['n_concepts']} concepts; {machine('cpu')}")
    for name, value in figures.items():
        print(f"  {name:<22}{value}")
    print(json.dumps({"benchmark": "specificity_panel", "machine": machine("cpu"), **figures}))


if __name__ == "__main__":
    main()
