"""Which layer, architecture and sparsity the default SAEs should have: eight SAEs of 4,096 features, evaluated alike.

They are trained on a sample of the mixture, those of a layer on one stream of tokens, and evaluated by fidelity on
held-out documents and on other prose, by what can be classified from single features (sparse probing), and by the named
concepts. comparison.json is written after every result, and results that are in it are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import write_json

from ..results import load_results, markdown_table, without_nan
from . import MAIN_LAYER, harvest, judging, mixture

LAYERS = (9, 15, 21)
N_CLASSES = 40
"""The commonest classes of a label."""
PROBED = {"topic": 24, "kind": 60, "language": 60}
"""Labels, and the most documents of a class; a class has at least half as many."""


def configs(layer: int, d_sae: int) -> dict[str, sk.SAEConfig]:
    """The configurations that are compared at a layer, by name."""
    plain = sk.SAEConfig(d_in=576, d_sae=d_sae, activation="batchtopk", k=32)
    if layer != MAIN_LAYER:
        return {f"layer {layer}, batchtopk, k 32": plain}
    jump = sk.SAEConfig(d_in=576, d_sae=d_sae, activation="jumprelu", target_l0=32.0)
    return {
        f"layer {layer}, {name}": config
        for name, config in {
            "batchtopk, k 32": plain,
            "topk, k 32": plain.replace(activation="topk"),
            "batchtopk nested, k 32": plain.replace(matryoshka=(d_sae // 16, d_sae // 4, d_sae)),
            "jumprelu, L0 32": jump,
            "batchtopk, k 16": plain.replace(k=16),
            "batchtopk, k 64": plain.replace(k=64),
        }.items()
    }


def metrics_of(evaluation: sk.Evaluation) -> dict[str, Any]:
    """An evaluation's metrics as JSON values, with what the token filter left out."""
    metrics: dict[str, Any] = without_nan(
        {
            **{name: estimate.value for name, estimate in evaluation.estimates.items()},
            "intervals": {name: list(ends) for name, ends in evaluation.intervals.items()},
            "n_units": evaluation.n_units,
            "unit": evaluation.interval_unit,
            "n_tokens": evaluation.n_tokens,
            "n_silent": evaluation.n_silent,
            "excluded": evaluation.excluded.to_dict(),
        }
    )
    return metrics


def fidelity(
    model: sk.LanguageModel, saes: Sequence[sk.SAE], corpus: sk.Corpus, n_tokens: int | None
) -> list[dict[str, Any]]:
    """The metrics of SAEs on a text."""
    found = sk.evaluate(model, list(saes), corpus, n_tokens=n_tokens, length=harvest.LENGTH)
    return [metrics_of(evaluation) for evaluation in found]


