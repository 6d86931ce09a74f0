"""From the parts of a finished pass to the files of an index.

The activations are turned to be by feature, summarised some blocks of features at a time (`summary`), joined by what
the decoder alone says (`directions`), and written (`store`), each file while the next is made. What is held at once is
the sparse activations twice, 16 bytes for each firing, and the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..activations.excluded import ExcludedTokens, warn_of_excluded
from ..corpus import Windows
from ..errors import DataError
from ..hook_points import HookPoint
from . import directions, store
from .contexts import endings
from .feature_block import N_HISTOGRAM_BINS, Tokens
from .name_rules import named_text
from .names import RULE, name_features
from .parts import IndexEncoder, join_parts
from .records import N_ACTIVATION_BINS
from .summary import Summary, summarise
from .text import IndexText

if TYPE_CHECKING:
    from ..models import LanguageModel
    from ..sae import SAE

N_EFFECTS = 10
N_NEIGHBOURS = 10


def write_index(
    out: Path,
    plan: dict[str, Any],
    encoder: IndexEncoder,
    windows: Windows,
    files: list[Path],
    say: Callable[[str], object] = lambda phase: None,
) -> None:
    """Everything that is made of the parts, and the manifest at the end. `say` is given what is being done."""
    model, sae = encoder.model, encoder.sae
    say("joining parts")
    position, rows, norms = join_parts(files, windows.length)
    if not len(position):
        raise DataError(
            "no token of the corpus counts under the token filter",
            got=encoder.token_filter.describe(),
            accepted="text with tokens that are neither special nor attention sinks",
            fix="check the corpus",
        )
    d_sae, parameters = int(sae.config.d_sae), plan["parameters"]
    (out / store.MANIFEST).unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as writer:
        writing = [
            writer.submit(windows.write, out),
            writer.submit(store.save_tensors, out / "by_token.safetensors", {"position": position, **rows._asdict()}),
        ]
        columns = rows.transpose(d_sae)
        del rows
        writing.append(writer.submit(store.save_tensors, out / "by_feature.safetensors", columns._asdict()))
        document = windows.documents.reshape(-1).numpy()[position]
        ending = endings(windows.tokens.numpy()).reshape(-1)[position]
        tokens = Tokens(position, document, ending, windows.length)
        summary = summarise(
            columns,
            tokens,
            **parameters,
            n_threads=torch.get_num_threads(),
            report=lambda n: say(f"statistics {n / d_sae:.0%}"),
        )
        contexts = _contexts(summary.contexts, windows)
        writing.append(writer.submit(store.save_frame, out / "contexts.parquet", contexts))
        n_firings, vocabulary = len(columns.column), model.vocabulary
        say("names")
        runs = IndexText(windows, vocabulary, frozenset(model.special_ids)).runs()
        store.save_frame(out / store.NAMES, name_features(columns, named_text(windows, runs, position)))
        del columns, contexts
        store.save_frame(out / "features.parquet", _features(summary, sae, model, encoder.hook_name, say))
        tokens_frame = pd.DataFrame({"token": vocabulary.shown, "bytes": vocabulary.pieces})
        store.save_frame(out / "vocabulary.parquet", tokens_frame)
        say("finishing files")
        for file in writing:
            file.result()
    store.write_manifest(
        out,
        {
            "plan": plan,
            "windows": windows.digest,
            "sae": {"fingerprint": sae.fingerprint, "config": sae.config.to_dict()},
            "model": {
                "name": model.name,
                "fingerprint": model.fingerprint,
                "weight_processing": model.weight_processing,
                "begins_without_space": model.vocabulary.begins_without_space,
                "ends_without_space": model.vocabulary.ends_without_space,
                "special_ids": sorted(model.special_ids),
            },
            "hook_name": hook_as_json(encoder.hook_name),
            "corpus": plan["corpus"],
            "token_filter": encoder.token_filter.to_dict(),
            "excluded": excluded_tokens(encoder, windows, position, norms).to_dict(),
            "counts": {
                "n_windows": len(windows),
                "length": windows.length,
                "n_tokens": len(position),
                "d_sae": d_sae,
                "n_documents": windows.n_documents,
                "n_firings": n_firings,
                "n_silent": int(summary.stats["silent"].sum()),
                "n_dead_in_training": sae.training_summary.get("dead_features"),
            },
            "statistics": list(summary.stats.columns),
            "names_rule": RULE,
            "parameters": {**parameters, "n_histogram_bins": N_HISTOGRAM_BINS, "n_activation_bins": N_ACTIVATION_BINS},
        },
    )


def _features(
    summary: Summary, sae: SAE, model: LanguageModel, hook_name: HookPoint, say: Callable[[str], object]
) -> pd.DataFrame:
    table = summary.stats.copy()
    table.index.name = "feature"
    table["histogram"] = list(summary.histogram)

    def reporter(phase: str) -> Callable[[int], object]:
        return lambda n: say(f"{phase} {n / len(table):.0%}")

    near = directions.neighbours(sae.W_dec, N_NEIGHBOURS, report=reporter("neighbours"))
    table["neighbours"], table["cosines"] = list(near.column.numpy().astype(np.int32)), list(near.value.numpy())
    written = directions.written_to_residual(sae, model, hook_name)
    if written is not None:
        unembedding = model.unembedding()
        ranked = directions.logit_effects(written, unembedding, N_EFFECTS, report=reporter("logit effects"))
        columns = [(r.column.numpy().astype(np.int32), r.value.numpy()) for r in ranked]
    else:
        columns = [(np.zeros((len(table), 0), np.int32), np.zeros((len(table), 0), np.float32))] * 2
    for name, (ids, effects) in zip(("promoted", "suppressed"), columns, strict=True):
        table[name], table[f"{name}_effect"] = list(ids), list(effects)
    return table


def _contexts(table: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    position = table["position"].to_numpy()
    return pd.DataFrame(
        {
            "feature": table["feature"],
            "bin": table["bin"],
            "rank": table["rank"],
            "window": (position // windows.length).astype(np.int32),
            "pos": (position % windows.length).astype(np.int32),
            "document": windows.documents.reshape(-1).numpy()[position],
            "activation": table["activation"],
        }
    )


def excluded_tokens(encoder: IndexEncoder, windows: Windows, position: np.ndarray, norms: np.ndarray) -> ExcludedTokens:
    """What the token filter left out of the text; `norms` has no row where the activations came from a cache."""
    counter = encoder.counter()
    counter.count_windows(windows, position)
    if len(norms):
        counter.totals += norms
    excluded = counter.result(encoder.model.vocabulary.shown)
    warn_of_excluded(excluded, stacklevel=5)
    return excluded


def hook_as_json(hook_name: HookPoint) -> str | list[str]:
    """A hook point as JSON gives it back."""
    return hook_name if isinstance(hook_name, str) else list(hook_name)
