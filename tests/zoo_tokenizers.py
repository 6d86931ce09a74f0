"""Tokenizers built as those of well-known model families, trained on the spot on a little text of many scripts.

What differs between families is what tends to be got wrong: whether spaces are part of tokens or of the
decoder, whether bytes are a fallback or the alphabet, which special tokens there are and who puts the first one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import saekit

MIXED = [
    "The golden gate bridge is red, and the Golden Gate Bridge's fog isn't.",
    "  two spaces, then\ttabs\n\nand\r\nlines   with trailing ones  ",
    "人工智能模型的特征可以用稀疏自编码器来解释。中文、日本語テキスト、한국어 문장",
    "שלום עולם, הגשר האדום עומד בערפל. مرحبا بالعالم، الجسر الأحمر",
    "Yes 🦙🦙 great 👩‍👩‍👧 flag 🇮🇱 emoji ❤️ done",
    "Crème brûlée à la française, naïve Ångström, zażółć gęślą jaźń, e\u0301 combining",
    "def f(x: int) -> str:\n    return f'{x!r}'  # code\n\tif x >= 10: pass",
    "https://example.org/a?b=1&c=2 e-mail@site.com 3.14159 1,000,000 <tag> & </tag>",
    "Привет, мир. Γειά σου Κόσμε. नमस्ते दुनिया สวัสดีชาวโลก",
    "\u00a0no-break\u2003em space \u2014 dash \u201cquotes\u201d \u2026 \ufb01 ligature \u2126 \uff21",
]
"""Text that has broken something somewhere."""

LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")

BYTES = [f"<0x{b:02X}>" for b in range(256)]


@cache
def training_text() -> tuple[str, ...]:
    """Part of the packaged demo corpus, and the mixed text."""
    frame = pd.read_parquet(Path(saekit.__file__).parent / "data" / "demo_corpus.parquet")
    return (*(text[:600] for text in frame["text"][:60]), *MIXED * 2)


def special(*names: str) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in names]


def wrap(tokenizer: Tokenizer, *, template: str | None = None, **named: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)
    fast.chat_template = template
    return fast


def begin_with(tokenizer: Tokenizer, bos: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )


# ---- SentencePiece-like BPE with byte fallback ---------------------------------------------------------------------


def byte_fallback_bpe(first: list[str], size: int) -> models.BPE:
    """A BPE of words begun by ▁, with `first` and the 256 bytes before everything else."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    plain = [t for t in training_text() if t.isascii()]  # so that other scripts fall back to bytes
    trained.train_from_iterator(plain, trainers.BpeTrainer(vocab_size=size - 256 - len(first), show_progress=False))
    learnt = json.loads(trained.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].get)
    pieces += ["▁▁", "é", "中", "▁א"]  # some characters beyond ASCII are whole tokens
    merges = [*map(tuple, learnt["merges"]), ("▁", "▁")]
    if "א" not in pieces:
        pieces.insert(-1, "א")
    merges.append(("▁", "א"))
    vocab = {name: i for i, name in enumerate(dict.fromkeys([*first, *BYTES, *pieces]))}
    return models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


PHI3_CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3_CHAT = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llama2(size: int = 640, template: str | None = None) -> Any:
    """Llama 2, Mistral v0.1, TinyLlama: ▁ put before the text, and taken off again by the decoder's Strip."""
    tokenizer = Tokenizer(byte_fallback_bpe(["<unk>", "<s>", "</s>"], size))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>"))
    begin_with(tokenizer, "<s>")
    return wrap(tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", template=template)


def mistral(size: int = 640) -> Any:
    return llama2(size, MISTRAL_CHAT)


def phi3(size: int = 640) -> Any:
    """Phi-3: Llama 2's with marks of turns after the vocabulary, and no BOS put by the tokenizer."""
    fast = llama2(size, PHI3_CHAT)
    marks = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
    fast.backend_tokenizer.add_special_tokens(
        [AddedToken(mark, special=True, normalized=False, rstrip=mark != "<|endoftext|>") for mark in marks]
    )
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return wrap(
        fast.backend_tokenizer,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        template=PHI3_CHAT,
    )


def gemma(size: int = 640) -> Any:
    """Gemma: spaces become ▁ and nothing is put before the text or taken off; marks of turns are added tokens only."""
    marks = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer = Tokenizer(byte_fallback_bpe(["<pad>", "<eos>", "<bos>", "<unk>", *marks], size))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special("<pad>", "<eos>", "<bos>", "<unk>", *marks))
    begin_with(tokenizer, "<bos>")
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return wrap(tokenizer, template=GEMMA_CHAT, **named)


