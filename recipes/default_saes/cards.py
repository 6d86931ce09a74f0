"""Packaged SAEs out of trained ones: float16 weights, a card to read (CARD.md) and the same for programs (card.json).

Every figure is of the weights as they are stored. Texts shown are the model's own; those of packages are never shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import saekit as sk
from saekit.atomic_io import atomic_write, read_json, sha256, write_json
from saekit.sae.formats.saelens import WEIGHTS

from . import concepts, mixture
from .comparison import fidelity, figures
from .concepts import markdown
from .harvest import LENGTH

N_FEATURES, N_CONTEXTS, N_PROMOTED = 20, 3, 8
MOST_MB = 60
N_DEMO_TOKENS = 6_000
CARD = """# {name}

{d_sae:,} features of `{hook}` in {model}, weight processing {processing}. Rule {rule}, about {l0:.0f} active per token.
{bytes:,} bytes in float16, sha256 `{sha256}`. Seed {seed}, saekit at commit `{commit}`.

## Measured, as stored

{metrics}

95 % intervals are bootstraps over documents. "Held-out documents" are {share:.0%} of the documents of every source,
chosen by a hash of their text; "other prose" is of kinds that the mixture does not have ({other}). "Its own
text" is the held-out part of the demo corpus, so that anyone can measure it again:
`sk.evaluate(model, sae, sk.load_corpus("demo").where(part="held_out"), n_tokens={n_demo}, length={length})`.
Dead in training (silent for {dead_after:,} tokens): {dead} ({dead_fraction:.2%}); never active on {n_evidence:,} tokens
of evidence: {silent} ({silent_fraction:.2%}).

## Data

{n_text:,} tokens of text, of which {n_trained:,} tokens were drawn in training ({epochs:.1f} passes).
The model wrote `own` (over several hundred topics, in its chat template and without) and `demo`, {own_fraction:.0%}
of it; the rest is carried by Debian packages and Python {python}, was used for training and measuring alone, and is not
part of saekit. {doubles} doubles were left out, and {near} documents that mostly stand in the text to be judged on.

{sources}

Packages: {packages}.

## Recipe

Windows of {length} tokens; left out: {token_filter}. The model ran with {products} products{distance}; its activations
were stored in float16. The three widths learnt from one stream:

```
{recipe}
```

Commands, from an empty folder:

```
{commands}
```

## Concepts

{n_reached} of {n_concepts} named concepts have a feature with AUROC above {auroc} and precision above {precision} in
the highest tenth of its range. Features were chosen on one half of the documents and are reported on the other;
"matched" are ten features of like density and maximum (mean, best). "Said" is the share of {n_asked} unrelated
questions whose answers bring the concept up with the feature clamped to {strength} of the residual norm, beside three
matched features and no edit.

{concepts}

{golden}

## Twenty features

Contexts are from text that the model wrote, the firing token in brackets, with its activation.

{features}

## Known limits

