"""What is true of a model and tokenizer is asked or measured: BOS, end tokens, special tokens, the final norm."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

import saekit as sk
from conftest import HOOK, tiny_llama, tiny_model, tiny_sae
from saekit.errors import ConfigError, MismatchError
from saekit.models import LanguageModel
from saekit.models.facts import find_facts
from saekit.models.final_norm import measure_final_norm
from saekit.sae import common_prepend_bos

SPECIAL = ["<s>", "</s>", "<pad>", "<|turn|>"]


def tokenizer(**roles: str) -> Any:
    """A tokenizer of letters in which only the tokens given a role are known as BOS, EOS or padding."""
    letters = {c: i for i, c in enumerate([*SPECIAL, *"abcdefghijklmnopqrstuvwxyz "])}
    own = Tokenizer(models.WordLevel(letters, unk_token="a"))
    own.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    own.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=own, **roles)
    fast.add_special_tokens({"additional_special_tokens": ["<|turn|>"]}, replace_extra_special_tokens=False)
    return fast


def llama_with(tokenizer: Any) -> LanguageModel:
    """The tiny Llama, whose generation configuration ends a reply at token 1, with another tokenizer."""
    return LanguageModel(tiny_llama().bridge, "llama", tokenizer)


def test_no_token_takes_the_place_of_a_bos_that_is_not_there() -> None:
    model = llama_with(tokenizer(eos_token="</s>"))
    assert model.bos_id is None and not model.facts.prepend_bos
    assert model.tokenize("ab") == model.tokenize("ab", bos=False)
    assert sk.tokenize(["ab", "cd"], model, length=8).lengths.tolist() == [2, 2]
    with pytest.raises(ConfigError, match="has no BOS") as refused:
        model.tokenize("ab", bos=True)
    assert "no other token takes its place" in str(refused.value)
    with pytest.raises(ConfigError, match="has no BOS"):
        sk.tokenize(["ab"], model, length=8, prepend_bos=True)


@pytest.mark.parametrize("default, adds, expected", [(True, False, True), (False, False, False), (False, True, True)])
def test_bos_is_what_transformer_lens_says_unless_the_tokenizer_adds_it(
    default: bool, adds: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tokenizer(bos_token="<s>", eos_token="</s>")
    if adds:
        from tokenizers import processors

        own.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    model = llama_with(own)
    monkeypatch.setattr(model.bridge.cfg, "default_prepend_bos", default)
    assert model.facts.prepend_bos is expected
    assert (model.tokenize("ab")[0] == 0) is expected
    assert model.tokenize("<s>ab").count(0) == 1  # never twice
    for wish in (True, False):  # and the caller has the last word
        assert (model.tokenize("ab", bos=wish)[0] == 0) is wish
        windows = sk.tokenize(["abcdefgh", "ij"], model, length=6, prepend_bos=wish)
        assert bool((windows.tokens[:, 0] == 0).all()) is wish
        assert [i for i in windows.tokens[windows.documents == 0].tolist() if i] == model.tokenize(
            "abcdefgh", bos=False
        )


def test_windows_without_bos_hold_every_token_once_and_packed_ones_need_a_separator() -> None:
    model = llama_with(tokenizer())
    assert model.facts.separator_id == 1  # as its generation configuration says
    texts = ["abcdefghij", "kl", "m"]
    windows = sk.tokenize(texts, model, length=4)
    assert windows.lengths.tolist() == [4, 4, 2, 2, 1]
    packed = sk.tokenize(texts, model, length=4, pack=True)
    assert packed.lengths.tolist() == [4, 4, 4, 3]
    flat = packed.tokens.reshape(-1)[: packed.n_tokens].tolist()
    assert flat == [*model.tokenize(texts[0]), 1, *model.tokenize(texts[1]), 1, *model.tokenize(texts[2])]
    native = LanguageModel(tiny_model().bridge, "native", tokenizer())
    assert native.facts.separator_id is None
    with pytest.raises(ConfigError, match="no token to put between documents"):
        sk.tokenize(texts, native, length=4, pack=True)


def test_an_sae_says_whether_text_begins_with_bos(model: Any, sae: Any, tmp_path: Any) -> None:
    corpus = sk.load_corpus(["the cat sat on the mat", "red fog"])
    without = sk.SAE(sae.config.replace(prepend_bos=False))
    without.load_state_dict(sae.state_dict())
    n_tokens = {}
    for name, one in (("with", sae), ("without", without)):
        index = sk.build_index(model, one, corpus, out=tmp_path / name, length=32, progress=False)
        n_tokens[name] = int(index.windows.lengths.sum())
        assert (index.windows.tokens[0, 0] == model.bos_id) == (name == "with")
        assert (sk.highlight(model, one, "a cat").tokens[0] == "<bos>") == (name == "with")
        assert index.search(prompt="a cat")["pos"].min() == (1 if name == "with" else 0)
        assert sk.evaluate(model, one, corpus, length=32, progress=False).n_tokens == n_tokens[name] - 2 * (
            name == "with"
        )
    assert n_tokens["with"] == n_tokens["without"] + 2
    assert common_prepend_bos([without.config, without.config]) is False
    with pytest.raises(MismatchError, match="begins with BOS, and some do not"):
        common_prepend_bos([without.config, sae.config.replace(prepend_bos=True)])


def test_generation_begins_prompts_as_the_sae_says_or_the_caller(
    model: Any, sae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    study_jobs: Any = sys.modules["saekit.steering.study_jobs"]
    without = sk.SAE(sae.config.replace(prepend_bos=False))
    without.load_state_dict(sae.state_dict())
    edit, plain = sk.clamp(without, {3: 2.0}), len(model.tokenize("the cat", bos=False))
    assert sk.generate(model, "the cat", edits=edit, max_new_tokens=2).n_prompt_tokens == plain
    assert sk.generate(model, "the cat", edits=edit, max_new_tokens=2, prepend_bos=True).n_prompt_tokens == plain + 1
    assert sk.generate(model, "the cat", max_new_tokens=2).n_prompt_tokens == plain + 1
    assert sk.generate(model, "the cat", max_new_tokens=2, prepend_bos=False).n_prompt_tokens == plain
    assert next(iter(sk.stream(model, "the cat", edits=edit, max_new_tokens=2))).position == plain
    chat = sk.generate(model, "the cat", edits=edit, chat=True, max_new_tokens=2)
    assert chat.n_prompt_tokens == len(model.tokenize(chat.prompt, bos=False))
    seen: list[Any] = []
    rows = study_jobs.make_rows
    monkeypatch.setattr(study_jobs, "make_rows", lambda *a, **k: seen.append(k["prepend_bos"]) or rows(*a, **k))
    how = {"controls": 0, "chat": False, "max_new_tokens": 2, "progress": False}
    sk.dose_response(model, without, 3, ["the cat"], sk.Concept.keywords("gate"), [0.4], **how)
    assert seen and set(seen) == {False}  # the unsteered texts too


def test_training_and_caches_record_whether_text_began_with_bos(model: Any, corpus: Any, tmp_path: Any) -> None:
    config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256)
    wanted = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4, prepend_bos=False)
    seen: list[bool] = []
    run = type(model).activations

    def watched(self: Any, tokens: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.as_tensor(tokens).shape[-1] > 2:
            seen.append(bool((torch.as_tensor(tokens)[:, 0] == model.bos_id).any()))
        return run(self, tokens, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "activations", watched)
        without = sk.train(model, corpus, hook_name=HOOK, sae=wanted, config=config, progress=False)
        assert without.config.prepend_bos is False and seen and not any(seen)
        plain = sk.train(
            model, corpus, hook_name=HOOK, sae=wanted.replace(prepend_bos=None), config=config, progress=False
        )
        assert plain.config.prepend_bos is True and seen[-1]
    for one in (without, plain):
        cfg = json.loads((one.save(tmp_path / str(one.config.prepend_bos)) / "cfg.json").read_text())
        assert cfg["metadata"]["prepend_bos"] is one.config.prepend_bos
        assert sk.load_sae(tmp_path / str(one.config.prepend_bos)).config.prepend_bos is one.config.prepend_bos
    for wish in (True, False):
        cache = sk.cache_activations(
            model, corpus, HOOK, tmp_path / f"cache {wish}", length=16, prepend_bos=wish, progress=False
        )
        assert cache.provenance.prepend_bos is wish


def test_ids_outside_the_vocabulary_are_no_tokens() -> None:
    """A tokenizer without special tokens gets one from elsewhere, with the next free id: 128 in a vocabulary of 128."""
    model = tiny_llama()
    own = tokenizer()
    own.add_special_tokens({"bos_token": "<invented>", "pad_token": "<pad>"})
    beyond = own.bos_token_id
    model.bridge.cfg.d_vocab = beyond
    facts = find_facts(model.bridge, own)
    assert facts.bos_id is None and not facts.prepend_bos and beyond not in facts.special_ids


def test_special_tokens_are_all_that_the_tokenizer_flags() -> None:
    own = tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    model = llama_with(own)
    assert model.special_ids == {0, 1, 2, 3}
    assert model.decode(model.tokenize("ab<|turn|>cd")) == "abcd"
    token_filter = sk.fit_token_filter(model, sk.tokenize(["ab<|turn|>cd"] * 4, model, length=16), HOOK)
    assert 3 in token_filter.special_ids


@pytest.mark.parametrize("ids", [1, [1, 3], (3, 1)])
def test_a_reply_ends_where_transformers_ends_it(ids: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama_with(tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<pad>"))
    hf = model.bridge.original_model
    plain = sk.generate(model, "the cat", max_new_tokens=40)
    last = plain.tokens[20]  # a token that comes up, which now ends the text
    ends = [last, 1] if isinstance(ids, list | tuple) else last
    monkeypatch.setattr(hf.generation_config, "eos_token_id", ends)
    again = LanguageModel(model.bridge, "llama", model.tokenizer)
    assert again.facts.end_ids == ({last, 1} if isinstance(ends, list) else {last})
    ended = sk.generate(again, "the cat", max_new_tokens=40)
    assert ended.finish_reason == "eos" and ended.tokens == plain.tokens[: plain.tokens.index(last)]


class Offset(nn.Module):
    """RMSNorm that scales by 1 + w, under a name that says nothing."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + self.weight)


