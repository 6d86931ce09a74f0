"""Activations on disk: the same numbers, whole after a kill, and never of something else."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_llama, tiny_model, tiny_texts
from saekit.activations import kept_activations
from saekit.errors import ConfigError, DataError, DiskFullError, FileError, MismatchError, UnknownNameError
from saekit.json_files import sealed
from saekit.models import LanguageModel

LENGTH = 16


@pytest.fixture(scope="module")
def windows(model: LanguageModel) -> sk.Windows:
    return sk.tokenize(sk.load_corpus(tiny_texts(60)), model, length=LENGTH)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saekit.activations.shards.SHARD_TOKENS", 800)  # 50 windows


@pytest.fixture
def n_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows in each run of the model since the fixture was asked for."""
    runs: list[int] = []
    real = LanguageModel.activations

    def counted(self: LanguageModel, tokens: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        runs.append(len(tokens))
        return real(self, tokens, *args, **kwargs)

    monkeypatch.setattr(LanguageModel, "activations", counted)
    return runs


def cache(model: LanguageModel, windows: sk.Windows, path: Path, **kwargs: object) -> sk.ActivationCache:
    return sk.cache_activations(model, windows, HOOK, path, progress=False, **kwargs)


def same(a: sk.ActivationCache, b: sk.ActivationCache) -> bool:
    everything = slice(None)
    return torch.equal(a.x(everything), b.x(everything)) and torch.equal(a.position, b.position)


def test_holds_what_the_model_gives_in_the_texts_order(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path
) -> None:
    stored = cache(model, windows, tmp_path)
    assert stored.files.n_shards > 3 and stored.windows.digest == windows.digest
    assert stored.token_filter == sk.fit_token_filter(model, windows, HOOK)
    position, x = kept_activations(model, windows, torch.arange(len(windows)), HOOK, stored.token_filter)
    assert torch.equal(stored.position, position) and bool((position.diff() > 0).all())
    torch.testing.assert_close(stored.x(slice(None)), x, rtol=1e-5, atol=1e-5)
    assert stored.n_tokens == len(x) == len(stored) and stored.d_in == 32
    assert f"{len(x):,} tokens x 32 at {HOOK}" in repr(stored)


def test_rows_and_chunks(model: LanguageModel, windows: sk.Windows, tmp_path: Path) -> None:
    stored = cache(model, windows, tmp_path)
    x = stored.x(slice(None))
    rows = torch.randint(stored.n_tokens, (500,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(stored.x(rows), x[rows]) and torch.equal(stored.x(rows.tolist()), x[rows])
    for part in (slice(0, 0), slice(700, 1900), slice(-5, None), slice(3, 900, 7), slice(5, 2)):
        assert torch.equal(stored.x(part), x[part])
    chunks = list(stored.chunks(300))
    assert [len(c) for _, c in chunks[:-1]] == [300] * (len(chunks) - 1)
    assert torch.equal(torch.cat([p for p, _ in chunks]), stored.position)
    assert torch.equal(torch.cat([c for _, c in chunks]), x)
    stored.x(slice(0, 10)).zero_()  # what is handed out is a copy
    assert torch.equal(stored.x(slice(None)), x)
    assert stored.x([]).shape == (0, 32)
    with pytest.raises(DataError, match="a row outside the cache"):
        stored.x([stored.n_tokens])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_half_precision_takes_half_the_room(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    full, half = cache(model, windows, tmp_path / "full"), cache(model, windows, tmp_path / "half", dtype=dtype)
    assert half.x([0]).dtype == torch.float32
    torch.testing.assert_close(half.x(slice(None)), full.x(slice(None)), rtol=tolerance, atol=tolerance)
    sizes = [sum(f.stat().st_size for f in (tmp_path / n).glob("shard*")) for n in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_overflow_in_float16_is_refused(windows: sk.Windows, tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        for name, p in model.bridge.named_parameters():
            if name.startswith("tok_embed"):
                p.mul_(1e8)
    with pytest.raises(DataError, match=r"activations overflow float16[\s\S]*bfloat16"):
        cache(model, windows, tmp_path, dtype="float16")


def test_a_second_call_reads_and_opening_gives_the_same(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, n_runs: list[int]
) -> None:
    first = cache(model, windows, tmp_path)
    n_runs.clear()
    assert same(cache(model, windows, tmp_path), first) and n_runs == []
    for verify in (True, False):
        again = sk.open_activations(tmp_path, verify=verify)
        assert same(again, first) and again.token_filter == first.token_filter and again.digest == first.digest
    first.check(model, HOOK)


def test_batches_are_a_full_shuffle_that_resumes(model: LanguageModel, windows: sk.Windows, tmp_path: Path) -> None:
    stored = cache(model, windows, tmp_path)
    n = stored.n_tokens
    whole = list(stored.batches(100, seed=1, n_epochs=2))
    assert len(whole) == 2 * n // 100 and {x.shape for x in whole} == {(100, 32)}
    x = torch.cat(whole)
    as_rows = sorted(map(tuple, stored.x(slice(None)).tolist()))
    assert sorted(map(tuple, x[:n].tolist())) == as_rows  # an epoch holds each token once
    assert not torch.equal(x[n:], x[: len(x) - n])  # and the next has another order
    assert torch.equal(whole[0], next(stored.batches(100, seed=1)))
    assert not torch.equal(whole[0], next(stored.batches(100, seed=2)))
    for stop in (0, 3, len(whole) // 2, len(whole)):
        before = stored.batches(100, seed=1, n_epochs=2)
        for _ in range(stop):
            next(before)
        after = stored.batches(100, seed=1, n_epochs=2)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert all(map(torch.equal, list(after), whole[stop:]))
    assert stored.batches(100).n_tokens_per_epoch == n and stored.batches(100).token_filter == stored.token_filter
    with pytest.raises(MismatchError, match="seed differs"):
        stored.batches(100).load_state_dict(before.state_dict())
    with pytest.raises(DataError, match="fewer tokens than one batch"):
        stored.batches(n + 1)
    with pytest.raises(ConfigError, match="batch_size is not positive"):
        stored.batches(0)


@pytest.mark.parametrize("harm", ["cut", "bit", "gone"])
def test_a_damaged_shard_is_refused_by_name_and_can_be_made_again(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, n_runs: list[int], harm: str
) -> None:
    whole = cache(model, windows, tmp_path / "whole")
    cache(model, windows, tmp_path / "harmed")
    shard = tmp_path / "harmed" / "shard-00002.safetensors"
    data = bytearray(shard.read_bytes())
    if harm == "gone":
        shard.unlink()
        message = "shard-00002.safetensors is missing"
    elif harm == "cut":
        shard.write_bytes(data[:-1])
        message = r"shard-00002.safetensors was cut short or added to[\s\S]*delete that file"
    else:
        data[-1000] ^= 1
        shard.write_bytes(data)
        message = r"shard-00002.safetensors was altered[\s\S]*delete that file"
    with pytest.raises(FileError, match=message):
        sk.open_activations(tmp_path / "harmed")
    if harm == "cut":
        with pytest.raises(FileError, match=message):
            sk.open_activations(tmp_path / "harmed", verify=False)
    if harm != "gone":
        with pytest.raises(FileError, match=message):
            cache(model, windows, tmp_path / "harmed")
        shard.unlink()
    n_runs.clear()
    assert same(cache(model, windows, tmp_path / "harmed"), whole)
    assert sum(n_runs) == 50  # that shard's windows alone


def test_another_model_hook_text_dtype_or_token_filter_is_refused(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path
) -> None:
    stored = cache(model, windows, tmp_path)
    with pytest.raises(MismatchError, match="differ in model fingerprint"):
        cache(tiny_model(seed=1), windows, tmp_path)
    with pytest.raises(MismatchError, match="differ in model name"):
        cache(tiny_llama(), windows, tmp_path)
    with pytest.raises(MismatchError, match="differ in hook name"):
        sk.cache_activations(model, windows, "blocks.1.hook_resid_post", tmp_path, progress=False)
    with pytest.raises(MismatchError, match="differ in text"):
        cache(model, windows.select(slice(1, None)), tmp_path)
    with pytest.raises(MismatchError, match="differ in dtype"):
        cache(model, windows, tmp_path, dtype="float16")
    with pytest.raises(MismatchError, match="chosen by another token filter"):
        cache(model, windows, tmp_path, token_filter=sk.TokenFilter(max_norm=1.0))
    with pytest.raises(MismatchError, match="are of another model"):
        stored.check(tiny_model(seed=1))
    with pytest.raises(MismatchError, match="are of another hook point"):
        stored.check(model, "blocks.1.hook_resid_post")
    assert same(sk.open_activations(tmp_path), stored)  # nothing was touched


def test_bad_paths_and_arguments(model: LanguageModel, windows: sk.Windows, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no activation cache in"):
        sk.open_activations(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileError, match="exists and is not an activation cache"):
        cache(model, windows, tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(FileError, match="is not the manifest of an activation cache"):
        cache(model, windows, tmp_path)
    with pytest.raises(ConfigError, match="unknown dtype"):
        cache(model, windows, tmp_path / "new", dtype="int8")
    with pytest.raises(UnknownNameError, match="did you mean"):
        sk.cache_activations(model, windows, "blocks.0.hook_resid_pots", tmp_path / "new")
    with pytest.raises(DataError, match="every one is excluded"):
        cache(model, windows, tmp_path / "new", token_filter=sk.TokenFilter(max_norm=1e-9))


def harmed_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Writes the manifest again with a change, and a checksum that agrees with it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["shards"][0].update(file="../shard-00000.safetensors"), r"not accepted at shards\[0\].file"),
        (lambda m: m["shards"].extend([m["shards"][0]] * 2), "lists a shard twice"),
        (lambda m: m["shards"].reverse(), "does not list its shards in order"),
        (lambda m: m["shards"][-1].update(file="shard-00017.safetensors"), "lists a shard beyond the 6"),
        (lambda m: m["shards"][0].update(n_tokens=5), "other tensors than the manifest says"),
        (lambda m: m.update(d_in=10**9), "other tensors than the manifest says"),
        (lambda m: m.update(dtype="float16"), "other tensors than the manifest says"),
        (lambda m: m.update(windows_per_shard=10), "the windows in .* were altered"),
        (lambda m: m.update(length=8), "the windows in .* were altered"),
        (lambda m: m["token_filter"].update(special_ids=[10**12]), r"not accepted at token_filter.special_ids\[0\]"),
        (lambda m: m.pop("text"), "manifest.json lacks text"),
        (lambda m: m.update(widths=[16, 17]), "widths that do not make up d_in"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_its_files_is_refused(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, change: Any, message: str
) -> None:
    cache(model, windows, tmp_path)
    harmed_manifest(tmp_path, change)
    with pytest.raises(FileError, match=message):
        sk.open_activations(tmp_path)


def test_an_altered_digit_of_the_manifest_is_noticed(model: LanguageModel, windows: sk.Windows, tmp_path: Path) -> None:
    stored = cache(model, windows, tmp_path, token_filter=sk.TokenFilter(max_norm=9.25))
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace("9.25", "9.35"))
    for read in (lambda: sk.open_activations(tmp_path), lambda: cache(model, windows, tmp_path)):
        with pytest.raises(FileError, match=r"manifest.json was altered[\s\S]*take the line .checksum. out of it"):
            read()
    (tmp_path / "manifest.json").write_text(text)
    assert same(sk.open_activations(tmp_path), stored)


def test_altered_windows_are_noticed_and_mended(model: LanguageModel, windows: sk.Windows, tmp_path: Path) -> None:
    cache(model, windows, tmp_path)
    windows.select(slice(1, None)).save(tmp_path)
    with pytest.raises(FileError, match="the windows in .* were altered"):
        sk.open_activations(tmp_path)
    cache(model, windows, tmp_path)
    assert sk.open_activations(tmp_path).windows.digest == windows.digest


@pytest.mark.slow
def test_a_killed_run_goes_on(model: LanguageModel, windows: sk.Windows, tmp_path: Path, n_runs: list[int]) -> None:
    script = """
        import sys, time
        import saekit as sk
        import saekit.activations.shards as shards
        from conftest import HOOK, tiny_model, tiny_texts
        from saekit.models import LanguageModel

        shards.SHARD_TOKENS = 800
        real = LanguageModel.activations
        LanguageModel.activations = lambda *a, **k: (time.sleep(0.15), real(*a, **k))[1]
        model = tiny_model()
        windows = sk.tokenize(sk.load_corpus(tiny_texts(60)), model, length=16)
        sk.cache_activations(model, windows, HOOK, sys.argv[1], progress=False)
    """
    path = tmp_path / "killed"
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    deadline = time.monotonic() + 120
    while len(list(path.glob("shard-*"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_done = len(json.loads((path / "manifest.json").read_text())["shards"])
    n_shards = json.loads((path / "manifest.json").read_text())["n_shards"]
    assert 1 <= n_done < n_shards
    with pytest.raises(FileError, match=rf"are not finished[\s\S]*{n_done} of {n_shards} shards"):
        sk.open_activations(path)
    (path / ".shard-00003.safetensors.abc.part").write_bytes(b"half")
    n_runs.clear()
    resumed = cache(model, windows, path)
    assert sum(n_runs) == len(windows) - 50 * n_done
    assert same(resumed, cache(model, windows, tmp_path / "whole"))
    assert not list(path.glob(".*.part"))


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, object]]:
    """(a folder with room for a few shards, a function that makes more room).

    A real file system of 300 kB where one may be mounted; otherwise writes that fail as on one.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)], capture_output=True)
    if mounted.returncode == 0:
        yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=9m", str(folder)], check=True)
        subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    real, room = Path.write_bytes, [300_000]

    def write_bytes(self: Path, data: bytes) -> int:
        room[0] -= len(data)
        if room[0] < 0:
            real(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    yield folder, lambda: room.__setitem__(0, 10**9)


def test_a_full_disk_keeps_what_was_complete(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, full_disk: tuple[Path, object], n_runs: list[int]
) -> None:
    folder, make_room = full_disk
    path = folder / "cache"
    with pytest.raises(DiskFullError, match=r"no space left while writing[\s\S]*what was complete is kept"):
        cache(model, windows, path)
    n_done = len(json.loads((path / "manifest.json").read_text())["shards"])
    assert n_done >= 1 and not list(path.glob(".*.part"))
    make_room()
    n_runs.clear()
    resumed = cache(model, windows, path)
    assert sum(n_runs) == len(windows) - 50 * n_done
    assert same(resumed, cache(model, windows, tmp_path / "whole"))


def test_progress_is_shown(
    model: LanguageModel, windows: sk.Windows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sk.cache_activations(model, windows, HOOK, tmp_path)
    shown = capsys.readouterr().err
    assert "activations: 100%" in shown and "tokens/s" in shown


def test_split_gives_two_parts_that_share_no_document_and_agree_with_the_corpus(model, corpus, tmp_path):
    cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
    parts = cache.split(0.4)
    for part, documents in zip(parts, corpus.split(0.4), strict=True):
        texts = {d.text for d in documents}
        windows = part.windows
        decoded = {model.decode(windows.tokens[windows.documents == n]) for n in windows.labels.index}
        assert decoded == texts
        window, place = part.position // windows.length, part.position % windows.length
        again = torch.stack(
            [
                model.activations([windows.tokens[w].tolist()], HOOK)[0, p]
                for w, p in zip(window.tolist()[:40], place.tolist()[:40], strict=True)
            ]
        )
        torch.testing.assert_close(part.x(slice(0, 40)), again[: part.n_tokens], rtol=1e-4, atol=1e-4)
        drawn = torch.cat(list(part.batches(part.n_tokens, n_epochs=1)))
        torch.testing.assert_close(drawn.sum(0), part.x(torch.arange(part.n_tokens)).sum(0), rtol=1e-3, atol=1e-3)
    assert sum(p.n_tokens for p in parts) == cache.n_tokens
    assert len({cache.digest, parts[0].digest, parts[1].digest}) == 3
