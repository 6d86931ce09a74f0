"""Long texts in the token highlight: how soon the call returns, how fast they are read, whether the page freezes.

    python benchmarks/highlight_long_text.py [--tokens 2400 20000] [--repeats 5] [--threads N] [--index FOLDER]
        [--stored]

Default model and the packaged SAE of 16,384 features; a text of so many tokens from the demo corpus. With --stored,
activations are those of --index for its first tokens, and no model runs: for the browser alone.

    returns        seconds until sk.highlight returns; the text is read in the background from then on
    read           seconds until all of it is read, and tokens a second
    bytes          of the last message
    in Chromium    (real bundle, stub model, see highlight_latency.py), milliseconds: from the message to the first
                   tokens painted; the longest time without a frame until every token is drawn and coloured (60 ms is
                   four frames); from a choice to the text painted, for one feature, another number of features, the
                   strongest activation of all and a filter, and the longest time without a frame after any of them

p50 and p95 over repeats where there are two numbers. "cpu" is the time that the page's main thread computes, which a
busy machine does not change: until everything is drawn, and for each choice. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import comm
import torch
from highlight_latency import PAGE, Recorded, spread
from train_step import machine

import saekit as sk
from saekit.widgets.base import STATIC, pack
from saekit.widgets.highlight_standouts import Reference

PACKAGED = "smollm2-135m-instruct/16k"
WATCH = """
window.calm = (ready) => new Promise((done) => { // the longest time without a frame, until `ready` for ten frames
  let last = performance.now(), longest = 0, quiet = 0;
  const began = last;
  const frame = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    quiet = ready() ? quiet + 1 : 0;
    last = now;
    if (quiet >= 10 || now - began > 60000) done([longest, now - began]);
    else requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
});
window.drawn = (n) => () => document.getElementsByClassName("sk-token").length >= n
  && document.getElementById("here").querySelectorAll(".sk-token:not([aria-label])").length === 0;
