"""What the notebook cells of the browser tests need, importable in a kernel: small widgets with known contents."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import saekit as sk
from saekit.widgets import (
    FeatureBrowser,
    FeatureCard,
    SteeringPanel,
    TokenHighlight,
    attention_patterns,
    card,
    explore,
    steer,
)
from saekit.widgets.token_highlight import pack_rows

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"


def highlighted() -> TokenHighlight:
    """Eight tokens, one of them HTML, one excluded; features 3, 5 and 9 fire."""
    tokens = ["<bos>", "The", " Golden", " Gate", HOSTILE, "\n", "<0xE2>", " שלום"]
    acts = pack_rows([1, 2, 2, 3, 3, 4, 7], [5, 3, 5, 3, 9, 9, 3], [0.5, 2.0, 1.0, 4.0, 1.5, 3.0, 1.0], len(tokens))
    return TokenHighlight(
        tokens=tokens,
        excluded=["special token"] + [""] * 7,
        acts=acts,
        n_features=16,
        names={"3": "bridge gate bay"},
        max_density=1.0,
    )


@cache
def builders() -> Any:
    """The repository's own conftest.py, whose name another conftest.py may have taken."""
    spec = importlib.util.spec_from_file_location("builders", Path(__file__).resolve().parents[2] / "conftest.py")
    assert spec is not None and spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    return conftest


@cache
def trio() -> tuple[Any, Any, Any]:
    """The tiny model, a random SAE of 64 features for it, and its index over 40 documents, one of them hostile."""
    conftest = builders()
    model = conftest.tiny_model()
    sae = conftest.tiny_sae(model)
    texts = [*conftest.tiny_texts(), {"text": HOSTILE, "topic": HOSTILE, "style": "note"}]
    out = tempfile.mkdtemp(prefix="saekit-tiny-")
    return (
        model,
        sae,
        sk.build_index(model, sae, sk.load_corpus(texts, name="tiny"), out=out, length=48, progress=False),
    )


def browser(**traits: Any) -> FeatureBrowser:
    model, sae, index = trio()
    return explore(index, model, sae, **traits)


def panel(**traits: Any) -> SteeringPanel:
    """The real panel on the tiny model; feature 3."""
    model, sae, index = trio()
    settings = {"prompt": "the cat", "chat": False, "max_new_tokens": 6, "recommended": {3: 0.3}, **traits}
    return steer(model, sae, 3, index=index, concept=sk.Concept.regex("a", name="an a"), **settings)


def slow_panel(seconds: float = 0.1) -> SteeringPanel:
    """A panel whose texts say `word0 word1 ...` for ever, a word every `seconds`; one begins with HTML."""

    def write(request: Any, stop: Any) -> Iterator[Any]:
        if any(i == 13 for condition in request.conditions for i, _ in condition.features):
            raise RuntimeError("feature 13 brings bad luck <b>here</b>")
        for n in range(request.max_new_tokens):
            if stop():
                return
            time.sleep(seconds)
            yield [
                SimpleNamespace(text=f"{HOSTILE if condition.features and n == 0 else 'word'}{n} ")
                for condition in request.conditions
            ]

    conditions = [{"name": "unsteered"}, {"name": "steered", "features": [{"feature": 3, "strength": 0.5}]}]
    return SteeringPanel(
        write,
        None,
        lambda i: {"name": f"name{i}", "max": 2.0, "recommended": None},
        conditions=conditions,
        n_features=16,
        prompt="Hello",
        max_new_tokens=500,
    )


def written(panel: SteeringPanel) -> dict[str, str]:
    """What `generate` writes under the conditions that ran, for a conversation of any length."""
    from saekit.steering import clamp, generate

    model, sae, index = trio()
    texts = {}
    for i, condition in enumerate(panel.ran):
        values = {row["feature"]: row["strength"] for row in condition["features"]}
        edits = [clamp(sae, values, unit=panel.ran_unit, positions=panel.positions, index=index)] if values else []
        turns = []
        for exchange in panel.exchanges:
            turns += [{"role": "user", "content": exchange["user"]}]
            turns += [{"role": "assistant", "content": "".join(exchange["replies"][i]["tokens"])}]
        prompt = [turns[:-1]] if panel.chat else [panel.prompt]
        [texts[condition["name"]]] = [
            g.text
            for g in generate(
                model,
                prompt,
                edits=edits,
                max_new_tokens=panel.max_new_tokens,
                temperature=panel.temperature,
                seed=panel.seed,
                chat=panel.chat,
            )
        ]
    return texts


def train(loggers: list[Any], ks: tuple[int, ...] = (2, 4), pause: float = 0.0) -> sk.TrainedSAEs:
    """A run of 100 steps on the tiny model, logged every five; `pause` seconds pass at each batch."""
    model, _, _ = trio()
    corpus = sk.load_corpus(builders().tiny_texts(), name="tiny")
    config = sk.TrainConfig(n_tokens=6400, batch_size=64, context_size=16, buffer_tokens=256, lr=1e-3, log_every=5)
    saes = [sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=k) for k in ks]
    plain = sk.Trainer.advance

    def slowly(self: sk.Trainer, *args: Any) -> None:
        time.sleep(pause / len(ks))
        plain(self, *args)

    sk.Trainer.advance = slowly  # type: ignore[method-assign]
    try:
        return sk.train(
            model,
            corpus,
            hook_name="blocks.0.hook_resid_post",
            sae=saes,
            config=config,
            progress=False,
            loggers=loggers,
        )
    finally:
        sk.Trainer.advance = plain  # type: ignore[method-assign]


def opened_browser(**traits: Any) -> FeatureBrowser:
    """Ten rows, the card of feature 3 open below them and carried along for a page without a kernel."""
    return browser(page_size=10, feature=3, **traits).embed([3])


def replied_panel(chat: bool = False) -> SteeringPanel:
    """Two runs of the real panel, the second coloured by feature 3."""
    shown = panel(chat=chat)
    shown.run(wait=True)
    shown.strength = 0.9
    shown.run(wait=True)
    shown.colour_by, shown.colour_feature = "feature", 3
    return shown


def monitored() -> Any:
    """The monitor of a finished run of two SAEs."""
    monitor = sk.TrainingMonitor()
    train([monitor])
    return monitor


EXAMPLES: dict[str, dict[str, Any]] = {
    "token_highlight": {"text": highlighted, "token picked": lambda: picked(highlighted())},
    "feature_browser": {
        "card open": opened_browser,
        "nothing found": lambda: browser(filter="nothing like it"),
        "no index": FeatureBrowser,
    },
    "feature_card": {
        "card": lambda: card(trio()[2], 3),
        "card missing": lambda: FeatureCard(n_features=64, feature=8),
        "error": lambda: FeatureCard(n_features=64, error="the index lies on a disk that is gone"),
    },
    "steering_panel": {"replies": replied_panel, "nothing run": panel},
    "training_monitor": {"finished": monitored, "waiting": sk.TrainingMonitor},
    "circuits": {"attention": lambda: attention_patterns(trio()[0], "a <b>cat</b>", layer=0)},
}
"""Every widget by its bundle: functions that make it in the states whose look and accessibility are checked.

A new widget has a line here, or tests/browser/test_accessibility.py fails.
"""


def picked(widget: TokenHighlight) -> TokenHighlight:
    """The widget with its third token picked."""
    widget.selected = 2
    return widget