def probing(model: sk.LanguageModel, saes: Sequence[sk.SAE], folder: Path, label: str) -> list[dict[str, Any]]:
    """How well the classes of a label can be classified from one feature and from five, beside the probing
    baselines."""
    n_each = PROBED[label]
    frames = [pd.read_parquet(folder / f"{name}.parquet") for name in ("held_out", "mixture")]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[frame[label] != ""]
    counts = frame[label].value_counts()
    frame = frame[frame[label].isin(counts[counts >= n_each // 2].index[:N_CLASSES])]
    frame = frame.groupby(label, sort=False).head(n_each)
    corpus = sk.load_corpus(frame, labels=[label])
    found = sk.sparse_probing(model, list(saes), corpus, label=label, ks=(1, 5), n_each=n_each, min_each=n_each // 2)
    rows = []
    for result in found:
        cells = result.summary
        cells["which"] = [
            p + ("" if pd.isna(k) else f", k {k}") for p, k in zip(cells["probe"], cells["k"], strict=True)
        ]
        columns = ["balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high", "auroc"]
        table = cells.set_index("which")[columns].astype(float)
        rows.append({"n_classes": len(result.classes), "n_test": result.n_test, "scores": table.to_dict("index")})
    return rows


def add_results(rows: dict[str, dict[str, Any]], key: str, measure: Callable[[], list[dict[str, Any]]]) -> None:
    """Measures what is missing under `key`: a result for each row, in their order."""
    if any(key not in row for row in rows.values()):
        for row, result in zip(rows.values(), measure(), strict=True):
            row[key] = result


def compare(
    folder: Path,
    cache: sk.ActivationCache,
    *,
    d_sae: int,
    n_tokens: int,
    n_judged: int,
    n_evidence: int,
    steering: bool,
    matmul_dtype: str | None,
    lr: float | None,
) -> None:
    """Trains and judges the SAEs of every layer that `cache` holds, and prints the table after each layer."""
    path = folder / "comparison.json"
    done = load_results(path)
    model = sk.load_model()
    here = [cache.hook_name] if isinstance(cache.hook_name, str) else list(cache.hook_name)
    train_config = sk.TrainConfig(n_tokens=n_tokens, lr=lr)
    for layer in LAYERS:
        hook_name = harvest.hook(layer)
        if hook_name not in here:
            print(f"layer {layer} is not in {cache.path}: skipped", flush=True)
            continue
        wanted = configs(layer, d_sae)
        out = folder / f"compared-{n_tokens}-{d_sae}" / str(layer)
        saes = sk.train(None, cache.at(hook_name), sae=list(wanted.values()), config=train_config, out=out)
        rows: dict[str, dict[str, Any]] = {}
        for name, sae in zip(wanted, saes, strict=True):
            row = done.get(name, {})
            rows[name] = row if row.get("sae") == sae.fingerprint else {"sae": sae.fingerprint}
            summary = {k: v for k, v in sae.training_summary.items() if k != "config"}
            rows[name] |= {"layer": layer, "d_sae": d_sae, "n_trained": n_tokens, "training": summary}
        done |= rows
        for text in ("held_out", "other"):
            add_results(rows, text, partial(fidelity, model, saes, mixture.load(folder, text), n_judged))
            write_json(path, done)
        for label in PROBED:
            add_results(rows, f"probing {label}", partial(probing, model, saes, folder, label))
            write_json(path, done)
        evidence = judging.evidence_cache(folder, saes[0], n_evidence, matmul_dtype)
        for (name, row), sae in zip(rows.items(), saes, strict=True):
            if "concepts" not in row:
                print(name, flush=True)
                place = judging.judging_folder(out, sae, evidence)
                index = judging.evidence_index(model, sae, evidence, place)
                judged = judging.judge(model, sae, index, place / "concepts.json", steering=steering)
                row["concepts"] = {k: v for k, v in judged.items() if k != "sae"}
                write_json(path, done)
        print(table(done), flush=True)


def table(done: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    rows = []
    for name, row in done.items():
        if "concepts" not in row:
            continue
        held, other, judged = row["held_out"], row["other"], row["concepts"]
        found = [c for c in judged["concepts"].values() if c["feature"] is not None]
        steered = [c["steering"] for c in found if "steering" in c]
        rows.append(
            {
                "SAE": name,
                "L0": f"{held['l0']:.1f}",
                "EV": f"{held['explained_variance']:.3f}",
                "loss recovered": f"{held['ce_loss_recovered']:.3f}",
                "EV, other": f"{other['explained_variance']:.3f}",
                "loss recovered, other": f"{other['ce_loss_recovered']:.3f}",
                "dead in training": f"{row['training']['dead_features'] / row['d_sae']:.1%}",
                "silent on evidence": f"{judged['silent'] / row['d_sae']:.1%}",
                **{
                    f"{label}, k 1 / 5": " / ".join(
                        f"{row[f'probing {label}']['scores'][f'SAE features, k {k}']['balanced_accuracy']:.3f}"
                        for k in (1, 5)
                    )
                    for label in PROBED
                },
                "concepts": f"{judged['n_reached']} of {len(judged['concepts'])}",
                "mean AUROC": f"{pd.Series([c['auroc'] for c in found]).mean():.3f}",
                "mean top precision": f"{pd.Series([c['top_precision'] for c in found]).mean():.3f}",
                "mentioned / matched": " / ".join(
                    f"{pd.Series([s[k] for s in steered], dtype=float).mean():.0%}" for k in ("rate", "rate_controls")
                )
                if steered
                else "",
            }
        )
    return markdown_table(pd.DataFrame(rows))
