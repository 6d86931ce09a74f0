"""Packaged SAEs out of trained ones: float16 weights, and what was measured of them as card.json and CARD.md.

Everything is measured with the weights as they are stored. Concepts are measured on the demo corpus, which everyone
has, and on documents of packages where it holds too few of them. Texts that are shown are the model's own, never a
package's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import saekit as sk
from saekit.atomic_io import atomic_write, sha256, write_json
from saekit.json_files import read_json
from saekit.sae.formats.saelens import WEIGHTS

from ..results import load_results, without_nan
from . import card_page, concepts, harvest, judging, mixture
from .comparison import fidelity

PACKAGED = Path(__file__).parents[2] / "saekit" / "pretrained" / "smollm2-135m-instruct"
N_FEATURES, N_CONTEXTS, N_PROMOTED = 20, 3, 8
"""Features in a card, and the contexts and promoted tokens of each."""
MAX_MEGABYTES = 60
"""All SAEs together."""
NOT_SHOWN = ("documents", "reached")
"""What a card does not repeat of `judging.specificity_row` for the features that it shows."""


def contexts(index: sk.FeatureIndex, feature: int, n: int = N_CONTEXTS) -> list[dict[str, Any]]:
    """The strongest firings in the index of a text that the model wrote, of different documents and different texts."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    document = index.windows.documents.reshape(-1).numpy()
    position, value = index.firings(feature)
    for at in np.argsort(-value, kind="stable")[: 20 * n]:
        text = index.context(feature, int(position[at]), before=16, after=6).text
        if (number := int(document[position[at]])) not in seen and text not in found:
            seen.add(number)
            found[text] = {"activation": round(float(value[at]), 2), "text": text}
    return list(found.values())[:n]


def features_shown(indexes: judging.Indexes, judged: dict[str, Any], golden: dict[str, Any]) -> list[dict[str, Any]]:
    """Twenty features with their evidence: the one that steers, those of named concepts, then those of topics."""
    rows: list[dict[str, Any]] = []
    own = indexes["demo"]

    def add(fires_for: str, row: dict[str, Any]) -> None:
        if len(rows) < N_FEATURES and row["feature"] not in [r["feature"] for r in rows]:
            record = indexes[row["text"]].feature(row["feature"])
            shown = {key: value for key, value in row.items() if key not in NOT_SHOWN}
            promoted = [token for token, _ in record.promoted[:N_PROMOTED]]
            more = {"density": record.density, "promotes": promoted, "contexts": contexts(own, row["feature"])}
            rows.append({"fires_for": fires_for} | shown | more)

    bridges = next(c for c in concepts.NAMED_CONCEPTS if c.name == "bridges")
    for steering in list(golden)[:1]:
        row = judging.specificity_row(own, bridges, int(steering))
        add("bridges (the one that steers)", row | {"text": "demo"})
    for name, row in judged["concepts"].items():
        if row.get("reached"):
            add(name, row)
    common = own.documents.query("topic != ''")["topic"].value_counts().sort_values(ascending=False, kind="stable")
    for topic in common.index:
        if len(rows) == N_FEATURES:
            break
        about = sk.Concept.labels(topic=topic, name=f"documents about {topic}")
        concept = concepts.NamedConcept(about, about, "document")
        feature = judging.chosen_feature(own, concept)
        if feature is not None and len(own.firings(feature).value):
            add(about.name, judging.specificity_row(own, concept, feature) | {"text": "demo"})
    return rows


def concept_texts(folder: Path) -> dict[str, sk.Corpus]:
    """The texts that concepts are measured on, the preferred one first."""
    texts = {"demo": mixture.demo(card_page.N_CONCEPT_DOCUMENTS)}
    if (folder / "held_out.parquet").exists():
        demo = texts["demo"].to_frame()
        rare = [c.holds for c in concepts.NAMED_CONCEPTS if demo.apply(c.holds, axis=1).sum() < judging.MIN_DOCUMENTS]
        texts["packages"] = mixture.rare_in_demo(folder, rare)
    return texts


def indexes_of(model: sk.LanguageModel, sae: sk.SAE, folder: Path) -> dict[str, sk.FeatureIndex]:
    """The SAE's index of each text; the activations are stored, once for all SAEs that read them."""
    layer = judging.layer_of(sae)
    assert sae.config.token_filter is not None
    indexes = {}
    for name, corpus in concept_texts(folder).items():
        dtype = "float32" if name == "demo" else None  # anyone's index of the demo corpus has these activations
        cache = harvest.harvest(corpus, [layer], [sae.config.token_filter], folder / f"{name}-{layer}", dtype)
        out = judging.judging_folder(folder, sae, cache) / "index"
        indexes[name] = sk.build_index(model, sae, cache, out=out)
    return indexes


