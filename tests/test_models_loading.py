"""`load_model` by everything that is a model, and what it says when it cannot. The hub is a small server of our own."""

import contextlib
import copy
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import saekit as sk
from conftest import tiny_tokenizer
from saekit.errors import ConfigError, DataError, FileError, UnknownNameError
from saekit.models import placement

HOOK = "blocks.1.hook_resid_post"


def hf_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = LlamaConfig(**sizes, **ids, vocab_size=128, max_position_embeddings=96, initializer_range=0.3)
    return LlamaForCausalLM(config).eval()


def bare_tokenizer():
    """26 letters and no special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({chr(97 + i): i for i in range(26)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


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


# ---- ready models ---------------------------------------------------------------------------------------------------


def test_a_hugging_face_model_and_its_tokenizer_are_read_and_left_as_they_were():
    hf, tokenizer = hf_llama(), tiny_tokenizer()
    keys, kind, state = list(hf.state_dict()), hf.config._attn_implementation, copy.deepcopy(vars(tokenizer))
    model = sk.load_model(hf, tokenizer=tokenizer)
    assert same_model(model) and model.name == "LlamaForCausalLM"
    assert list(hf.state_dict()) == keys and hf.config._attn_implementation == kind
    assert tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert tokenizer.padding_side == tiny_tokenizer().padding_side and vars(tokenizer).keys() == state.keys()
    shared = {p.data_ptr() for p in hf.parameters()}
    assert {p.data_ptr() for p in model.bridge.original_model.parameters()} == shared  # no second set of weights
    assert model.activations([[5, 6]], "blocks.0.attn.hook_pattern").shape[0] == 1
    hf(torch.tensor([[1, 2]]))


def test_it_stays_on_its_device_and_in_its_dtype_unless_told():
    hf = hf_llama().bfloat16()
    model = sk.load_model(hf)
    assert next(model.bridge.original_model.parameters()).dtype == torch.bfloat16
    told = sk.load_model(hf, dtype="float32")
    assert next(told.bridge.original_model.parameters()).dtype == torch.float32
    assert {p.dtype for p in hf.parameters()} == {torch.bfloat16}
    tied = hf_llama()
    tied.lm_head.weight = tied.model.embed_tokens.weight
    moved = sk.load_model(tied, dtype=torch.float64).bridge.original_model
    assert len({p.data_ptr() for p in moved.parameters()}) == len(list(tied.parameters()))


def test_folding_the_weights_leaves_the_callers():
    hf = hf_llama()
    before = [p.clone() for p in hf.parameters()]
    model = sk.load_model(hf, tokenizer=tiny_tokenizer(), compatibility_mode=True)
    assert model.weight_processing == "compatibility"
    assert all(torch.equal(a, b) for a, b in zip(before, hf.parameters(), strict=True))


def test_a_model_spread_by_a_device_map():
    accelerate = pytest.importorskip("accelerate")
    hf = accelerate.dispatch_model(hf_llama(), {"": "cpu"}, force_hooks=True)
    model = sk.load_model(hf, tokenizer=tiny_tokenizer())
    assert same_model(model)
    assert model.activations([[5, 6]], HOOK).shape == (1, 2, 32)
    hf.hf_device_map = {"model": "cpu", "lm_head": 0}
    with pytest.raises(ConfigError, match="embeddings|several devices|float64"):
        sk.load_model(hf, device="cpu", dtype="flaot64")


def test_its_tokenizer_is_found_where_it_came_from(folder, tmp_path):
    from transformers import LlamaForCausalLM

    hf_llama().save_pretrained(tmp_path / "mine")
    tiny_tokenizer().save_pretrained(tmp_path / "mine")
    model = sk.load_model(LlamaForCausalLM.from_pretrained(tmp_path / "mine"))
    assert same_model(model) and model.name == "mine"
    lonely = sk.load_model(LlamaForCausalLM.from_pretrained(folder / "alone"))
    assert not lonely.has_tokenizer and same_model(lonely, "")


@pytest.mark.parametrize("how", ["tokenizer", "backend", "folder", "text"])
def test_a_tokenizer_may_be_passed_beside_a_folder(folder, how):
    tokenizer = {
        "tokenizer": tiny_tokenizer(),
        "backend": tiny_tokenizer().backend_tokenizer,
        "folder": folder / "tokenizer",
        "text": str(folder / "tokenizer"),
    }[how]
    assert same_model(sk.load_model(folder / "alone", tokenizer=tokenizer))


def test_a_native_bridge_with_a_tokenizer(model):
    tokenizer = bare_tokenizer()
    found = sk.load_model(model.bridge, tokenizer=tokenizer)
    assert found.tokenizer is tokenizer and found.tokenize("cat") == [2, 0, 19]
    assert model.tokenizer is not tokenizer
    assert sk.load_model(model, tokenizer=tokenizer).tokenize("cat") == [2, 0, 19]
    assert sk.load_model(model) is model


def test_ready_models_are_not_moved_or_folded_without_a_word(model):
    for changes in ({"dtype": "bfloat16"}, {"compatibility_mode": True}):
        for ready in (model, model.bridge):
            with pytest.raises(ConfigError, match=f"leaves it as it is\n.*{next(iter(changes))}"):
                sk.load_model(ready, **changes)
    assert sk.load_model(model.bridge, device="cpu", dtype="float32").d_model == 32
    hf = hf_llama()
    from transformer_lens.model_bridge import TransformerBridge

    TransformerBridge.boot_transformers("x", hf_model=hf, tokenizer=tiny_tokenizer(), device="cpu")
    with pytest.raises(ConfigError, match="part of a TransformerBridge already"):
        sk.load_model(hf)


def test_no_tokenizer_is_said_when_one_is_needed(folder):
    model = sk.load_model(folder / "alone")
    assert same_model(model, "") and not model.has_tokenizer
    with pytest.raises(DataError, match=r"alone has no tokenizer[\s\S]*tokenizer="):
        model.tokenize("hi")


def test_a_tokenizer_without_special_tokens_gets_none(folder, tmp_path):
    tokenizer = bare_tokenizer()
    hf_llama().save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    for model in (
        sk.load_model(tmp_path / "m"),
        sk.load_model(folder / "alone", tokenizer=tokenizer),
        sk.load_model(hf_llama(), tokenizer=tokenizer),
    ):
        assert len(model.tokenizer) == 26 and model.tokenizer.bos_token is None
        assert model.bos_id is None and not model.special_ids and model.tokenize("cat") == [2, 0, 19]


# ---- what cannot be loaded ------------------------------------------------------------------------------------------


def test_a_folder_says_what_it_lacks(folder, tmp_path):
    for name, files, says in [
        ("gguf", ["a.gguf"], r"no config\.json[\s\S]*a\.gguf"),
        ("adapter", ["adapter_config.json"], r"merge_and_unload"),
        ("config", ["config.json"], "no weights"),
        ("part", ["config.json", "model.safetensors.index.json"], "a part of its weights is missing"),
    ]:
        (tmp_path / name).mkdir()
        for file in files:
            text = {"config.json": (folder / "alone" / file).read_text() if file == "config.json" else ""}.get(file)
            index = json.dumps({"weight_map": {"w": "model-00001-of-00002.safetensors"}})
            (tmp_path / name / file).write_text(text or index)
        with pytest.raises(FileError, match=says):
            sk.load_model(tmp_path / name)


def test_an_architecture_that_transformer_lens_has_not_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["EsmForMaskedLM"], "model_type": "esm"}))
    with pytest.raises(ConfigError, match=r"TransformerLens has no EsmForMaskedLM[\s\S]*LlamaForCausalLM"):
        sk.load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FileError, match=r"config\.json is damaged"):
        sk.load_model(tmp_path)
    remote = {"architectures": ["LlamaForCausalLM"], "model_type": "mine", "auto_map": {"AutoConfig": "c.C"}}
    (tmp_path / "config.json").write_text(json.dumps(remote))
    with pytest.raises(ConfigError, match=r"Python code of its own[\s\S]*trust_remote_code"):
        sk.load_model(tmp_path)


def test_damaged_weights_and_a_damaged_tokenizer_are_told_apart(folder, tmp_path):
    hf_llama().save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").write_text("{")
    with pytest.raises(FileError, match="the tokenizer of .* cannot be read"):
        sk.load_model(tmp_path / "m")
    assert same_model(sk.load_model(tmp_path / "m", tokenizer=tiny_tokenizer()))
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"cannot be loaded: .*[Ss]afetensor"):
        sk.load_model(tmp_path / "m", tokenizer=tiny_tokenizer())


def test_other_objects_are_refused_with_a_way_on(tmp_path):
    with pytest.raises(ConfigError, match=r"not a model\n.*Linear"):
        sk.load_model(torch.nn.Linear(2, 2))
    pipeline = type("TextGenerationPipeline", (), {"model": 1, "tokenizer": 2})()
    with pytest.raises(ConfigError, match=r"sk\.load_model\(x\.model, tokenizer=x\.tokenizer\)"):
        sk.load_model(pipeline)
    peft = type("PeftModelForCausalLM", (), {"__module__": "peft.peft_model"})()
    with pytest.raises(ConfigError, match="merge_and_unload"):
        sk.load_model(peft)
    with pytest.raises(ConfigError, match="not a tokenizer"):
        sk.load_model(hf_llama(), tokenizer=3)
    with pytest.raises(FileError, match="no folder"):
        sk.load_model(hf_llama(), tokenizer=tmp_path / "nowhere")
    with pytest.raises(FileError, match="holds no tokenizer"):
        sk.load_model(hf_llama(), tokenizer=tmp_path)


# ---- device and dtype -----------------------------------------------------------------------------------------------


def test_a_dtype_may_be_text(folder):
    for text in ("bfloat16", "torch.bfloat16", "bf16"):
        model = sk.load_model(folder / "alone", dtype=text)
        assert next(model.bridge.original_model.parameters()).dtype == torch.bfloat16
    for wrong in ("flaot32", "int8", torch.int8, 3):
        with pytest.raises(ConfigError, match=r"not a dtype[\s\S]*float32, bfloat16, float16, float64"):
            sk.load_model("never/asked", dtype=wrong)


def test_absent_devices_are_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device, says in [("cuda", "no CUDA here"), ("mps", "no MPS here"), ("cdua", "not a device"), ("meta", "meta")]:
        with pytest.raises(ConfigError, match=rf"{says}[\s\S]*\"auto\", \"cpu\"\n[\s\S]*device=\"auto\""):
            sk.load_model("never/asked", device=device)
        with pytest.raises(ConfigError, match=says):
            sk.load_model(hf_llama(), device=device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert placement.find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"no GPU with number 7[\s\S]*cuda:0, cuda:1|no GPU with number 7"):
        sk.load_model("never/asked", device="cuda:7")
    with pytest.raises(ConfigError, match="MPS has no float64"):
        placement.find_dtype("float64", torch.device("mps"))


# ---- the hub --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine with an empty cache; `hub.answers` has status, headers and body by model."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
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
            if status == 200 and file not in files:
                status, headers = 404, {"X-Error-Code": "EntryNotFound"}
            self.send_response(status)
            for key, value in {"X-Repo-Commit": "a" * 40, "ETag": '"e"', **headers}.items():
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
    assert len(hub.asked) == 5  # each is asked once
    with pytest.raises(UnknownNameError, match="unknown model 'a b'"):
        sk.load_model("a b")
    with pytest.raises(UnknownNameError):
        sk.load_model(hf_llama(), tokenizer="no/such")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-mediun", "owner/model"])
@pytest.mark.parametrize("how", ["refused", "silent", "offline"])
def test_without_a_connection_the_cause_is_said_at_once(hub, monkeypatch, name, how):
    if how == "refused":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif how == "silent":
        monkeypatch.setattr("socket.create_connection", lambda *a, **k: time.sleep(5))
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.perf_counter()
    with pytest.raises(FileError) as e:
        sk.load_model(name)
    assert time.perf_counter() - began < 2 and not hub.asked
    says = "HF_HUB_OFFLINE is set" if how == "offline" else "no connection to http://127.0.0.1"
    assert says in str(e.value) and f"cache at {constants.HF_HUB_CACHE}" in str(e.value) and "HF_HOME" in str(e.value)
    assert ("did you mean 'gpt2-medium'" in str(e.value)) == (name == "gpt2-mediun")


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
