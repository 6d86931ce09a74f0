"""Files: whole or absent, noticed when damaged, refused when they are another's, and gone on with after a kill."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import DiskFullError, FileError, MismatchError
from saekit.index import parts, store
from saekit.json_files import read_json

from .killed_runs import run_until

ROOT = Path(__file__).parents[1]
CHUNK = 8


@pytest.fixture(scope="module")
def sae(model):
    return tiny_sae(model)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "CHUNK_WINDOWS", CHUNK)


@pytest.fixture(scope="module")
def built(model, sae, corpus, tmp_path_factory):
    """A finished index, never interrupted."""
    out = tmp_path_factory.mktemp("built") / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "CHUNK_WINDOWS", CHUNK)
        sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    return out


def copy(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "copy"))


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def count_runs(monkeypatch):
    """How many parts are computed from here on: one entry each."""
    real, runs = parts.IndexEncoder.run, []

    def run(self, windows, bar=None):
        runs.append(len(windows))
        return real(self, windows, bar)

    monkeypatch.setattr(parts.IndexEncoder, "run", run)
    return runs


def test_nothing_but_the_files_of_the_index_is_left(built):
    assert set(contents(built)) == {store.MANIFEST, *store.FILES, *store.OPTIONAL}


def test_part_size_changes_nothing(model, sae, corpus, built, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK_WINDOWS", 10**6)
    other = sk.build_index(model, sae, corpus, out=tmp_path / "i", length=32, progress=False)
    one = sk.load_index(built)
    assert abs(other.matrix - one.matrix).max() < 1e-4 and other.windows.digest == one.windows.digest


SLOW_BUILD = """
import sys, time
sys.path.insert(0, {root!r})
import conftest, saekit as sk
from saekit.index import parts
parts.CHUNK_WINDOWS = {chunk}
run = parts.IndexEncoder.run
def slow(self, windows, bar=None):
    time.sleep(0.3)
    return run(self, windows, bar)
