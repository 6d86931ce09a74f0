"""Text for the default SAEs that the default model writes itself: several hundred topics, chat template included.

    python -m recipes.default_saes.own_text FOLDER [--seed 0] [--part 0 --of 2]

Writes one Parquet file for every batch of planned documents and passes over those that are there, so it can be stopped
and started again. On two cores, two processes (--part 0 --of 2 and --part 1 --of 2, each with OMP_NUM_THREADS=1) write
faster than one with two threads. The text is used for training and is not part of saekit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..generated_text.sampler import BATCH_SIZE, Sampler, write
from .topics import plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    args = parser.parse_args()

    import saekit as sk

    args.folder.mkdir(parents=True, exist_ok=True)
    model = sk.load_model()
    rows = plan(args.seed)
    batches = [rows[at : at + BATCH_SIZE] for at in range(0, len(rows), BATCH_SIZE)]
    missing = [
        (i, path)
        for i in range(args.part, len(batches), args.of)
        if not (path := args.folder / f"part-{i:04d}.parquet").exists()
    ]
    sampler = Sampler(model.bridge.original_model, 512, BATCH_SIZE)
    started, n_tokens = time.time(), 0
    for done, (i, path) in enumerate(missing, start=1):
        generator = torch.Generator().manual_seed(args.seed * 100_000 + i)
        records = write(batches[i], sampler, model.tokenizer, generator)
        partial = path.with_suffix(".partial")
        pq.write_table(pa.Table.from_pylist(records), partial, compression="zstd")
        partial.rename(path)
        texts = [record["text"] for record in records]
        n_tokens += sum(map(len, model.tokenizer(texts, add_special_tokens=False)["input_ids"]))
        seconds = time.time() - started
        print(
            f"{path.name}: {len(records)} of {len(batches[i])} documents kept; {n_tokens:,} tokens so far, "
            f"{n_tokens / seconds:.0f} tokens/s, {seconds / done * (len(missing) - done) / 60:.0f} min left",
            flush=True,
        )


if __name__ == "__main__":
    main()
