"""Writes the demo corpus: documents that the default model samples, each on its side of the split.

Only the chat style keeps its prompt, which is part of the document there. The label `part` says whether the packaged
SAEs were trained on a document (training) or not (held_out). The text is the same wherever bfloat16 products round the
same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import saekit as sk
from saekit.atomic_io import atomic_write

from ..generated_text.documents import n_tokens, write_documents
from ..generated_text.plan import Prompts, Topic, plan_documents
from ..generated_text.sampler import BATCH_SIZE, Sampler
from ..split import is_held_out
from .topics import ASPECTS, LANGUAGE_PROMPTS, PROMPTS, QUESTIONS, TOPICS


def plan(seed: int) -> list[dict[str, str]]:
    """A row per document to write, in random order: topic, group, style, and the prompt that asks for it."""
    generator = torch.Generator().manual_seed(seed)

    def pick(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    topics = [Topic(label, *described) for label, described in TOPICS.items()]
    rows = plan_documents(topics, Prompts(PROMPTS, LANGUAGE_PROMPTS, QUESTIONS, ASPECTS), pick)
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def write_demo_corpus(out: Path, seed: int = 0, limit: int | None = None) -> None:
    """Samples every planned document, or the first `limit`, and writes them to the Parquet file `out`."""
    model = sk.load_model()
    rows = plan(seed)[:limit]
    generator = torch.Generator().manual_seed(seed)
    sampler = Sampler(model.bridge.original_model)
    documents: list[dict[str, str]] = []
    started = time.perf_counter()
    for at in range(0, len(rows), BATCH_SIZE):
        batch = rows[at : at + BATCH_SIZE]
        documents += write_documents(batch, sampler, model.tokenizer, generator)
        n_done = at + len(batch)
        seconds = time.perf_counter() - started
        left = seconds / n_done * (len(rows) - n_done)
        print(f"{len(documents)} documents of {n_done} kept, {left / 60:.0f} min left", flush=True)
    for document in documents:
        document["part"] = "held_out" if is_held_out(document["text"]) else "training"
    with atomic_write(out) as path:
        pq.write_table(pa.Table.from_pylist(documents), path, compression="zstd", compression_level=19)
    print(f"{out}: {n_tokens(documents, model.tokenizer):,} tokens, {out.stat().st_size / 1000:.0f} kB")
