"""Documents out of sampled answers: cut to whole sentences, dropped when short or repetitive, laid out by style."""

from __future__ import annotations

import re
from typing import Any

import torch

from saekit.steering.fluency import repetition

from .sampler import MAX_NEW_TOKENS, Sampler

MAX_REPETITION = 0.2
"""Largest fraction of repeated 4-grams in a document that is kept; more means that the model has begun to loop."""
MIN_TOKENS = 40


def write_documents(
    rows: list[dict[str, str]], sampler: Sampler, tokenizer: Any, generator: torch.Generator
) -> list[dict[str, str]]:
    """The documents that the model writes for a batch of planned rows, without those too short or too repetitive."""
    turns = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    texts = [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
    prompts = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    documents = []
    for row, text, ids in zip(rows, texts, sampler.sample(prompts, tokenizer.eos_token_id, generator), strict=True):
        answer = whole_sentences(tokenizer.decode(ids), cut=len(ids) == MAX_NEW_TOKENS)
        if len(ids) >= MIN_TOKENS and answer and repetition(ids) <= MAX_REPETITION:
            documents.append({"text": layout(row, answer, text), **{k: row[k] for k in ("topic", "group", "style")}})
    return documents


def whole_sentences(text: str, cut: bool) -> str:
    """The text up to its last whole sentence where the sampler had to cut it."""
    text = text.strip()
    if not cut:
        return text
    ends = [m.end() for m in re.finditer(r"[.!?][\"')\]]?(?=\s|$)", text)]
    return text[: ends[-1]] if ends else ""


def layout(row: dict[str, str], answer: str, chat_prompt: str) -> str:
    """The document: the answer alone, or with its question, or within the chat template."""
    if row["style"] == "qa":
        return f"Question: {row['prompt']}\nAnswer: {answer}"
    if row["style"] == "chat":
        return chat_prompt + answer + "<|im_end|>\n"
    return answer


def n_tokens(documents: list[dict[str, str]], tokenizer: Any) -> int:
    """How many tokens the documents have."""
    texts = [document["text"] for document in documents]
    return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) if texts else 0
