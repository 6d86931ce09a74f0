"""Packaged SAEs out of trained ones: float16 weights, and what was measured of them as card.json and CARD.md.

Everything is measured with the weights as they are stored. Texts that are shown are the model's own, never a package's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import saekit as sk
from saekit.atomic_io import atomic_write, sha256, write_json
from saekit.json_files import read_json
from saekit.sae.formats.saelens import WEIGHTS

from ..results import load_results, without_nan
from . import card_page, concepts, mixture
from .comparison import fidelity, metrics_of
from .harvest import LENGTH

PACKAGED = Path(__file__).parents[2] / "saekit" / "pretrained" / "smollm2-135m-instruct"
N_FEATURES, N_CONTEXTS, N_PROMOTED = 20, 3, 8
"""Features in a card, and the contexts and promoted tokens of each."""
MAX_MEGABYTES = 60
"""All SAEs together."""
FEATURE_METRICS = (
    "feature",
    "unit",
    "n_positive",
    "auroc",
    "auroc_low",
    "auroc_high",
    "top_precision",
    "controls_auroc",
    "controls_top_precision",
    "recall",
)
"""What a card says of each feature that it shows, from `concepts.specificity_row`."""


def contexts(indexes: Sequence[sk.FeatureIndex], feature: int, n: int = N_CONTEXTS) -> list[dict[str, Any]]:
    """The strongest firings in text that the model wrote, at most one per document."""
    found: dict[str, dict[str, Any]] = {}
    for i, index in enumerate(indexes):
        own = index.documents.index[index.documents["source"].isin(mixture.OWN_SOURCES)]
        document = index.windows.documents.reshape(-1).numpy()
        position, value = index.firings(feature)
        mine = np.isin(document[position], own)
        position, value = position[mine], value[mine]
        for at in np.argsort(-value)[: 20 * n]:
            key = f"{i} {document[position[at]]}"
            if key not in found:
                shown = index.context(feature, int(position[at]), before=16, after=6)
                found[key] = {"activation": round(float(value[at]), 2), "text": shown.text}
    return sorted(found.values(), key=lambda c: -c["activation"])[:n]


def features_shown(
    indexes: tuple[sk.FeatureIndex, sk.FeatureIndex], judged: dict[str, Any], golden: dict[str, Any]
) -> list[dict[str, Any]]:
    """Twenty features with their evidence: the one that steers, those of named concepts, then those of topics."""
    choose, report = indexes
    rows: list[dict[str, Any]] = []

    def add(fires_for: str, row: dict[str, Any]) -> None:
        if len(rows) < N_FEATURES and row["feature"] not in [r["feature"] for r in rows]:
            record = report.feature(row["feature"])
            shown = {key: row[key] for key in FEATURE_METRICS}
            promoted = [token for token, _ in record.promoted[:N_PROMOTED]]
            more = {"density": record.density, "promotes": promoted, "contexts": contexts(indexes, row["feature"])}
            rows.append({"fires_for": fires_for} | shown | more)

    bridges = next(c for c in concepts.NAMED_CONCEPTS if c.name == "bridges")
    for steering in list(golden)[:1]:
        add("bridges (the one that steers)", concepts.specificity_row(report, bridges, int(steering)))
    for name, row in judged["concepts"].items():
        if row.get("reached"):
            add(name, row)
    counts = [index.documents.query("topic != ''")["topic"].value_counts() for index in indexes]
    common = counts[0].add(counts[1], fill_value=0).sort_values(ascending=False, kind="stable").index
    for topic in common:
        if len(rows) == N_FEATURES:
            break
        about = sk.Concept.labels(topic=topic, name=f"documents about {topic}")
        concept = concepts.NamedConcept(about, about, "document")
        feature = concepts.chosen_feature(choose, concept)
        if feature is not None and topic in set(report.documents["topic"]) and len(report.firings(feature).value):
            add(about.name, concepts.specificity_row(report, concept, feature))
    return rows


def package(
    folder: Path,
    trained: Path,
    out: Path,
    *,
    n_judged: int | None,
    n_evidence: int,
    steering: bool,
    matmul_dtype: str | None,
) -> None:
    """Writes each SAE in `trained` and its two cards into `out`/NAME, where NAME is its width: 1k, 4k, 16k."""
    sources = {width(read_json(path)["d_sae"]): path.parent for path in sorted(trained.glob("[0-9]*-*/cfg.json"))}
    model = sk.load_model()
    stored = {name: concepts.as_stored(sk.load_sae(source), out / name) for name, source in sources.items()}
    size = sum(path.stat().st_size for name in sources for path in (out / name).iterdir()) / 1e6
    print(f"{len(sources)} SAEs, {size:.1f} MB", flush=True)
    if size > MAX_MEGABYTES:
        raise SystemExit(f"{size:.1f} MB is more than {MAX_MEGABYTES}")
    measured = metrics(model, stored, folder, n_judged)
    for name, sae in stored.items():
        print(name, flush=True)
        cache = concepts.evidence_cache(folder, sae, n_evidence, matmul_dtype)
        judging = concepts.judging_folder(folder, sae, cache)
        judged = concepts.judge(model, sae, cache, judging, steering=steering)
        golden = load_results(judging / "golden.json").get("final", {})
        features = features_shown(concepts.halves(model, sae, cache, judging), judged, golden)
        card = without_nan(
            {
                "name": f"{out.name}/{name}",
                **of_the_sae(sae, out / name),
                **of_the_run(sae, read_json(trained / "run.json")),
                "data": read_json(folder / "texts.json"),
                "metrics": measured[name],
                "evidence": {k: judged[k] for k in ("n_tokens_chosen", "n_tokens_reported", "silent", "n_reached")},
                "concepts": judged["concepts"],
                "golden_gate": {f: {k: v for k, v in a.items() if k != "texts"} for f, a in golden.items()},
                "features": features,
            }
        )
        write_json(out / name / "card.json", card)
        with atomic_write(out / name / "CARD.md") as part:
            part.write_text(card_page.page(card), "utf8")


def width(d_sae: int) -> str:
    """The name of a width: 16k for 16,384 features."""
    return f"{d_sae // 1024}k" if d_sae >= 1024 else str(d_sae)


def metrics(
    model: sk.LanguageModel, saes: dict[str, sk.SAE], folder: Path, n_judged: int | None
) -> dict[str, dict[str, Any]]:
    """The stored SAEs' fidelity on each text, kept in FOLDER/metrics.json by fingerprint."""
    path = folder / "metrics.json"
    known = load_results(path)

    def on_demo_corpus(saes: list[sk.SAE]) -> list[dict[str, Any]]:
        text = sk.load_corpus("demo").where(part="held_out")
        found = sk.evaluate(model, saes, text, n_tokens=card_page.N_DEMO_TOKENS, length=LENGTH)
        return [metrics_of(evaluation) for evaluation in found]

    tasks: dict[str, Callable[[list[sk.SAE]], list[dict[str, Any]]]] = {
        "held_out": lambda saes: fidelity(model, saes, folder, "held_out", n_judged),
        "other": lambda saes: fidelity(model, saes, folder, "other", n_judged),
        "demo_held_out": on_demo_corpus,
    }
    for text, measure in tasks.items():
        keys = {name: f"{sae.fingerprint} {text} {n_judged}" for name, sae in saes.items()}
        if missing := [name for name, key in keys.items() if key not in known]:
            for name, values in zip(missing, measure([saes[n] for n in missing]), strict=True):
                known[keys[name]] = values
            write_json(path, known)
    return {name: {text: known[f"{s.fingerprint} {text} {n_judged}"] for text in tasks} for name, s in saes.items()}


