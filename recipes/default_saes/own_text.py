"""Training text that the default model writes itself, over several hundred topics; it is not part of saekit.

One Parquet file for each batch of planned documents; files that are there are skipped, so a run can be stopped and
repeated. On two cores two processes (`--part 0 --of 2` and `--part 1 --of 2`, each with OMP_NUM_THREADS=1) are faster
than one with two threads.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import saekit as sk
from saekit.atomic_io import atomic_write

from ..generated_text.documents import n_tokens, write_documents
from ..generated_text.plan import Prompts, Topic, plan_documents
from ..generated_text.sampler import BATCH_SIZE, Sampler
from .topics import ASPECTS, GROUPS, LANGUAGE_PROMPTS, N_DOCUMENTS, PROMPTS, QUESTIONS, WELL_STOCKED


def topics() -> list[Topic]:
    """Every topic; its name in prompts is its label."""
    return [
        Topic(name, group, name, WELL_STOCKED.get(name, N_DOCUMENTS))
        for group, names in GROUPS.items()
        for name in " ".join(names.split()).split("; ")
    ]


def plan(seed: int) -> list[dict[str, str]]:
    """A row per document to write, in random order: topic, group, style, and the prompt that asks for it."""
    draw = random.Random(seed)
    rows = plan_documents(topics(), Prompts(PROMPTS, LANGUAGE_PROMPTS, QUESTIONS, ASPECTS), draw.choice)
    draw.shuffle(rows)
    return rows


def write_own_text(folder: Path, seed: int = 0, part: int = 0, of: int = 1) -> None:
    """Samples every `of`-th batch of the plan, from batch `part` on, into `folder`/part-NNNN.parquet."""
    model = sk.load_model()
    rows = plan(seed)
    batches = [rows[at : at + BATCH_SIZE] for at in range(0, len(rows), BATCH_SIZE)]
    paths = {i: folder / f"part-{i:04d}.parquet" for i in range(part, len(batches), of)}
    missing = {i: path for i, path in paths.items() if not path.exists()}
    sampler = Sampler(model.bridge.original_model)
    started, n_written = time.perf_counter(), 0
    for n_done, (i, path) in enumerate(missing.items(), start=1):
        generator = torch.Generator().manual_seed(seed * 100_000 + i)
        documents = write_documents(batches[i], sampler, model.tokenizer, generator)
        with atomic_write(path) as unfinished:
            pq.write_table(pa.Table.from_pylist(documents), unfinished, compression="zstd")
        n_written += n_tokens(documents, model.tokenizer)
        seconds = time.perf_counter() - started
        left = seconds / n_done * (len(missing) - n_done)
        print(
            f"{path.name}: {len(documents)} of {len(batches[i])} documents kept; {n_written:,} tokens so far, "
            f"{n_written / seconds:.0f} tokens/s, {left / 60:.0f} min left",
            flush=True,
        )
