"""Prefetching: the same batches and states with and without it, errors in their place, no thread left behind."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import saekit as sk
from conftest import HOOK, tiny_model
from saekit.activations import ActivationBatches, batches, cache
from saekit.activations.prefetch import prefetch
from saekit.errors import ConfigError, DataError
from saekit.models import LanguageModel

NO_FILTER = sk.TokenFilter()


def threads_left() -> list[str]:
    """Threads of this kind that are still there after a moment."""
    deadline = time.monotonic() + 5
    while (left := [t.name for t in threading.enumerate() if "prefetch" in t.name]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def counted(n: int, asked: list[int]) -> Iterator[int]:
    for i in range(n):
        asked.append(i)
        yield i


# ---- prefetch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thread", [False, True])
def test_items_are_the_same_and_one_is_asked_for_ahead_once_it_is_a_stream(thread: bool) -> None:
    assert [list(prefetch(iter(range(n)), thread=thread)) for n in range(4)] == [[], [0], [0, 1], [0, 1, 2]]
    asked: list[int] = []
    items = prefetch(counted(9, asked), thread=thread)
    seen = []
    for _ in range(3):
        next(items)
        assert threads_left() == []
        seen.append(len(asked))
    assert seen == [1, 3, 4]  # who takes one has paid for one
    assert list(items) == [3, 4, 5, 6, 7, 8]


def test_an_item_is_made_while_the_one_before_it_is_in_use() -> None:
    in_use = threading.Event()

    def items() -> Iterator[str]:
        yield "first"
        yield "second"
        assert in_use.wait(10)
        yield "third"

    stream = prefetch(items(), thread=True)
    next(stream)
    assert next(stream) == "second"  # does not wait for the third
    in_use.set()
    assert next(stream) == "third" and threads_left() == []


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_error_comes_in_its_place(thread: bool, at: int) -> None:
    def items() -> Iterator[int]:
        yield from range(at)
        raise OSError(f"item {at} cannot be read")

    stream, got = prefetch(items(), thread=thread), []
    with pytest.raises(OSError, match=f"item {at} cannot be read"):
        for item in stream:
            got.append(item)
    assert got == list(range(at)) and list(stream) == [] and threads_left() == []


def test_an_interrupt_does_not_wait_for_its_place() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise KeyboardInterrupt

    stream = prefetch(items(), thread=False)
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        next(stream)


def test_a_thread_ends_with_its_item_when_nobody_asks_for_more() -> None:
    release = threading.Event()

    def items() -> Iterator[int]:
        yield from (0, 1)
        release.wait(10)
        yield 2

    stream = prefetch(items(), thread=True)
    next(stream), next(stream)
    assert any("prefetch" in t.name for t in threading.enumerate())
    del stream
    release.set()
    assert threads_left() == []


# ---- from a model -------------------------------------------------------------------------------------------------


def prefetch_runs(monkeypatch: pytest.MonkeyPatch, thread: bool) -> None:
    """Has every run of the model prefetched, as on a GPU, or made by a thread."""
    begin = batches._ModelBatches._begin
    monkeypatch.setattr(batches._ModelBatches, "_read", lambda self, start: prefetch(begin(self, start), thread=thread))


def same_state(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_batches_and_states_are_the_same_when_the_model_is_begun_ahead(
    model: LanguageModel, corpus: sk.Corpus, monkeypatch: pytest.MonkeyPatch, stream: bool, thread: bool
) -> None:
    source = sk.load_corpus(lambda: iter(corpus)) if stream else corpus
    n_runs = [0]

    def fresh() -> ActivationBatches:
        return sk.activation_batches(model, source, HOOK, batch_size=200, buffer_tokens=400, length=16, n_epochs=2)

    def states(of: ActivationBatches) -> list[tuple[torch.Tensor, dict[str, object], int]]:
        return [(x, of.state_dict(), n_runs[0]) for x in of]

    real = LanguageModel.activations

    def activations(*args: object, **kwargs: object) -> torch.Tensor:
        n_runs[0] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(LanguageModel, "activations", activations)
    plain_batches = fresh()
    n_runs[0] = 0
    plain = states(plain_batches)
    prefetch_runs(monkeypatch, thread)
    ahead_batches = fresh()
    n_runs[0] = 0
    early = states(ahead_batches)
    assert len(plain) == len(early) > 21 and plain_batches.n_tokens_per_epoch == ahead_batches.n_tokens_per_epoch
    for (x, state, _), (y, other, _) in zip(plain, early, strict=True):
        assert torch.equal(x, y) and same_state(state, other)
    assert plain[-1][2] == early[-1][2] and threads_left() == []  # as many runs in all
    if not thread:
        assert sum(b[2] - a[2] for a, b in zip(plain, early, strict=True)) > 10  # and it was prefetched
    for stop in (0, 5, 21):
        again = fresh()
        if stop:
            again.load_state_dict(early[stop - 1][1])
        assert all(torch.equal(x, y) for x, (y, _, _) in zip(again, plain[stop:], strict=True))


@pytest.mark.parametrize("thread", [False, True])
def test_bad_activations_are_reported_at_the_same_batch(monkeypatch: pytest.MonkeyPatch, thread: bool) -> None:
    model = tiny_model()
    letter = model.tokenize("Q", bos=False)[0]
    with torch.no_grad():
        next(p for n, p in model.bridge.named_parameters() if n.startswith("tok_embed"))[letter, 3] = torch.inf
    windows = sk.tokenize(sk.load_corpus(["a cat sat on the mat in the fog"] * 400 + ["Q"]), model, length=16)

    def n_before() -> int:
        found = sk.activation_batches(
            model, windows, "embed.hook_out", batch_size=64, buffer_tokens=128, token_filter=NO_FILTER
        )
        n = 0
        with pytest.raises(DataError, match="are not finite in window"):
            for _ in found:
                n += 1
        return n

    plain = n_before()
    prefetch_runs(monkeypatch, thread)
    assert n_before() == plain > 3 and threads_left() == []


def test_the_host_draws_a_batch_without_a_look_at_the_pool(model: LanguageModel, corpus: sk.Corpus) -> None:
    found = sk.activation_batches(model, corpus, HOOK, batch_size=64, buffer_tokens=256, length=16)
    next(found)
    with FakeTensorMode():  # has no numbers: reading one is an error, and so is mixing devices
        found._pool, found.device = torch.empty(tuple(found._pool.shape), device="cuda"), torch.device("cuda", 0)
    with pytest.MonkeyPatch.context() as patch:
        rows: list[torch.Tensor] = []

        def to_device(x: torch.Tensor, device: torch.device) -> torch.Tensor:
            rows.append(x)
            with found._pool.fake_mode:
                return torch.empty(tuple(x.shape), dtype=x.dtype, device=device)

        patch.setattr(batches, "to_device", to_device)
        x = found._draw()
    assert x.shape == (64, 32) and x.device.type == "cuda" and len(rows) == 1 and rows[0].device.type == "cpu"


def test_moved_takes_rows_and_closes_their_gaps() -> None:
    pool = torch.arange(20.0).reshape(10, 2)
    chosen, gaps, movers = torch.tensor([9, 1, 4]), torch.tensor([1, 4]), torch.tensor([7, 8])
    got = batches.moved(pool, chosen, gaps, movers)
    assert got[:, 0].tolist() == [18, 2, 8]
    assert pool[:7, 0].tolist() == [0, 14, 4, 6, 16, 10, 12]


def test_a_device_that_is_not_here_is_an_error(model: LanguageModel, corpus: sk.Corpus, tmp_path: Path) -> None:
    stored = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
    assert stored.batches(8).device == torch.device("cpu")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=f"no such device here\n.*{device}"):
            stored.batches(8, device=device)
        with pytest.raises(ConfigError, match="no such device here"):
            sk.activation_batches(model, corpus, HOOK, batch_size=8, length=16, device=device)


# ---- from disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(model: LanguageModel, corpus: sk.Corpus, tmp_path: Path) -> sk.ActivationCache:
    return sk.cache_activations(model, corpus, HOOK, tmp_path / "cache", length=16, progress=False)


def test_cached_batches_are_those_that_would_be_read_plainly(
    stored: sk.ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = stored.batches(100, seed=1, n_epochs=2)
    pairs = [(x, early.state_dict()) for x in early]
    monkeypatch.setattr(cache, "prefetch", lambda items, thread: items)
    plain = stored.batches(100, seed=1, n_epochs=2)
    assert len(pairs) == 2 * stored.n_tokens // 100
    for n, (x, state) in enumerate(pairs):
        assert torch.equal(x, next(plain)) and state == plain.state_dict() and state["n_drawn"] == 100 * (n + 1)
    assert threads_left() == []


def test_one_batch_is_one_read(stored: sk.ActivationCache, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = type(stored).x
    monkeypatch.setattr(type(stored), "x", lambda *a: read.append(threading.current_thread().name) or real(*a))
    found = stored.batches(100)
    next(found)
    assert len(read) == 1 and threads_left() == []
    next(found)
    assert threads_left() == [] and len(read) == 3
    assert read[0] == "MainThread" and all("prefetch" in name for name in read[1:])


def test_going_on_from_a_state_leaves_what_was_read_ahead(stored: sk.ActivationCache) -> None:
    found = stored.batches(100, seed=1)
    first, state = [next(found) for _ in range(3)], found.state_dict()
    after = [next(found) for _ in range(3)]
    found.load_state_dict(state)
    assert all(map(torch.equal, (next(found) for _ in range(3)), after)) and not torch.equal(first[0], after[0])


def test_a_read_that_fails_ends_the_run_at_its_step(
    stored: sk.ActivationCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    n, real, steps = [0], type(stored).x, []

    def x(*args: object) -> torch.Tensor:
        n[0] += 1
        if n[0] == 16:
            raise OSError("the disk is gone")
        return real(*args)

    monkeypatch.setattr(type(stored), "x", x)
    plain = sk.Trainer.advance
    monkeypatch.setattr(sk.Trainer, "advance", lambda self, x: plain(self, x) or steps.append(self.n_steps_done))
    config = sk.TrainConfig(n_tokens=64 * 40, batch_size=64, checkpoint_every=10)
    sae = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
    with pytest.raises(OSError, match="the disk is gone"):
        sk.train(None, stored, sae=sae, config=config, out=tmp_path / "run", progress=False)
    assert steps == list(range(1, 16)) and threads_left() == []
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000010"]
    again = sk.train(None, stored, sae=sae, config=config, out=tmp_path / "run", progress=False)
    assert steps[15:] == list(range(11, 41))
    monkeypatch.setattr(cache, "prefetch", lambda items, thread: items)
    whole = sk.train(None, stored, sae=sae, config=config, progress=False)
    assert all(torch.equal(w, again.state_dict()[name]) for name, w in whole.state_dict().items())


def test_an_interrupt_waits_for_the_item_that_is_being_made():
    made = []

    def items():
        for n in range(3):
            time.sleep(0.1 * n)
            made.append(n)
            yield n

    taken = prefetch(items(), thread=True)
    assert next(taken) == 0
    threading.Timer(0.03, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        next(taken)
    assert made == [0, 1]
