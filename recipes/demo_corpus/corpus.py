"""Writes saekit/data/demo_corpus.parquet: the demo corpus, sampled from the default model itself.

    python -m recipes.demo_corpus.corpus [--out PATH] [--seed 0] [--limit N]

Every document is the model's own text, under a prompt built from a topic, an aspect and a style; only the chat
style keeps the prompt, because there it is part of the document. A document is dropped when it is short or when it
repeats itself (share of repeated 4-grams above 0.2, the model's first sign of strain). The label `part` says whether
the packaged SAEs learnt from it (training) or not (held_out).
Sampling is seeded; the text is the same wherever bf16 products round the same.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..default_saes.mixture import is_held_out
from ..generated_text.sampler import BATCH_SIZE, Sampler, write
from .topics import ASPECTS, LANGUAGE_PROMPTS, PROMPTS, QUESTIONS, TOPICS


def plan(seed: int) -> list[dict[str, str]]:
    """One row per document to write: topic, group, style, and the prompt that asks for it."""
    generator = torch.Generator().manual_seed(seed)

    def pick(options: list[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    rows = []
    styles = list(PROMPTS)
    for topic, (group, name, n_documents) in TOPICS.items():
        for i in range(n_documents):
            style = styles[i % len(styles)]
            if style == "qa" or (style == "chat" and i % 8 < 4):
                options = QUESTIONS[group]
            else:
                options = LANGUAGE_PROMPTS if group == "language" else PROMPTS[style]
            prompt = pick(options).format(name=name, aspect=pick(ASPECTS[group]))
            rows.append({"topic": topic, "group": group, "style": style, "prompt": prompt})
    order = torch.randperm(len(rows), generator=generator).tolist()
    return [rows[i] for i in order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "saekit/data/demo_corpus.parquet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="write only this many documents (to try the script)")
    args = parser.parse_args()

    import saekit as sk

    model = sk.load_model()
    tokenizer = model.tokenizer
    rows = plan(args.seed)[: args.limit]
    generator = torch.Generator().manual_seed(args.seed)
    sampler = Sampler(model.bridge.original_model, 512, BATCH_SIZE)
    records, n_tokens, started = [], 0, time.time()
    for at in range(0, len(rows), BATCH_SIZE):
        batch = rows[at : at + BATCH_SIZE]
        written = write(batch, sampler, tokenizer, generator)
        n_tokens += sum(map(len, tokenizer([r["text"] for r in written], add_special_tokens=False)["input_ids"]))
        records += written
        seconds = time.time() - started
        left = seconds / (at + len(batch)) * (len(rows) - at - len(batch))
        print(
            f"{len(records)} documents, {n_tokens} tokens, {n_tokens / seconds:.0f} tokens/s, {left / 60:.0f} min left",
            flush=True,
        )
    for record in records:
        record["part"] = "held_out" if is_held_out(record["text"]) else "training"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), args.out, compression="zstd", compression_level=19)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
