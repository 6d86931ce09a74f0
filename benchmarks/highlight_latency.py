"""What a user waits for in the token highlight, p50 and p95.

    python benchmarks/highlight_latency.py [--repeats 20] [--tokens 128] [--threads N] [--index FOLDER] [--no-browser]

Default model; the packaged SAE of 4,096 features and a random one of 16,384 (topk, k 32). Every text is a new one of
exactly --tokens tokens, BOS included, from the demo corpus.

    text to widget      `sk.highlight(model, sae, text)` whole, until its messages to the browser are made; of that the
                        model's forward pass, the SAE's encoding, packing, token strings, names of features (with
                        --index, an index of the packaged SAE), the widget itself and its text form, which a notebook
                        stores beside it. The first call of a session stands apart: it finds out which model this is.
    feature to message  `w.feature = i` until the message is made, for features that fire somewhere in the text
    bytes               of these messages: JSON and binary parts as they go through the socket. A message is made here
                        as in a kernel, and then counted instead of sent.
    in the browser      only with a Chromium: from the message (its text not yet parsed) to tokens laid out, and to the
                        end of the frame that paints them, by performance.now() in the page. The widget's own bundle
                        draws; Jupyter's socket is left out. A frame comes every 16.7 ms, so painting waits for one.

Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comm
import numpy as np
import torch
from comm.base_comm import BaseComm
from train_step import machine

import saekit as sk
from saekit.widgets import highlight_reading, token_highlight
from saekit.widgets.base import STATIC

PACKAGED, D_SAE, K = "smollm2-135m-instruct/4k", 16_384, 32
PARTS = ("model", "SAE", "packing", "token strings", "names", "widget", "text form", "rest")


class Recorded(BaseComm):
    """Makes every message a kernel would send, and keeps it."""

    messages: list[tuple[str, list[bytes]]] = []  # noqa: RUF012 - shared by all on purpose

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any) -> None:
        text = json.dumps({"comm_id": self.comm_id, "data": data}, ensure_ascii=False, separators=(",", ":"))
        self.messages.append((text, [bytes(b) for b in buffers or []]))

    @classmethod
    def taken(cls) -> list[tuple[str, list[bytes]]]:
        """The messages since last time."""
        out = list(cls.messages)
        cls.messages.clear()
        return out


class Stopwatch:
    """Milliseconds spent inside some callables."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def around(self, owner: Any, name: str, part: str) -> None:
        """Times every call of owner.name."""
        plain: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                self.ms[part] = self.ms.get(part, 0.0) + 1e3 * (time.perf_counter() - began)

        setattr(owner, name, timed)


def texts_of(model: sk.LanguageModel, n_tokens: int) -> Iterator[str]:
    """Texts of exactly n_tokens, BOS included."""
    ids: list[int] = []
    for document in sk.load_corpus("demo"):
        ids += model.tokenize(document.text, bos=False)
        while len(ids) >= n_tokens - 1:
            text, ids = model.decode(ids[: n_tokens - 1]), ids[n_tokens - 1 :]
            if len(model.tokenize(text)) == n_tokens:  # a cut may fall within a word and be read in another way
                yield text


def measure(
    model: sk.LanguageModel, sae: sk.SAE, index: sk.FeatureIndex | None, texts: list[str], watch: Stopwatch
) -> dict[str, Any]:
    """Everything on Python's side, and the messages of the last text."""
    watch.around(sae, "encode_sparse", "SAE")
    generator = np.random.default_rng(0)
    whole: list[float] = []
    parts: list[dict[str, float]] = []
    chosen: list[float] = []
    sizes: list[dict[str, int]] = []
    for text in texts:
        watch.ms.clear()
        Recorded.taken()
        began = time.perf_counter()
        w = sk.highlight(model, sae, text, index=index)
        w._repr_mimebundle_()
        whole.append(1e3 * (time.perf_counter() - began))
        parts.append({**watch.ms, "rest": whole[-1] - sum(watch.ms.values())})
        opened = Recorded.taken()
        feature = int(generator.choice(np.frombuffer(w.acts["feature"], "<i4")))
        began = time.perf_counter()
        w.feature = feature
        chosen.append(1e3 * (time.perf_counter() - began))
        to_device = Recorded.taken()
        sizes.append(byte_counts(opened, to_device))
        w.close()
    return {
        "first_ms": round(whole[0], 1),
        "text_to_widget_ms": spread(whole[1:]),
        "parts_ms": {name: spread([p.get(name, 0.0) for p in parts[1:]]) for name in PARTS},
        "feature_to_message_ms": spread(chosen[1:]),
        "bytes": {name: round(float(np.mean([s[name] for s in sizes]))) for name in sizes[0]},
        "messages": (max(opened, key=lambda m: len(m[0])), feature),
    }