# ---- byte-level BPE ------------------------------------------------------------------------------------------------


def byte_level(size: int, before: list[str], after: list[str], words: str | None = None) -> Tokenizer:
    """A byte-level BPE; special tokens `before` and `after` the others, words found by GPT-2's pattern or `words`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=words is not None))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    if words is None:
        tokenizer.pre_tokenizer = split
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), split])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(after),
        special_tokens=special(*before),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.add_special_tokens(special(*after))
    return tokenizer


def gpt2(size: int = 640) -> Any:
    """GPT-2, Phi-1, StableLM: one special token that begins and ends texts, which the tokenizer does not put."""
    end = "<|endoftext|>"
    return wrap(byte_level(size, [], [end]), bos_token=end, eos_token=end, unk_token=end)


def neox(size: int = 640) -> Any:
    """GPT-NeoX, Pythia, OLMo, Mamba: as GPT-2's, with added tokens of several spaces that are not special."""
    tokenizer = byte_level(size - 3, ["<|endoftext|>", "<|padding|>"], [])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * n, special=False, normalized=True) for n in (4, 3, 2)])
    end = "<|endoftext|>"
    return wrap(tokenizer, bos_token=end, eos_token=end, unk_token=end, pad_token="<|padding|>")


def llama3(size: int = 640) -> Any:
    """Llama 3: marks of turns that are special, though no attribute of the tokenizer names them."""
    marks = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = byte_level(size, [], marks, LLAMA3_WORDS)
    begin_with(tokenizer, marks[0])
    return wrap(tokenizer, bos_token=marks[0], eos_token=marks[1], template=LLAMA3_CHAT)


def qwen(size: int = 640) -> Any:
    """Qwen: no BOS at all; the end of a turn ends a text."""
    tokenizer = byte_level(size, [], ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], QWEN_WORDS)
    tokenizer.normalizer = normalizers.NFC()
    return wrap(tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", template=CHATML)


def opt(size: int = 640) -> Any:
    """OPT: GPT-2's with <pad>, and </s> put before a text."""
    tokenizer = byte_level(size, ["<s>", "<pad>", "</s>", "<unk>"], [])
    begin_with(tokenizer, "</s>")
    return wrap(tokenizer, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>")


def bloom(size: int = 640) -> Any:
    """Bloom, Nemotron, Cohere, Granite, in what matters here: BOS, EOS and padding apart, none put by the tokenizer."""
    tokenizer = byte_level(size, ["<unk>", "<s>", "</s>", "<pad>"], [], LLAMA3_WORDS)
    return wrap(tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def plain(size: int = 640) -> Any:
    """No special token at all."""
    return wrap(byte_level(size, [], []))


# ---- others --------------------------------------------------------------------------------------------------------


def unigram(size: int = 640) -> Any:
    """T5, ALBERT, XLM-R and SentencePiece's unigram models: NFKC, Metaspace before and after, <unk> for the rest."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special("<pad>", "</s>", "<unk>"), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return wrap(tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def wordpiece(size: int = 640) -> Any:
    """BERT: lower case, no accents, ## within words, spaces put by the decoder."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special(*marks), show_progress=False)
    tokenizer.train_from_iterator(training_text(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return wrap(tokenizer, unk_token="[UNK]", pad_token="[PAD]", **named)


BUILDS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (llama2, mistral, phi3, gemma, gpt2, neox, llama3, qwen, opt, bloom, plain, unigram, wordpiece)
}
