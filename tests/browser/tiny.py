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
from saekit.widgets import FeatureBrowser, SteeringPanel, TokenHighlight, explore, steer
from saekit.widgets.token_highlight import pack_rows

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"


def highlighted() -> TokenHighlight:
    """Eight tokens, one of them HTML, one excluded; features 3, 5 and 9 fire."""
    tokens = ["<bos>", "The", " Golden", " Gate", HOSTILE, "\n", "<0xE2>", " שלום"]
    acts = pack_rows([1, 2, 2, 3, 3, 4, 7], [5, 3, 5, 3, 9, 9, 3], [0.5, 2.0, 1.0, 4.0, 1.5, 3.0, 1.0], len(tokens))
    return TokenHighlight(
        tokens=tokens, excluded=["special token"] + [""] * 7, acts=acts, n_features=16, names={"3": "bridge gate bay"}
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
    return steer(model, sae, 3, index=index, prompt="the cat", chat=False, max_new_tokens=6, **traits)


def slow_panel(seconds: float = 0.1) -> SteeringPanel:
    """A panel whose writer says `word0 word1 ...` for ever, one word every `seconds`."""

    def write(request: Any, steered: bool, stop: Any) -> Iterator[Any]:
        if request.feature == 13:
            raise RuntimeError("feature 13 brings bad luck <b>here</b>")
        for i in range(request.max_new_tokens):
            time.sleep(seconds)
            yield SimpleNamespace(text=f"{HOSTILE if steered and i == 0 else 'word'}{i} ")

    return SteeringPanel(write, lambda i: (f"name{i}", 2.0), n_features=16, prompt="Hello", max_new_tokens=500)


def written(panel: SteeringPanel, steered: bool) -> str:
    """What `generate` writes for the panel's settings."""
    from saekit.steering import clamp, generate

    model, sae, index = trio()
    edit = clamp(sae, {panel.feature: panel.strength}, unit=panel.unit, positions=panel.positions, index=index)
    return generate(
        model, panel.prompt, edits=[edit] if steered else [], max_new_tokens=panel.max_new_tokens,
        temperature=panel.temperature, seed=panel.seed, chat=panel.chat,
    ).text  # fmt: skip


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
