"""The model zoo: tiny random models of many architectures, each with a tokenizer of its family's build.

Two layers of random weights, norms and biases included, so that whatever is left out shows. Every model is written to a
folder with `save_pretrained` the first time it is asked for, loaded from there by saekit and by plain transformers, and
kept for the session. Greedy text of a chat model comes to an end after some tokens: rows of the vocabulary are swapped
until an end id is what the model likes best there.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import saekit as sk

from . import zoo_tokenizers as tokenizers

N_CTX = 512
PROMPT = "The golden gate bridge is"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An architecture and how to make a tiny one."""

    config: str
    """Class name of its configuration in transformers."""
    tokenizer: Callable[[], Any]
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the configuration, over those that fit most architectures (`SIZES`)."""
    end: str | None = None
    """The token that greedy text comes to; where it is not EOS, the generation configuration lists it beside EOS."""
    extra_rows: int = 0
    """Rows of the embedding beyond the tokenizer's; negative where the tokenizer has more."""


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": N_CTX,
}

KINDS = {
    "gpt2": Kind(
        config="GPT2Config",
        tokenizer=tokenizers.gpt2,
        changes={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": N_CTX, "n_inner": 48},
        extra_rows=7,
    ),
    "neox": Kind(config="GPTNeoXConfig", tokenizer=tokenizers.neox, extra_rows=16),
    "gemma": Kind(config="GemmaConfig", tokenizer=tokenizers.gemma, end="<end_of_turn>"),
    "gemma2": Kind(
        config="Gemma2Config",
        tokenizer=tokenizers.gemma,
        changes={"sliding_window": 16, "query_pre_attn_scalar": 8},
        end="<end_of_turn>",
    ),
    "gemma3": Kind(
        config="Gemma3TextConfig",
        tokenizer=tokenizers.gemma,
        changes={
            "sliding_window": 16,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        end="<end_of_turn>",
    ),
    "gemma4": Kind(
        config="Gemma4TextConfig",
        tokenizer=tokenizers.gemma,
        changes={
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 8,
            "global_head_dim": 8,
        },
        end="<end_of_turn>",
    ),
    "qwen2": Kind(config="Qwen2Config", tokenizer=tokenizers.qwen, end="<|endoftext|>", extra_rows=24),
    "qwen3": Kind(config="Qwen3Config", tokenizer=tokenizers.qwen, end="<|endoftext|>"),
    "qwen3_next": Kind(
        config="Qwen3NextConfig",
        tokenizer=tokenizers.qwen,
        changes={
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        end="<|endoftext|>",
    ),
    "llama_tied": Kind(
        config="LlamaConfig", tokenizer=tokenizers.llama3, changes={"tie_word_embeddings": True}, end="<|eot_id|>"
    ),
    "llama": Kind(config="LlamaConfig", tokenizer=tokenizers.llama2, end="</s>"),
    "mistral": Kind(config="MistralConfig", tokenizer=tokenizers.mistral, changes={"sliding_window": 16}, end="</s>"),
    "opt": Kind(config="OPTConfig", tokenizer=tokenizers.opt, changes={"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "phi": Kind(config="PhiConfig", tokenizer=tokenizers.gpt2),
    "phi3": Kind(config="Phi3Config", tokenizer=tokenizers.phi3, end="<|end|>"),
    "olmo2": Kind(config="Olmo2Config", tokenizer=tokenizers.neox),
    "mamba": Kind(config="MambaConfig", tokenizer=tokenizers.neox, changes={"state_size": 4, "use_mambapy": False}),
    "nemotron": Kind(config="NemotronConfig", tokenizer=tokenizers.unigram),
    "bloom": Kind(config="BloomConfig", tokenizer=tokenizers.bloom, changes={"n_layer": 2, "n_head": 4}),
    "falcon": Kind(config="FalconConfig", tokenizer=tokenizers.gpt2, changes={"ffn_hidden_size": 48}),
    "stablelm": Kind(config="StableLmConfig", tokenizer=tokenizers.gpt2),
    "granite": Kind(config="GraniteConfig", tokenizer=tokenizers.bloom),
    "cohere": Kind(config="CohereConfig", tokenizer=tokenizers.bloom),
    "gpt2_wordpiece": Kind(
        config="GPT2Config",
        tokenizer=tokenizers.wordpiece,
        changes={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": N_CTX, "n_inner": 48},
    ),
    "llama_plain": Kind(config="LlamaConfig", tokenizer=tokenizers.plain, extra_rows=8),
    "llama_surplus": Kind(config="LlamaConfig", tokenizer=tokenizers.llama3, extra_rows=-5),
}
"""Every architecture of the zoo, by a short name."""


FAST = ("gpt2", "gemma2", "qwen3", "llama_tied", "llama", "mamba")
PARAMS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in KINDS]
"""All of them for a fixture; `make test-fast` takes the first few."""


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """A model of the zoo, twice: as saekit loads it, and as transformers does."""

    name: str
    folder: Path
    model: Any
    hf: Any

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers of the plain model."""
        return decoder_layers(self.hf)


def decoder_layers(hf: nn.Module) -> nn.ModuleList:
    return next(m for m in hf.modules() if isinstance(m, nn.ModuleList) and len(m) == 2)


@cache
def load(name: str) -> ZooModel:
    """The model of this name, made the first time."""
    from transformers import AutoModelForCausalLM

    folder = _root() / name
    with quiet():
        make(name, folder)
        model = sk.load_model(folder)
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return ZooModel(name=name, folder=folder, model=model, hf=hf)


@cache
def _root() -> Path:
    _KEPT.append(tempfile.TemporaryDirectory(prefix="zoo-"))
    return Path(_KEPT[0].name)


_KEPT: list[Any] = []


@contextlib.contextmanager
def quiet() -> Any:
    """Without what transformers and TransformerLens say while they load a random model."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def make(name: str, folder: Path) -> None:
    """Writes a model of the zoo and its tokenizer to `folder`."""
    import transformers

    kind = KINDS[name]
    tokenizer = kind.tokenizer()
    n = len(tokenizer) + kind.extra_rows
    made = getattr(transformers, kind.config)
    sizes = {key: value for key, value in SIZES.items() if key in made.__dataclass_fields__ and key not in kind.changes}
    names = {f"{part}_token_id": _within(getattr(tokenizer, f"{part}_token_id"), n) for part in ("bos", "eos", "pad")}
    if "vocab_size_per_layer_input" in made.__dataclass_fields__:
        names["vocab_size_per_layer_input"] = n
    config = made(vocab_size=n, **{**sizes, **kind.changes, **names})
    torch.manual_seed(sorted(KINDS).index(name))
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    randomise(model, n)
    if kind.end is not None:
        end = tokenizer.convert_tokens_to_ids(kind.end)
        if end != tokenizer.eos_token_id:
            model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
        end_after_a_while(model, tokenizer, end)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _within(i: int | None, n: int) -> int | None:
    return i if i is not None and i < n else None


@torch.no_grad()
def randomise(model: nn.Module, d_vocab: int) -> None:
    """Weights large enough that no part of a layer is lost in the next one, and norms and biases of every value.

    Embeddings are small, so that a model which unembeds with them does not repeat the last token for ever.
    """
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1:
            weight += 0.3 * noise
        elif weight.shape[0] == d_vocab:
            weight.copy_(0.1 * noise)
        elif weight.ndim == 2 and min(weight.shape) > 1:
            weight.copy_(noise * 1.2 / weight.shape[1] ** 0.5)


@torch.no_grad()
def end_after_a_while(model: Any, tokenizer: Any, end: int) -> None:
    """Swaps the vocabulary's rows of `end` and of a token that greedy text comes to after at least 20 tokens."""
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    new = model.generate(ids, do_sample=False, max_new_tokens=150, eos_token_id=None)[0, ids.shape[1] :].tolist()
    late = [t for n, t in enumerate(new) if n >= 20 and t not in new[:n] and t not in ids[0].tolist()]
    if not late or end in new:
        return
    matrices = {id(w): w for w in (p for p in model.parameters() if p.shape[0] == model.config.vocab_size)}
    for weight in matrices.values():
        weight[[end, late[0]]] = weight[[late[0], end]]


def prompts(model: Any) -> list[list[int]]:
    """Rows of ids of unequal length that are no special tokens, but for BOS where the model's texts begin with it."""
    texts = [PROMPT, "def f(x: int) -> str:", "שלום עולם 🦙 中文"]
    return [model.tokenize(text) for text in texts]


def padded(rows: list[list[int]], pad_id: int, left: bool) -> tuple[Tensor, Tensor]:
    """The rows as one batch, and which of its entries are theirs."""
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = [pad_id] * (longest - len(row))
        ids.append(fill + row if left else row + fill)
        mask.append([0] * len(fill) + [1] * len(row) if left else [1] * len(row) + [0] * len(fill))
    return torch.tensor(ids), torch.tensor(mask)