def measured_concepts(
    model: sk.LanguageModel, sae: sk.SAE, folder: Path, golden: dict[str, Any], *, steering: bool
) -> dict[str, Any]:
    """What a card says of concepts: the texts, each concept's feature, and twenty features."""
    indexes = indexes_of(model, sae, folder)
    path = folder / f"concepts-{sae.fingerprint}.json"
    judged = judging.judge(model, sae, indexes, path, steering=steering)
    return {
        "evidence": {key: judged[key] for key in ("texts", "silent", "n_reached", "n_measured")},
        "concepts": judged["concepts"],
        "features": features_shown(indexes, judged, golden),
    }


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
    stored = {name: judging.as_stored(sk.load_sae(source), out / name) for name, source in sources.items()}
    size = sum(path.stat().st_size for name in sources for path in (out / name).iterdir()) / 1e6
    print(f"{len(sources)} SAEs, {size:.1f} MB", flush=True)
    if size > MAX_MEGABYTES:
        raise SystemExit(f"{size:.1f} MB is more than {MAX_MEGABYTES}")
    measured = metrics(model, stored, folder, n_judged)
    for name, sae in stored.items():
        print(name, flush=True)
        trained_on = judging.evidence_cache(folder, sae, n_evidence, matmul_dtype)  # as `golden-gate` does
        golden = load_results(judging.judging_folder(folder, sae, trained_on) / "golden.json").get("final", {})
        card = {
            "name": f"{out.name}/{name}",
            **of_the_sae(sae, out / name),
            **of_the_run(sae, read_json(trained / "run.json")),
            "data": read_json(folder / "texts.json"),
            "metrics": measured[name],
            "golden_gate": {f: {k: v for k, v in a.items() if k != "texts"} for f, a in golden.items()},
            **measured_concepts(model, sae, folder, golden, steering=steering),
        }
        write_cards(out / name, card)


def measure_again(
    folder: Path, out: Path, names: Sequence[str], *, fidelity: bool, n_judged: int | None, steering: bool
) -> None:
    """Measures packaged SAEs again and writes their cards; what is not measured stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    model = sk.load_model()
    saes = {name: sk.load_sae(out / name) for name in names}
    measured = metrics(model, saes, folder, n_judged) if fidelity else {}
    for name, sae in saes.items():
        print(name, flush=True)
        card = read_json(out / name / "card.json")
        card["metrics"] |= measured.get(name, {})
        card |= measured_concepts(model, sae, folder, card["golden_gate"], steering=steering)
        write_cards(out / name, card)


def write_cards(folder: Path, card: Mapping[str, Any]) -> None:
    """card.json, and CARD.md out of it."""
    values = without_nan(dict(card))
    write_json(folder / "card.json", values)
    with atomic_write(folder / "CARD.md") as part:
        part.write_text(card_page.page(values), "utf8")


def width(d_sae: int) -> str:
    """The name of a width: 16k for 16,384 features."""
    return f"{d_sae // 1024}k" if d_sae >= 1024 else str(d_sae)


def metrics(
    model: sk.LanguageModel, saes: dict[str, sk.SAE], folder: Path, n_judged: int | None
) -> dict[str, dict[str, Any]]:
    """The stored SAEs' fidelity on each text that is there, kept in FOLDER/metrics.json by fingerprint."""
    path = folder / "metrics.json"
    known = load_results(path)
    texts: dict[str, tuple[sk.Corpus, int | None]] = {
        "demo_held_out": (sk.load_corpus("demo").where(part="held_out"), card_page.N_DEMO_TOKENS)
    }
    if (folder / "held_out.parquet").exists():
        texts["held_out"] = (mixture.load(folder, "held_out"), n_judged)
        texts["other"] = (mixture.load(folder, "other"), n_judged)
    for text, (corpus, n_tokens) in texts.items():
        keys = {name: f"{sae.fingerprint} {text} {n_tokens}" for name, sae in saes.items()}
        if missing := [name for name, key in keys.items() if key not in known]:
            found = fidelity(model, [saes[name] for name in missing], corpus, n_tokens)
            known |= {keys[name]: values for name, values in zip(missing, found, strict=True)}
            write_json(path, known)
    return {
        name: {text: known[f"{sae.fingerprint} {text} {n}"] for text, (_, n) in texts.items()}
        for name, sae in saes.items()
    }


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
