"""Which layer, rule and sparsity the default SAEs should have: eight SAEs of 4,096 features, judged alike.

They are trained on a sample of the mixture, those of a layer on one stream, and judged by fidelity on held-out
documents and on prose of other kinds, by what can be read off single features (sparse probing), and by the named
concepts. comparison.json is written after every figure, and figures that are there are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import read_json, write_json

from . import concepts, harvest, mixture
from .concepts import markdown

LAYERS = (9, 15, 21)
MAIN = 15
N_CLASSES = 40
"""Of a label, the commonest."""
PROBED = {"topic": 24, "kind": 60, "language": 60}
"""Labels, and the documents of a class at most; a class has at least half as many."""


def configs(layer: int, d_sae: int) -> dict[str, sk.SAEConfig]:
    """What is compared at a layer, by name."""
    plain = sk.SAEConfig(d_in=576, d_sae=d_sae, activation="batchtopk", k=32)
    if layer != MAIN:
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


def figures(evaluation: sk.Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values."""
    names = ("explained_variance", "ce_loss_recovered", "l0", "kl", "ce_clean", "ce_sae", "ce_zero", "mse")
    return {
        **{name: float(getattr(evaluation, name)) for name in names},
        "intervals": {name: [float(low), float(high)] for name, (low, high) in evaluation.intervals.items()},
        "n_tokens": evaluation.n_tokens,
        "n_silent": evaluation.n_dead,
    }


def fidelity(
    model: sk.LanguageModel, saes: Sequence[sk.SAE], folder: Path, text: str, n_tokens: int | None
) -> list[dict[str, Any]]:
    """The figures of some SAEs on one of the texts."""
    corpus = mixture.load(folder, text)
    found = sk.evaluate(model, list(saes), corpus, n_tokens=n_tokens, length=harvest.LENGTH)
    return [figures(evaluation) for evaluation in found]


def probing(model: sk.LanguageModel, saes: Sequence[sk.SAE], folder: Path, label: str) -> list[dict[str, Any]]:
    """How well the classes of a label can be read off one feature and off five, beside what else could be read."""
    n_each = PROBED[label]
    frames = [pd.read_parquet(folder / f"{name}.parquet") for name in ("held_out", "mixture")]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[frame[label] != ""]
    counts = frame[label].value_counts()
    frame = frame[frame[label].isin(counts[counts >= n_each // 2].index[:N_CLASSES])]
    frame = frame.groupby(label, sort=False).head(n_each)
    corpus = sk.load_corpus(frame, labels=[label])
    found = sk.sparse_probing(
        model, list(saes), corpus, label=label, ks=(1, 5), n_each=n_each, min_each=n_each // 2, n_bootstrap=200
    )
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


def put(rows: dict[str, dict[str, Any]], key: str, values: Sequence[dict[str, Any]]) -> None:
    for row, value in zip(rows.values(), values, strict=True):
        row[key] = value


def compare(
    folder: Path,
    cache: sk.ActivationCache,
    *,
    d_sae: int,
    n_tokens: int,
    n_judged: int,
    n_evidence: int,
    steering: bool,
    products: str | None,
    lr: float | None,
) -> None:
    path = folder / "comparison.json"
    done: dict[str, Any] = read_json(path) if path.exists() else {}
    model = sk.load_model()
    here = [cache.hook_name] if isinstance(cache.hook_name, str) else list(cache.hook_name)
    train_config = sk.TrainConfig(n_tokens=n_tokens, lr=lr)
    for layer in LAYERS:
        if harvest.hook(layer) not in here:
            print(f"layer {layer} is not in {cache.path}: passed over", flush=True)
            continue
        wanted = configs(layer, d_sae)
        out = folder / f"compared-{n_tokens}-{d_sae}" / str(layer)
        hook_name = harvest.hook(layer)
        saes = sk.train(None, cache.at(hook_name), sae=list(wanted.values()), config=train_config, out=out)
        rows = {}
        for name, sae in zip(wanted, saes, strict=True):
            row = done.get(name, {})
            rows[name] = row if row.get("sae") == sae.fingerprint else {"sae": sae.fingerprint}
            summary = {k: v for k, v in sae.training_summary.items() if k != "config"}
            rows[name] |= {"layer": layer, "d_sae": d_sae, "n_trained": n_tokens, "training": summary}
        done |= rows

        for text in ("held_out", "other"):
            if any(text not in row for row in rows.values()):
                put(rows, text, fidelity(model, saes, folder, text, n_judged))
                write_json(path, done)
        for label in PROBED:
            if any(f"probing {label}" not in row for row in rows.values()):
                put(rows, f"probing {label}", probing(model, saes, folder, label))
                write_json(path, done)
        evidence = concepts.evidence_cache(folder, saes[0], n_evidence, products)
        for (name, row), sae in zip(rows.items(), saes, strict=True):
            if "concepts" not in row:
                print(name, flush=True)
                place = concepts.judging_folder(out, sae, evidence)
                judged = concepts.judge(model, sae, evidence, place, steering=steering)
                row["concepts"] = {k: v for k, v in judged.items() if k != "sae"}
                write_json(path, done)
        print(table(done), flush=True)


def table(done: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    rows = []
    for name, row in done.items():
        if "concepts" not in row:
            continue
        held, other, concepts = row["held_out"], row["other"], row["concepts"]
        found = [c for c in concepts["concepts"].values() if c["feature"] is not None]
        steered = [c["steering"] for c in found if "steering" in c]
        rows.append(
            {
                "SAE": name,
                "L0": f"{held['l0']:.1f}",
                "EV": f"{held['explained_variance']:.3f}",
                "loss recovered": f"{held['ce_loss_recovered']:.3f}",
                "EV, other": f"{other['explained_variance']:.3f}",
                "loss recovered, other": f"{other['ce_loss_recovered']:.3f}",
                "dead": f"{row['training']['dead_features'] / row['d_sae']:.1%}",
                "silent on evidence": f"{concepts['silent'] / row['d_sae']:.1%}",
                **{
                    f"{label}, k 1 / 5": " / ".join(
                        f"{row[f'probing {label}']['scores'][f'SAE features, k {k}']['balanced_accuracy']:.3f}"
                        for k in (1, 5)
                    )
                    for label in PROBED
                },
                "concepts": f"{concepts['n_reached']} of {len(concepts['concepts'])}",
                "mean AUROC": f"{pd.Series([c['auroc'] for c in found]).mean():.3f}",
                "mean top precision": f"{pd.Series([c['top_precision'] for c in found]).mean():.3f}",
                "said / matched": " / ".join(
                    f"{pd.Series([s[k] for s in steered], dtype=float).mean():.0%}" for k in ("rate", "rate_controls")
                )
                if steered
                else "",
            }
        )
    return markdown(pd.DataFrame(rows))