def byte_counts(opened: list[tuple[str, list[bytes]]], chosen: list[tuple[str, list[bytes]]]) -> dict[str, int]:
    """Bytes of the messages that open a widget, and of those that choose a feature."""
    code = sum((STATIC / f"token_highlight.{kind}").stat().st_size for kind in ("js", "css"))
    binary = sum(len(b) for _, buffers in opened for b in buffers)
    text = sum(len(text.encode()) for text, _ in opened)
    return {
        "opening": text + binary,
        "activations": binary,
        "code": code,
        "other": text - code,
        "choosing": sum(len(text.encode()) + sum(map(len, buffers)) for text, buffers in chosen),
    }


PAGE = """<!doctype html><meta charset="utf-8"><style>CSS</style><body><main id="here"></main>
<script type="module">
const widget = (await import("data:text/javascript;base64,CODE")).default;
const bytes = window.bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
class Model {
  constructor(state) { this.state = state; this.acts = new Map(); }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; for (const act of this.acts.get(`change:${name}`) ?? []) act(); }
  on(event, act) { this.acts.set(event, [...(this.acts.get(event) ?? []), act]); }
  off() {} save_changes() {} send() {}
}
const painted = () => new Promise((done) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => done(performance.now());
  channel.port2.postMessage(0);
}));
const timed = async (act) => {
  const el = document.getElementById("here");
  await painted();
  await new Promise((done) => setTimeout(done, 40 * Math.random())); // a message comes at any time within a frame
  const began = performance.now();
  act(el);
  el.getBoundingClientRect();
  const laid = performance.now();
  return [laid - began, (await painted()) - began];
};
let model = null;
window.opened = (text, parts) => {
  const buffers = parts.map((part) => (typeof part === "string" ? bytes(part) : part));
  document.getElementById("here").replaceChildren();
  return timed((el) => {
    const { state, buffer_paths } = JSON.parse(text).data;
    buffer_paths.forEach((path, i) => {
      let inner = state;
      for (const key of path.slice(0, -1)) inner = inner[key] ??= {};
      inner[path.at(-1)] = new DataView(buffers[i]);
    });
    model = new Model(state);
    const view = document.createElement("div");
    el.append(view);
    widget.render({ model, el: view, signal: new AbortController().signal });
  });
};
window.chosen = (text) => timed(() => {
  const { feature } = JSON.parse(text);
  model.set("feature", feature);
  model.set("colour_by", feature === null ? "strongest" : "feature");
});
window.set = (name, value) => timed(() => model.set(name, value));
window.ready = true;
</script>"""