@pytest.mark.parametrize("d", [32, 33])
@pytest.mark.parametrize("kind", ["layer norm", "rms", "offset", "none"])
def test_the_final_norm_is_measured(kind: str, d: int) -> None:
    weight = torch.randn(d, generator=torch.Generator().manual_seed(0))
    norm: nn.Module | None
    if kind == "layer norm":
        norm = nn.LayerNorm(d)
        norm.bias.data = weight.flip(0)
    else:
        norm = {"rms": nn.RMSNorm(d, eps=1e-6), "offset": Offset(weight - 1), "none": None}[kind]
    if kind in ("layer norm", "rms"):
        norm.weight.data = weight  # type: ignore[union-attr]
    found = measure_final_norm(norm, d)
    assert found.centres == (kind == "layer norm")
    torch.testing.assert_close(found.scale, torch.ones(d) if kind == "none" else weight, rtol=1e-4, atol=1e-5)
    if norm is None:
        return
    generator = torch.Generator().manual_seed(1)
    x, direction = torch.randn(2, d, generator=generator, dtype=torch.float64) * torch.tensor([[3.0], [1.0]])
    W_U = torch.randn(d, 50, generator=generator)
    norm = norm.double()
    # The norm's denominator held fixed: what it does to a direction that leaves the norm of x as it is.
    centred = x - x.mean() if found.centres else x
    wide = direction - direction.mean() if found.centres else direction
    along = wide - centred * (wide @ centred) / (centred @ centred)
    effect = ((norm(x + 1e-6 * along) - norm(x - 1e-6 * along)) / 2e-6) @ W_U.double()
    folded = along.float() @ found.fold_into(W_U)
    assert torch.nn.functional.cosine_similarity(effect.float(), folded, dim=0) > 0.9999


def test_a_steered_model_has_the_facts_of_its_model(model: Any) -> None:
    steered = sk.steered(model, sk.ablate(tiny_sae(model), 3))
    assert steered.facts is model.facts and steered.vocabulary is model.vocabulary


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_sae_belongs_to_its_model_in_every_dtype(dtype: torch.dtype) -> None:
    """float16 rounds weights otherwise than bfloat16, so that their digits cannot be compared; names can."""
    model = tiny_model()
    sae = tiny_sae(model)
    sae.config = sae.config.replace(model_fingerprint=model.fingerprint)
    other = tiny_model()
    other.bridge.original_model.to(dtype)
    assert other.dtype == dtype
    sae.check(LanguageModel(other.bridge, model.name))
    renamed = LanguageModel(other.bridge, "another")
    if dtype != torch.float16:
        sae.check(renamed)  # by its weights
        return
    with pytest.raises(MismatchError, match="another model"):
        sae.check(renamed)
