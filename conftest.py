"""Fixtures for every test and doctest: tiny models with a tiny tokenizer, a tiny corpus, and the default model.

`tiny_model()` is TransformerLens' own native model (it keeps no key-value cache); `tiny_llama()` is a random two-layer
Llama from transformers, for whatever needs a cache. Nothing is downloaded for either.
"""

from __future__ import annotations

import os
import signal
import string
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

import saekit as sk
from saekit.models import LanguageModel

HOOK = "blocks.0.hook_resid_post"
CHARACTERS = "\n" + string.printable[:95]
WORDS = [
    "the",
    "golden",
    "gate",
    "is",
    "red",
    "and",
    "cat",
    "sat",
    "on",
    "mat",
    "fog",
    "of",
    "bay",
    "while",
    "rain",
    "fell",
]


MARKED = ("slow", "real", "browser")
"""The marks that `make test-fast` leaves out."""
PROCESSOR_SECONDS = 6.0
"""What a test without one of them may take at the most: three times what the mark `slow` says, for slower machines."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fails a test that takes long and is not marked, so that `make test-fast` stays fast."""
    before = os.times()
    yield
    after = os.times()
    took = sum(after[:4]) - sum(before[:4])  # of this process and of those that it waited for
    if took > PROCESSOR_SECONDS and not any(map(item.get_closest_marker, MARKED)):
        pytest.fail(f"took {took:.1f} s of processor time: mark it slow, or make it faster", pytrace=False)


def tiny_tokenizer() -> Any:
    """A character-level tokenizer: <bos> 0, <eos> 1, <pad> 2, <unk> 3, then printable ASCII."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<bos>", "<eos>", "<pad>", "<unk>"]
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate([*special, *CHARACTERS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.chat_template = (
        "{% for m in messages %}<bos>{{ m['role'] }}:{{ m['content'] }}<eos>{% endfor %}"
        "{% if add_generation_prompt %}<bos>assistant:{% endif %}"
    )
    return fast


def tiny_model(seed: int = 0) -> LanguageModel:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    torch.manual_seed(seed)
    config = TransformerBridgeConfig(
        d_model=32,
        d_head=8,
        n_layers=2,
        n_ctx=64,
        n_heads=4,
        d_vocab=128,
        act_fn="gelu",
        d_mlp=64,
        normalization_type="LN",
        seed=seed,
    )
    bridge = TransformerBridge.boot_native(config)
    bridge.tokenizer = tiny_tokenizer()
    return sk.load_model(bridge)


def tiny_llama(seed: int = 0) -> LanguageModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=96,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.3,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        model = sk.load_model(folder)
    model.name = "tiny-llama"
    return model


def tiny_texts(n: int = 40, seed: int = 0) -> list[dict[str, str]]:
    """Short made-up documents, every fourth about a bridge, labelled with topic and style."""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for i in range(n):
        words = [WORDS[int(torch.randint(len(WORDS), (1,), generator=generator))] for _ in range(8 + i % 13)]
        if i % 4 == 0:
            words[3:3] = ["golden", "gate", "bridge"]
        topic = "bridge" if i % 4 == 0 else "other"
        texts.append({"text": " ".join(words), "topic": topic, "style": "story" if i % 2 else "note"})
    return texts


def tiny_config(model: LanguageModel, **changes: Any) -> sk.SAEConfig:
    """A topk SAE that belongs to `model` at HOOK: 64 features, 4 active."""
    return sk.SAEConfig(
        d_in=model.d_model,
        d_sae=64,
        activation="topk",
        k=4,
        hook_name=HOOK,
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=sk.TokenFilter(special_ids=tuple(sorted(model.special_ids))),
    ).replace(**changes)


def tiny_sae(model: LanguageModel, d_sae: int = 64, k: int = 4, activation: str = "topk", seed: int = 0) -> Any:
    """A random SAE that belongs to `model` at HOOK, another one for each seed."""
    k_or_none = None if activation == "relu" else k
    return sk.SAE(tiny_config(model, d_sae=d_sae, k=k_or_none, activation=activation, seed=seed))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums in one order everywhere, so that metrics and losses are the same on every machine of one kind."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return tiny_model()


@pytest.fixture(scope="session")
def llama() -> LanguageModel:
    return tiny_llama()


@pytest.fixture(scope="session")
def corpus() -> Any:
    return sk.load_corpus(tiny_texts(), name="tiny")


@pytest.fixture
def sae(model: LanguageModel) -> Any:
    return tiny_sae(model)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[], None]]:
    """interrupt_at(step) sends this process one interrupt in the middle of a training step; call what it returns to
    call it off."""

    def arm(step: int) -> Callable[[], None]:
        plain, sent = sk.Trainer.advance, []

        def interrupted(self: sk.Trainer, *x: torch.Tensor) -> None:
            if self.n_steps_done + 1 == step and not sent:  # once: a second one would cut the step short
                sent.append(step)
                os.kill(os.getpid(), signal.SIGINT)
            plain(self, *x)

        monkeypatch.setattr(sk.Trainer, "advance", interrupted)
        return lambda: monkeypatch.setattr(sk.Trainer, "advance", plain)

    return arm


@pytest.fixture(scope="session")
def default_model() -> LanguageModel:
    """SmolLM2-135M-Instruct; tests that take it are marked `real`."""
    return sk.load_model()


@pytest.fixture(autouse=True)
def _doctest_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if type(request.node).__name__ != "DoctestItem":
        return
    doctest_namespace.update(sk=sk, torch=torch, HOOK=HOOK, tmp_path=Path(request.getfixturevalue("tmp_path")))
    doctest_namespace["model"] = request.getfixturevalue("model")
    for name in ("corpus", "sae"):
        doctest_namespace[name] = request.getfixturevalue(name)
