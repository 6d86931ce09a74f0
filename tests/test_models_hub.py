"""Models of the Hugging Face hub. The hub is a small server of our own; its cache is a folder of the test."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import saekit as sk
from conftest import tiny_tokenizer
from saekit.errors import FileError, UnknownNameError


def hf_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = LlamaConfig(**sizes, **ids, vocab_size=128, max_position_embeddings=96, initializer_range=0.3)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model without a tokenizer; the tokenizer alone lies beside it."""
    path = tmp_path_factory.mktemp("models")
    hf_llama().save_pretrained(path / "alone")
    tiny_tokenizer().save_pretrained(path / "tokenizer")
    return path


def same_model(model, tokenizer="cat"):
    logits, _ = model.forward([[5, 6, 7]])
    torch.testing.assert_close(logits.float(), hf_llama()(torch.tensor([[5, 6, 7]])).logits, atol=1e-5, rtol=1e-5)
    if tokenizer:
        assert model.decode(model.tokenize(tokenizer)) == tokenizer
    return True


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine with an empty cache; `hub.answers` has status, headers and body by model."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@contextlib.contextmanager
def serving():
    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self):
            name, _, file = self.path.lstrip("/").partition("/resolve/main/")
            self.server.asked.append(self.path)
            status, headers, files = self.server.answers.get(name, (404, {"X-Error-Code": "RepoNotFound"}, {}))
            body = files.get(file, b"")
            if "/tree/main/" in self.path:
                status, files, body = 200, {file: b""}, b"[]"
            if status == 200 and file not in files:
                status, headers = 404, {"X-Error-Code": "EntryNotFound"}
            self.send_response(status)
            for key, value in {"X-Repo-Commit": "a" * 40, "ETag": f'"{zlib.crc32(body):08x}"', **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.answers, server.asked = {}, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def test_the_hubs_answers_are_told_apart(hub):
    with pytest.raises(UnknownNameError, match=r"unknown model 'gpt2-mediun'; did you mean 'gpt2-medium'"):
        sk.load_model("gpt2-mediun")
    for status in (401, 403):
        hub.answers["meta/llama"] = (status, {"X-Error-Code": "GatedRepo"}, {})
        with pytest.raises(FileError, match=r"meta/llama is gated[\s\S]*hf auth login"):
            sk.load_model("meta/llama")
    hub.answers["only/gguf"] = (200, {}, {})
    with pytest.raises(FileError, match=r"only/gguf is on the hub but has no config\.json"):
        sk.load_model("only/gguf")
    hub.answers["down/now"] = (503, {}, {})
    with pytest.raises(FileError, match=r"refused down/now\n.*503"):
        sk.load_model("down/now")
    assert len([path for path in hub.asked if "/resolve/" in path]) == 5  # each is asked once
    with pytest.raises(UnknownNameError, match="unknown model 'a b'"):
        sk.load_model("a b")
    with pytest.raises(UnknownNameError):
        sk.load_model(hf_llama(), tokenizer="no/such")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-mediun", "owner/model"])
@pytest.mark.parametrize("how", ["refused", "silent", "offline"])
@pytest.mark.slow
def test_without_a_connection_the_cause_is_said_at_once(hub, monkeypatch, name, how):
    if how == "refused":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif how == "silent":
        monkeypatch.setattr("socket.create_connection", silence)
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.perf_counter()
    with pytest.raises(FileError) as e:
        sk.load_model(name)
    assert time.perf_counter() - began < 2 and not hub.asked
    says = "HF_HUB_OFFLINE is set" if how == "offline" else "no connection to http://127.0.0.1"
    assert says in str(e.value) and f"cache at {constants.HF_HUB_CACHE}" in str(e.value) and "HF_HOME" in str(e.value)
    assert ("did you mean 'gpt2-medium'" in str(e.value)) == (name == "gpt2-mediun")


def silence(*_, **__):
    time.sleep(3)
    raise TimeoutError


def in_cache(cache, name, folder, tokenizer):
    snapshot = Path(cache) / f"models--{name.replace('/', '--')}" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    for file in [*(folder / "alone").iterdir(), *((folder / "tokenizer").iterdir() if tokenizer else [])]:
        (snapshot / file.name).write_bytes(file.read_bytes())
    return snapshot


def test_a_model_in_the_cache_is_loaded_without_the_hub(hub, folder, monkeypatch):
    in_cache(constants.HF_HUB_CACHE, "owner/model", folder, True)
    model = sk.load_model("owner/model")
    assert same_model(model) and model.name == model.bridge.cfg.model_name == "owner/model" and not hub.asked
    snapshot = in_cache(constants.HF_HUB_CACHE, "owner/other", folder, False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same_model(sk.load_model("owner/other"), "")
    assert same_model(sk.load_model("owner/other", tokenizer="owner/model"))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(FileError, match="only a part of it is in the cache"):
        sk.load_model("owner/other")


@pytest.mark.slow
def test_a_model_is_fetched_from_the_hub(folder, tmp_path):
    script = """
        import sys, saekit as sk
        model = sk.load_model("owner/model")
        print(model.name, model.decode(model.tokenize("a cat")))
        try:
            sk.load_model("owner/esm")
        except sk.models.loading.ConfigError as e:
            print(e)
    """
    files = {f.name: f.read_bytes() for part in ("alone", "tokenizer") for f in (folder / part).iterdir()}
    with serving() as server:
        server.answers["owner/model"] = (200, {}, files)
        config = json.dumps({"architectures": ["EsmForMaskedLM"], "model_type": "esm"}).encode()
        server.answers["owner/esm"] = (200, {}, {"config.json": config})
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env |= {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "owner/model a cat\nTransformerLens has no EsmForMaskedLM" in done.stdout, done.stderr