One layer of one small model. {own_fraction:.0%} of the text is the model's own and most of the rest is English
manuals, fiction, dictionaries and code of a few packages; text unlike these is reconstructed less well, see "other
prose". One seed: another gives other features. A feature that fires for a concept need not cause it. Figures of the
concepts are of this text, where their topics are well stocked, and up to {n_wanted} documents of each were put into the
evidence: among any text they are rarer, and precision there is lower. A top interval of few firings says little.
"""


def contexts(indexes: Sequence[sk.FeatureIndex], feature: int, n: int = N_CONTEXTS) -> list[dict[str, Any]]:
    """The strongest firings in text that the model wrote, a document each."""
    found: dict[str, dict[str, Any]] = {}
    for i, index in enumerate(indexes):
        own = index.documents.index[index.documents["source"].isin(mixture.OWN)]
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


def described(
    indexes: tuple[sk.FeatureIndex, sk.FeatureIndex], judged: dict[str, Any], golden: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Twenty features with their evidence: the one that steers, those of the concepts, and those of topics."""
    choose, report = indexes
    rows: list[dict[str, Any]] = []

    def add(fires_for: str, row: dict[str, Any]) -> None:
        if len(rows) < N_FEATURES and row["feature"] not in [r["feature"] for r in rows]:
            keys = (
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
            record = report.feature(row["feature"])
            promoted = [token for token, _ in record.promoted[:N_PROMOTED]]
            rows.append(
                {
                    "fires_for": fires_for,
                    **{k: row[k] for k in keys},
                    "density": record.density,
                    "promotes": promoted,
                    "contexts": contexts(indexes, row["feature"]),
                }
            )

    bridges = next(c for c in concepts.NAMED if c.name == "bridges")
    for feature in list((golden or {}).get("final", {}))[:1]:
        add("bridges (the one that steers)", concepts.specificity_row(report, bridges, int(feature)))
    for name, row in judged["concepts"].items():
        if row.get("reached"):
            add(name, row)
    counts = [index.documents.query("topic != ''")["topic"].value_counts() for index in indexes]
    common = counts[0].add(counts[1], fill_value=0).sort_values(ascending=False, kind="stable").index
    for topic in common:
        if len(rows) == N_FEATURES:
            break
        meant = sk.Concept.labels(topic=topic, name=f"documents about {topic}")
        concept = concepts.Named(meant, meant, "document")
        feature = concepts.chosen_feature(choose, concept)
        if feature is not None and topic in set(report.documents["topic"]) and len(report.firings(feature).value):
            add(meant.name, concepts.specificity_row(report, concept, feature))
    return rows


def ship(
    folder: Path,
    names: dict[str, Path],
    out: Path,
    *,
    n_judged: int | None,
    n_evidence: int,
    steering: bool,
    products: str | None,
) -> None:
    """Writes each SAE and its two cards into OUT/NAME."""
    model = sk.load_model()
    stored = {}
    for name, source in names.items():
        stored[name] = concepts.as_stored(sk.load_sae(source), out / name)
    size = sum(path.stat().st_size for name in names for path in (out / name).iterdir()) / 1e6
    print(f"{len(names)} SAEs, {size:.1f} MB", flush=True)
    if size > MOST_MB:
        raise SystemExit(f"{size:.1f} MB is more than {MOST_MB}")
    measured = metrics(model, stored, folder, n_judged)
    for name, sae in stored.items():
        print(name, flush=True)
        cache = concepts.evidence_cache(folder, sae, n_evidence, products)
        judging = concepts.judging_folder(folder, sae, cache)
        judged = concepts.judge(model, sae, cache, judging, steering=steering)
        golden = read_json(judging / "golden.json") if (judging / "golden.json").exists() else None
        found = described(concepts.halves(model, sae, cache, judging), judged, golden)
        card = record(name, sae, folder, names[name], out, measured[name], judged, golden, found)
        write_json(out / name / "card.json", plain_numbers(card))
        with atomic_write(out / name / "CARD.md") as part:
            part.write_text(page(card, judged), "utf8")


def metrics(
    model: sk.LanguageModel, saes: dict[str, sk.SAE], folder: Path, n_judged: int | None
) -> dict[str, dict[str, Any]]:
    """The figures of the stored SAEs on each text; remembered in FOLDER/metrics.json by fingerprint."""
    path = folder / "metrics.json"
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    own = sk.load_corpus("demo").where(part="held_out")
    tasks = {
        "held_out": lambda saes: fidelity(model, saes, folder, "held_out", n_judged),
        "other": lambda saes: fidelity(model, saes, folder, "other", n_judged),
        "demo_held_out": lambda saes: [
            figures(e) for e in sk.evaluate(model, saes, own, n_tokens=N_DEMO_TOKENS, length=LENGTH)
        ],
    }
    for text, measure in tasks.items():
        keys = {name: f"{sae.fingerprint} {text} {n_judged}" for name, sae in saes.items()}
        if missing := [name for name, key in keys.items() if key not in known]:
            for name, values in zip(missing, measure([saes[n] for n in missing]), strict=True):
                known[keys[name]] = values
            write_json(path, known)
    return {name: {text: known[f"{s.fingerprint} {text} {n_judged}"] for text in tasks} for name, s in saes.items()}


def record(
    name: str,
    sae: sk.SAE,
    folder: Path,
    source: Path,
    out: Path,
    measured: dict[str, Any],
    judged: dict[str, Any],
    golden: dict[str, Any] | None,
    found: list[dict[str, Any]],
) -> dict[str, Any]:
    """All that a card says, as values."""
    c, run = sae.config, read_json(source.parent / "run.json")
    final = {f: {k: v for k, v in a.items() if k != "texts"} for f, a in (golden or {}).get("final", {}).items()}
    return {
        "name": f"{out.name}/{name}",
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
        "weights": {
            "file": WEIGHTS,
            "sha256": sha256(out / name / WEIGHTS),
            "dtype": "float16",
            "bytes": (out / name / WEIGHTS).stat().st_size,
        },
        "fingerprint": sae.fingerprint,
        "commit": run["commit"],
        "commands": run["commands"],
        "harvest": run["harvest"],
        "data": read_json(folder / "texts.json"),
        "n_tokens": run["n_tokens"],
        "training": {k: v for k, v in sae.training_summary.items() if k != "config"},
        "train_config": sae.training_summary["config"],
        "lr": run["lr"].get(str(c.d_sae)),
        "metrics": measured,
        "evidence": {k: judged[k] for k in ("n_tokens_chosen", "n_tokens_reported", "silent", "n_reached")},
        "concepts": judged["concepts"],
        "golden_gate": final,
        "features": found,
    }


def page(card: dict[str, Any], judged: dict[str, Any]) -> str:
    """CARD.md."""
    data, summary, config = card["data"], card["training"], card["train_config"]
    sources = pd.DataFrame(data["sources"])
    total = int(sources["mixture_tokens"].sum())
    shown = sources[sources["other_tokens"] == 0]
    table = pd.DataFrame(
        {
            "source": shown["source"],
            "kind": shown["kind"],
            "language": shown["language"],
            "documents": shown["mixture_documents"].map("{:,}".format),
            "tokens": shown["mixture_tokens"].map("{:,}".format),
            "share": (shown["mixture_tokens"] / total).map("{:.1%}".format),
            "held-out tokens": shown["held_out_tokens"].map("{:,}".format),
        }
    )
    n_evidence = card["evidence"]["n_tokens_chosen"] + card["evidence"]["n_tokens_reported"]
    far = [d["relative_error"] for d in card["harvest"]["distance"] if f".{d['layer']}." in card["hook_name"]]
    dead, rule = int(summary["dead_features"]), card["activation"]
    shown_config = ("n_tokens", "batch_size", "decay_fraction", "grad_clip", "normalise", "seed")
    dead_after = sk.TrainConfig(**config).dead_after
    recipe = {"lr": card["lr"], **{k: config[k] for k in shown_config}, "dead_after_tokens": dead_after}
    rule += f", k {card['k']}" if card["k"] else ""
    rule += f", nested {card['matryoshka']}" if card["matryoshka"] else ""
    return CARD.format(
        name=card["name"],
        d_sae=card["d_sae"],
        hook=card["hook_name"],
        model=card["model"],
        processing=card["weight_processing"],
        rule=rule,
        l0=card["metrics"]["held_out"]["l0"],
        bytes=card["weights"]["bytes"],
        sha256=card["weights"]["sha256"],
        seed=card["seed"],
        commit=card["commit"],
        metrics=_metrics(card["metrics"]),
        share=mixture.HELD_OUT,
        other=", ".join(sources.loc[sources["other_tokens"] > 0, "kind"]),
        n_demo=N_DEMO_TOKENS,
        length=LENGTH,
        dead_after=dead_after,
        dead=dead,
        dead_fraction=dead / card["d_sae"],
        n_evidence=n_evidence,
        silent=card["evidence"]["silent"],
        silent_fraction=card["evidence"]["silent"] / card["d_sae"],
        n_text=total,
        n_trained=card["n_tokens"],
        epochs=card["n_tokens"] / total,
        python=data["python"],
        own_fraction=sources.loc[sources["source"].isin(mixture.OWN), "mixture_tokens"].sum() / total,
        n_wanted=mixture.N_WANTED,
        doubles=data["doubles_dropped"],
        near=data["near_doubles_dropped"],
        sources=markdown(table),
        packages=", ".join(f"{name} {version}" for name, version in data["packages"].items()),
        token_filter=sk.TokenFilter.from_dict(card["token_filter"]).describe().removeprefix("tokens excluded: "),
        products=card["harvest"]["products"],
        distance=f" (relative error {far[0]:.4f} against float32)" if far else "",
        recipe=json.dumps(recipe, indent=1),
        commands="\n".join(card["commands"]),
        n_reached=card["evidence"]["n_reached"],
        n_concepts=len(card["concepts"]),
        auroc=concepts.AUROC,
        precision=concepts.PRECISION,
        n_asked=len(concepts.UNRELATED),
        strength=concepts.STRENGTH,
        concepts=concepts.table(judged),
        golden=_golden(card["golden_gate"]),
        features="\n\n".join(map(_feature, card["features"])),
    )


def _metrics(measured: dict[str, Any]) -> str:
    names = {"held_out": "held-out documents", "other": "other prose", "demo_held_out": "its own text"}
    rows = []
    for text, title in names.items():
        m = measured[text]
        cells = {
            column: f"{m[key]:.3f} [{m['intervals'][key][0]:.3f}, {m['intervals'][key][1]:.3f}]"
            for column, key in (
                ("explained variance", "explained_variance"),
                ("loss recovered", "ce_loss_recovered"),
                ("L0", "l0"),
                ("KL", "kl"),
            )
        }
        ce = f"{m['ce_clean']:.3f} / {m['ce_sae']:.3f} / {m['ce_zero']:.3f}"
        rows.append({"text": title, **cells, "CE clean / SAE / zero": ce, "tokens": f"{m['n_tokens']:,}"})
    return markdown(pd.DataFrame(rows))


def _golden(final: dict[str, Any]) -> str:
    def of(counts: dict[str, float], key: str) -> str:
        return f"{counts[key]:.0f} of {counts['n']:.0f}"

    lines = []
    for feature, found in final.items():
        edited, control, none = (found["counts"][name] for name in ("feature", "control", "none"))
        lines.append(
            f"Feature {feature}, clamped to {found['strength']:g} of the residual norm: {of(edited, 'bridge')} answers "
            f"to unrelated questions bring up a bridge and {edited['golden_gate']:.0f} the Golden Gate (matched "
            f"features: {of(control, 'bridge')}; unedited: {of(none, 'bridge')}). Negative log-likelihood of the "
            f"answers {edited['nll']:.2f} nats a token (unedited {none['nll']:.2f}), repeated 4-grams "
            f"{edited['repetition']:.1%}."
        )
    return "\n\n".join(lines)


def _feature(row: dict[str, Any]) -> str:
    top = "" if math.isnan(row["top_precision"]) else f", top precision {row['top_precision']:.2f}"
    promotes = " ".join(f"`{token}`" for token in row["promotes"] if "`" not in token).replace("\n", "↵")
    quoted = "\n".join(f"    {c['activation']:8.2f}  {c['text']}" for c in row["contexts"])
    return (
        f"**{row['feature']}** {row['fires_for']}: AUROC {row['auroc']:.3f} [{row['auroc_low']:.3f}, "
        f"{row['auroc_high']:.3f}] over {row['n_positive']:,} {row['unit']}s (matched {row['controls_auroc']:.2f})"
        f"{top}, density {row['density']:.3%}. Promotes {promotes}\n\n{quoted or '    (silent in text of its own)'}"
    )


def plain_numbers(value: Any) -> Any:
    """The value with null for what is not a number, as JSON has no word for it."""
    if isinstance(value, dict):
        return {key: plain_numbers(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