parts.IndexEncoder.run = slow
model = conftest.tiny_model()
corpus = sk.load_corpus(conftest.tiny_texts(), name="tiny")
sk.build_index(model, conftest.tiny_sae(model), corpus, out={out!r}, length=32, progress=False)
"""


@pytest.mark.slow
def test_a_killed_build_goes_on_and_ends_the_same(model, sae, corpus, built, tmp_path, monkeypatch):
    out = tmp_path / "index"
    code = SLOW_BUILD.format(root=str(ROOT), chunk=CHUNK, out=str(out))
    run_until(code, lambda: len(list((out / "parts").glob("*.safetensors"))) >= 3)
    assert not (out / store.MANIFEST).exists()
    with pytest.raises(FileError, match="no finished index"):
        sk.load_index(out)
    done = list((out / "parts").glob("0*.safetensors"))
    runs = count_runs(monkeypatch)
    sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    n_parts = -(-len(sk.load_index(built).windows) // CHUNK)
    assert len(runs) == n_parts - len(done) < n_parts
    assert contents(out) == contents(built)


def interrupt_after(monkeypatch, n):
    """Ends a build with KeyboardInterrupt once n parts are written."""
    real, calls = parts.IndexEncoder.run, []

    def run(self, windows, bar=None):
        if len(calls) == n:
            raise KeyboardInterrupt
        calls.append(1)
        return real(self, windows, bar)

    monkeypatch.setattr(parts.IndexEncoder, "run", run)
    return lambda: monkeypatch.setattr(parts.IndexEncoder, "run", real)


def test_a_damaged_part_is_computed_again(model, sae, corpus, built, tmp_path, monkeypatch):
    out = tmp_path / "index"
    restore = interrupt_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    restore()
    files = sorted((out / "parts").glob("*.safetensors"))
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-9])
    data = bytearray(files[1].read_bytes())
    data[-1] ^= 1
    files[1].write_bytes(data)
    runs = count_runs(monkeypatch)
    sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    assert len(runs) == -(-len(sk.load_index(built).windows) // CHUNK) - 2
    assert contents(out) == contents(built)


def test_an_unfinished_build_of_something_else_is_refused(model, sae, corpus, tmp_path, monkeypatch):
    out = tmp_path / "index"
    restore = interrupt_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    restore()
    with pytest.raises(MismatchError, match="unfinished index of another sae"):
        sk.build_index(model, tiny_sae(model, seed=1), corpus, out=out, length=32, progress=False)
    with pytest.raises(MismatchError, match="unfinished index of another window length"):
        sk.build_index(model, sae, corpus, out=out, length=16, progress=False)
    changed = sk.load_corpus([{"text": d.text + "!", **d.labels} for d in corpus], name="tiny")
    with pytest.raises(MismatchError, match="not the one that the unfinished index"):
        sk.build_index(model, sae, changed, out=out, length=32, progress=False)
    again = sk.build_index(model, sae, changed, out=out, length=32, resume=False, progress=False)
    assert "!" in "".join(again.token_strings(range(again.length * 3)))


def test_a_finished_index_is_opened_not_built_again(model, sae, corpus, built, tmp_path, monkeypatch):
    out = copy(built, tmp_path)
    runs = count_runs(monkeypatch)
    index = sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    assert not runs and index.model is model and index.sae is sae
    sk.build_index(model, sae, corpus, out=out, length=32, resume=False, progress=False)
    assert runs and contents(out) == contents(built)


@pytest.mark.parametrize("resume", [True, False])
def test_a_finished_index_of_something_else_is_refused_and_left_alone(model, sae, corpus, built, tmp_path, resume):
    out = copy(built, tmp_path)
    with pytest.raises(MismatchError, match=r"holds the index of another sae\n(.*\n)*.*another folder"):
        sk.build_index(model, tiny_sae(model, seed=1), corpus, out=out, length=32, resume=resume, progress=False)
    with pytest.raises(MismatchError, match="holds the index of another corpus"):
        sk.build_index(model, sae, corpus.take(3), out=out, length=32, resume=resume, progress=False)
    assert contents(out) == contents(built)


def test_another_corpus_of_the_same_name_is_noticed(model, sae, built):
    other = sk.load_corpus(["other text"], name="tiny")
    with pytest.raises(MismatchError, match="another corpus of the same name"):
        sk.build_index(model, sae, other, out=built, length=32, progress=False)


@pytest.mark.parametrize("name", store.FILES)
def test_truncated_and_missing_files_are_named_when_the_index_is_opened(built, tmp_path, name):
    out = copy(built, tmp_path)
    file = out / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FileError, match=rf"{name} is truncated"):
        sk.load_index(out, verify=False)
    file.unlink()
    with pytest.raises(FileError, match=rf"{name} is missing"):
        sk.load_index(out)


@pytest.mark.parametrize("name", store.FILES)
def test_altered_files_are_named(built, tmp_path, name, monkeypatch):
    out = copy(built, tmp_path)
    data = bytearray((out / name).read_bytes())
    data[len(data) // 2] ^= 1
    (out / name).write_bytes(data)
    with pytest.raises(FileError, match=rf"{name} has been altered"):
        sk.load_index(out)
    monkeypatch.setattr(store, "SMALL", 0)  # every file is a large one: looked at when it is first used
    index = sk.load_index(out)
    with pytest.raises(FileError, match=rf"{name} has been altered"):
        index.feature(3), index.features, index.at(40), index.documents
    with pytest.raises(FileError, match=rf"{name} has been altered"):
        index.verify()


def test_an_altered_manifest_and_other_formats_are_noticed(built, tmp_path):
    out = copy(built, tmp_path)
    text = (out / store.MANIFEST).read_text()
    (out / store.MANIFEST).write_text(text.replace('"n_tokens": 2', '"n_tokens": 3'))
    with pytest.raises(FileError, match=r"manifest.json has been altered"):
        sk.load_index(out)
    (out / store.MANIFEST).write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(FileError, match="of another format"):
        sk.load_index(out)
    (out / store.MANIFEST).write_text(text[:50])
    with pytest.raises(FileError, match="not valid JSON"):
        sk.load_index(out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["counts"].update(d_sae=10**9), r"features.parquet does not have the size that manifest.json says"),
        (lambda m: m["counts"].update(n_tokens=1), r"by_token.safetensors does not have the size.*\n.*position: \d+"),
        (lambda m: m["counts"].update(length=0), r"not accepted at counts.length"),
        (lambda m: m["files"].pop("contexts.parquet"), "manifest.json does not list contexts.parquet"),
        (
            lambda m: m["files"]["contexts.parquet"].update(bytes="many"),
            r"not accepted at files.contexts.parquet.bytes",
        ),
        (lambda m: m.pop("counts"), "manifest.json lacks counts"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(built, tmp_path, change, message):
    out = copy(built, tmp_path)
    manifest = read_json(out / store.MANIFEST)
    change(manifest)
    manifest.pop("checksum")
    store.write_json(out / store.MANIFEST, {**manifest, "checksum": store._checksum(manifest)})
    with pytest.raises(FileError, match=message):
        index = sk.load_index(out)
        assert index.features is None or index.matrix


def test_folders_without_an_index_are_refused(tmp_path):
    with pytest.raises(FileError, match="no index folder"):
        sk.load_index(tmp_path / "nowhere")
    with pytest.raises(FileError, match="holds no finished index"):
        sk.load_index(tmp_path)
    store.write_json(tmp_path / store.MANIFEST, {"format": 1})
    with pytest.raises(FileError, match="something else than a feature index"):
        sk.load_index(tmp_path)


def test_a_folder_with_other_files_is_not_written_to(model, sae, corpus, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match=r"holds other files\n(.*\n)*.*another folder"):
        sk.build_index(model, sae, corpus, out=tmp_path, length=32, progress=False)
    assert list(contents(tmp_path)) == ["thesis.tex"]


@pytest.mark.parametrize("which", [5, "last part", "by token", "by feature"])
def test_a_full_disk_loses_nothing(model, sae, corpus, built, tmp_path, monkeypatch, which):
    """Once one part cannot be written, no later one is, and the same call resumes where it was."""
    out, real, calls = tmp_path / "index", store.save_file, []
    n_parts = -(-len(sk.load_index(built).windows) // CHUNK)
    n = {"last part": n_parts - 1, "by token": n_parts, "by feature": n_parts + 1}.get(which, which)

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) == n + 1:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(tensors, path, metadata)

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(DiskFullError, match=r"no space left(.*\n)*.*run the same call again"):
        sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    done = min(n, n_parts)
    assert len(list((out / "parts").iterdir())) == 1 + done  # the plan and these parts; nothing half-written
    assert not (out / store.MANIFEST).exists()
    monkeypatch.setattr(store, "save_file", real)
    runs = count_runs(monkeypatch)
    sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    assert contents(out) == contents(built) and len(runs) == n_parts - done


def test_a_large_index_opens_in_milliseconds(built, tmp_path):
    """Opening costs the same whatever the size of the arrays: a file of 200 MB of holes stands in for one."""
    out = copy(built, tmp_path)
    big = out / "by_token.safetensors"
    with big.open("rb+") as f:
        f.truncate(200_000_000)
    manifest = store.read_json(out / store.MANIFEST)
    manifest.pop("checksum")
    manifest["files"][big.name] = {"bytes": 200_000_000, "sha256": "0" * 64}
    store.write_json(out / store.MANIFEST, {**manifest, "checksum": store._checksum(manifest)})
    times = []
    for _ in range(5):
        start = time.perf_counter()
        sk.load_index(out)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
    assert torch.tensor(times).min() > 0


def test_an_index_of_an_earlier_version_reads_the_same(built, model, sae, corpus, tmp_path):
    old = copy(built, tmp_path)
    older = {"bin": "interval"}
    store.save_frame(old / "contexts.parquet", store.Store(old).frame("contexts.parquet").rename(columns=older))
    facts = {k: v for k, v in read_json(old / "manifest.json").items() if k not in ("files", "checksum")}
    for parameters in (facts["parameters"], facts["plan"]["parameters"]):
        parameters["n_per_interval"] = parameters.pop("n_per_bin")
    facts["parameters"]["n_bins"] = facts["parameters"].pop("n_histogram_bins")
    facts["parameters"]["n_intervals"] = facts["parameters"].pop("n_activation_bins")
    store.write_manifest(old, facts)

    found, now = sk.load_index(old), sk.load_index(built)
    assert found.manifest["parameters"] == now.manifest["parameters"]
    assert found.feature(9).to_frame().equals(now.feature(9).to_frame()) and len(now.feature(9).bins[9].contexts)
    same = sk.build_index(model, sae, corpus, out=old, length=32, progress=False)  # opened, not refused
    assert same.n_firings == now.n_firings


def test_what_the_filter_left_out_is_in_the_index(model, corpus, tmp_path):
    sae = tiny_sae(model)
    windows = sk.tokenize(corpus.take(8), model, length=16)
    special = sae.config.token_filter.special_ids
    norm = sk.activations.kept_activations(
        model, windows, torch.arange(len(windows)), HOOK, sk.TokenFilter(special_ids=special)
    )[1].norm(dim=1)
    token_filter = sk.TokenFilter(special_ids=special, max_norm=float(norm.quantile(0.8)))
    sae.config = sae.config.replace(token_filter=token_filter)
    with pytest.warns(UserWarning, match=f"leaves out .* by their norm at {HOOK}"):
        built = sk.build_index(model, sae, windows, out=tmp_path / "index", progress=False)
    known = sk.activations.describe_token_filter(model, windows, HOOK, token_filter)
    for index in (built, sk.load_index(tmp_path / "index")):
        assert (index.excluded.tokens, index.excluded.n_tokens) == (known.tokens, windows.n_tokens)
        assert index.excluded.norms_frame().to_numpy() == pytest.approx(known.norms_frame().to_numpy(), rel=1e-5)
        assert str(index.excluded) in repr(index)
    cache = sk.cache_activations(model, windows, HOOK, tmp_path / "cache", token_filter=token_filter, progress=False)
    with pytest.warns(UserWarning):
        of_cache = sk.build_index(model, sae, cache, out=tmp_path / "of_cache", progress=False).excluded
    assert of_cache.tokens == known.tokens and np.isnan(of_cache.norms[0].norm_fraction)
    del built.__dict__["excluded"], built.manifest["excluded"]  # as in an index of an earlier version
    assert built.excluded.tokens == known.tokens and "left out" not in repr(built)


def test_an_index_that_calls_features_dead_loads_with_silent_ones(model, corpus, tmp_path, monkeypatch):
    """The words of indexes that earlier versions wrote."""
    older = tmp_path / "index"
    index = sk.build_index(model, tiny_sae(model), corpus.take(5), out=older, length=32, progress=False)
    silent = index.features["silent"].tolist()
    frame = index._table.rename(columns={"silent": "dead"})
    store.save_frame(older / "features.parquet", frame)
    manifest = {k: v for k, v in index.manifest.items() if k not in ("files", "checksum", "kind", "format", "excluded")}
    manifest["statistics"] = ["dead" if name == "silent" else name for name in manifest["statistics"]]
    manifest["counts"] = {("n_dead" if k == "n_silent" else k): v for k, v in manifest["counts"].items()}
    store.write_manifest(older, manifest)
    again = sk.load_index(older)
    assert again.features["silent"].tolist() == silent and again.n_silent == sum(silent)
    assert again.feature(silent.index(True) if True in silent else 0).silent == (True in silent)