def of_the_sae(sae: sk.SAE, folder: Path) -> dict[str, Any]:
    """What a card says of the SAE and its file."""
    c, weights = sae.config, folder / WEIGHTS
    return {
        "model": c.model_name,
        "model_fingerprint": c.model_fingerprint,
        "weight_processing": c.weight_processing,
        "hook_name": c.hook_name,
        "d_in": c.d_in,
        "d_sae": c.d_sae,
        "activation": c.activation,
        "k": c.k,
        "matryoshka": list(c.matryoshka),
        "seed": c.seed,
        "token_filter": c.token_filter.to_dict() if c.token_filter else None,
        "weights": {"file": WEIGHTS, "sha256": sha256(weights), "dtype": "float16", "bytes": weights.stat().st_size},
        "fingerprint": sae.fingerprint,
    }


def of_the_run(sae: sk.SAE, run: dict[str, Any]) -> dict[str, Any]:
    """What a card says of the training, out of the SAE's own summary and run.json."""
    summary = sae.training_summary
    return {
        "commit": run["commit"],
        "commands": run["commands"],
        "harvest": run["harvest"],
        "n_tokens": run["n_tokens"],
        "training": {k: v for k, v in summary.items() if k != "config"},
        "train_config": summary["config"],
        "lr": run["lr"].get(str(sae.config.d_sae)),
    }
