"""`load_model` by everything that is a model, and what it says when it cannot."""

import copy
import json
from typing import Any

import pytest
import torch

import saekit as sk
from conftest import tiny_tokenizer
from saekit.errors import ConfigError, DataError, FileError
from saekit.models import placement
from saekit.models.tokenizers import stand_in

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
    seen: list[Any] = []
    model.forward([[5, 6]], hooks=[("blocks.0.attn.hook_pattern", seen.append)])
    assert seen[0].shape[0] == 1
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

    TransformerBridge.boot_transformers("x", hf_model=hf, tokenizer=stand_in(), device="cpu")
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
    with pytest.raises(FileError, match=r"config\.json is not valid JSON[\s\S]*fetch it again"):
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
