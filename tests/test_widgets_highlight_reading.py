"""Long texts: windows and their seams, reading in the background, stopping, errors, interrupts."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import saekit as sk
from saekit.errors import ContextLengthError
from saekit.widgets import TokenHighlight
from saekit.widgets.highlight_reading import ReadWindow, TextSoFar, WindowPlan
from saekit.widgets.highlight_standouts import Reference

LONG = "a cat sat on the golden gate " * 6


@pytest.mark.parametrize("n_prefix", [0, 1])
@pytest.mark.parametrize(
    ("n", "length", "overlap"), [(5, 8, 2), (8, 8, 2), (9, 8, 2), (50, 8, 6), (50, 8, 0), (50, 3, 1)]
)
def test_every_token_is_kept_once_with_its_context_before_it(n: int, length: int, overlap: int, n_prefix: int) -> None:
    plan = WindowPlan(n_tokens=n, n_prefix=n_prefix, length=length, overlap=overlap)
    kept = [i for _, first, end in plan.windows for i in range(first, end)]
    assert kept == list(range(n))
    for first, kept_from, end in plan.windows[1:]:
        assert kept_from - first == overlap and end - first + n_prefix <= length
    assert (plan.describe() == "") == (n <= length)


def test_a_text_of_one_window_is_run_whole(model: Any, sae: Any) -> None:
    text = LONG[:60]
    ids = model.tokenize(text)
    dense = sae.encode(model.activations(ids, sae.config.hook_name)[0]).detach().numpy()
    dense[0] = 0
    for w in (sk.highlight(model, sae, text), sk.highlight(model, sae, text, length=len(ids))):
        assert not w.reading and w.n_read == len(ids) and w.status == ""
        for feature in range(64):
            np.testing.assert_allclose(w.values(feature), dense[:, feature], rtol=1e-5, atol=1e-6)


def test_windows_equal_a_slow_reference_at_every_seam(model: Any, sae: Any) -> None:
    ids = model.tokenize(LONG)
    assert len(ids) > model.n_ctx
    w = sk.highlight(model, sae, LONG, length=32, overlap=12, wait=True)
    assert w.tokens == model.token_strings(ids) and w.excluded == ["special token"] + [""] * (len(ids) - 1)
    bos, end = ids[:1], 32
    expected = [sae.encode(model.activations(ids[:32], sae.config.hook_name)[0])]
    while end < len(ids):
        window = [*bos, *ids[end - 12 : end - 12 + 31]]
        expected.append(sae.encode(model.activations(window, sae.config.hook_name)[0][13:]))
        end += 31 - 12
    dense = np.concatenate([x.detach().numpy() for x in expected])
    dense[0] = 0
    assert len(dense) == len(w.tokens)
    for feature in range(64):
        np.testing.assert_allclose(w.values(feature), dense[:, feature], rtol=1e-4, atol=1e-5)
    assert "windows of 32 tokens, each begun with BOS and the 12 tokens before it as context" in w.explanation
    assert w.status.startswith(f"Read {len(ids)} tokens in ") and not w.reading


def test_a_long_text_returns_at_once_and_fills_in(model: Any, sae: Any) -> None:
    w = sk.highlight(model, sae, LONG)
    assert len(w.tokens) == len(model.tokenize(LONG))
    assert w.wait() is w
    assert w.n_read == len(w.tokens) and "not read" not in w.excluded and not w.reading
    assert set(w.names) == set(), "no index"


def test_a_length_beyond_the_context_is_refused(model: Any, sae: Any) -> None:
    with pytest.raises(ContextLengthError, match="longer than the context"):
        sk.highlight(model, sae, LONG, length=65)


# ---- a reader that waits for the test ----------------------------------------------------------------------------


class Reader:
    """Windows of two tokens, each when the test says so."""

    def __init__(self, n: int, fails_at: int | None = None) -> None:
        self.go = threading.Semaphore(0)
        self.n, self.fails_at = n, fails_at

    def __call__(self) -> Any:
        for first in range(0, self.n, 2):
            assert self.go.acquire(timeout=10)
            if first == self.fails_at:
                raise RuntimeError("out of memory <b>")
            token, feature, value = np.array([first, first + 1]), np.array([1, first]), np.array([2.0, 1.0], np.float32)
            yield ReadWindow(first=first, last=first + 2, excluded=["", ""], token=token, feature=feature, value=value)


def reading(n: int, fails_at: int | None = None) -> tuple[TokenHighlight, Reader]:
    reader, so_far = (
        Reader(n, fails_at),
        TextSoFar(n, Reference(), lambda features: {str(i): f"n{i}" for i in features}),
    )
    w = TokenHighlight(reader, tokens=[f"t{i}" for i in range(n)], n_features=16, **so_far.traits())
    assert w.excluded == ["not read"] * n and w.standouts.empty
    return w.start(so_far), reader


def test_stopping_keeps_what_is_read() -> None:
    w, reader = reading(8)
    assert w.reading and w.status == "Reading 8 tokens…" and w.page_state()["reading"] is False
    w._handle_custom_msg({"kind": "stop"}, [])
    assert w.refused == ""
    reader.go.release(4)
    w.wait()
    assert not w.reading and w.n_read == 2 and w.excluded == ["", ""] + ["not read"] * 6
    assert w.status.startswith("Stopped after 2 of 8 tokens") and len(w.to_frame()) == 8
    assert len(w.standouts) > 0 and w.names["1"] == "n1" and "not counted: not read" in str(w)


def test_an_error_is_shown_and_raised_by_wait_and_keeps_what_is_read() -> None:
    w, reader = reading(8, fails_at=4)
    reader.go.release(4)
    with pytest.raises(RuntimeError, match="out of memory"):
        w.wait()
    assert w.error == "RuntimeError: out of memory <b>" and w.status == "4 of 8 tokens were read." and not w.reading
    assert w.excluded == [""] * 4 + ["not read"] * 4 and w.n_read == 4 and "out of memory" in str(w)


def test_an_interrupt_of_wait_stops_reading_and_leaves_a_usable_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    w, reader = reading(8)
    waited, ended = [], w._worker._ended
    plain = ended.wait

    def interrupted(seconds: float | None = None) -> bool:
        waited.append(seconds)
        if len(waited) == 1:
            reader.go.release(4)
            raise KeyboardInterrupt
        return plain(seconds)

    monkeypatch.setattr(ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        w.wait()
    assert not w.reading and 0 < w.n_read < 8 and len(w.standouts) > 0


def test_updates_in_between_have_all_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TokenHighlight._work.__globals__, "SECONDS", 0.0)
    w, reader = reading(6)
    seen: list[tuple[int, int]] = []
    w.observe(lambda change: seen.append((change["new"], len(w.at(change["new"] - 1)[0]))), "n_read")
    reader.go.release(3)
    w.wait()
    assert seen == [(2, 1), (4, 1), (6, 1)] and w.status.startswith("Read 6 tokens")