def in_browser(message: tuple[str, list[bytes]], feature: int, n_repeats: int) -> dict[str, Any]:
    """Milliseconds from message to tokens laid out and painted, or the reason why there are none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("SAEKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {"reason": "playwright is not installed"}
    if found is None:
        return {"reason": "there is no Chromium"}
    code = base64.b64encode((STATIC / "token_highlight.js").read_bytes()).decode()
    page_text = PAGE.replace("CSS", (STATIC / "token_highlight.css").read_text("utf8")).replace("CODE", code)
    text, buffers = message
    parts = [base64.b64encode(b).decode() for b in buffers]
    features = [json.dumps({"feature": f}) for f in (feature, None)]
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = play.chromium.launch(executable_path=found, args=flags)
        try:
            page = browser.new_page()
            page.set_content(page_text)
            page.wait_for_function("window.ready")
            opened = [page.evaluate("([m, b]) => opened(m, b)", [text, parts]) for _ in range(n_repeats + 1)][1:]
            chosen = [page.evaluate("f => chosen(f)", features[i % 2]) for i in range(n_repeats + 1)][1:]
            n_tokens, version = page.locator(".sk-token").count(), browser.version
        finally:
            browser.close()
    out: dict[str, Any] = {"chromium": version, "tokens": n_tokens}
    for name, times in (("text", opened), ("feature", chosen)):
        out[f"{name}_laid_out_ms"] = spread([t[0] for t in times])
        out[f"{name}_painted_ms"] = spread([t[1] for t in times])
    return out


def spread(values: list[float]) -> list[float]:
    """p50 and p95."""
    return [round(float(v), 2) for v in np.percentile(values, [50, 95])]


def report(row: dict[str, Any]) -> None:
    whole = row["text_to_widget_ms"]
    print(f"\n{row['sae']}: d_sae {row['d_sae']}, {row['l0']} features a token")
    print(f"{'':34} {'p50 ms':>9} {'p95 ms':>9} {'share':>6}")
    print(f"{'text to widget':34} {whole[0]:9.2f} {whole[1]:9.2f}        (first call {row['first_ms']} ms)")
    for name, (p50, p95) in row["parts_ms"].items():
        print(f"{'  ' + name:34} {p50:9.2f} {p95:9.2f} {p50 / whole[0]:6.1%}")
    lines = [("feature to message", row["feature_to_message_ms"])]
    browser = row["browser"]
    for name in ("text", "feature"):
        lines += [
            (f"browser: {name} to {end}", browser[f"{name}_{end.replace(' ', '_')}_ms"])
            for end in ("laid out", "painted")
            if "reason" not in browser
        ]
    for name, (p50, p95) in lines:
        print(f"{name:34} {p50:9.2f} {p95:9.2f}")
    if "reason" in browser:
        print(f"in the browser: not measured, {browser['reason']}")
    b = row["bytes"]
    parts = f"{b['activations']:,} activations, {b['code']:,} code, {b['other']:,} other"
    print(f"bytes: {b['opening']:,} to open ({parts}), {b['choosing']:,} to choose a feature", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--index", type=Path, help="folder of a feature index of the packaged SAE")
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    comm.create_comm = Recorded
    model = sk.load_model()
    packaged = sk.load_sae(PACKAGED)
    c = packaged.config
    random = sk.SAE(
        sk.SAEConfig(
            d_in=c.d_in,
            d_sae=D_SAE,
            activation="topk",
            k=K,
            hook_name=c.hook_name,
            model_name=c.model_name,
            token_filter=c.token_filter,
            model_fingerprint=c.model_fingerprint,
            weight_processing=c.weight_processing,
        )
    )
    source = texts_of(model, args.tokens)
    watch = Stopwatch()
    watch.around(model, "activations", "model")
    watch.around(model, "token_strings", "token strings")
    watch.around(highlight_reading, "pack_rows", "packing")
    watch.around(token_highlight, "names_of", "names")
    watch.around(token_highlight.TokenHighlight, "__init__", "widget")
    watch.around(token_highlight.TokenHighlight, "text", "text form")
    about = {"tokens": args.tokens, "repeats": args.repeats, **machine(model.device.type)}
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    index = None if args.index is None else sk.load_index(args.index)
    for name, sae, named in ((PACKAGED, packaged, index), ("random", random, None)):
        row = measure(model, sae, named, [next(source) for _ in range(args.repeats + 1)], watch)
        message, feature = row.pop("messages")
        n_fired = row["bytes"]["activations"] // 8
        row |= {"sae": name, "d_sae": sae.config.d_sae, "l0": round(n_fired / args.tokens, 1)}
        row["browser"] = {"reason": "--no-browser"} if args.no_browser else in_browser(message, feature, args.repeats)
        report(row)
        rows.append(row)
    print(json.dumps({"benchmark": "highlight_latency", **about, "rows": rows}))


if __name__ == "__main__":
    main()