"""
CHOICES: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("one feature", "colour_by", [("feature", None), ("colour_by", "feature")]),
    ("twelve features", "n_features_shown", [("colour_by", "standout"), ("n_features_shown", 12)]),
    ("two features", "n_features_shown", [("n_features_shown", 2)]),
    ("strongest of all", "colour_by", [("colour_by", "strongest")]),
    ("a filter", "min_relative", [("colour_by", "standout"), ("min_relative", 0.3)]),
]


def text_of(model: sk.LanguageModel, n_tokens: int) -> str:
    """The beginning of the demo corpus, of about so many tokens."""
    ids: list[int] = []
    for document in sk.load_corpus("demo"):
        ids += model.tokenize(document.text + "\n\n", bos=False)
        if len(ids) >= n_tokens:
            break
    return model.decode(ids[: n_tokens - 1])


def stored(index: sk.FeatureIndex, n_tokens: int) -> sk.TokenHighlight:
    """A highlight of the first tokens of an index, from its own activations."""
    tokens, start = index.token_strings(index.kept[:n_tokens]), index.by_token.start[: n_tokens + 1]
    feature, value = index.by_token.column[: start[-1]], index.by_token.value[: start[-1]]
    acts = {"start": pack(start, "int32"), "feature": pack(feature, "int32"), "value": pack(value, "float32")}
    reference = Reference.of(index, index.sae)  # type: ignore[arg-type]
    return sk.TokenHighlight(
        tokens=tokens,
        excluded=[""] * n_tokens,
        n_features=index.d_sae,
        acts=acts,
        statistics=reference.statistics(feature, value, n_tokens).packed(),
        n_read=n_tokens,
    )


def in_browser(state: dict[str, Any], feature: int, n: int, n_repeats: int) -> dict[str, Any]:
    """What a page does with this state."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("SAEKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    from playwright.sync_api import sync_playwright

    code = base64.b64encode((STATIC / "token_highlight.js").read_bytes()).decode()
    css = (STATIC / "token_highlight.css").read_text("utf8")
    page_text = (
        PAGE.replace("CSS", css).replace("CODE", code).replace("window.ready = true;", WATCH + "window.ready = true;")
    )
    buffers, paths, plain = [], [], {}
    for name, value in state.items():
        if isinstance(value, dict) and value and all(isinstance(v, bytes) for v in value.values()):
            for key, part in value.items():
                buffers.append(base64.b64encode(part).decode())
                paths.append([name, key])
            plain[name] = {}
        else:
            plain[name] = value
    message = json.dumps({"data": {"state": plain, "buffer_paths": paths}})
    opened, frozen, all_drawn = [], [], []
    chosen: dict[str, list[list[float]]] = {name: [] for name, _, _ in CHOICES}
    gaps: list[float] = []
    cpu: dict[str, list[float]] = {name: [] for name in ("open", *chosen)}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page()
            page.set_content(page_text)
            page.wait_for_function("window.ready")
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})

            def busy() -> float:
                metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
                return 1e3 * float(
                    metrics["ScriptDuration"] + metrics["LayoutDuration"] + metrics["RecalcStyleDuration"]
                )

            page.evaluate("([m, b]) => { window.message = m; window.parts = b; }", [message, buffers])
            for _ in range(n_repeats + 1):
                page.evaluate("window.decoded = window.parts.map(bytes)")
                before = busy()
                times, calm = page.evaluate(
                    """async (n) => {
                        const opening = opened(window.message, window.decoded);
                        const watching = calm(drawn(n));
                        return [await opening, await watching];
                    }""",
                    n,
                )
                opened.append(times)
                frozen.append(calm[0])
                all_drawn.append(calm[1])
                cpu["open"].append(busy() - before)
                for name, _, settings in CHOICES:
                    before = busy()
                    filled = [[key, feature if value is None else value] for key, value in settings]
                    *_, (times, gap) = [
                        page.evaluate(
                            """async ([key, value]) => {
                                const painted = set(key, value);
                                const watching = calm(() => true);
                                return [await painted, (await watching)[0]];
                            }""",
                            each,
                        )
                        for each in filled
                    ]
                    chosen[name].append(times)
                    gaps.append(gap)
                    cpu[name].append(busy() - before)
            version = browser.version
        finally:
            browser.close()
    return {
        "chromium": version,
        "first_painted_ms": spread([t[1] for t in opened[1:]]),
        "longest_without_a_frame_ms": spread(frozen[1:]),
        "all_drawn_ms": spread(all_drawn[1:]),
        "choices_painted_ms": {name: spread([t[1] for t in times[1:]]) for name, times in chosen.items()},
        "cpu_ms": {name: spread(times[1:]) for name, times in cpu.items()},
        "longest_without_a_frame_after_a_choice_ms": spread(gaps[len(CHOICES) :]),
    }


def measure(args: argparse.Namespace, n_tokens: int, model: Any, sae: Any, index: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if args.stored:
        w = stored(index, n_tokens)
    else:
        text = text_of(model, n_tokens)
        began = time.perf_counter()
        w = sk.highlight(model, sae, text, index=index)
        row["returns_s"] = round(time.perf_counter() - began, 3)
        w.wait()
        row["read_s"] = round(time.perf_counter() - began, 2)
        row["tokens_per_second"] = round(w.n_read / row["read_s"])
    feature = w.shown_features[0]
    state = w.page_state()
    row |= {"tokens": len(w.tokens), "activations": len(w.acts["value"]) // 4}
    row["bytes"] = sum(len(b) for d in (w.acts, w.statistics) for b in d.values())
    row["python_standouts_ms"] = round(1e3 * timed(lambda: w.standouts), 1)
    return row | {"browser": in_browser(state, feature, len(w.tokens), args.repeats)}


def timed(act: Any) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2400, 20_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--index", type=Path)
    parser.add_argument("--stored", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    comm.create_comm = Recorded
    sae = sk.load_sae(PACKAGED)
    index = None if args.index is None else sk.load_index(args.index)
    if index is not None:
        index.sae = sae
    model = None if args.stored else sk.load_model()
    rows = []
    for n_tokens in args.tokens:
        rows.append(measure(args, n_tokens, model, sae, index))
        for name, value in rows[-1].items():
            for key, shown in value.items() if isinstance(value, dict) else [(name, value)]:
                print(f"{key:44} {shown}", flush=True)
        print()
    print(json.dumps({"benchmark": "highlight_long_text", **machine("cpu"), "rows": rows}))


if __name__ == "__main__":
    main()
