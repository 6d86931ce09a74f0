"""After which layer the model can be steered to mention a bridge at all: a reference for the layer comparison, no SAE.

The direction is the mean activation where the bridge's name has just been read, minus the mean over other text. It is
added after each layer while the model answers twenty unrelated questions, beside random directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import saekit as sk
from saekit.atomic_io import write_json
from saekit.statistics import clustered_proportion
from saekit.steering.questions import REPORTING_QUESTIONS

from ..results import load_results, markdown_table
from . import golden_gate, harvest, mixture
from .concepts import NAMED_CONCEPTS

LAYERS = (9, 12, 15, 18, 21)
STRENGTHS = (0.3, 0.35, 0.4)
N_NAMED, N_OTHER, N_RANDOM = 60, 120, 20
"""Documents that name the bridge, other documents, and random directions."""
N_FIRST = 8
"""Tokens at the start of a document that are left out: some are attention sinks of much larger norm."""


def means(model: sk.LanguageModel, documents: Sequence[str], layers: Sequence[int], named: bool) -> Tensor:
    """The mean activation after each layer, [layer, d_model]: where the name ends, or everywhere but the start."""
    hooks = tuple(map(harvest.hook, layers))
    total, count = torch.zeros(len(layers), model.hook_width(hooks[0])), 0
    for text in documents:
        ids, offsets = model.tokenize_with_offsets(text)
        ids, offsets = ids[: harvest.LENGTH], offsets[: harvest.LENGTH]
        spans = NAMED_CONCEPTS[0].in_text.spans(text) if named else [(0, len(text))]
        at = [
            i for i, (a, b) in enumerate(offsets) if i >= N_FIRST and any(a < end and b > start for start, end in spans)
        ]
        if at:
            acts = model.activations([*model.tokenize(""), *ids], hooks)[0, 1:]
            total += acts[at].float().sum(0).reshape(total.shape).cpu()
            count += len(at)
    return total / count


def with_directions(directions: Tensor, hook_name: str, model: sk.LanguageModel) -> sk.SAE:
    """An SAE with these directions as decoder rows that never fires, so that a clamp adds a row."""
    n, d_in = directions.shape
    sae = sk.SAE(
        sk.SAEConfig(d_in=d_in, d_sae=n, activation="relu", target_l0=None, hook_name=hook_name, model_name=model.name)
    )
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.fill_(-1.0)
        sae.W_dec.copy_(directions / directions.norm(dim=1, keepdim=True))
    return sae


def measure(folder: Path, layers: Sequence[int] = LAYERS, max_new_tokens: int = 40) -> dict[str, Any]:
    """The counts at each layer and strength, added to layers.json one layer at a time."""
    path = folder / "layers.json"
    done = load_results(path)
    model = sk.load_model()
    frame = pd.read_parquet(folder / "mixture.parquet")
    frame = frame[frame["source"].isin(mixture.OWN_SOURCES)]
    holds = frame["text"].map(NAMED_CONCEPTS[0].in_text.present)
    named = means(model, frame[holds]["text"].head(N_NAMED).tolist(), layers, named=True)
    other = means(model, frame[~holds].sample(N_OTHER, random_state=0)["text"].tolist(), layers, named=False)
    random = torch.randn(N_RANDOM, named.shape[1], generator=torch.Generator().manual_seed(0))
    for layer, difference in zip(layers, named - other, strict=True):
        if str(layer) in done:
            continue
        sae = with_directions(torch.cat([difference[None], random]), harvest.hook(layer), model)
        study = sk.dose_response(
            model,
            sae,
            0,
            REPORTING_QUESTIONS,
            golden_gate.BRIDGE,
            STRENGTHS,
            choose=(),
            controls=range(1, 1 + N_RANDOM),
            max_new_tokens=max_new_tokens,
            progress=False,
        )
        counts = golden_gate.counts(golden_gate.texts(study), ["condition", "strength"])
        done[str(layer)] = golden_gate.records(counts.reset_index())
        write_json(path, done)
        print(table({str(layer): done[str(layer)]}), flush=True)
    return done


def table(done: dict[str, Any]) -> str:
    """How many answers mention a bridge by layer and strength, as Markdown."""
    rows = []
    for layer, records in done.items():
        unsteered = next(r for r in records if r["condition"] == "none")
        row = {"after layer": layer}
        for r in [r for r in records if r["condition"] == "feature"]:
            hits, n = int(r["bridge"]), int(r["n"])
            rate = clustered_proportion([1] * hits + [0] * (n - hits), [1] * n)  # one answer to a question
            low, high = rate.low, rate.high
            row[f"{r['strength']:g}"] = (
                f"{r['bridge']:.0f} [{low * r['n']:.0f}, {high * r['n']:.0f}], nll +{r['nll'] - unsteered['nll']:.1f}, "
                f"rep. {r['repetition']:.2f}"
            )
        random = [r for r in records if r["condition"] == "control"]
        texts = f"{sum(r['bridge'] for r in random):.0f} of {sum(r['n'] for r in random):.0f} texts"
        row["random"] = f"{texts} of {N_RANDOM} directions"
        rows.append(row)
    return markdown_table(pd.DataFrame(rows))
